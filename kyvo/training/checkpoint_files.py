"""Checkpoints on disk: each is whole or not there, whenever the process dies."""

import os
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.plugins.io import TorchCheckpointIO


class CheckpointFiles(TorchCheckpointIO):
    """Writes a checkpoint beside its final place and moves it there once it is on the disk.

    Lightning's own writer holds the bytes of the whole checkpoint in memory, and then in the system's folder for
    temporary files, from which a move to another file system is a copy: a process killed meanwhile leaves half a
    checkpoint under the name of a whole one. Places that are not local files are left to it.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None) -> None:
        """Write a checkpoint.

        Args:
            checkpoint: What to save.
            path: Where to.
            storage_options: Not used by files.
        """
        if storage_options is not None or "://" in str(path):
            super().save_checkpoint(checkpoint, path, storage_options)
            return
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        # One name for all attempts: what a killed process left is overwritten by the next.
        partial = target.with_name(f".{target.name}.partial")
        with partial.open("wb") as file:
            torch.save(checkpoint, file)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(target)
        _sync_folder(target.parent)


def _sync_folder(folder: Path) -> None:
    """Put the new name itself on the disk."""
    number = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)
