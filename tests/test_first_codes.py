"""First codes of coded shards: shares, entropies, the command, and the plot."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data_modules.first_codes import ORDERS, FirstCodes, count_first_codes, first_codes
from data_modules.index import Index
from data_modules.shards import encode_npy, shard_name, write_shard
from kyvo import cli
from kyvo.report import bars
from kyvo.report.bars import BarChart, draw_bars
from kyvo.report.scene_drawing import PALETTE
from kyvo.tokenizers.image_order import order


def shards(root: Path, codes: np.ndarray, split: str = "train", per_shard: int = 3) -> Path:
    """Coded shards without pictures, as those packed from released codes."""
    index = Index.read(root) if (root / "index.json").is_file() else Index("clevr")
    for number, first in enumerate(range(0, len(codes), per_shard)):
        files = [
            (f"{split}{first + place:06d}", {"image.codes.npy": encode_npy(row.astype(np.uint16))})
            for place, row in enumerate(codes[first : first + per_shard])
        ]
        index = index.with_shard(split, write_shard(root / shard_name(split, number), files))
    index.write(root)
    return root


def images(raster: list[int], center: list[int], spiral: list[int]) -> np.ndarray:
    """Images of 5 x 5 codes with known first codes; all others are 900 and more."""
    codes = np.random.default_rng(0).integers(900, 1024, (len(raster), 25))
    for name, firsts in zip(ORDERS, (raster, center, spiral), strict=True):
        codes[:, order(name, 5, 5)[0]] = firsts
    return codes


CODES = images([7, 7, 7, 7, 3, 3, 1, 2], [0, 1, 2, 3, 4, 5, 6, 7], [5] * 8)


def test_shares_and_entropies_are_those_of_the_codes(tmp_path: Path):
    report = first_codes(str(shards(tmp_path, CODES)))
    assert (report["images"], report["grid"]) == (8, [5, 5])
    raster, center, spiral = (report["orders"][name] for name in ("raster", "center-out", "spiral"))
    assert raster == {
        "share_of_the_same": 0.5,
        "entropy_bits": 1.75,  # 1/2 * 1 + 1/4 * 2 + 2 * 1/8 * 3
        "different_codes": 4,
        "most_frequent": [
            {"code": code, "share": share} for code, share in ((7, 0.5), (3, 0.25), (1, 0.125), (2, 0.125))
        ],
    }
    assert (center["share_of_the_same"], center["entropy_bits"]) == (0.125, 3.0)
    assert [one["code"] for one in center["most_frequent"]] == [0, 1, 2, 3, 4]
    assert (spiral["share_of_the_same"], spiral["entropy_bits"], spiral["different_codes"]) == (1.0, 0.0, 1)
    assert math.copysign(1, spiral["entropy_bits"]) == 1


def test_splits_are_counted_apart(tmp_path: Path):
    shards(tmp_path, CODES)
    shards(tmp_path, CODES[:2], "val")
    assert first_codes(str(tmp_path), "val")["images"] == 2
    assert first_codes(str(tmp_path), "val")["orders"]["raster"]["share_of_the_same"] == 1
    with pytest.raises(ValueError, match=r"no shards 'test'; the index has \['train', 'val'\]"):
        first_codes(str(tmp_path), "test")


def test_grids_that_are_not_square_are_given(tmp_path: Path):
    codes = np.arange(24).reshape(2, 12)
    shards(tmp_path, codes)
    with pytest.raises(ValueError, match=r"12 codes an image don't fill a grid of 3 x 3; give --grid"):
        first_codes(str(tmp_path))
    with pytest.raises(ValueError, match=r"12 codes an image don't fill a grid of 5 x 3$"):
        first_codes(str(tmp_path), grid=[5, 3])
    report = first_codes(str(tmp_path), grid=[2, 6])
    firsts = [one["code"] for one in report["orders"]["center-out"]["most_frequent"]]
    assert firsts == codes[:, order("center-out", 2, 6)[0]].tolist()


def test_counting_needs_no_files():
    found = count_first_codes(iter(np.array([[4, 1, 2, 3], [4, 5, 6, 7]])), (2, 2))
    assert found["raster"].share == 1
    assert found["center-out"].ranked == [(1, 0.5), (5, 0.5)]
    assert FirstCodes(found["spiral"].counts).entropy == pytest.approx(1.0)


def test_shards_without_codes_are_named(tmp_path: Path):
    index = Index("clevr").with_shard("train", write_shard(tmp_path / "a.tar", [("a", {"scene.json": b"{}"})]))
    index.write(tmp_path)
    with pytest.raises(ValueError, match=r"a\.tar: 0 of 1 samples have image\.codes\.npy; codes come from"):
        first_codes(str(tmp_path))


def test_codes_of_another_length_are_named(tmp_path: Path):
    files = [(f"k{count}", {"image.codes.npy": encode_npy(np.zeros(count, np.uint16))}) for count in (4, 9)]
    Index("clevr").with_shard("train", write_shard(tmp_path / "a.tar", files)).write(tmp_path)
    with pytest.raises(ValueError, match=r"key 'k9': member 'image.codes.npy': expected 4 codes .* got 9"):
        first_codes(str(tmp_path))


def test_the_command_line_draws(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(cli.FUNCTIONS, "data first-codes", ("data_modules.first_codes:first_codes", "-"))
    png = tmp_path / "plots" / "first.png"
    cli.main(["data", "first-codes", "--root", str(shards(tmp_path, CODES)), "--png", str(png), "--grid", "[5, 5]"])
    assert json.loads(capsys.readouterr().out) == first_codes(str(tmp_path))
    page = np.asarray(Image.open(png))
    # One colour an order; the highest bars are those of the spiral, where all images begin alike.
    tallest = [int((page == PALETTE[number]).all(-1).any(1).sum()) for number in range(3)]
    assert tallest[2] == pytest.approx(2 * tallest[0], abs=2)
    assert tallest[2] == pytest.approx(8 * tallest[1], abs=8)


# ---- bars -----------------------------------------------------------------------------------------------------------


def test_bars_stand_on_one_scale(tmp_path: Path):
    charts = [BarChart("a", "", [0.2, 0.1]), BarChart("b", "", [0.4, 0.0], labels=["x", "y"])]
    page = np.asarray(Image.open(draw_bars(charts, tmp_path / "a.png", "below", width=200)))
    first, second = ((page == PALETTE[number]).all(-1) for number in range(2))
    columns = np.flatnonzero(first.any(0))
    heights = first.sum(0)[columns]
    assert heights[0] == pytest.approx(2 * heights[-1], abs=2)
    assert second.any(1).sum() == pytest.approx(2 * heights[0], abs=2)
    # The lower ends are one line, and a bar of nothing is not there.
    assert np.flatnonzero(first.any(1)).max() == np.flatnonzero(second.any(1)).max()
    assert np.ptp(np.flatnonzero(second.any(0))) < 100


@pytest.mark.parametrize("highest", [0.0, 0.001, 0.013, 0.05, 0.2, 0.27, 0.3, 0.5, 0.999, 1.0])
def test_a_scale_holds_the_highest_bar_with_few_steps(highest: float):
    step, top = bars.scale(highest)
    assert highest <= top
    assert 2 <= round(top / step) <= 5


def test_plots_without_bars_are_refused(tmp_path: Path):
    for charts in ([], [BarChart("a", "", [])]):
        with pytest.raises(ValueError, match="at least one"):
            draw_bars(charts, tmp_path / "a.png")
    with pytest.raises(ValueError, match=r"from 0 to 1, got \[\[0.5, 1.5\]\]"):
        draw_bars([BarChart("a", "", [0.5, 1.5])], tmp_path / "a.png")
