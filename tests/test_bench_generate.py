"""`kyvo bench generate`: all ways write the same tokens; the numbers that it reports."""

import json

import pytest
import torch

from kyvo import cli
from kyvo.bench.generate import bench
from kyvo.bench.generate_ways import Work

SMALL = (
    "--hidden_size",
    "32",
    "--layers",
    "1",
    "--heads",
    "2",
    "--key_value_heads",
    "1",
    "--batch_size",
    "2",
    "--objects",
    "2",
)


def test_the_command_line(capsys):
    # The ways raise an error where their tokens differ.
    cli.main(["bench", "generate", *SMALL, "--image_codes", "9", "--repeats", "1", "--device", "cpu"])
    report = json.loads(capsys.readouterr().out)
    assert report["setting"]["vocabulary"] == 137_607
    assert report["rendering"]["tokens"] == 9 + 3
    assert report["recognition"]["tokens"] == 2 * 14 + 3
    for part in (report, report["rendering"], report["recognition"]):
        rates = {way: part[way]["samples_per_second"] for way in ("ours", "official", "hf")}
        for way in ("official", "hf"):
            assert part[f"speedup_vs_{way}"] == pytest.approx(rates["ours"] / rates[way], rel=1e-2)
    assert 0 < report["rendering"]["grammar_share"] < 1


def test_scenes_have_as_many_objects_as_asked():
    work = Work.random("I-3", 3, 4, 16)
    assert work.prompts.shape == (3, 1 + 16 + 2 + 1)
    assert work.grammar.max_length == 4 * 14 + 3
    assert all(step.ended is False for step in work.grammar.steps)


def test_one_way_alone_and_nothing_to_measure():
    small = {"hidden_size": 32, "layers": 1, "heads": 2, "objects": 1, "image_codes": 4, "repeats": 1, "device": "cpu"}
    report = bench(batch_size=1, ways=["ours"], **small)
    assert "hf" not in report
    assert "speedup_vs_hf" not in report
    assert torch.get_num_threads() == report["machine"]["threads"]
    with pytest.raises(ValueError, match="official_samples up to batch_size, got 1, 1, 1 and 2"):
        bench(batch_size=1, official_samples=2, **small)
