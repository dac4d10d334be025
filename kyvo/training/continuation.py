"""How a run goes on: where its last checkpoint lies, and whether that is a checkpoint of the same run."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback, ModelCheckpoint

Resume = Literal["auto", "never"]
"""Whether `fit` goes on from the run's own last checkpoint, or starts over and overwrites it."""

CONFIG_KEY = "run_config"
"""Where a checkpoint holds the config of its run, as JSON."""

TRAINING = ("seed_everything", "tokenizer", "model", "data")
"""Groups of a config that say what is trained on what."""

TRAINING_OF_TRAINER = ("precision", "accumulate_grad_batches", "gradient_clip_val", "gradient_clip_algorithm")
"""Options of the trainer that change what is learned; the others may differ from one part of a run to the next."""

FREE = (
    "model.init_args.total_steps",
    "model.init_args.limit_generation",
    "model.init_args.compile",
    "data.init_args.num_workers",
    "data.init_args.workers",
    "data.init_args.cache_samples",
    "data.init_args.eval_batch_size",
)
"""Options of those groups that a run may change on its way: its length, and what suits the machine."""


def training_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """What of a config has to stay for a run to be the same run, by dotted names.

    Args:
        config: The config of `kyvo fit` as plain nested dictionaries.
    """
    flat = {name: value for group in TRAINING for name, value in _flat(group, config.get(group))}
    trainer = config.get("trainer") or {}
    flat |= {f"trainer.{name}": trainer.get(name) for name in TRAINING_OF_TRAINER}
    kept = {name: value for name, value in flat.items() if value is not None and name not in FREE}
    # What JSON makes of it, so that it equals what comes back.
    restored: dict[str, Any] = json.loads(json.dumps(kept, default=str))
    return restored


def _flat(name: str, value: Any) -> Iterable[tuple[str, Any]]:
    if not isinstance(value, Mapping):
        return [(name, value)]
    return [pair for key, inner in value.items() for pair in _flat(f"{name}.{key}", inner)]


class RunConfig(Callback):
    """Keeps the config of the run in its checkpoints.

    Args:
        config: What `training_config` returns.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.config = dict(config)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Add the config."""
        checkpoint[CONFIG_KEY] = json.dumps(self.config)


def last_checkpoint_path(trainer: Trainer) -> Path | None:
    """Where the run keeps its last checkpoint, whether or not there is one yet; None if it keeps none.

    That is where the first `ModelCheckpoint` with `save_last` puts it, if its folder is the same at every start.
    """
    callback = _keeping(trainer)
    folder = None if callback is None else _folder(callback, trainer)
    return None if callback is None or folder is None else _last_of(callback, folder)


def earlier_checkpoints(trainer: Trainer) -> list[Path]:
    """Last checkpoints of earlier starts, the newest first, where each start has a folder of its own.

    Loggers without a version count their starts (version_0, version_1, ...), and checkpoints without a folder lie
    beside what they write. These may be of any run that was started in the same place.
    """
    callback, logger = _keeping(trainer), next(iter(trainer.loggers), None)
    if callback is None or logger is None or _folder(callback, trainer) is not None:
        return []
    counted = Path(logger.save_dir or trainer.default_root_dir, str(logger.name))
    found = counted.glob(f"version_*/checkpoints/{callback.CHECKPOINT_NAME_LAST}*{callback.FILE_EXTENSION}")
    return sorted(found, key=_written, reverse=True)


def _keeping(trainer: Trainer) -> ModelCheckpoint | None:
    """What keeps the last checkpoint of the run."""
    kept = (one for one in trainer.checkpoint_callbacks if isinstance(one, ModelCheckpoint) and one.save_last)
    return next(kept, None)


def _folder(callback: ModelCheckpoint, trainer: Trainer) -> Path | None:
    """The folder that was given, else where Lightning puts it; None if the first logger counts its starts."""
    if callback.dirpath:
        return Path(callback.dirpath)
    logger = next(iter(trainer.loggers), None)
    if logger is None:
        return Path(trainer.default_root_dir, "checkpoints")
    if not isinstance(logger.version, str):
        return None
    return Path(logger.save_dir or trainer.default_root_dir, str(logger.name), logger.version, "checkpoints")


def _last_of(callback: ModelCheckpoint, folder: Path) -> Path:
    if callback.last_model_path:
        return Path(callback.last_model_path)
    name, extension = callback.CHECKPOINT_NAME_LAST, callback.FILE_EXTENSION
    # A run that found the name taken has counted on: last-v1.ckpt.
    return max(folder.glob(f"{name}*{extension}"), key=_written, default=folder / f"{name}{extension}")


def _written(path: Path) -> float:
    return path.stat().st_mtime


@dataclass(frozen=True)
class FoundCheckpoint:
    """A checkpoint that a run might go on from.

    Args:
        path: The file, or the folder of a sharded one.
        config: What `training_config` returned for its run.
        steps: Optimiser steps that the run had taken.
    """

    path: Path
    config: Mapping[str, Any]
    steps: int

    @classmethod
    def read(cls, path: Path) -> "FoundCheckpoint":
        """Read what has to be known of it."""
        file = path / "meta.pt" if path.is_dir() else path
        # Mapped, not read: of gigabytes only the few bytes that are looked at.
        contents = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
        return cls(path, json.loads(contents.get(CONFIG_KEY, "{}")), contents["global_step"])

    def differing(self, config: Mapping[str, Any]) -> list[str]:
        """Names of the options in which its run differs from one with this config."""
        return [name for name in sorted({*self.config, *config}) if self.config.get(name) != config.get(name)]

    def check(self, config: Mapping[str, Any]) -> None:
        """Make sure that it is of a run with this config.

        Args:
            config: What `training_config` returns.

        Raises:
            ValueError: If it is of another run, with the first options that differ and the ways out.
        """
        names = self.differing(config)
        if not names:
            return
        shown = "; ".join(f"{name}: {self.config.get(name)!r} then, {config.get(name)!r} now" for name in names[:3])
        more = f"; and {len(names) - 3} more" if len(names) > 3 else ""
        raise ValueError(
            f"{self.path} was left by a run of another config ({shown}{more}). Give this run folders of its own "
            f"(ModelCheckpoint's dirpath and the loggers'), or --resume never to start over and overwrite it, or "
            f"--ckpt_path {self.path} to go on from it nonetheless"
        )


def own_checkpoint(trainer: Trainer, config: Mapping[str, Any]) -> FoundCheckpoint | None:
    """The last checkpoint that an earlier start of the run left; None if there is none.

    Args:
        trainer: Its callbacks and loggers say where to look.
        config: What `training_config` returns.

    Raises:
        ValueError: If another run left one in its place.
    """
    path = last_checkpoint_path(trainer)
    if path is not None and path.exists():
        found = FoundCheckpoint.read(path)
        found.check(config)
        return found
    earlier = map(FoundCheckpoint.read, earlier_checkpoints(trainer))
    return next((one for one in earlier if not one.differing(config)), None)
