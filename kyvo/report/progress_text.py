"""How a run's progress is put into words."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta

from kyvo.report.metric_names import digits, headlines, label_of, spoken, written
from kyvo.training.running_losses import KINDS


@dataclass(frozen=True)
class Standing:
    """Where training stands.

    Args:
        step: Optimiser steps taken.
        total: Those of the whole run; None if it has no end.
        begun: The step at which this process began, which is not 0 where a run is resumed.
        seconds: Time since then.
        metrics: What was logged last, by name without the stage.
    """

    step: int
    total: int | None
    begun: int
    seconds: float
    metrics: Mapping[str, float] = field(default_factory=dict)


def count_text(done: int, total: int | None) -> str:
    """How far something is.

    >>> count_text(1240, 4400), count_text(1240, None)
    ('1,240/4,400', '1,240')
    """
    return f"{done:,}" if total is None else f"{done:,}/{total:,}"


def time_text(standing: Standing) -> str:
    """Time since the start and, at the pace so far, evaluations included, until the end.

    >>> time_text(Standing(step=150, total=200, begun=100, seconds=60))
    '0:01:00, 0:01:00 left'
    """
    passed = duration(standing.seconds)
    done = standing.step - standing.begun
    if standing.total is None or not done or standing.step >= standing.total:
        return passed
    return f"{passed}, {duration(standing.seconds / done * max(0, standing.total - standing.step))} left"


def duration(seconds: float) -> str:
    """Hours, minutes, seconds."""
    return str(timedelta(seconds=round(seconds)))


def speed_text(metrics: Mapping[str, float]) -> str:
    """What the throughput callback logged; nothing without it.

    >>> speed_text({"tokens_per_second": 12345.6, "supervised_tokens_per_second": 999.9, "data_wait": 0.0123})
    '12,346 tokens/s, 1,000 supervised, data wait 1.2 %'
    """
    said = {
        "tokens_per_second": "{:,.0f} tokens/s",
        "supervised_tokens_per_second": "{:,.0f} supervised",
        "data_wait": "data wait {:.1%}",
    }
    parts = [text.format(metrics[name]) for name, text in said.items() if name in metrics]
    return ", ".join(parts).replace("%", " %")


def losses_of(metrics: Mapping[str, float]) -> tuple[list[str], list[str]]:
    """Losses of tasks and losses of kinds of tokens, each with its name.

    >>> losses_of({"question_answering/loss": 0.3215, "image_codes/loss": 4.61, "learning_rate": 1.0})
    (['question answering 0.322'], ['image codes 4.610'])
    """
    found: tuple[list[str], list[str]] = ([], [])
    for name, value in metrics.items():
        label, _, metric = name.rpartition("/")
        if metric == "loss":
            found[label in KINDS].append(f"{spoken(label)} {value:.3f}".strip())
    return found


def headline_texts(metrics: Mapping[str, float]) -> list[str]:
    """The first headline metric of each task.

    >>> headline_texts({"recognition/jaccard": 0.3121, "recognition/count_accuracy": 0.5, "rendering/psnr": 27.5})
    ['recognition 0.312 (Jaccard)', 'rendering 27.50 (PSNR, dB)']
    """
    first: dict[str, str] = {}
    for name in headlines(metrics):
        first.setdefault(label_of(name), name)
    return [
        f"{spoken(label)} {metrics[name]:.{digits(name)}f} ({written(name)})"
        for label, name in first.items()
        if not math.isnan(metrics[name])
    ]
