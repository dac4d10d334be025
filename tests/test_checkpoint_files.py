"""Checkpoints are whole or not there; failures with a plain explanation have one."""

import pytest
import torch

from kyvo.training.checkpoint_files import CheckpointFiles
from kyvo.training.continuation import CONFIG_KEY, FoundCheckpoint, training_config


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
    found = FoundCheckpoint.read(path)
    assert found.steps == 3
    if named is None:
        found.check(changed)
    else:
        with pytest.raises(ValueError, match="was left by a run of another config") as error:
            found.check(changed)
        assert named in str(error.value)
