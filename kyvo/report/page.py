"""The page of an evaluation: one HTML file that opens from disk, with its numbers, curves, confusions and samples."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

from kyvo.report.metric_names import Reading, digits, label_of, readings, spoken, written
from kyvo.report.metrics_file import MetricsFile
from kyvo.report.page_confusion import confusion_table, confusions
from kyvo.report.page_curves import chart_svg, training_charts
from kyvo.report.page_pictures import Pictures
from kyvo.report.page_samples import SampleSheet, TaskResults
from kyvo.report.page_template import PAGE, SCRIPT, STYLE
from kyvo.report.table import MISSING
from kyvo.scene import Scene

MOST_BYTES = 5_000_000
"""Size that a page stays below: samples are left out until it does."""


@dataclass(frozen=True)
class Evaluation:
    """What a page is about.

    Args:
        title: Name of the run.
        stage: val or test.
        metrics: Values by name, such as recognition/jaccard.
        tasks: What was written for each task.
        log: The run's metrics.csv, for its curves.
        untrained: Values of the untrained model, by the same names.
        targets: Values aimed at, by name.
    """

    title: str
    stage: str
    metrics: Mapping[str, float]
    tasks: Sequence[TaskResults]
    log: MetricsFile | None = None
    untrained: Mapping[str, float] = field(default_factory=dict)
    targets: Mapping[str, float] = field(default_factory=dict)


def write_page(
    evaluation: Evaluation, path: Path, pictures: Pictures | None = None, rows: int = 4, extent: float | None = None
) -> Path:
    """Write the page; it needs no network, and no script for reading.

    Args:
        evaluation: What it is about.
        path: The .html file to write; its folder is made.
        pictures: Where pictures of samples come from; none are shown without.
        rows: Samples of a group, halved until the page is below `MOST_BYTES`.
        extent: Half the floor's width in drawings of scenes; default is that of the schema.

    Returns:
        The path written.

    Raises:
        ValueError: Another name of a file, or no row.
    """
    if path.suffix != ".html" or rows < 1:
        raise ValueError(f"a page is an .html file with at least one sample of a group, got {path} and {rows}")
    found = pictures or Pictures()
    text = page_html(evaluation, found, rows, extent)
    while len(text.encode()) > MOST_BYTES and rows > 1:
        rows //= 2
        text = page_html(evaluation, found, rows, extent)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def page_html(evaluation: Evaluation, pictures: Pictures, rows: int, extent: float | None = None) -> str:
    """The page as text; see `write_page`."""
    sections = [_head(evaluation), _filters(evaluation), _results(evaluation), _curves(evaluation.log)]
    for task in evaluation.tasks:
        sections.append(_task(task, evaluation.metrics, SampleSheet(task, pictures, extent).html(rows)))
    title = escape(f"{evaluation.title}, {evaluation.stage}")
    return PAGE.format(title=title, style=STYLE, script=SCRIPT, body="\n".join(filter(None, sections)))


def _head(evaluation: Evaluation) -> str:
    counts = sum(len(task.examples) for task in evaluation.tasks)
    said = f"{evaluation.stage}: {counts} outputs of {len(evaluation.tasks)} tasks"
    trained = "" if evaluation.log is None else f", after {evaluation.log.last_step:,} steps of training"
    return f'<h1>{escape(evaluation.title)}</h1>\n<p class="faint">{escape(said + trained)}</p>'


# ---- filters --------------------------------------------------------------------------------------------------------


def _filters(evaluation: Evaluation) -> str:
    tasks = [(task.label, spoken(task.label)) for task in evaluation.tasks]
    groups = [(name, name) for name in ("best", "median", "worst", "right", "wrong")]
    formed = [("yes", "well-formed"), ("no", "malformed")]
    choices = (("task", "Tasks", tasks), ("group", "Samples", groups), ("formed", "Outputs", formed))
    bars = "".join(_buttons(*choice) for choice in choices)
    # Hidden until the script can serve it.
    return f'<nav id="filters" aria-label="Filters" hidden>{bars}<span id="count" role="status"></span></nav>'


def _buttons(name: str, title: str, options: Sequence[tuple[str, str]]) -> str:
    buttons = "".join(
        f'<button type="button" data-filter="{name}" data-value="{escape(value, quote=True)}" '
        f'aria-pressed="{"false" if value else "true"}">{escape(text)}</button>'
        for value, text in (("", "all"), *options)
    )
    return f'<div role="group" aria-label="{title}"><small>{title}</small>{buttons}</div>'


# ---- numbers --------------------------------------------------------------------------------------------------------


def _results(evaluation: Evaluation) -> str:
    found = readings(evaluation.metrics, evaluation.untrained, evaluation.targets)
    if not found:
        return "<h2>Results</h2>\n<p>No metric was logged.</p>"
    names = ["metric", "reached", "", "95 % interval", "baselines", "ceilings", "target"]
    kept = [place for place, name in enumerate(names) if not name or any(_cells(one)[place] for one in found)]
    head = "".join(f'<th scope="col">{names[place]}</th>' for place in kept)
    rows = "\n".join(_result_row(one, kept) for one in found)
    return (
        '<h2>Results</h2>\n<div class="scroll"><table class="results">'
        f"<thead><tr>{head}</tr></thead><tbody>\n{rows}\n</tbody></table></div>\n{_legend(found)}"
    )


def _legend(found: Sequence[Reading]) -> str:
    parts = ["bar: reached"]
    parts += ["grey line: baseline"] if any(one.baselines for one in found) else []
    parts += ["green line: ceiling"] if any(one.ceilings for one in found) else []
    parts += ["black line: interval"] if any(one.interval for one in found) else []
    return f'<p class="faint">{" · ".join(parts)}</p>'


def _cells(one: Reading) -> list[str]:
    """The cells of a row as HTML; empty ones of columns that no row fills are left out."""
    places = digits(one.name)

    def number(value: float) -> str:
        return MISSING if math.isnan(value) else f"{value:.{places}f}"

    def listed(values: Mapping[str, float]) -> str:
        return "<br>".join(f"{number(value)} <small>{escape(name)}</small>" for name, value in values.items())

    interval = "" if one.interval is None else f"{number(one.interval[0])} to {number(one.interval[1])}"
    target = "" if one.target is None else number(one.target)
    title = f"{escape(spoken(label_of(one.name)))} <small>{escape(written(one.name))}</small>"
    reached = f"<b>{number(one.value)}</b>"
    return [title, reached, gauge(one), interval, listed(one.baselines), listed(one.ceilings), target]


def _result_row(one: Reading, kept: Sequence[int]) -> str:
    cells = _cells(one)
    first = f'<th scope="row">{cells[0]}</th>'
    rest = "".join(f"<td>{cells[place]}</td>" for place in kept if place)
    return f'<tr data-task="{escape(label_of(one.name), quote=True)}">{first}{rest}</tr>'


def gauge(one: Reading) -> str:
    """A bar of what was reached, with lines at baselines and ceilings, on a scale that ends at 1 where it can.

    Empty where nothing says how far the scale of a number goes.
    """
    targets = [] if one.target is None else [one.target]
    beside = [*one.baselines.values(), *one.ceilings.values(), *(one.interval or ()), *targets]
    numbers = [value for value in (one.value, *beside) if math.isfinite(value)]
    if not math.isfinite(one.value) or min(numbers) < 0 or (max(numbers) > 1 and len(numbers) == 1):
        return ""
    end = 1.0 if max(numbers) <= 1 else max(numbers)

    def at(value: float) -> str:
        return f"{200 * value / end:.1f}"

    def line(kind: str, value: float) -> str:
        return f'<line class="{kind}" x1="{at(value)}" x2="{at(value)}" y1="0" y2="14"/>'

    parts = ['<rect class="track" x="0" y="4" width="200" height="6"/>']
    parts.append(f'<rect class="reached" x="0" y="4" width="{at(one.value)}" height="6"/>')
    parts += [line("base", value) for value in one.baselines.values() if math.isfinite(value)]
    parts += [line("top", value) for value in one.ceilings.values() if math.isfinite(value)]
    if one.interval is not None:
        low, high = map(at, one.interval)
        parts.append(f'<line class="spread" x1="{low}" x2="{high}" y1="7" y2="7"/>')
    return (
        f'<svg class="gauge" viewBox="0 0 200 14" preserveAspectRatio="none" aria-hidden="true">{"".join(parts)}</svg>'
    )


def _curves(log: MetricsFile | None) -> str:
    charts = [] if log is None else training_charts(log)
    if not charts:
        return ""
    blocks = []
    for chart in charts:
        several = len(chart.curves) > 1
        key = "".join(f'<span class="key c{n}">{escape(one.name)}</span>' for n, one in enumerate(chart.curves))
        said = f"<b>{escape(spoken(chart.label))}</b> {escape(chart.title)}{key if several else ''}"
        task = escape(chart.label, quote=True)
        blocks.append(f'<figure data-task="{task}"><figcaption>{said}</figcaption>{chart_svg(chart)}</figure>')
    joined = "\n".join(blocks)
    return f'<h2>Training</h2>\n<div class="grid">{joined}</div>'


# ---- tasks ----------------------------------------------------------------------------------------------------------


def _task(task: TaskResults, metrics: Mapping[str, float], samples: str) -> str:
    label = escape(task.label, quote=True)
    malformed = sum(one.malformed > 0 for one in task.examples)
    faults = f', <span class="bad">{malformed} malformed</span>' if malformed else ", all well-formed"
    facts = f"{escape(task.task.spec)}, {len(task.examples)} samples{faults}"
    head = f"<h2>{escape(spoken(task.label))} <small>{facts}</small></h2>"
    parts = [head, _all_metrics(task.label, metrics), _confusion(task), samples]
    return f'<section data-task="{label}">{"".join(filter(None, parts))}</section>'


def _all_metrics(label: str, metrics: Mapping[str, float]) -> str:
    own = {name: value for name, value in metrics.items() if label_of(name) == label}
    if not own:
        return ""
    rows = "".join(
        f'<tr><th scope="row">{escape(written(name))}</th><td>{value:.{digits(name)}f}</td></tr>'
        for name, value in sorted(own.items())
    )
    return (
        f"<details><summary>all {len(own)} metrics</summary>"
        f'<div class="scroll"><table><tbody>{rows}</tbody></table></div></details>'
    )


def _confusion(task: TaskResults) -> str:
    scenes: list[tuple[Scene, Scene]] = []
    for one in task.examples:
        true, guess = one.target.get("scene"), one.generated.get("scene")
        if isinstance(true, Scene):
            scenes.append((guess if isinstance(guess, Scene) else Scene(), true))
    tables = confusions(task.schema, scenes) if scenes else []
    if not tables:
        return ""
    blocks = "\n".join(f"<div>{confusion_table(one)}</div>" for one in tables)
    return (
        "<h3>Confusion by attribute <small>objects paired by distance, rows true, columns written</small></h3>"
        f'<div class="tables">{blocks}</div>'
    )
