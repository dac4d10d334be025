"""Runs that are killed, told to stop or finished, and started again by the same command."""

import json
import logging
import multiprocessing
import os
import signal
import socket
import stat
import subprocess
import sys

import pytest
import torch
import yaml
from lightning import Trainer
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from lightning.pytorch.demos.boring_classes import BoringModel
from lightning.pytorch.loggers import TensorBoardLogger

from kyvo import cli
from kyvo.training.continuation import RunConfig, last_checkpoint_path, own_checkpoint
from kyvo.training.metrics_log import MetricsLog
from kyvo.training.preemption import PreemptedError, Preemption
from kyvo.training.sharding import trained_names
from tests.resume_run import kill_at, save_images, steps, write_config


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """World and image tokenizer, and the folder of an unbroken run."""
    root = tmp_path_factory.mktemp("resume")
    save_images(root / "images")
    world = root / "world"
    done = _start(write_config(world, root / "images", root / "unbroken"))
    assert done == 0
    return world, root / "images", root / "unbroken"


def _fit(words, environment):
    os.environ |= environment
    logging.basicConfig(stream=sys.stderr, force=True)
    for name in ("lightning", "lightning.pytorch", "lightning.fabric"):
        for handler in logging.getLogger(name).handlers:
            # What it writes to is from before this test began to capture.
            handler.setStream(sys.stderr)
    cli.main(words)


def _processes(config, words, environments):
    """Exit statuses of processes; one that stands still when the first is over is killed."""
    arguments = ["fit", "-c", "quickstart", "-c", str(config), *words]
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=_fit, args=(arguments, environment)) for environment in environments]
    for process in processes:
        process.start()
    for process, seconds in zip(processes, (200, 20), strict=False):
        process.join(seconds)
        if process.exitcode is None:
            process.kill()
            process.join()
    return [process.exitcode for process in processes]


def _start(config, *words, **environment):
    """Run `kyvo fit` in a process of its own; returns its exit status, or minus the signal that ended it."""
    return _processes(config, words, [environment])[0]


def _start_ranks(config, *words, **environment):
    """The same on two ranks; returns both."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    shared = environment | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "NODE_RANK": "0", "WORLD_SIZE": "2"}
    ranks = ["--trainer.devices", "2", "--trainer.strategy", "ddp", *words]
    return _processes(config, ranks, [shared | {"LOCAL_RANK": str(rank)} for rank in range(2)])


def _run(made, folder, **data):
    world, images, _ = made
    return write_config(world, images, folder, **data)


def _same(run, unbroken, rank=0):
    """That each step of a run, made once or again, is that of an unbroken one, and so are the weights at the end."""
    expected = {line["step"]: line for line in steps(unbroken, rank)}
    found = steps(run, rank)
    assert {line["step"] for line in found} == set(expected) == set(range(1, 8))
    for line in found:
        assert line == expected[line["step"]]
    ours, theirs = (torch.load(one / "last.ckpt", weights_only=True) for one in (run, unbroken))
    for name, value in theirs["state_dict"].items():
        assert torch.equal(ours["state_dict"][name], value), name
    assert ours["global_step"] == theirs["global_step"] == 7


# A checkpoint of step 4 is not there yet when step 4 is over.
@pytest.mark.parametrize(
    ("step", "goes_on"), [(5, 4), *(pytest.param(*pair, marks=pytest.mark.slow) for pair in ((1, 0), (3, 2), (4, 2)))]
)
def test_a_killed_run_goes_on_as_if_it_had_not_been(made, tmp_path, capfd, step, goes_on):
    config = _run(made, tmp_path)
    assert _start(config, **kill_at(step)) == -signal.SIGKILL
    assert _start(config) == 0
    _same(tmp_path, made[2])
    assert (f"going on from step {goes_on} of 7" in capfd.readouterr().err) == bool(goes_on)


@pytest.mark.slow
def test_a_run_with_workers_is_killed_twice(made, tmp_path):
    unbroken, run = _run(made, tmp_path / "unbroken", num_workers=2), _run(made, tmp_path / "run", num_workers=2)
    assert _start(unbroken) == 0
    for step in (3, 5):
        assert _start(run, **kill_at(step)) == -signal.SIGKILL
    assert _start(run) == 0
    _same(run.parent, unbroken.parent)


@pytest.mark.slow
def test_a_run_that_is_told_to_stop_saves_the_step_and_goes_on(made, tmp_path):
    config = _run(made, tmp_path)
    assert _start(config, **kill_at(3, number=signal.SIGTERM)) == 128 + signal.SIGTERM
    assert torch.load(tmp_path / "last.ckpt", weights_only=True)["global_step"] == 3
    assert _start(config) == 0
    _same(tmp_path, made[2])
    assert [line["step"] for line in steps(tmp_path)] == list(range(1, 8))


def _scontrol(folder):
    """A folder with a `scontrol` that notes how it was called."""
    fake = folder / "bin/scontrol"
    fake.parent.mkdir()
    fake.write_text(f'#!/bin/sh\necho "$@" >> {folder}/queued\n')
    fake.chmod(fake.stat().st_mode | stat.S_IXUSR)
    return f"{fake.parent}:{os.environ['PATH']}"


class _Signal(Callback):
    """Sends this process a signal after a step."""

    def __init__(self, number, step):
        self.number = number
        self.step = step

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if trainer.global_step == self.step:
            os.kill(os.getpid(), self.number)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_saves_once_the_step_is_over_and_one_of_them_queues_again(tmp_path, monkeypatch, number):
    for name, value in {"PATH": _scontrol(tmp_path), "SLURM_ARRAY_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": "3"}.items():
        monkeypatch.setenv(name, value)
    kept = ModelCheckpoint(tmp_path / "kept", save_last=True, save_top_k=0, every_n_train_steps=100)
    trainer = Trainer(
        accelerator="cpu", max_steps=9, logger=False, enable_progress_bar=False, enable_model_summary=False,
        callbacks=[_Signal(number, 4), Preemption(), kept], limit_val_batches=0,
    )  # fmt: skip
    before = signal.getsignal(number)
    with pytest.raises(PreemptedError) as ended:
        trainer.fit(BoringModel())
    assert ended.value.code == 128 + number
    assert torch.load(tmp_path / "kept/last.ckpt", weights_only=True)["global_step"] == 4
    queued = tmp_path / "queued"
    assert (queued.read_text() if queued.exists() else "") == ("requeue 7_3\n" if number == signal.SIGUSR1 else "")
    assert signal.getsignal(number) == before


@pytest.mark.slow
def test_slurm_queues_a_run_again_that_is_warned_of_its_end(made, tmp_path):
    config = _run(made, tmp_path)
    slurm = {"SLURM_NTASKS": "1", "SLURM_JOB_ID": "71", "SLURM_JOB_NAME": "kyvo", "SLURM_PROCID": "0"}
    slurm |= {"SLURM_LOCALID": "0", "SLURM_NODEID": "0", "PATH": _scontrol(tmp_path)}
    assert _start(config, **slurm, **kill_at(3, number=signal.SIGUSR1)) == 128 + signal.SIGUSR1
    assert (tmp_path / "queued").read_text() == "requeue 71\n"
    assert _start(config, **slurm) == 0
    _same(tmp_path, made[2])


def test_a_finished_run_says_so_and_trains_nothing(made, capfd):
    unbroken = made[2]
    before = len(steps(unbroken))
    assert _start(unbroken / "tiny.yaml") == 0
    assert len(steps(unbroken)) == before
    assert "this run is finished, 7 of 7 steps" in capfd.readouterr().err


def test_another_config_is_refused(made, capfd):
    config = made[2] / "tiny.yaml"
    assert _start(config, "--model.init_args.optimizer.lr", "0.5") == 2
    said = capfd.readouterr().err
    assert "was left by a run of another config (model.init_args.optimizer.lr: 0.002 then, 0.5 now)" in said
    assert "--resume never" in said


@pytest.mark.slow
def test_another_config_is_trained_where_that_is_asked_for(made, tmp_path):
    config = _run(made, tmp_path)
    assert _start(config, **kill_at(3)) == -signal.SIGKILL
    other = ["--model.init_args.optimizer.lr", "0.5"]
    assert _start(config, *other, "--ckpt_path", str(tmp_path / "last.ckpt")) == 0
    assert [line["step"] for line in steps(tmp_path)] == [1, 2, 3, *range(3, 8)]
    assert _start(config, "--resume", "never") == 0
    assert [line["step"] for line in steps(tmp_path)][-7:] == list(range(1, 8))


def test_checkpoints_hold_all_that_a_run_needs(made):
    checkpoint = torch.load(made[2] / "last.ckpt", weights_only=True)
    loader = checkpoint["loops"]["fit_loop"]["state_dict"]["combined_loader"]
    assert loader == [{"given": 7, "ranks": 1, "workers": 0}]
    assert checkpoint["callbacks"]["StepSeed"] == {"seed": 0}
    assert checkpoint["callbacks"]["NonFiniteGuard"] == {"skipped": 0, "in_a_row": 0}
    assert checkpoint["vocabulary"]
    assert json.loads(checkpoint["run_config"])["model.init_args.backbone.hidden_size"] == 32


# ---- several ranks ------------------------------------------------------------------------------------------------


def test_a_killed_rank_ends_the_run_and_both_go_on(made, tmp_path, capfd):
    unbroken, run = _run(made, tmp_path / "unbroken"), _run(made, tmp_path / "run")
    assert _start_ranks(unbroken) == [0, 0]
    capfd.readouterr()
    assert _start_ranks(run, **kill_at(5, rank=1)) == [2, -signal.SIGKILL]
    assert "kyvo: error: another process of this run died" in capfd.readouterr().err
    assert _start_ranks(run) == [0, 0]
    for rank in range(2):
        _same(run.parent, unbroken.parent, rank)


@pytest.mark.slow
def test_a_rank_that_stands_still_is_given_up_after_the_timeout(made, tmp_path, capfd):
    ddp = "lightning.pytorch.strategies.DDPStrategy"
    config = _change(_run(made, tmp_path))
    strategy = json.dumps({"class_path": ddp, "init_args": {"timeout": "0:00:10"}})
    stopped = kill_at(3, rank=1, number=signal.SIGSTOP)
    assert _start_ranks(config, "--trainer.strategy", strategy, **stopped) == [2, -signal.SIGKILL]
    assert "kyvo: error: another process of this run died or did not answer in time" in capfd.readouterr().err


@pytest.mark.slow
def test_torchrun_starts_a_run_again_that_lost_a_rank(made, tmp_path):
    config = _run(made, tmp_path)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command += ["--max-restarts", "1", "-m", "kyvo", "fit", "-c", "quickstart", "-c", str(config)]
    command += ["--trainer.devices", "2", "--trainer.strategy", "ddp"]
    # As in configs/cluster/torchrun.sh.
    environment = {"TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1", **kill_at(5, rank=1)}
    done = subprocess.run(command, env=os.environ | environment, timeout=300, check=False)
    assert done.returncode == 0
    assert [line["step"] for line in steps(tmp_path)][-3:] == [5, 6, 7]
    assert torch.load(tmp_path / "last.ckpt", weights_only=True)["global_step"] == 7


@pytest.mark.slow
def test_a_rank_that_is_told_to_stop_stops_both(made, tmp_path):
    config = _run(made, tmp_path, num_workers=2)
    assert _start_ranks(config, **kill_at(3, rank=1, number=signal.SIGTERM)) == [143, 143]
    assert torch.load(tmp_path / "last.ckpt", weights_only=True)["global_step"] == 3


@pytest.mark.slow
def test_another_number_of_ranks_is_said(made, tmp_path, capfd):
    config = _run(made, tmp_path)
    assert 2 in _start_ranks(config, **kill_at(3, rank=1))
    assert _start(config) == 0
    assert "samples shared out anew (2 ranks then, 1 now)" in capfd.readouterr().err


@pytest.mark.slow
def test_too_few_shards_for_the_ranks_are_an_error_on_each_before_a_step(made, tmp_path, capfd):
    config = _run(made, tmp_path, num_workers=5)
    assert _start_ranks(config) == [2, 2]
    assert "8 shards in" in (said := capfd.readouterr().err)
    assert "for 5 workers x 2 ranks" in said
    assert not list(tmp_path.glob("steps.*"))


def _change(config, saves=True, **changes):
    """Change the trainer's part of a config; callbacks are added."""
    found = yaml.safe_load(config.read_text())
    if not saves:
        del found["trainer"]["callbacks"][0]
    found["trainer"]["callbacks"] += changes.pop("callbacks", [])
    found["trainer"] |= changes
    config.write_text(yaml.safe_dump(found))
    return config


@pytest.mark.slow
def test_a_loss_that_is_not_finite_on_one_rank_is_skipped_by_both(made, tmp_path):
    spoil = {"class_path": "tests.resume_run.Spoil", "init_args": {"rank": 1, "steps": [2, 4]}}
    config = _change(_run(made, tmp_path), callbacks=[spoil])
    assert _start_ranks(config) == [0, 0]
    checkpoint = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert checkpoint["callbacks"]["NonFiniteGuard"] == {"skipped": 2, "in_a_row": 0}
    assert all(torch.isfinite(value).all() for value in checkpoint["state_dict"].values())
    for rank in range(2):
        lines = (tmp_path / f"non_finite.rank{rank}.jsonl").read_text().splitlines()
        assert [json.loads(line)["step"] for line in lines] == [2, 4]


SHARDED = {"auto_wrap_policy": ["transformers.models.llama.modeling_llama.LlamaDecoderLayer"]}


@pytest.mark.slow
def test_sharded_ranks_learn_what_copies_learn(made, tmp_path):
    # Saving crashes in torch on CPU, where sharding is not meant to run.
    quiet = {"gradient_clip_val": 0.1, "enable_checkpointing": False}
    sharded, copies = (_change(_run(made, tmp_path / name), saves=False, **quiet) for name in ("sharded", "copies"))
    words = ["--model.init_args.optimizer.name", "adamw", "--model.init_args.optimizer.weight_decay", "0.5"]
    assert _start_ranks(copies, *words) == [0, 0]
    strategy = {"class_path": "tests.resume_run.CpuSharding", "init_args": SHARDED}
    assert _start_ranks(sharded, *words, "--trainer.strategy", json.dumps(strategy)) == [0, 0]
    for rank in range(2):
        ours, theirs = (steps(one.parent, rank) for one in (sharded, copies))
        assert [line["keys"] for line in ours] == [line["keys"] for line in theirs]
        for one, other in zip(ours, theirs, strict=True):
            assert float.fromhex(one["loss"]) == pytest.approx(float.fromhex(other["loss"]), rel=1e-5)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_sharded_run_saves_goes_on_and_is_read_unsharded(made, tmp_path):
    config = _run(made, tmp_path)
    words = ["-m", "kyvo", "fit", "-c", "quickstart", "-c", str(config), "--model.init_args.optimizer.name", "adamw"]
    strategy = {"class_path": "lightning.pytorch.strategies.FSDPStrategy", "init_args": SHARDED}
    sharded = ["--trainer.accelerator", "gpu", "--trainer.strategy", json.dumps(strategy)]
    for options in (["--trainer.max_steps", "4", *sharded], sharded, ["--trainer.max_steps", "8"]):
        subprocess.run([sys.executable, *words, *options], check=True, timeout=300)
    assert [line["step"] for line in steps(tmp_path)] == list(range(1, 9))


def test_names_of_what_trains_are_those_of_the_state_dict():
    class Shell(torch.nn.Module):
        def __init__(self, inner):
            super().__init__()
            self._fsdp_wrapped_module = inner

    inner = torch.nn.Linear(2, 2)
    inner.bias.requires_grad_(False)
    assert trained_names(torch.nn.Sequential(Shell(inner), torch.nn.Linear(1, 1, bias=False))) == {
        "0.weight",
        "1.weight",
    }


@pytest.mark.parametrize("given", [True, False])
def test_the_last_checkpoint_is_looked_for_where_lightning_puts_it(given, tmp_path):
    keeping = ModelCheckpoint(tmp_path / "kept" if given else None, save_last=True, save_top_k=0, every_n_train_steps=1)
    trainer = Trainer(
        default_root_dir=tmp_path, max_steps=1, accelerator="cpu", enable_progress_bar=False, callbacks=[keeping],
        logger=MetricsLog(tmp_path, "run", version=""), enable_model_summary=False, limit_val_batches=0,
    )  # fmt: skip
    found = last_checkpoint_path(trainer)
    trainer.fit(BoringModel())
    assert found == (tmp_path / "kept" if given else tmp_path / "run" / "checkpoints") / "last.ckpt"
    assert str(found) == keeping.last_model_path


def test_without_loggers_it_lies_in_the_default_folder(tmp_path):
    keeping = ModelCheckpoint(save_last=True, save_top_k=0, every_n_train_steps=1)
    trainer = Trainer(
        default_root_dir=tmp_path, max_steps=1, accelerator="cpu", enable_progress_bar=False, callbacks=[keeping],
        logger=False, enable_model_summary=False, limit_val_batches=0,
    )  # fmt: skip
    found = last_checkpoint_path(trainer)
    trainer.fit(BoringModel())
    assert str(found) == keeping.last_model_path


def _counted(folder, logger, config, steps):
    """A start in a folder of its own, version_0, version_1 and so on, that goes on from the start before."""
    keeping = ModelCheckpoint(save_last=True, save_top_k=0, every_n_train_steps=1)
    trainer = Trainer(
        default_root_dir=folder, max_steps=steps, accelerator="cpu", callbacks=[RunConfig(config), keeping],
        logger=logger(folder, "run"), enable_progress_bar=False, enable_model_summary=False, limit_val_batches=0,
    )  # fmt: skip
    assert last_checkpoint_path(trainer) is None
    found = own_checkpoint(trainer, config)
    trainer.fit(BoringModel(), ckpt_path=None if found is None else found.path)
    return found


@pytest.mark.parametrize("logger", [MetricsLog, TensorBoardLogger])
def test_a_run_whose_starts_are_counted_goes_on_from_the_newest_of_its_own(tmp_path, logger):
    starts = [({"lr": 1}, 2), ({"lr": 2}, 5), ({"lr": 1}, 3), ({"lr": 1}, 4), ({"lr": 3}, 1)]
    found = [_counted(tmp_path, logger, config, steps) for config, steps in starts]
    versions = [None if one is None else (one.path.parts[-3], one.steps) for one in found]
    assert versions == [None, None, ("version_0", 2), ("version_2", 3), None]


def test_a_run_without_a_last_checkpoint_has_none(tmp_path):
    trainer = Trainer(
        default_root_dir=tmp_path, accelerator="cpu", callbacks=[ModelCheckpoint()],
        logger=MetricsLog(tmp_path, "run", version=""), enable_progress_bar=False,
    )  # fmt: skip
    assert last_checkpoint_path(trainer) is None
    assert own_checkpoint(trainer, {}) is None
