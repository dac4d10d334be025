"""Draws what a language model was shown, should have written and wrote, as one PNG for each task."""

from collections.abc import Sequence

import numpy as np
import torch
from lightning import Trainer

from callbacks.watching import Watching, output_folder
from kyvo.report.grid import Content, GridRow, draw_grid
from kyvo.sample import Sample
from kyvo.scene import Scene
from kyvo.task import Modality, Task
from kyvo.tokenizers.images import ImageTokenizer
from kyvo.tokenizers.pixels import pixels
from kyvo.tokenizers.sequence import Generation
from kyvo.training.language import LanguageModule, TokenBatch
from kyvo.workload import Workload

NOTHING = "nothing to be read"


class Gallery(Watching):
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
        self._kept: dict[Workload, list[GridRow]] = {}

    def see(
        self, trainer: Trainer, module: LanguageModule, stage: str, batch: TokenBatch, written: Sequence[Generation]
    ) -> None:
        """Keep the first samples."""
        if not trainer.is_global_zero or trainer.state.fn == "fit":
            return
        rows = self._kept.setdefault(batch.workload, [])
        for sample, one in zip(batch.samples, written, strict=False):
            if len(rows) < self.rows:
                rows.append(grid_row(module.tokenizer.image, batch.workload.task, sample, one))

    def finish(self, trainer: Trainer, module: LanguageModule, stage: str) -> None:
        """Draw them."""
        root = output_folder(trainer, self.folder, "gallery")
        for workload, rows in self._kept.items():
            path = root / f"{stage}-{workload.file_stem}.png"
            draw_grid(rows, path, module.schema_of(workload), panel=self.panel, extent=self.extent)
        self._kept.clear()


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
    if name == "image" and sample.written_pixels is not None:
        return sample.written_pixels
    return _shown(images, sample.write(name))


def _shown(images: ImageTokenizer | None, content: Scene | str | np.ndarray | None) -> Content:
    if content is None:
        return NOTHING
    if isinstance(content, Scene | str):
        return content
    if images is None:
        return " ".join(map(str, content))
    return pixels(images.decode(torch.from_numpy(content)[None]))[0]
