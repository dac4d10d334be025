"""Draws what a language model was shown, should have written and wrote, as one PNG for each task."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback

from callbacks.rendering import decode_pictures
from callbacks.scoring import language_module
from kyvo.report.grid import Content, GridRow, draw_grid
from kyvo.sample import Sample
from kyvo.scene import Scene
from kyvo.task import Modality, Task
from kyvo.tokenizers.images import ImageTokenizer
from kyvo.tokenizers.sequence import Generation

NOTHING = "nothing to be read"


class Gallery(Callback):
    """Writes `FOLDER/STAGE-TASK.png`: input, target, generated, a row a sample, from the first rank.

    The validations during training draw nothing; the one that ends `fit` does.

    Args:
        rows: Samples of each task, the first ones.
        folder: Where to write; default is `gallery` in the folder of the run's first logger.
        panel: Width and height of a panel in pixels.
        extent: Half the floor's width in drawings of scenes; default is that of the schema.
    """

    def __init__(self, rows: int = 6, folder: str | None = None, panel: int = 192, extent: float | None = None) -> None:
        self.rows = rows
        self.folder = folder
        self.panel = panel
        self.extent = extent
        self._kept: dict[Task, list[GridRow]] = {}

    def _add(self, trainer: Trainer, module: LightningModule, outputs: Any, batch: Any) -> None:
        if not outputs["written"] or not trainer.is_global_zero or trainer.state.fn == "fit":
            return
        rows = self._kept.setdefault(batch.task, [])
        for sample, written in zip(batch.samples, outputs["written"], strict=False):
            if len(rows) < self.rows:
                rows.append(grid_row(language_module(module).tokenizer.image, batch.task, sample, written))

    def _draw(self, trainer: Trainer, module: LightningModule, stage: str) -> None:
        root = Path(self.folder) if self.folder else Path(trainer.log_dir or trainer.default_root_dir) / "gallery"
        for task, rows in self._kept.items():
            path = root / f"{stage}-{task.spec}.png"
            draw_grid(rows, path, language_module(module).tokenizer.schema, panel=self.panel, extent=self.extent)
        self._kept.clear()

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keep the first samples."""
        self._add(trainer, pl_module, outputs, batch)

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keep the first samples."""
        self._add(trainer, pl_module, outputs, batch)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw them."""
        self._draw(trainer, pl_module, "val")

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw them."""
        self._draw(trainer, pl_module, "test")


def grid_row(images: ImageTokenizer | None, task: Task, sample: Sample, written: Generation) -> GridRow:
    """A row of the grid; pictures are shown as they are where the sample has them, else decoded from their codes."""
    return GridRow(
        input=tuple(_read(images, sample, name) for name in task.inputs),
        target=tuple(_target(images, sample, name) for name in task.outputs),
        generated=tuple(_shown(images, getattr(written, name)) for name in task.outputs),
        caption=f"{sample.key} {sample.kind}".strip(),
    )


def _read(images: ImageTokenizer | None, sample: Sample, name: Modality) -> Content:
    if name == "image" and sample.pixels is not None:
        return sample.pixels
    return _shown(images, sample.read(name))


def _target(images: ImageTokenizer | None, sample: Sample, name: Modality) -> Content:
    pixels = sample.pixels if sample.target_pixels is None else sample.target_pixels
    if name == "image" and pixels is not None:
        return pixels
    return _shown(images, sample.write(name))


def _shown(images: ImageTokenizer | None, content: Scene | str | np.ndarray | None) -> Content:
    if content is None:
        return NOTHING
    if isinstance(content, Scene | str):
        return content
    if images is None:
        return " ".join(map(str, content))
    picture = decode_pictures(images, [content])[0].movedim(0, -1)
    return (picture * 255).round().to(torch.uint8).numpy()
