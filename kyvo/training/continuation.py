"""How a run goes on: where its last checkpoint lies, and whether that is a checkpoint of the same run."""

import json
from collections.abc import Iterable, Mapping
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
    for callback in trainer.checkpoint_callbacks:
        if isinstance(callback, ModelCheckpoint) and callback.save_last:
            folder = _folder(callback, trainer)
            if folder is not None:
                return _last_of(callback, folder)
    return None


def _folder(callback: ModelCheckpoint, trainer: Trainer) -> Path | None:
    """The folder that was given, else that beside what the first logger writes; None if it counts its starts."""
    if callback.dirpath:
        return Path(callback.dirpath)
    logger = next(iter(trainer.loggers), None)
    if logger is None or logger.save_dir is None or not isinstance(logger.version, str):
        return None
    return Path(logger.save_dir, str(logger.name), logger.version, "checkpoints")


def _last_of(callback: ModelCheckpoint, folder: Path) -> Path:
    if callback.last_model_path:
        return Path(callback.last_model_path)
    name, extension = callback.CHECKPOINT_NAME_LAST, callback.FILE_EXTENSION
    # A run that found the name taken has counted on: last-v1.ckpt.
    found = sorted(folder.glob(f"{name}*{extension}"), key=lambda path: path.stat().st_mtime)
    return found[-1] if found else folder / f"{name}{extension}"


def check_same_run(path: Path, config: Mapping[str, Any]) -> int:
    """Make sure that a checkpoint is of a run with this config.

    Args:
        path: The checkpoint: a file, or the folder of a sharded one.
        config: What `training_config` returns.

    Returns:
        Optimiser steps that the run had taken.

    Raises:
        ValueError: If it is of another run, with the first options that differ and the ways out.
    """
    file = path / "meta.pt" if path.is_dir() else path
    # Mapped, not read: of gigabytes only the few bytes that are looked at.
    checkpoint = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
    found = json.loads(checkpoint.get(CONFIG_KEY, "{}"))
    names = [name for name in sorted({*found, *config}) if found.get(name) != config.get(name)]
    if names:
        shown = "; ".join(f"{name}: {found.get(name)!r} then, {config.get(name)!r} now" for name in names[:3])
        more = f"; and {len(names) - 3} more" if len(names) > 3 else ""
        raise ValueError(
            f"{path} was left by a run of another config ({shown}{more}). Give this run folders of its own "
            f"(ModelCheckpoint's dirpath and the loggers'), or --resume never to start over and overwrite it, or "
            f"--ckpt_path {path} to go on from it nonetheless"
        )
    steps: int = checkpoint["global_step"]
    return steps
