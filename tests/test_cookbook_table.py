"""The table of a grid, from runs made by hand: what is beside what, in every format, and what failed."""

import csv
import json

import pytest
import yaml
from PIL import Image

from kyvo.cookbook.command import table
from kyvo.cookbook.costs import costs
from kyvo.cookbook.grid import Grid
from kyvo.cookbook.plan import Plan
from kyvo.cookbook.results import grid_table, provenance, read_results
from kyvo.report.comparison import ComparedRun, ComparisonTable, Spread

GRID = {
    "title": "Recipes",
    "configs": ["quickstart"],
    "seeds": [0, 1],
    "axes": {"recipe": {"LoRA": {"model.recipe": "lora"}, "FFT": {"model.recipe": "fft"}}},
    "columns": {
        "a/jaccard": {"published": {"LoRA": 0.868, "FFT": 0.9212}, "source": "table 5b"},
        "a/psnr": {"published": {"FFT": 1.26}, "source": "table 5b", "of": "people's rank ↓"},
        "cost/step_seconds": None,
    },
}


def write_run(folder, status="finished", error="", metrics=None, steps=(0.5, 0.1, 0.2), parameters=2_000_000):
    """What a run leaves."""
    (folder / "checkpoints").mkdir(parents=True)
    times = {"started": "2026-01-01T10:00:00+00:00", "ended": "2026-01-01T10:02:00+00:00"}
    state = {"status": status, "config": {}, "error": error, **times}
    (folder / "cookbook.json").write_text(json.dumps(state))
    machine = {"processor": "CPU", "cores": 2, "memory_gb": 8.0, "accelerators": [{"name": "H100", "memory_gb": 80}]}
    start = {"trained_parameters": parameters, "peak_memory_gb": 1.5, "machine": machine, "commit": "abc"}
    start["versions"] = {"python": "3.11", "torch": "2.13", "numpy": "2"}
    # The evaluation after a resumed start trains nothing.
    (folder / "run.json").write_text(json.dumps({"starts": [start, start | {"trained_parameters": None}]}))
    names = {f"val/{name}": value for name, value in (metrics or {}).items()}
    with (folder / "metrics.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["step", "train/step_seconds", *names])
        writer.writeheader()
        writer.writerows({"step": step, "train/step_seconds": value} for step, value in enumerate(steps))
        writer.writerow({"step": 9, **names})
    (folder / "checkpoints/last.ckpt").write_bytes(b"x" * 3_000_000)


@pytest.fixture
def plan(tmp_path):
    path = tmp_path / "recipes.yaml"
    path.write_text(yaml.safe_dump(GRID, sort_keys=False))
    plan = Plan(Grid.read(path), tmp_path / "runs")
    for seed, value in ((0, 0.5), (1, 0.7)):
        write_run(plan.folder / f"LoRA-seed{seed}", metrics={"a/jaccard": value, "a/psnr": 20.0 + seed})
    write_run(plan.folder / "FFT-seed0", metrics={"a/jaccard": 0.55, "a/psnr": 22.0}, steps=(0.3,))
    write_run(plan.folder / "FFT-seed1", "failed", "no more | memory", {"a/jaccard": 1.0})
    return plan


def found(plan):
    return grid_table(plan.grid, read_results(plan))


def test_markdown(plan):
    assert found(plan).markdown().splitlines() == [
        "| run | a Jaccard ↑ | paper table 5b | a PSNR, dB ↑ | paper people's rank ↓, table 5b | cost step seconds ↓ "
        "| note |",
        "| :-- | --: | --: | --: | --: | --: | :-- |",
        "| LoRA ×2 | **0.600 ± 0.141** | 0.8680 | 20.50 ± 0.71 | – | **0.200 ± 0.000** |  |",
        r"| FFT | 0.550 | 0.9212 | **22.00** | 1.26 | 0.300 | seed 1 failed: no more \| memory |",
    ]


def test_latex(plan):
    assert found(plan).latex().splitlines() == [
        r"\begin{tabular}{lrrrrrl}",
        r"\toprule",
        r" & a & paper & a & paper & cost &  \\",
        r"run & Jaccard $\uparrow$ & table 5b & PSNR, dB $\uparrow$ & people's rank $\downarrow$, table 5b & "
        r"step seconds $\downarrow$ & note \\",
        r"\midrule",
        r"LoRA $\times$2 & \textbf{0.600 $\pm$ 0.141} & 0.8680 & 20.50 $\pm$ 0.71 & -- & "
        r"\textbf{0.200 $\pm$ 0.000} &  \\",
        r"FFT & 0.550 & 0.9212 & \textbf{22.00} & 1.26 & 0.300 & seed 1 failed: no more | memory \\",
        r"\bottomrule",
        r"\end{tabular}",
    ]


def test_a_metric_without_a_label_is_a_column_of_numbers():
    table = ComparisonTable([ComparedRun("x", 1, {"iou": Spread(0.5, None)})], ["iou"])
    assert table.markdown().splitlines()[:2] == ["| run | IoU ↑ |", "| :-- | --: |"]


def test_csv_is_not_rounded(plan):
    first, second = csv.DictReader(found(plan).csv().splitlines())
    assert float(first["a/jaccard"]) == pytest.approx(0.6)
    assert float(first["a/jaccard_std"]) == pytest.approx(0.02**0.5)
    assert (first["a/jaccard_paper"], first["a/psnr_paper"], second["a/psnr_paper"]) == ("0.868", "", "1.26")
    assert (first["note"], second["note"]) == ("", "seed 1 failed: no more | memory")
    assert (second["runs"], second["a/jaccard_std"]) == ("1", "")


def test_the_command_prints_and_writes_each_format(plan, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "160")
    for ending in ("md", "tex", "csv", "png"):
        table(str(tmp_path / "recipes.yaml"), runs=tmp_path / "runs", out=tmp_path / "out" / f"t.{ending}")
    assert "0.600 ± 0.141" in capsys.readouterr().out
    # In a narrow terminal, one table below the other, nothing cut.
    monkeypatch.setenv("COLUMNS", "60")
    table(str(tmp_path / "recipes.yaml"), runs=tmp_path / "runs")
    printed = capsys.readouterr().out
    assert "…" not in printed
    assert printed.count("LoRA ×2") > 1
    text = (tmp_path / "out/t.md").read_text()
    assert text.startswith("# Recipes\n\n| run | a Jaccard ↑ |")
    assert text.endswith("Code: abc; python 3.11, torch 2.13.\n")
    assert Image.open(tmp_path / "out/t.png").size[0] > 500


def test_where_the_numbers_come_from_is_said(plan):
    assert provenance(read_results(plan)) == [
        "3 of 4 runs, seeds 0, 1, 6 minutes of runs in all.",
        "Machine: CPU, 2 cores, 8.0 GB, 1 x H100.",
        "Code: abc; python 3.11, torch 2.13.",
    ]


def test_nothing_run_yet_is_shown_as_that(tmp_path, plan):
    empty = Plan(plan.grid, tmp_path / "elsewhere")
    assert [row.note for row in found(empty).rows] == ["seed 0 not run; seed 1 not run"] * 2
    assert provenance(read_results(empty)) == []


def test_the_models_of_a_row_are_one_row(tmp_path, plan):
    path = tmp_path / "parts.yaml"
    axes = {"choice": {"one": {}, "two": {"parts": {"draw": {}, "read": {}}}}}
    path.write_text(yaml.safe_dump({**GRID, "axes": axes, "seeds": [0]}))
    parts = Plan(Grid.read(path), tmp_path / "runs")
    write_run(parts.folder / "one-seed0", "running")
    write_run(parts.folder / "two-draw-seed0", metrics={"a/psnr": 20.0}, steps=(0.1,))
    write_run(parts.folder / "two-read-seed0", metrics={"a/jaccard": 0.5}, steps=(0.4,))
    one, two = found(parts).rows
    assert (one.note, one.reached) == ("seed 0 stopped", {})
    assert {name: spread.mean for name, spread in two.reached.items()} == {
        "a/jaccard": 0.5, "a/psnr": 20.0, "cost/step_seconds": 0.4
    }  # fmt: skip
    (parts.folder / "two-read-seed0/cookbook.json").unlink()
    assert found(parts).rows[1].note == "two-read-seed0 not run"
    results = read_results(parts)
    assert results[1].reached["cost/million_trained_weights"] == 2.0


def test_costs_are_read_from_what_a_run_wrote(tmp_path):
    write_run(tmp_path / "run")
    assert costs(tmp_path / "run") == {
        "cost/million_trained_weights": 2.0,
        "cost/peak_memory_gb": 1.5,
        "cost/step_seconds": 0.2,
        "cost/checkpoint_mb": 3.0,
    }
    assert costs(tmp_path / "none") == {}


def test_columns_that_no_run_logged_are_an_error(tmp_path, plan):
    path = tmp_path / "recipes.yaml"
    path.write_text(yaml.safe_dump({**GRID, "columns": {"b/jaccard": None}}, sort_keys=False))
    with pytest.raises(ValueError, match=r"LoRA-seed0: none of b/jaccard was logged, only a/jaccard, a/psnr"):
        table(str(path), runs=tmp_path / "runs")


def test_another_format_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"\.md, \.tex, \.csv, \.png, got .*pdf"):
        table("recipes_mini", out=tmp_path / "t.pdf")
