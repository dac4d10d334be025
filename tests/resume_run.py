"""Tiny runs that are killed, told to stop and started again: their config, and a callback that notes what they do."""

import json
import os
import signal
from pathlib import Path

import torch
import yaml
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.strategies import FSDPStrategy
from torch.distributed.fsdp import FullyShardedDataParallel

from kyvo.models.image_vq import ImageNetwork, build_vq_model
from kyvo.tokenizers.images import ImageTokenizer

SIZES = {"channels": (16,), "layers": 1, "codes": 512, "code_dim": 8, "latent_channels": 8, "groups": 4}
SIGNAL = "KYVO_TEST_SIGNAL"
"""Environment variable `RANK:STEP:SIGNAL`: that rank sends itself a signal, once, when it has made so many steps."""


class Recorder(Callback):
    """Adds a line for each batch to `FOLDER/steps.rankR.jsonl`: step, loss to the last bit, keys, a random number."""

    def __init__(self, folder: str) -> None:
        self.folder = Path(folder)
        self._drawn = 0.0

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self._drawn = float(torch.rand(()))

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        line = {"step": trainer.global_step, "loss": float(outputs["loss"]).hex(), "drawn": self._drawn.hex()}
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / f"steps.rank{trainer.global_rank}.jsonl").open("a") as file:
            file.write(json.dumps(line | {"keys": list(batch.keys)}) + "\n")
        rank, step, number = (int(word) for word in os.environ.get(SIGNAL, "-1:0:0").split(":"))
        sent = self.folder / f"sent-{step}"
        if (rank, step) == (trainer.global_rank, trainer.global_step) and not sent.exists():
            sent.touch()
            os.kill(os.getpid(), number)


class CpuSharding(FSDPStrategy):
    """FSDP on CPU: Lightning refuses it by the name of the class, torch where it is not told the device."""

    def _setup_model(self, model):
        return FullyShardedDataParallel(
            model, sharding_strategy=self.sharding_strategy, device_id=torch.device("cpu"), **self.kwargs
        )


class Spoil(Callback):
    """Makes the gradients of one rank NaN in some steps, before the ranks share them."""

    def __init__(self, rank: int, steps: list[int]) -> None:
        self.rank = rank
        self.steps = steps

    def on_before_backward(self, trainer, pl_module, loss):
        if trainer.global_rank == self.rank and trainer.global_step in self.steps:
            loss.register_hook(lambda gradient: gradient * float("nan"))


def steps(folder: Path, rank: int = 0) -> list[dict]:
    """The lines of a rank."""
    return [json.loads(line) for line in (folder / f"steps.rank{rank}.jsonl").read_text().splitlines()]


def save_images(folder: Path) -> Path:
    """An image tokenizer of random weights, 64 codes of 512 for 64 x 64 pixels."""
    torch.manual_seed(0)
    network = ImageNetwork((64, 64), patch=8, **SIZES, attention=(), mid_attention=False)
    ImageTokenizer(build_vq_model(network)).save_pretrained(folder)
    return folder


def write_config(world: Path, images: Path, run: Path, **data) -> Path:
    """A config over the quickstart's: 7 steps on a tiny world, a checkpoint after every second."""
    name = "lightning.pytorch.callbacks.ModelCheckpoint"
    kept = {"dirpath": str(run), "every_n_train_steps": 2, "save_top_k": 0, "save_last": True}
    kept |= {"enable_version_counter": False}
    make = {"scenes": {"train": 16, "val": 4}, "scenes_per_shard": 2, "edits": 1, "questions": 2}
    changes = {
        "tokenizer": {"image": str(images)},
        "model": {"init_args": {"backbone": {"hidden_size": 32, "layers": 2, "heads": 2}}},
        "data": {"init_args": {"root": str(world), "batch_size": 2, "bucket": 2, "workers": 1, "make": make} | data},
        "trainer": {
            "max_steps": 7,
            "limit_val_batches": 0,
            "num_sanity_val_steps": 0,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "precision": "32-true",
            "default_root_dir": str(run),
            "logger": False,
            "callbacks": [
                {"class_path": name, "init_args": kept},
                {"class_path": "tests.resume_run.Recorder", "init_args": {"folder": str(run)}},
            ],
        },
    }
    run.mkdir(parents=True, exist_ok=True)
    path = run / "tiny.yaml"
    path.write_text(yaml.safe_dump(changes))
    return path


def kill_at(step: int, rank: int = 0, number: int = signal.SIGKILL) -> dict[str, str]:
    """What to add to the environment for a rank to send itself a signal after a step."""
    return {SIGNAL: f"{rank}:{step}:{int(number)}"}
