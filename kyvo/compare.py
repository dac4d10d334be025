"""Comparing runs: one table of what each reached, over seeds where runs differ in nothing else."""

import copy
import glob
import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from itertools import takewhile
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console

from kyvo.report.comparison import ComparedRun, ComparisonTable, Spread
from kyvo.report.comparison_chart import draw_comparison
from kyvo.report.metric_names import headlines
from kyvo.report.metrics_file import COMMANDS, Stage, final_metrics

FORMATS = (".md", ".tex", ".csv", ".png")

_LISTED = 12
"""Metrics that a message lists."""


def compare(
    *runs: str,
    out: Path | None = None,
    stage: Stage | None = None,
    metrics: list[str] | None = None,
    ranks: list[str] | None = None,
) -> None:
    """Print one table from several runs: what each reached at its last evaluation, the best in bold.

    Runs whose saved config.yaml differ in seed_everything alone (and in where they write) share a row, with mean and
    standard deviation.

    Args:
        runs: Folders of runs, or patterns such as 'runs/*'.
        out: Also write the table: .md (Markdown), .tex (LaTeX), .csv (unrounded) or .png (a plot).
        stage: Which evaluation; default is test where all runs have one, else val.
        metrics: Metrics or patterns such as 'recognition/*'; default is the headline metrics.
        ranks: Scores of samples, or patterns, such as rendering/scene_success: for each, the runs are ranked on every
            sample of their predictions/, equal ones sharing the best rank, and a column has the mean ranks, 1 best.

    Raises:
        ValueError: No such runs, no metrics, files that cannot be read, or another format; or ranks of runs that were
            not evaluated on the same samples.
    """
    if out is not None and out.suffix not in FORMATS:
        raise ValueError(f"--out takes a file that ends in {', '.join(FORMATS)}, got {out}")
    found, used = read_runs(runs, stage)
    if ranks:
        found = with_ranks(found, used, ranks)
    table, console = comparison(found, metrics), Console()
    for part in table.parts(console.width):
        console.print(part.rich(f"{used}: {len(found)} runs"))
    if out is not None:
        write_table(table, out)


def write_table(table: ComparisonTable, path: Path) -> None:
    """Write a comparison in the format that the file's name ends in."""
    if path.suffix == ".png":
        draw_comparison(table, path)
        return
    texts = {".md": table.markdown, ".tex": table.latex, ".csv": table.csv}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(texts[path.suffix](), encoding="utf-8")


# ---- runs -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Run:
    """What a run left.

    Args:
        folder: Its folder.
        reached: Metrics of its last evaluation by name, without the stage.
        config: Its settings without seed and without where it writes, as text; None without a config.yaml.
        seed: Its seed; None without.
    """

    folder: Path
    reached: Mapping[str, float]
    config: str | None
    seed: int | None


def read_runs(patterns: Sequence[str], stage: Stage | None = None) -> tuple[list[Run], Stage]:
    """The runs of a comparison, and the stage that was read.

    A folder that a pattern finds and that has no metrics is passed over; one that is named must have some.

    Raises:
        ValueError: Nothing found, a named folder that is none or has no metrics, or files that cannot be read.
    """
    named, folders = find_folders(patterns)
    stages: tuple[Stage, ...] = ("test", "val") if stage is None else (stage,)
    logged = {folder: {one: final_metrics(folder, one) for one in stages} for folder in folders}
    asked = [folder for folder in folders if folder in named or any(logged[folder].values())]
    used = next((one for one in stages if all(logged[folder][one] for folder in asked)), stages[-1])
    if not asked:
        raise ValueError(f"none of the {len(folders)} folders of {' '.join(patterns)} has {stages[-1]} metrics")
    for folder in asked:
        if not logged[folder][used]:
            raise ValueError(f"{folder}: no {used} metrics in metrics.csv or {COMMANDS[used]}/metrics.csv")
    return [_run(folder, logged[folder][used]) for folder in asked], used


def find_folders(patterns: Sequence[str]) -> tuple[list[Path], list[Path]]:
    """The folders that were named, and all, those that patterns find among them; each once.

    Raises:
        ValueError: A name or a pattern without a folder, or neither.
    """
    named: list[Path] = []
    every: dict[Path, Path] = {}
    for pattern in patterns:
        is_name = Path(pattern).exists() or not glob.has_magic(pattern)
        paths = [Path(pattern)] if is_name else sorted(map(Path, glob.glob(pattern, recursive=True)))
        folders = [path for path in paths if path.is_dir()]
        if not folders:
            raise ValueError(
                f"expected folders of runs, {pattern!r} is none" if is_name else f"nothing is like {pattern!r}"
            )
        named += folders if is_name else []
        for folder in folders:
            every.setdefault(folder.resolve(), folder)
    if not every:
        raise ValueError("expected at least one run's folder")
    return named, list(every.values())


def _run(folder: Path, reached: Mapping[str, float]) -> Run:
    path = folder / "config.yaml"
    if not path.is_file():
        return Run(folder, reached, None, None)
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ValueError(f"{path}: cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path}: expected the settings of a run, got {type(content).__name__}")
    seed = content.get("seed_everything")
    return Run(folder, reached, _settings(content), seed if isinstance(seed, int) else None)


def _settings(content: Mapping[str, Any]) -> str:
    """What makes a run what it is: without its seed and without where it reads a checkpoint and writes."""
    kept = copy.deepcopy(dict(content))
    for name in ("seed_everything", "ckpt_path"):
        kept.pop(name, None)
    trainer = kept.get("trainer")
    if isinstance(trainer, dict):
        trainer.pop("logger", None)
        trainer.pop("default_root_dir", None)
        for callback in trainer.get("callbacks") or ():
            for name in ("dirpath", "folder"):
                (callback.get("init_args") or {}).pop(name, None)
    return json.dumps(kept, sort_keys=True, default=str)


def with_ranks(runs: Sequence[Run], stage: Stage, patterns: Sequence[str]) -> list[Run]:
    """The runs with their mean ranks among what they reached, see `kyvo.sample_ranking.mean_ranks`."""
    from kyvo.sample_ranking import mean_ranks

    found = mean_ranks([run.folder for run in runs], stage, patterns)
    return [replace(run, reached={**run.reached, **ranks}) for run, ranks in zip(runs, found, strict=True)]


# ---- table ----------------------------------------------------------------------------------------------------------


def comparison(runs: Sequence[Run], patterns: Sequence[str] | None = None) -> ComparisonTable:
    """The table of runs.

    Args:
        runs: At least one.
        patterns: Metrics or patterns of them; default is the headline metrics. Mean ranks are always there.

    Raises:
        ValueError: A pattern that no run's metrics fit, or no headline metric among them.
    """
    every = list(dict.fromkeys(name for run in runs for name in run.reached))
    names = headlines(every) if patterns is None else _chosen(every, patterns)
    names += [name for name in every if name.endswith("_rank") and name not in names]
    if not names:
        raise ValueError(f"none of the headline metrics was logged; choose with --metrics among {_listed(every)}")
    groups = group_seeds(runs)
    titles = _titles(groups)
    return ComparisonTable([_row(title, group, names) for title, group in zip(titles, groups, strict=True)], names)


def _chosen(every: Sequence[str], patterns: Sequence[str]) -> list[str]:
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in every):
            raise ValueError(f"no run has a metric like {pattern!r}, only {_listed(every)}")
    return [name for name in every if any(fnmatchcase(name, pattern) for pattern in patterns)]


def _listed(names: Sequence[str]) -> str:
    """Names as a message lists them: not more than fit into a line or two."""
    rest = len(names) - _LISTED
    return ", ".join(names[:_LISTED]) + (f" and {rest} more (the columns of metrics.csv)" if rest > 0 else "")


def group_seeds(runs: Sequence[Run]) -> list[list[Run]]:
    """Runs that differ in their seed alone, together, in the order of the first of them.

    A run that repeats another's seed stays alone: it would only seem to make the deviation smaller.
    """
    groups: dict[tuple[str, int], list[Run]] = {}
    for run in runs:
        config = str(run.folder.resolve()) if run.config is None else run.config
        turn = 0
        while any(other.seed == run.seed for other in groups.get((config, turn), ())):
            turn += 1
        groups.setdefault((config, turn), []).append(run)
    return list(groups.values())


def _row(title: str, group: Sequence[Run], names: Sequence[str]) -> ComparedRun:
    values = {name: [run.reached[name] for run in group if name in run.reached] for name in names}
    return ComparedRun(title, len(group), {name: Spread.of(some) for name, some in values.items() if some})


def _titles(groups: Sequence[Sequence[Run]]) -> list[str]:
    """What rows are called: their runs' folders from where these part, without the seed that ends them."""
    top = Path(os.path.commonpath([run.folder.resolve().parent for group in groups for run in group]))
    names = [[run.folder.resolve().relative_to(top).as_posix() for run in group] for group in groups]
    short = [_common(some) for some in names]
    # Rows of one name would be no help.
    return [title if short.count(title) == 1 else some[0] for title, some in zip(short, names, strict=True)]


def _common(names: Sequence[str]) -> str:
    """What the names of a group begin with.

    >>> _common(["wide-seed0", "wide-seed12"]), _common(["wide"]), _common(["a", "b"])
    ('wide', 'wide', 'a')
    """
    if len(names) == 1:
        return names[0]
    letters = zip(*names, strict=False)
    shared = "".join(some[0] for some in takewhile(lambda some: len(set(some)) == 1, letters))
    return re.sub(r"([-_./]?seed|[-_./]s)?[-_.=/]*\d*$", "", shared) or names[0]
