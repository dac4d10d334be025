"""One table of runs: which share a row, what is best, and its formats."""

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image
from rich.console import Console

from kyvo.compare import compare, comparison, read_runs
from kyvo.report.comparison import ComparedRun, ComparisonTable, Spread
from kyvo.report.metric_names import headlines, readings
from kyvo.sample_ranking import mean_ranks


def make_run(folder, seed=0, hidden=64, stage="val", **metrics):
    folder.mkdir(parents=True)
    logger = {"class_path": "CSVLogger", "init_args": {"save_dir": "runs", "name": folder.name}}
    checkpoints = {"class_path": "ModelCheckpoint", "init_args": {"dirpath": str(folder), "save_last": True}}
    trainer = {"max_steps": 5, "logger": [logger], "callbacks": [checkpoints]}
    config = {"seed_everything": seed, "trainer": trainer, "model": {"hidden": hidden}}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    names = {f"{stage}/{name.replace('__', '/')}": value for name, value in metrics.items()}
    with (folder / "metrics.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["epoch", "step", "train/a/loss", *names])
        writer.writeheader()
        writer.writerow({"epoch": 0, "step": 1, **dict.fromkeys(names, 0.0)})
        writer.writerow({"epoch": 0, "step": 2, **names})
        writer.writerow({"epoch": 0, "step": 3, "train/a/loss": 1.0})
    return folder


@pytest.fixture
def runs(tmp_path):
    for seed, value in enumerate((0.2, 0.4, 0.6)):
        make_run(tmp_path / f"wide-seed{seed}", seed, 128, a__jaccard=value, a__location_error=0.3)
    make_run(tmp_path / "narrow", 0, 64, a__jaccard=0.5, a__location_error=0.1)
    (tmp_path / "notes").mkdir()
    return tmp_path


def test_runs_that_differ_in_seed_alone_share_a_row(runs):
    found, stage = read_runs([str(runs / "*")])
    table = comparison(found, ["a/*"])
    assert stage == "val"
    assert [(row.name, row.runs) for row in table.rows] == [("narrow", 1), ("wide", 3)]
    wide = table.rows[1].reached["a/jaccard"]
    assert (wide.mean, wide.std) == pytest.approx((0.4, 0.2))
    # Of an error the lowest is best.
    assert [table.is_best(row, "a/jaccard") for row in table.rows] == [True, False]
    assert [table.is_best(row, "a/location_error") for row in table.rows] == [True, False]


def test_a_repeated_seed_is_no_further_seed(runs):
    make_run(runs / "again", 0, 128, a__jaccard=0.2)
    table = comparison(read_runs([str(runs / "*")])[0])
    assert sorted((row.name, row.runs) for row in table.rows)[0][1] == 3 or len(table.rows) == 3
    assert sorted(row.runs for row in table.rows) == [1, 1, 3]


def test_test_metrics_are_compared_where_all_have_them(runs):
    make_run(runs / "narrow" / "test", stage="test", a__jaccard=0.45)
    named = [str(runs / "narrow"), str(runs / "wide-seed0")]
    assert read_runs(named)[1] == "val"
    found, stage = read_runs(named[:1])
    assert (stage, found[0].reached) == ("test", {"a/jaccard": 0.45})
    assert read_runs([*named[:1], *named[:1]])[0] == found
    with pytest.raises(ValueError, match=r"wide-seed0: no test metrics in metrics.csv or test/metrics.csv"):
        read_runs(named, "test")


@pytest.fixture
def table():
    rows = [
        ComparedRun("a|b_1", 1, {"clevr/recognition/jaccard": Spread(0.5, None)}),
        ComparedRun("c", 2, {"clevr/recognition/jaccard": Spread(0.25, 0.125), "r/psnr": Spread(20.0, 1.0)}),
    ]
    return ComparisonTable(rows, ["clevr/recognition/jaccard", "r/psnr"])


def test_markdown(table):
    assert table.markdown().splitlines() == [
        "| run | clevr, recognition Jaccard ↑ | r PSNR, dB ↑ |",
        "| :-- | --: | --: |",
        r"| a\|b_1 | **0.500** | – |",
        "| c ×2 | 0.250 ± 0.125 | 20.00 ± 1.00 |",
    ]


def test_latex(table):
    lines = table.latex().splitlines()
    assert lines[0] == r"\begin{tabular}{lrr}"
    assert lines[3] == r"run & Jaccard $\uparrow$ & PSNR, dB $\uparrow$ \\"
    assert lines[5:7] == [
        r"a|b\_1 & \textbf{0.500} & -- \\",
        r"c $\times$2 & 0.250 $\pm$ 0.125 & 20.00 $\pm$ 1.00 \\",
    ]


def test_csv_is_not_rounded(table):
    rows = list(csv.DictReader(table.csv().splitlines()))
    assert [row["run"] for row in rows] == ["a|b_1", "c"]
    assert float(rows[1]["clevr/recognition/jaccard_std"]) == 0.125
    assert rows[0]["r/psnr"] == ""


def test_the_command_prints_and_writes_each_format(runs, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    for ending in ("md", "tex", "csv", "png"):
        compare(str(runs / "*"), out=runs / "out" / f"table.{ending}")
    printed = capsys.readouterr().out
    assert "val: 4 runs" in printed
    assert "0.400 ± 0.200" in printed
    assert "**0.500**" in (runs / "out/table.md").read_text()
    plot = np.asarray(Image.open(runs / "out/table.png").convert("RGB")).astype(int)
    # One bar is the best's.
    assert (np.abs(plot - [78, 121, 167]).sum(-1) == 0).sum() > 1000


def evaluated(folder, name, scores, task="3-I", **metrics):
    """A run with predictions of one task, whose samples a, b, ... have these scores."""
    run = make_run(folder / name, hidden=len(name), **metrics)
    lines = [{"key": key, "scores": {"psnr": one, "l1": 1 / one}} for key, one in zip("abcd", scores, strict=False)]
    place = run / "predictions" / "val"
    place.mkdir(parents=True)
    for rank, some in enumerate((lines[:1], lines[1:])):
        (place / f"{task}.rank{rank}.jsonl").write_text("".join(json.dumps(one) + "\n" for one in some))
    return str(run)


def test_runs_are_ranked_on_each_sample(tmp_path, capsys):
    values = {"x": [1.0, 2.0, 3.0], "yy": [2.0, 2.0, 1.0], "zzz": [0.5, 1.0, 2.0]}
    runs = [evaluated(tmp_path, name, some, rendering__psnr=20.0) for name, some in values.items()]
    ranks = mean_ranks([Path(run) for run in runs], "val", ["rendering/*"])
    # Ranks of a, b and c; two that are equal share the best.
    expected = {"x": (2, 1, 1), "yy": (1, 1, 3), "zzz": (3, 3, 2)}
    for found, places in zip(ranks, expected.values(), strict=True):
        assert found == pytest.approx(dict.fromkeys(("rendering/psnr_rank", "rendering/l1_rank"), sum(places) / 3))
    compare(*runs, ranks=["rendering/psnr"], out=tmp_path / "table.md")
    table = (tmp_path / "table.md").read_text().splitlines()
    assert table[0] == "| run | rendering PSNR, dB ↑ | rendering PSNR rank ↓ |"
    assert "| x | **20.00** | **1.33** |" in table
    assert "1.33" in capsys.readouterr().out


def test_runs_that_cannot_be_ranked_are_named(tmp_path):
    first = evaluated(tmp_path, "x", [1.0, 2.0], rendering__psnr=20.0)
    other = evaluated(tmp_path, "yy", [1.0, 2.0, 3.0], rendering__psnr=20.0)
    third = evaluated(tmp_path, "zzz", [1.0, 2.0], rendering__psnr=20.0)
    for runs, patterns, message in (
        ((first,), ["rendering/psnr"], "at least two runs, got 1"),
        ((first, other), ["rendering/psnr"], r"the same samples: rendering, 'c' is in .*yy and not in .*x"),
        ((first, third), ["a/psnr"], "no score like 'a/psnr', only rendering/psnr, rendering/l1"),
    ):
        with pytest.raises(ValueError, match=message):
            compare(*runs, ranks=patterns)
    (Path(third) / "predictions/val/3-I.rank0.jsonl").write_text('{"key": "a", "scores": {"psnr": NaN}}\n')
    with pytest.raises(ValueError, match=r"rank0\.jsonl, line 1, key 'a': expected numbers by name"):
        compare(first, third, ranks=["rendering/psnr"])
    (Path(third) / "predictions/val/3-I.rank0.jsonl").write_text('{"key": "b", "scores": {}}\n')
    with pytest.raises(ValueError, match="holds two samples with the key 'b'"):
        compare(first, third, ranks=["rendering/psnr"])


@pytest.mark.parametrize("width", [40, 60, 80, 200])
def test_a_wide_table_is_printed_in_parts(width):
    metrics = [f"task{number}/scene_success" for number in range(7)]
    reached = {name: Spread(0.125, 0.25) for name in metrics}
    table = ComparisonTable([ComparedRun("one", 3, reached, "a run failed"), ComparedRun("two", 1, reached)], metrics)
    parts = table.parts(width)
    assert [name for part in parts for name in part.metrics] == metrics
    assert [any(row.note for row in part.rows) for part in parts] == [False] * (len(parts) - 1) + [True]
    for part in parts[:-1]:
        console = Console(width=width, record=True, file=io.StringIO())
        console.print(part.rich("title"))
        text = console.export_text()
        assert text.count("0.125 ± 0.250") == 2 * len(part.metrics)
        assert "…" not in text
    assert len(parts) == {40: 4, 60: 3, 80: 2, 200: 1}[width]


def test_bad_runs_are_named(runs):
    (runs / "odd").mkdir()
    for text, message in (
        ("epoch\n1\n", "expected a CSV with the column 'step'"),
        ("step,val/a/jaccard\n1,high\n", r"line 2: expected a number under 'val/a/jaccard', got 'high'"),
        ("step,val/a/jaccard\n1,2,3\n", "line 2: more cells than columns"),
    ):
        (runs / "odd/metrics.csv").write_text(text)
        with pytest.raises(ValueError, match=message):
            compare(str(runs / "odd"))
    (runs / "odd/metrics.csv").write_text("step,val/a/jaccard\n1,0.5\n")
    (runs / "odd/config.yaml").write_text("a: [")
    with pytest.raises(ValueError, match=r"config.yaml: cannot be read"):
        compare(str(runs / "odd"))
    for words, message in (
        ((), "at least one run"),
        (("missing",), "'missing' is none"),
        (("missing*",), r"nothing is like 'missing\*'"),
        ((str(runs / "notes"),), "notes: no val metrics"),
        ((str(runs / "n*s"),), "none of the 1 folders"),
    ):
        with pytest.raises(ValueError, match=message):
            compare(*words)
    with pytest.raises(ValueError, match=r"\.md, \.tex, \.csv, \.png, got .*table\.pdf"):
        compare(str(runs / "narrow"), out=runs / "table.pdf")
    with pytest.raises(ValueError, match=r"no run has a metric like 'b/\*', only a/jaccard"):
        compare(str(runs / "narrow"), metrics=["b/*"])


def test_headlines_stand_beside_what_they_are_read_against():
    metrics = {
        **{"qa/accuracy": 0.7, "qa/majority_baseline": 0.4, "qa/random_baseline": 0.3, "qa/accuracy_low": 0.6},
        **{"qa/accuracy_high": 0.8, "edit/jaccard": 0.6, "edit/copy_jaccard": 0.3, "edit/copy_jaccard_move": 0.2},
        **{"edit/jaccard_ceiling": 0.9, "edit/jaccard_low_ceiling": 0.8, "edit/location_error_ceiling": 0.1},
        **{"edit/edit_success": 0.5, "draw/scene_success": 0.4, "draw/scene_success_shuffled": 0.0},
        **{"draw/scene_success_vq": 0.8, "draw/scene_success_true": 0.9},
    }
    found = {
        one.name: one for one in readings(metrics, {"edit/edit_success": 0.1, "edit/jaccard": 0.0}, {"qa/accuracy": 1})
    }
    assert (
        list(found) == headlines(metrics) == ["qa/accuracy", "edit/jaccard", "edit/edit_success", "draw/scene_success"]
    )
    qa, edit, done, draw = found.values()
    assert (qa.interval, qa.target, qa.baselines) == ((0.6, 0.8), 1, {"majority": 0.4, "random": 0.3})
    assert (edit.baselines, edit.ceilings) == ({"unchanged": 0.3}, {"tokenised truth": 0.9})
    assert done.baselines == {"untrained": 0.1}
    assert draw.baselines == {"other samples": 0.0}
    assert draw.ceilings == {"reconstructions": 0.8, "true pictures": 0.9}
