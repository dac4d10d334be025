"""Ends an evaluation with its page: numbers, curves, confusions and samples in one HTML file."""

from collections.abc import Sequence
from pathlib import Path

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback

from callbacks.predictions import Predictions
from callbacks.summary import Summary, untrained
from callbacks.watching import Watching, language_module, output_folder
from kyvo.report.metrics_file import run_name
from kyvo.report.page import Evaluation, write_page
from kyvo.report.page_pictures import PictureKey, Pictures, compress
from kyvo.report.page_run import find_log, read_task
from kyvo.report.page_samples import TaskResults
from kyvo.tokenizers.sequence import Generation
from kyvo.training.language import LanguageModule, TokenBatch


class Report(Watching):
    """Writes `FOLDER/report.html` after `validate`, `test` and the evaluation that ends `fit`.

    The samples come from the files of `callbacks.predictions.Predictions`, which must be among the callbacks, by their
    scores: the best, median and worst of all processes. Which these are is known only at the end, so each process keeps
    the true pictures of its first samples of a task, compressed (about 10 KB each); those of later samples are shown as
    their codes have them.

    Args:
        rows: Samples of a group (best, median, worst) of each task.
        folder: Where to write; default is the folder of the run's first logger.
        extent: Half the floor's width in drawings of scenes; default is that of the schema.
        pictures: True pictures that each process keeps of each task.
    """

    def __init__(
        self, rows: int = 4, folder: str | None = None, extent: float | None = None, pictures: int = 1000
    ) -> None:
        self.rows = rows
        self.folder = folder
        self.extent = extent
        self.pictures = pictures
        self._kept: dict[str, dict[PictureKey, bytes]] = {}

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuse to run without predictions to read."""
        _predictions(trainer)

    def start(self, trainer: Trainer, module: LanguageModule, stage: str) -> None:
        """Forget the pictures of an earlier evaluation."""
        self._kept.clear()

    def see(
        self, trainer: Trainer, module: LanguageModule, stage: str, batch: TokenBatch, written: Sequence[Generation]
    ) -> None:
        """Keep the true pictures of a batch, while there is room."""
        if trainer.state.fn == "fit" or stage == "predict":
            return
        task, label = batch.workload.task, batch.workload.label
        kept = self._kept.setdefault(label, {})
        for sample in batch.samples[: len(written)]:
            if len(kept) >= self.pictures:
                return
            if "image" in task.inputs and sample.pixels is not None:
                kept[PictureKey(label, sample.key, "read")] = compress(sample.pixels)
            if "image" in task.outputs and sample.written_pixels is not None:
                kept[PictureKey(label, sample.key, "target")] = compress(sample.written_pixels)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write, unless this validation is one of many during training."""
        if trainer.state.fn != "fit":
            self._write(trainer, language_module(pl_module), "val")

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write."""
        self._write(trainer, language_module(pl_module), "test")

    def _write(self, trainer: Trainer, module: LanguageModule, stage: str) -> None:
        # Asking for the log's folder waits for every process.
        log_folder, folder = output_folder(trainer, None), output_folder(trainer, self.folder)
        predictions = output_folder(trainer, _predictions(trainer).folder, "predictions") / stage
        # Others may still be writing the last of their predictions.
        trainer.strategy.barrier()
        tasks = _tasks(trainer, module, predictions) if trainer.is_global_zero else []
        kept = self._gather(trainer, [key for task in tasks for key in task.wanted_pictures(self.rows)])
        self._kept.clear()
        if trainer.is_global_zero:
            evaluation = _evaluation(trainer, stage, tasks, log_folder)
            pictures = Pictures(kept, module.tokenizer.image)
            write_page(evaluation, folder / "report.html", pictures, self.rows, self.extent)

    def _gather(self, trainer: Trainer, wanted: Sequence[PictureKey]) -> dict[PictureKey, bytes]:
        """The wanted pictures, whichever process kept them; the first process knows what is wanted."""
        keys = trainer.strategy.broadcast(wanted)
        own = {key: kept[key] for key in keys for kept in (self._kept.get(key.label, {}),) if key in kept}
        found: dict[PictureKey, bytes] = {}
        for rank in range(trainer.world_size):
            found |= trainer.strategy.broadcast(own, src=rank)
        return found


def _tasks(trainer: Trainer, module: LanguageModule, folder: Path) -> list[TaskResults]:
    """What all processes wrote in this evaluation, by task."""
    tasks = []
    for workload in trainer.datamodule.workloads:  # type: ignore[attr-defined]
        # By rank, not by pattern: files of an earlier run with more processes may lie beside.
        paths = [folder / f"{workload.file_stem}.rank{rank}.jsonl" for rank in range(trainer.world_size)]
        files = [path for path in paths if path.is_file()]
        tasks.append(read_task(workload, module.schema_of(workload), files, module.tokenizer.image))
    return tasks


def _evaluation(trainer: Trainer, stage: str, tasks: list[TaskResults], log_folder: Path) -> Evaluation:
    reached = {name: float(value) for name, value in trainer.callback_metrics.items()}
    metrics = {name.removeprefix(f"{stage}/"): value for name, value in reached.items() if name.startswith(f"{stage}/")}
    log, title = find_log(log_folder), run_name(log_folder)
    return Evaluation(title, stage, metrics, tasks, log, untrained(trainer), _targets(trainer))


def _predictions(trainer: Trainer) -> Predictions:
    """The callback that writes what the page is made of; ValueError without one."""
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(callback, Predictions):
            return callback
    raise ValueError("callbacks.report.Report shows what callbacks.predictions.Predictions writes: add that one too")


def _targets(trainer: Trainer) -> dict[str, float]:
    """What `Summary` aims at, by workload and metric."""
    callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
    return next((one.targets for one in callbacks if isinstance(one, Summary)), {})
