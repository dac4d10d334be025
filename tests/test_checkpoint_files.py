"""Checkpoints are whole or not there; failures with a plain explanation have one."""

import pytest
import torch

from kyvo.training.checkpoint_files import CheckpointFiles
from kyvo.training.continuation import CONFIG_KEY, check_same_run, training_config
from kyvo.training.failures import explained


def test_a_write_that_is_cut_short_leaves_the_older_checkpoint(tmp_path, monkeypatch):
    files, path = CheckpointFiles(), tmp_path / "runs/last.ckpt"
    files.save_checkpoint({"step": 1}, path)

    def half(checkpoint, file):
        file.write(b"PK half of it")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", half)
        with pytest.raises(KeyboardInterrupt):
            files.save_checkpoint({"step": 2}, path)
    assert files.load_checkpoint(path, weights_only=True) == {"step": 1}
    files.save_checkpoint({"step": 3}, path)
    assert files.load_checkpoint(path, weights_only=True) == {"step": 3}
    assert [file.name for file in path.parent.iterdir()] == ["last.ckpt"]


def test_nothing_is_written_outside_the_folder(tmp_path, monkeypatch):
    # The system's folder for temporary files may be small, and on another file system.
    monkeypatch.setattr("tempfile.mkstemp", lambda *_, **__: pytest.fail("a file elsewhere"))
    CheckpointFiles().save_checkpoint({"step": 1}, str(tmp_path / "last.ckpt"))
    assert torch.load(tmp_path / "last.ckpt", weights_only=True) == {"step": 1}


CONFIG = {
    "seed_everything": 0,
    "model": {"class_path": "a.B", "init_args": {"lr": 0.1, "total_steps": 5, "lora": None}},
    "data": {"init_args": {"tasks": {"3-I": 1.0}, "num_workers": 2}},
    "trainer": {"precision": "bf16-mixed", "max_steps": 5, "devices": 1},
}


@pytest.mark.parametrize(
    ("group", "changes", "named"),
    [
        ("trainer", {"max_steps": 9, "devices": 8}, None),
        ("trainer", {"precision": "32-true"}, "trainer.precision: 'bf16-mixed' then, '32-true' now"),
        ("data", {"init_args": {"tasks": {"3-I": 1.0}, "num_workers": 0}}, None),
        ("data", {"init_args": {"tasks": {"3-I": 1.0, "I-3": 2.0}}}, "data.init_args.tasks.I-3: None then, 2.0 now"),
        ("model", {"init_args": {"lr": 0.1, "total_steps": 9, "dora": None}}, None),
        ("model", {"class_path": "a.C"}, "model.class_path: 'a.B' then, 'a.C' now"),
    ],
)
def test_a_run_is_told_from_others_by_what_it_trains(tmp_path, group, changes, named):
    path = tmp_path / "last.ckpt"
    import json

    torch.save({CONFIG_KEY: json.dumps(training_config(CONFIG)), "global_step": 3}, path)
    changed = training_config(CONFIG | {group: CONFIG[group] | changes})
    if named is None:
        assert check_same_run(path, changed) == 3
    else:
        with pytest.raises(ValueError, match="was left by a run of another config") as error:
            check_same_run(path, changed)
        assert named in str(error.value)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nmore"), "batch_size lower"),
        (RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory"), "batch_size"),
        (MemoryError(), "out of memory (MemoryError)"),
        (RuntimeError("[gloo/transport/tcp/pair.cc:547] Connection closed by peer [127.0.0.1]:2"), "another process"),
        (RuntimeError("Timed out waiting 20000ms for recv operation to complete"), "another process"),
    ],
)
def test_failures_with_a_plain_explanation_have_one(error, words):
    assert words in explained(error)
    assert "\n" not in explained(error)


def test_other_failures_speak_for_themselves():
    assert explained(RuntimeError("mat1 and mat2 shapes cannot be multiplied (2x3 and 4x5)")) is None
