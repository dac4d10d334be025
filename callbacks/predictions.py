"""Writes what a language model generated, one JSON line a sample."""

import json
from pathlib import Path
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback

from callbacks.scoring import language_module
from kyvo.sample import Sample
from kyvo.scene import Scene, SceneSchema
from kyvo.task import Task
from kyvo.tokenizers.sequence import Generation


class Predictions(Callback):
    """Writes `FOLDER/STAGE/TASK.rankR.jsonl`: key, task, kind, what was read, the target, what was generated.

    Every rank writes its own file. A stage (val, test, predict) begins its files anew.

    Args:
        folder: Where to write; default is `predictions` in the folder of the run's first logger.
    """

    def __init__(self, folder: str | None = None) -> None:
        self.folder = folder
        self._started: set[Path] = set()

    def _path(self, trainer: Trainer, stage: str, task: Task) -> Path:
        root = Path(self.folder) if self.folder else Path(trainer.log_dir or trainer.default_root_dir) / "predictions"
        return root / stage / f"{task.spec}.rank{trainer.global_rank}.jsonl"

    def _write(self, trainer: Trainer, module: LightningModule, stage: str, outputs: Any, batch: Any) -> None:
        if trainer.sanity_checking or not outputs["written"]:
            return
        path = self._path(trainer, stage, batch.task)
        mode = "a" if path in self._started else "w"
        self._started.add(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        schema = language_module(module).tokenizer.schema
        with path.open(mode, encoding="utf-8") as file:
            for sample, written in zip(batch.samples, outputs["written"], strict=False):
                file.write(json.dumps(prediction(schema, batch.task, sample, written)) + "\n")

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin the files anew."""
        self._started.clear()

    def on_test_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin the files anew."""
        self._started.clear()

    def on_predict_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin the files anew."""
        self._started.clear()

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Write what `validation_step` generated."""
        self._write(trainer, pl_module, "val", outputs, batch)

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Write what `test_step` generated."""
        self._write(trainer, pl_module, "test", outputs, batch)

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Write what `predict_step` generated."""
        self._write(trainer, pl_module, "predict", outputs, batch)


def prediction(schema: SceneSchema, task: Task, sample: Sample, written: Generation) -> dict[str, Any]:
    """One line: `read`, `target` and `generated` by modality; images are lists of codes in raster order."""
    return {
        "key": sample.key,
        "task": task.spec,
        "kind": sample.kind,
        "read": {name: _plain(schema, sample.read(name)) for name in task.inputs},
        "target": {name: _plain(schema, _target(sample, name)) for name in task.outputs},
        "generated": {name: _plain(schema, getattr(written, name)) for name in task.outputs},
        "malformed": written.malformed,
    }


def _target(sample: Sample, name: Any) -> Any:
    try:
        return sample.write(name)
    except ValueError:
        # Predicting on data without answers is what prediction is for.
        return None


def _plain(schema: SceneSchema, value: Any) -> Any:
    if isinstance(value, Scene):
        return schema.write(value)
    return value if value is None or isinstance(value, str) else [int(code) for code in value]
