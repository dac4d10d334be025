"""Ends an evaluation with a table of what was reached beside its baselines."""

from collections.abc import Mapping
from dataclasses import dataclass

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from rich.console import Console

from callbacks.scoring import Scoring
from callbacks.watching import output_folder
from kyvo.report.metric_names import spoken
from kyvo.report.table import MetricRow, metric_markdown, metric_table


@dataclass(frozen=True)
class Headline:
    """A metric of the table.

    Attributes:
        task: Name of the task.
        metric: Name of the metric.
        label: What people read.
        baseline: Metric to compare with; default is the same metric of the untrained model.
        baseline_label: What people read of it.
        digits: Decimals shown.
        ceiling: Metric that bounds this one; default is the one of this name and `_ceiling`.
        higher_is_better: Whether a value above the baseline is an improvement.
    """

    task: str
    metric: str
    label: str
    baseline: str = ""
    baseline_label: str = "untrained"
    digits: int = 3
    ceiling: str = ""
    higher_is_better: bool = True


HEADLINES = (
    Headline("recognition", "jaccard", "recognition: Jaccard"),
    Headline("recognition", "count_accuracy", "recognition: object count"),
    Headline("recognition", "ap3d_oracle_r", "recognition: AP3D, oracle R"),
    Headline("recognition", "iou3d_oracle_r", "recognition: IoU3D, oracle R"),
    Headline("question_answering", "accuracy", "questions: accuracy", "majority_baseline", "majority"),
    Headline("instruction", "jaccard", "instructions: Jaccard", "copy_jaccard", "unchanged"),
    Headline("instruction", "edit_success", "instructions: edit done"),
    Headline("instruction", "relation_satisfied", "instructions: relation holds"),
    Headline("rendering", "psnr", "rendering: PSNR, dB", digits=2),
    Headline("rendering", "object_psnr", "rendering: objects, dB", digits=2),
    Headline("rendering", "ssim", "rendering: SSIM"),
    Headline(
        "rendering", "scene_success", "rendering: success@scene", "scene_success_shuffled", "shuffled",
        ceiling="scene_success_vq",
    ),
    Headline(
        "rendering", "recognized_object", "rendering: object is right", "recognized_object_shuffled", "shuffled",
        ceiling="recognized_object_vq",
    ),
    Headline("rendering", "image_code_nll", "rendering: nats a code", higher_is_better=False),
    Headline("rendering", "first_code_accuracy", "rendering: first code"),
)  # fmt: skip


class Summary(Callback):
    """Prints a table after `validate`, `test` and the evaluation that ends `fit`, and writes it as `summary-STAGE.md`.

    Args:
        targets: What to aim at, by workload and metric ("recognition/jaccard"); shown beside what was reached.
        folder: Where to write; default is the folder of the run's first logger.
    """

    def __init__(self, targets: dict[str, float] | None = None, folder: str | None = None) -> None:
        self.targets = targets or {}
        self.folder = folder

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print, unless this validation is one of many during training."""
        if trainer.state.fn != "fit":
            self._report(trainer, "val")

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print."""
        self._report(trainer, "test")

    def _report(self, trainer: Trainer, stage: str) -> None:
        # On every rank: where the logger has no folder yet, Lightning asks the first rank for it.
        folder = output_folder(trainer, self.folder)
        if not trainer.is_global_zero:
            return
        reached = {name: float(value) for name, value in trainer.callback_metrics.items()}
        rows = summary_rows(reached, stage, untrained(trainer), self.targets)
        if not rows:
            return
        Console().print(metric_table(rows, title=f"{stage}: reached against baselines"))
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"summary-{stage}.md").write_text(metric_markdown(rows) + "\n", encoding="utf-8")


def untrained(trainer: Trainer) -> dict[str, float]:
    """The scores of the untrained model that the scoring callbacks hold, by task and metric."""
    scores: dict[str, float] = {}
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(callback, Scoring):
            scores |= callback.untrained
    return scores


def _labels(reached: Mapping[str, float], stage: str, line: Headline) -> list[str]:
    """Labels of the workloads of a headline's task, such as "recognition" and "clevr/recognition"."""
    found = (name.removeprefix(f"{stage}/").removesuffix(f"/{line.metric}") for name in reached)
    return [
        label
        for label in dict.fromkeys(found)
        if label.rpartition("/")[2].partition("[")[0] == line.task and f"{stage}/{label}/{line.metric}" in reached
    ]


def summary_rows(
    reached: Mapping[str, float], stage: str, start: Mapping[str, float], targets: Mapping[str, float]
) -> list[MetricRow]:
    """The rows of the table: every headline that was measured, and the least share of well-formed outputs of a task."""
    rows = [
        _row(reached, stage, start, targets, line, label)
        for line in HEADLINES
        for label in _labels(reached, stage, line)
    ]
    formed = [reached[name] for name in reached if name.startswith(f"{stage}/") and name.endswith("/well_formed")]
    if formed:
        rows.append(MetricRow("outputs well-formed", min(formed)))
    return rows


def _row(
    reached: Mapping[str, float],
    stage: str,
    start: Mapping[str, float],
    targets: Mapping[str, float],
    line: Headline,
    label: str,
) -> MetricRow:
    """A headline of the workload with this label."""
    name = f"{label}/{line.metric}"
    base = reached.get(f"{stage}/{label}/{line.baseline}") if line.baseline else start.get(name)
    low, high = (reached.get(f"{stage}/{name}_{end}") for end in ("low", "high"))
    return MetricRow(
        line.label if label == line.task else f"{spoken(label)}: {line.label.partition(': ')[2]}",
        reached[f"{stage}/{name}"],
        line.baseline_label if base is not None else "",
        base,
        targets.get(name),
        line.higher_is_better,
        line.digits,
        None if low is None or high is None else (low, high),
        reached.get(f"{stage}/{label}/{line.ceiling or f'{line.metric}_ceiling'}"),
    )
