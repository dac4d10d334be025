"""Grids: how a file is expanded into runs and rows, what is refused, and that those that ship can be run."""

import csv
from pathlib import Path

import pytest
import yaml

from kyvo.cookbook.grid import Choice, Grid
from kyvo.cookbook.plan import Plan, find_grid, grid_names

RESULTS = Path(__file__).parents[1] / "configs" / "cookbook" / "results"

QUESTIONS = ("backbones", "granularity", "modality_order", "numbers", "order", "ours", "recipes", "shape_loss")

GRID = {
    "title": "A grid",
    "configs": ["base"],
    "settings": {"trainer.max_steps": 5},
    "seeds": [3, 4],
    "prepare": {"world": "data make --out {folder}/shards"},
    "axes": {
        "recipe": {"LoRA": {"configs": ["lora"], "model.recipe": "lora"}, "FFT": {"model.recipe": "fft"}},
        "data": {"1/16": {"data.limit": 1}, "all": None},
    },
    "columns": {"a/jaccard": {"published": {"LoRA, all": 0.5}, "source": "table 1"}, "cost/step_seconds": None},
}


def read(folder, **changes):
    path = folder / "mine.yaml"
    path.write_text(yaml.safe_dump({**GRID, **changes}, sort_keys=False))
    return Grid.read(path)


def test_every_combination_is_a_row_and_is_run_with_every_seed(tmp_path):
    grid = read(tmp_path)
    assert grid.name == "mine"
    assert grid.rows == ("LoRA, 1/16", "LoRA, all", "FFT, 1/16", "FFT, all")
    runs = grid.runs()
    # A whole seed before the next.
    assert [run.seed for run in runs] == [3] * 4 + [4] * 4
    assert [run.name for run in runs[:4]] == ["LoRA-1_16-seed3", "LoRA-all-seed3", "FFT-1_16-seed3", "FFT-all-seed3"]
    assert runs[0].configs == ("base", "lora")
    assert runs[2].configs == ("base",)
    assert runs[0].settings == {
        "trainer.max_steps": 5, "model.recipe": "lora", "data.limit": 1, "seed_everything": 3
    }  # fmt: skip
    assert grid.columns[0].published == {"LoRA, all": 0.5}
    assert (grid.columns[1].metric, grid.columns[1].published) == ("cost/step_seconds", {})


def test_the_parts_of_a_row_are_runs_and_a_choice_may_have_parts_of_its_own(tmp_path):
    tasks = {"draw": {"data.task": "3-I"}, "read": {"data.task": "I-3"}}
    axes = {"choice": {"four": {"model.head": "x"}, "one": {"parts": {"both": {"data.task": "any"}}}}}
    runs = read(tmp_path, parts=tasks, axes=axes, seeds=[0]).runs()
    assert [(run.name, run.row) for run in runs] == [
        ("four-draw-seed0", "four"),
        ("four-read-seed0", "four"),
        ("one-both-seed0", "one"),
    ]
    assert [run.settings["data.task"] for run in runs] == ["3-I", "I-3", "any"]
    assert runs[1].settings["model.head"] == "x"


def test_an_axis_goes_over_the_grids_own_settings(tmp_path):
    axes = {"steps": {"few": {"trainer.max_steps": 1}, "some": {}}}
    assert [run.settings["trainer.max_steps"] for run in read(tmp_path, axes=axes, seeds=[0]).runs()] == [1, 5]


def test_a_setting_of_two_axes_is_refused(tmp_path):
    grid = read(tmp_path, axes={"a": {"x": {"model.lr": 1}}, "b": {"y": {"model.lr": 2}}})
    with pytest.raises(ValueError, match=r"row 'x, y': model.lr is set to 1 and to 2"):
        grid.runs()


@pytest.mark.parametrize("names", [("1/2", "1_2"), ("LoRA", "lora")])
def test_two_runs_never_share_a_folder(names, tmp_path):
    grid = read(tmp_path, axes={"a": {name: {} for name in names}}, seeds=[0])
    with pytest.raises(ValueError, match="grid mine: runs would share the folders"):
        grid.runs()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"axis": {}}, "the file: axis is none of axes, columns"),
        ({"axes": {}}, "expected axes, with choices each, and columns"),
        ({"axes": {"a": {}}}, "axis a: expected choices by name"),
        ({"axes": {"a": [1]}}, "axis a: expected a mapping, got"),
        ({"axes": {"a": {"b": {"configs": "lora"}}}}, "axis a, choice b: expected a list of names of configs"),
        ({"seeds": [0, 0]}, r"seeds: expected different whole numbers, got \[0, 0\]"),
        ({"seeds": [True]}, "seeds: expected different whole numbers"),
        ({"columns": {"a": {"paper": 1}}}, "column a: paper is none of of, published, source"),
    ],
)
def test_what_is_wrong_with_a_file_is_named(changes, said, tmp_path):
    with pytest.raises(ValueError, match=rf"mine.yaml: {said}"):
        read(tmp_path, **changes)


def test_a_file_that_is_no_yaml_is_named(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("a: [")
    with pytest.raises(ValueError, match=r"mine.yaml: cannot be read"):
        Grid.read(path)


def test_a_grid_is_found_by_its_path_or_its_name(tmp_path):
    read(tmp_path)
    assert find_grid(str(tmp_path / "mine.yaml")) == tmp_path / "mine.yaml"
    assert find_grid("recipes_mini").is_file()
    with pytest.raises(ValueError, match=r"no grid file 'recipe', .* recipes_mini, recipes_paper"):
        find_grid("recipe")


def test_places_and_seeds_are_put_in(tmp_path):
    where = {"model.save_to": "{folder}/model", "model.from": "{prepare}/world/x", "data.seed": "{seed}", "b": [1]}
    plan = Plan(read(tmp_path, settings=where), Path("out"))
    found = plan.settings_of(plan.grid.runs()[5])
    assert found["model.save_to"] == "out/mine/LoRA-all-seed4/model"
    assert (found["model.from"], found["data.seed"], found["b"]) == ("out/prepare/world/x", 4, [1])
    logger = found["trainer.logger"][0]["init_args"]
    assert logger == {"save_dir": "out/mine", "name": "LoRA-all-seed4", "version": ""}
    assert found["trainer.default_root_dir"] == "out/mine/LoRA-all-seed4"
    [step] = plan.steps()
    assert (step.folder, step.words[-1], step.settings) == (Path("out/prepare/world"), "out/prepare/world/shards", "")


# ---- those that ship ------------------------------------------------------------------------------------------------


def test_every_question_of_the_cookbook_has_both_sizes():
    assert grid_names() == sorted(f"{name}_{size}" for name in QUESTIONS for size in ("mini", "paper"))


@pytest.mark.parametrize("name", grid_names())
def test_what_is_published_is_of_rows_that_there_are(name):
    grid = Grid.read(find_grid(name))
    for column in grid.columns:
        assert set(column.published) <= set(grid.rows)
        assert bool(column.published) == bool(column.source)
    assert len(grid.runs()) >= len(grid.rows) * len(grid.seeds)
    assert isinstance(grid.base, Choice)


@pytest.mark.parametrize("table", sorted(RESULTS.glob("*.csv")), ids=lambda table: table.stem)
def test_a_committed_table_is_of_the_whole_grid_as_it_is(table):
    grid = Grid.read(find_grid(table.stem))
    rows = list(csv.DictReader(table.open()))
    assert [row["run"] for row in rows] == list(grid.rows)
    for row in rows:
        assert int(row["runs"]) == len(grid.seeds)
        assert all(float(row[column.metric]) >= 0 for column in grid.columns)
    assert all(table.with_suffix(suffix).is_file() for suffix in (".md", ".tex", ".png"))


def covering(grid):
    """Runs in which each overlay and each value occurs: the others combine them."""
    runs = {run.name: run for run in grid.runs() if run.seed == grid.seeds[0]}
    said = {name: {*run.configs, *map(str, run.settings.items())} for name, run in runs.items()}
    left = set().union(*said.values())
    while left:
        best = max(said, key=lambda name: len(said[name] & left))
        left -= said[best]
        yield runs[best]


@pytest.mark.parametrize("size", ["mini", pytest.param("paper", marks=pytest.mark.slow)])
def test_the_options_of_every_grid_are_those_of_kyvo_fit(size):
    from kyvo.cookbook.resolved import resolve

    wanted = {}
    for question in QUESTIONS:
        plan = Plan(Grid.read(find_grid(f"{question}_{size}")), Path("runs"))
        for run in covering(plan.grid):
            wanted[f"{plan.grid.name}/{run.name}"] = (run.configs, plan.settings_of(run))
    found = resolve(wanted)
    assert set(found) == set(wanted)
    assert all(config["trainer.max_steps"] > 0 for config in found.values())


def test_options_that_kyvo_fit_does_not_know_are_named_with_their_run(tmp_path):
    axes = {"a": {"x": {"model.init_args.recipes": "lora"}}}
    grid = read(tmp_path, configs=["quickstart", "cookbook/parts/mini"], settings={}, axes=axes, prepare={})
    with pytest.raises(ValueError, match=r"(?s)run x-seed3: .*Option 'recipes' is not accepted"):
        Plan(grid, tmp_path).runs()


def test_a_run_that_would_write_where_others_write_is_refused(tmp_path):
    # The quickstart keeps its checkpoints in a folder of its own.
    grid = read(tmp_path, configs=["quickstart"], settings={}, axes={"a": {"x": {}}}, prepare={})
    with pytest.raises(ValueError, match=r"run x-seed3 would write to runs/quickstart/checkpoints .*dirpath"):
        Plan(grid, tmp_path).runs()
