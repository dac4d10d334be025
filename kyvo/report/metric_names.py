"""What the names of logged metrics say: which way is better, how to write them, and which stand beside which.

A name is LABEL/METRIC, such as recognition/jaccard or clevr/recognition/jaccard, without the stage.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

HEADLINES = (
    *("jaccard", "ap3d", "ap3d_oracle_r", "iou3d", "iou3d_oracle_r", "shape_iou", "shape_chamfer"),
    *("accuracy", "edit_success", "count_accuracy"),
    *("scene_success", "recognized_object", "object_psnr", "psnr", "ssim", "image_code_nll", "fid"),
)
"""Metrics that are shown first, in this order."""

_LOWER = frozenset(
    (
        "loss",
        "error",
        "l1",
        "l2",
        "nll",
        "perplexity",
        "lpips",
        "fid",
        "failure",
        "distance",
        "chamfer",
        "rank",
        "pyramid",
        "weights",
        "memory",
        "seconds",
        "checkpoint",
    )
)
_CEILINGS = {"ceiling": "tokenised truth", "vq": "reconstructions", "true": "true pictures"}
_BASELINES = {"shuffled": "other samples"}
"""What follows a metric's name in those of its ceilings and baselines, and what people read there."""
_DIGITS = {"psnr": 2, "chamfer": 4, "fid": 2, "perplexity": 2, "rank": 2, "l1": 4, "l2": 4, "memory": 2, "mb": 1}
_WRITTEN = {
    **{name: name.upper() for name in ("psnr", "ssim", "lpips", "fid", "nll", "l1", "l2", "f1", "ap", "ap3d", "ar3d")},
    **{"jaccard": "Jaccard", "iou3d": "IoU3D", "iou": "IoU", "chamfer": "Chamfer", "r": "R"},
    **{"gb": "GB", "mb": "MB"},
}


def higher_is_better(metric: str) -> bool:
    """Whether a higher value of a metric is better, by the words of its name.

    >>> [higher_is_better(name) for name in ("recognition/jaccard", "recognition/location_error", "rendering/l1")]
    [True, False, False]
    """
    # Losses of looks have dashes in their names: lpips-twin, gradient-pyramid.
    return not _LOWER.intersection(re.split("[_-]", _metric(metric)))


def digits(metric: str) -> int:
    """Decimals to show: two for decibels and ranks, four for errors of pixels, else three."""
    return next((_DIGITS[word] for word in reversed(_metric(metric).split("_")) if word in _DIGITS), 3)


def written(metric: str) -> str:
    """A metric as people read it, without its label.

    >>> written("rendering/object_psnr"), written("recognition/count_accuracy")
    ('object PSNR, dB', 'count accuracy')
    >>> written("jaccard_tau0_05")
    'Jaccard at 0.05'
    """
    named = re.sub(r"tau(\d+)_(\d+)", r"at \1.\2", _metric(metric))
    words = " ".join(_WRITTEN.get(word, word) for word in named.split("_"))
    return f"{words}, dB" if "PSNR" in words and not words.endswith(" rank") else words


def spoken(label: str) -> str:
    """A label as people read it.

    >>> spoken("clevr/question_answering")
    'clevr, question answering'
    """
    return label.replace("/", ", ").replace("_", " ")


def label_of(name: str) -> str:
    """What a metric is about: its name up to the last slash."""
    return name.rpartition("/")[0]


def _metric(name: str) -> str:
    return name.rpartition("/")[2]


def headlines(names: Iterable[str]) -> list[str]:
    """The names that are shown first: by label in the order given, and in a label by `HEADLINES`."""
    given = list(dict.fromkeys(names))
    labels = dict.fromkeys(map(label_of, given))
    return [f"{label}/{metric}" for label in labels for metric in HEADLINES if f"{label}/{metric}" in given]


@dataclass(frozen=True)
class Reading:
    """A metric with what it is to be read against.

    Args:
        name: Label and metric.
        value: What was reached.
        interval: The ends of its interval, where it was logged (`METRIC_low`, `METRIC_high`).
        baselines: What is reached without the model, by what it is called.
        ceilings: What no model can pass, by what it is called.
        target: What is aimed at.
    """

    name: str
    value: float
    interval: tuple[float, float] | None = None
    baselines: Mapping[str, float] = field(default_factory=dict)
    ceilings: Mapping[str, float] = field(default_factory=dict)
    target: float | None = None


def readings(
    metrics: Mapping[str, float],
    untrained: Mapping[str, float] | None = None,
    targets: Mapping[str, float] | None = None,
) -> list[Reading]:
    """The headline metrics, each with those logged beside it.

    Ceilings of METRIC are METRIC_ceiling, METRIC_vq and METRIC_true; baselines METRIC_shuffled, copy_METRIC and, of the
    first metric of a label, whatever ends in _baseline.

    Args:
        metrics: Values by name.
        untrained: Values of the untrained model, by the same names: a baseline too.
        targets: Values aimed at, by name.
    """
    return [_reading(name, metrics, untrained or {}, targets or {}) for name in headlines(metrics)]


def _reading(
    name: str, metrics: Mapping[str, float], untrained: Mapping[str, float], targets: Mapping[str, float]
) -> Reading:
    low, high = metrics.get(f"{name}_low"), metrics.get(f"{name}_high")
    baselines = _baselines(name, metrics)
    if name in untrained and not baselines:
        baselines = {"untrained": untrained[name]}
    interval = None if low is None or high is None else (low, high)
    return Reading(name, metrics[name], interval, baselines, _endings(name, metrics, _CEILINGS), targets.get(name))


def _endings(name: str, metrics: Mapping[str, float], said: Mapping[str, str]) -> dict[str, float]:
    return {text: metrics[f"{name}_{end}"] for end, text in said.items() if f"{name}_{end}" in metrics}


def _baselines(name: str, metrics: Mapping[str, float]) -> dict[str, float]:
    label = label_of(name)
    found = _endings(name, metrics, _BASELINES)
    if f"{label}/copy_{_metric(name)}" in metrics:
        found["unchanged"] = metrics[f"{label}/copy_{_metric(name)}"]
    if name == next(one for one in headlines(metrics) if label_of(one) == label):
        ends = [one for one in metrics if label_of(one) == label and one.endswith("_baseline")]
        found |= {_metric(one).removesuffix("_baseline").replace("_", " "): metrics[one] for one in ends}
    return found
