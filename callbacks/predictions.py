"""Writes what a language model generated, one JSON line a sample."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lightning import Trainer

from callbacks.sample_facts import sample_facts
from callbacks.scoring import scores_of_samples
from callbacks.watching import Watching, output_folder
from kyvo.sample import Sample
from kyvo.scene import Scene, SceneSchema
from kyvo.task import Task
from kyvo.tokenizers.sequence import Generation
from kyvo.training.language import LanguageModule, TokenBatch
from kyvo.workload import Workload


class Predictions(Watching):
    """Writes `FOLDER/STAGE/TASK.rankR.jsonl`: key, task, kind, what was read, the target, what was generated, scores.

    Beside these, what `callbacks.sample_facts.sample_facts` knows. Scores are those of the sample alone, by whatever
    callbacks score it. Every rank writes its own file, in which each of its samples is once. A stage (val, test,
    predict) begins its files anew.

    Args:
        folder: Where to write; default is `predictions` in the folder of the run's first logger.
    """

    def __init__(self, folder: str | None = None) -> None:
        self.folder = folder
        self._started: set[Path] = set()

    def _path(self, trainer: Trainer, stage: str, workload: Workload) -> Path:
        root = output_folder(trainer, self.folder, "predictions")
        return root / stage / f"{workload.file_stem}.rank{trainer.global_rank}.jsonl"

    def start(self, trainer: Trainer, module: LanguageModule, stage: str) -> None:
        """Begin the files anew."""
        self._started.clear()

    def see(
        self, trainer: Trainer, module: LanguageModule, stage: str, batch: TokenBatch, written: Sequence[Generation]
    ) -> None:
        """Write a batch."""
        if trainer.sanity_checking:
            return
        path = self._path(trainer, stage, batch.workload)
        mode = "a" if path in self._started else "w"
        self._started.add(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        schema, task = module.schema_of(batch.workload), batch.workload.task
        scores = scores_of_samples(trainer, module, batch, written)
        with path.open(mode, encoding="utf-8") as file:
            for sample, one, scored in zip(batch.samples, written, scores, strict=False):
                facts = sample_facts(trainer, batch.workload, sample, one)
                file.write(json.dumps(prediction(schema, task, sample, one) | facts | {"scores": scored}) + "\n")


def prediction(schema: SceneSchema, task: Task, sample: Sample, written: Generation) -> dict[str, Any]:
    """One line: `read`, `target` and `generated` by modality; images are lists of codes in raster order.

    `confidences` of the generated objects are there where the model was asked for them.
    """
    line = {
        "key": sample.key,
        "task": task.spec,
        "kind": sample.kind,
        "read": {name: _plain(schema, sample.read(name)) for name in task.inputs},
        "target": {name: _plain(schema, _target(sample, name)) for name in task.outputs},
        "generated": {name: _plain(schema, getattr(written, name)) for name in task.outputs},
        "malformed": written.malformed,
    }
    return line if written.confidences is None else line | {"confidences": written.confidences}


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
