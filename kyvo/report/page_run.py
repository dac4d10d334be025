"""The page of a run, made afterwards from what it left in its folder."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kyvo.report.metrics_file import COMMANDS, MetricsFile, Stage, final_metrics, run_name
from kyvo.report.page import Evaluation, write_page
from kyvo.report.page_examples import find_schema, read_examples, with_scores
from kyvo.report.page_pictures import Pictures
from kyvo.report.page_samples import TaskResults
from kyvo.report.page_shapes import with_names
from kyvo.scene import SceneSchema, get_schema
from kyvo.task import Task
from kyvo.tokenizers.images import ImageTokenizer
from kyvo.workload import Workload, labelled


def report(
    run: Path,
    stage: Stage | None = None,
    output: Path | None = None,
    schema: str | None = None,
    image_tokenizer: str | None = None,
    rows: int = 4,
    extent: float | None = None,
) -> dict[str, Any]:
    """Make the page of a finished run: its numbers, curves, confusions and samples in one HTML file.

    Pictures are made of their codes, for the true ones lie with the data.

    Args:
        run: Folder of the run, or of its validate or test.
        stage: Which evaluation; default is test if the folder has one, else val.
        output: The .html file to write; default is report.html in the run's folder.
        schema: Schema of the scenes, by name or a YAML file; default is the known one that reads them.
        image_tokenizer: Folder, hub id or shipped name; default is what the run's config.yaml says.
        rows: Samples of a group.
        extent: Half the floor's width in drawings of scenes; default is that of the schema.

    Returns:
        `page` (the path written) and `samples` (how many were read).

    Raises:
        ValueError: No predictions there, or some that cannot be read.
    """
    found, folder = find_predictions(run, stage)
    images = _image_tokenizer(run, image_tokenizer)
    tasks = read_tasks(folder, None if schema is None else get_schema(schema), images)
    evaluation = Evaluation(run_name(run), found, final_metrics(run, found), tasks, find_log(run))
    page = write_page(evaluation, output or run / "report.html", Pictures(tokenizer=images), rows, extent)
    return {"page": str(page), "samples": sum(len(task.examples) for task in tasks)}


def find_predictions(run: Path, stage: Stage | None = None) -> tuple[Stage, Path]:
    """The stage and folder of a run's predictions.

    Args:
        run: Folder of the run, or of its validate or test.
        stage: Which; default is test if there is one, else val.

    Raises:
        ValueError: There are none.
    """
    stages: tuple[Stage, ...] = ("test", "val") if stage is None else (stage,)
    for one in stages:
        for root in (run, run / COMMANDS[one]):
            folder = root / "predictions" / one
            if any(folder.glob("*.rank*.jsonl")):
                return one, folder
    raise ValueError(f"{run}: expected predictions/{stages[-1]}/TASK.rank0.jsonl, as validate and test leave them")


def read_tasks(folder: Path, schema: SceneSchema | None, images: ImageTokenizer | None) -> list[TaskResults]:
    """What a folder of predictions holds, by task.

    Args:
        folder: With files [DATASET-]TASK.rankR.jsonl.
        schema: Of all scenes; None takes for each task the known one that reads them.
        images: See `kyvo.report.page_examples.with_scores`.

    Raises:
        ValueError: See `kyvo.report.page_examples.read_examples`.
    """
    files: dict[str, list[Path]] = {}
    for file in sorted(folder.glob("*.rank*.jsonl")):
        files.setdefault(file.name.rpartition(".rank")[0], []).append(file)
    schemas = {stem: schema or find_schema(some) for stem, some in files.items()}
    workloads = labelled([workload_of(stem, schemas[stem].name) for stem in files])
    return [
        read_task(workload, schemas[stem], some, images)
        for (stem, some), workload in zip(files.items(), workloads, strict=True)
    ]


def read_task(workload: Workload, schema: SceneSchema, files: list[Path], images: ImageTokenizer | None) -> TaskResults:
    """What the processes of a run wrote for one task, scored, shapes by name where the files name them."""
    examples = with_scores(read_examples(files, schema), workload.task, schema, images)
    named, words = with_names(examples, schema)
    return TaskResults(workload.label, workload.task, words, named)


def workload_of(stem: str, schema: str) -> Workload:
    """The workload that a file is called by: a data set may have hyphens, a task has one."""
    *front, left, right = stem.split("-")
    return Workload(Task.parse(f"{left}-{right}"), schema, "-".join(front))


def find_log(run: Path) -> MetricsFile | None:
    """The metrics.csv with a run's training curves, in its folder or, of validate and test, the one above."""
    for folder in (run, run.resolve().parent):
        path = folder / "metrics.csv"
        log = MetricsFile.read(path) if path.is_file() else None
        if log is not None and log.names("train"):
            return log
    return None


def _image_tokenizer(run: Path, given: str | None) -> ImageTokenizer | None:
    name = given or _tokenizer_options(run).get("image")
    if name is None:
        return None
    try:
        return ImageTokenizer.from_pretrained(name)
    except OSError as error:
        raise ValueError(f"the run's image tokenizer {name!r} is not here; give --image_tokenizer: {error}") from error


def _tokenizer_options(run: Path) -> Mapping[str, Any]:
    """The group `tokenizer` of the run's config.yaml; empty without one."""
    import yaml

    path = run / "config.yaml"
    if not path.is_file():
        return {}
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not YAML: {error}") from error
    options = content.get("tokenizer") if isinstance(content, dict) else None
    return options if isinstance(options, dict) else {}
