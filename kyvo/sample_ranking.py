"""Ranks of runs by what each sample scored: who is best on how many, where a mean may hide it.

S samples, R runs.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np

from kyvo.metrics.ranking import ranks_of
from kyvo.report.metric_names import higher_is_better
from kyvo.report.metrics_file import Stage
from kyvo.report.page_run import find_predictions, workload_of
from kyvo.score.json_files import by_key, read_json_lines
from kyvo.workload import labelled

Scores = Mapping[str, Mapping[str, Mapping[str, float]]]
"""Label, key of a sample and name of a score to its value."""


def mean_ranks(runs: Sequence[Path], stage: Stage, patterns: Sequence[str]) -> list[dict[str, float]]:
    """The mean rank of each run among all over the samples, 1 best; runs that are equal on a sample share the best.

    Args:
        runs: Folders of two runs or more that were evaluated on the same samples.
        stage: Of which evaluation.
        patterns: Scores or patterns of them, such as rendering/scene_success.

    Returns:
        For each run, mean ranks by `LABEL/SCORE_rank`. A sample that lacks a score in some run does not count for it.

    Raises:
        ValueError: A single run, runs without predictions or of other samples, or a pattern that no score fits.
    """
    if len(runs) < 2:
        raise ValueError(f"ranks need at least two runs, got {len(runs)}")
    found = [sample_scores(find_predictions(run, stage)[1]) for run in runs]
    for run, scores in zip(runs[1:], found[1:], strict=True):
        _check_same(runs[0], found[0], run, scores)
    columns = _columns(found[0])
    for pattern in patterns:
        if not any(fnmatchcase(f"{label}/{name}", pattern) for label, name in columns):
            raise ValueError(
                f"samples have no score like {pattern!r}, only {', '.join('/'.join(one) for one in columns)}"
            )
    chosen = [one for one in columns if any(fnmatchcase("/".join(one), pattern) for pattern in patterns)]
    ranked = {f"{label}/{name}_rank": _mean_ranks(found, label, name) for label, name in chosen}
    return [{name: float(ranks[place]) for name, ranks in ranked.items()} for place in range(len(runs))]


def sample_scores(folder: Path) -> Scores:
    """The scores of all samples in a folder of predictions.

    Raises:
        ValueError: A line that is no prediction with scores, or two of one sample.
    """
    files: dict[str, list[Path]] = {}
    for file in sorted(folder.glob("*.rank*.jsonl")):
        files.setdefault(file.name.rpartition(".rank")[0], []).append(file)
    # What scenes are made of is no part of a label.
    workloads = labelled([workload_of(stem, "") for stem in files])
    return {
        workload.label: by_key((line for file in some for line in _lines(file)), f"{folder}, {stem}", "sample")
        for workload, (stem, some) in zip(workloads, files.items(), strict=True)
    }


def _lines(file: Path) -> Iterator[tuple[str, dict[str, float]]]:
    for place, line in read_json_lines(file):
        scores = line.get("scores")
        if not isinstance(scores, dict) or not all(map(_is_number, scores.values())):
            raise ValueError(f"{place}, key {line['key']!r}: expected numbers by name under 'scores'")
        yield line["key"], scores


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _columns(scores: Scores) -> list[tuple[str, str]]:
    """Labels and names of all scores."""
    return [
        (label, name)
        for label, samples in scores.items()
        for name in dict.fromkeys(name for sample in samples.values() for name in sample)
    ]


def _check_same(first: Path, ours: Scores, second: Path, theirs: Scores) -> None:
    """Raise ValueError unless two runs were evaluated on the same samples."""
    keys = [{(label, key) for label, samples in scores.items() for key in samples} for scores in (ours, theirs)]
    if alone := sorted(keys[0] ^ keys[1]):
        label, key = alone[0]
        run, other = (first, second) if alone[0] in keys[0] else (second, first)
        raise ValueError(f"ranks need the same samples: {label}, {key!r} is in {run} and not in {other}")


def _mean_ranks(found: Sequence[Scores], label: str, name: str) -> np.ndarray:
    """Mean rank of each run by one score, float64 [R]; NaN where no sample has it in all."""
    table = np.array([[run[label][key].get(name, np.nan) for run in found] for key in found[0][label]])
    known = table[~np.isnan(table).any(1)]
    if not len(known):
        return np.full(len(found), np.nan)
    return ranks_of(known, higher_is_better(name)).mean(0)
