"""`kyvo score shapes`: folders of pictures, what they score and rank, and what is said of bad ones."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from kyvo.metrics.views import picture_scores
from kyvo.models.perceptual import GradientPyramid, PerceptualLoss
from kyvo.report.blind_sheet import COLUMNS
from kyvo.shape_ranking import compare, find_renders, parse_names, rank, read_folders

NOISE = {"truth": 0, "ours": 8, "theirs": 20, "same": 20}
ASSETS, VIEWS = ["cup", "table"], ["000.png", "001.png", "002.png"]


@pytest.fixture
def folders(tmp_path: Path) -> dict[str, Path]:
    """Pictures of three methods, two of which are alike, on two assets from three views."""
    for asset in ASSETS:
        for view in VIEWS:
            rng = np.random.default_rng([len(asset), int(view[:3])])
            clean = rng.integers(40, 200, (16, 16, 3))
            noise = rng.standard_normal((16, 16, 3))
            for name, amount in NOISE.items():
                file = tmp_path / name / ("renders" if name == "theirs" else "") / asset / view
                file.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray((clean + amount * noise).clip(0, 255).astype(np.uint8)).save(file)
    return {name: tmp_path / name for name in NOISE}


def methods(folders: dict[str, Path]) -> dict[str, Path]:
    return {name: folder for name, folder in folders.items() if name != "truth"}


def words(folders: dict[str, Path]) -> list[str]:
    return [f"{name}={folder}" for name, folder in methods(folders).items()]


def pyramid() -> PerceptualLoss:
    return PerceptualLoss("gradient-pyramid", GradientPyramid())


def test_scores_are_means_over_views_and_equal_ones_share_a_rank(folders):
    found = compare(read_folders(methods(folders), folders["truth"]), ["psnr", "perceptual"], pyramid())
    assert (found.assets, found.methods) == (ASSETS, ["ours", "theirs", "same"])
    batches = {}
    for name in ("truth", "ours"):
        pictures = [np.asarray(Image.open(folders[name] / "table" / view)) for view in VIEWS]
        batches[name] = torch.from_numpy(np.stack(pictures)).movedim(-1, 1) / 255
    expected = picture_scores(batches["ours"], batches["truth"], pyramid())
    for name, scores in expected.items():
        assert found.scores[name][1, 0] == pytest.approx(scores.mean().item(), rel=1e-6), name
    assert set(found.ranks) == {"psnr", "gradient-pyramid"}
    for ranks in found.ranks.values():
        assert ranks.tolist() == [[[1, 2, 2]] * 2]


def test_transparent_pixels_are_white(folders):
    for name in ("truth", "ours"):
        for view in VIEWS:
            white = name == "truth"
            pixels = np.full((16, 16, 3 if white else 4), 255 if white else 0, np.uint8)
            Image.fromarray(pixels).save(folders[name] / "cup" / view)
    found = compare(read_folders(methods(folders), folders["truth"]), ["psnr"], pyramid())
    assert found.scores["psnr"][0, 0] == 100


def test_the_command_prints_and_writes(folders, tmp_path: Path, capsys):
    for name in ("out.md", "out.csv", "out.json"):
        rank(*words(folders), truth=folders["truth"], by=["psnr", "ssim"], out=tmp_path / "new" / name)
    printed = capsys.readouterr().out
    assert "2.000 to 2.000" in printed
    assert "psnr and ssim" in printed
    with (tmp_path / "new" / "out.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["asset"], row["method"], row["rank_by_ssim"]) for row in rows[:2]] == [
        ("cup", "ours", "1.0"),
        ("cup", "theirs", "2.0"),
    ]
    found = json.loads((tmp_path / "new" / "out.json").read_text())
    assert found["ranks"]["ours"]["psnr"] == {"mean_rank": 1, "low": 1, "high": 1, "win_rate": 1}
    assert found["kendall_tau_b"] == {"psnr and ssim": 1}
    assert found["rows"][0]["psnr"] == pytest.approx(float(rows[0]["psnr"]))
    assert "| psnr | theirs | 2.000 | 2.000 to 2.000 | 0.0 % |" in (tmp_path / "new" / "out.md").read_text()


def test_people_rank_too(folders, tmp_path: Path):
    sheet, out = tmp_path / "sheet.html", tmp_path / "out.json"
    rank(*words(folders), truth=folders["truth"], by=["psnr"], sheet=sheet)
    key = json.loads((tmp_path / "sheet.key.json").read_text())
    given = {"ours": 2, "theirs": 1, "same": 1}
    with (tmp_path / "anna.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for asset, letters in key["assets"].items():
            for letter, method in letters.items():
                writer.writerow([key["sheet"], asset, letter, given[method]])
    people = {"human": [tmp_path / "anna.csv"] * 2, "key": tmp_path / "sheet.key.json"}
    rank(*words(folders), truth=folders["truth"], by=["psnr"], **people, out=out)
    found = json.loads(out.read_text())
    # One better than two that are equal: places 1, 1 and 3.
    assert [found["ranks"][name]["human"]["mean_rank"] for name in given] == [3, 1, 1]
    assert found["ranks"]["same"]["human"]["win_rate"] == 1
    assert found["kendall_tau_b"] == {"psnr and human": -1}
    with pytest.raises(ValueError, match="need the key"):
        rank(*words(folders), truth=folders["truth"], human=[tmp_path / "anna.csv"])


def test_a_limit_takes_the_first_assets(folders):
    assert read_folders(methods(folders), folders["truth"], limit=1).assets == ["cup"]
    assert len(read_folders(methods(folders), folders["truth"]).contest("cup", 2).truth) == 2
    assert len(read_folders(methods(folders), folders["truth"]).contest("cup", 9).truth) == 3


def test_folders_that_differ_are_named(folders, tmp_path: Path):
    (folders["ours"] / "cup" / "001.png").unlink()
    with pytest.raises(ValueError, match=r"ours \(.*\), cup: expected the views of the truth; missing: 001.png"):
        read_folders(methods(folders), folders["truth"])
    (folders["theirs"] / "renders" / "cup").rename(folders["theirs"] / "renders" / "mug")
    with pytest.raises(ValueError, match=r"theirs .* missing: cup; not among the true ones: mug"):
        read_folders({"theirs": folders["theirs"]}, folders["truth"])
    with pytest.raises(ValueError, match="found none"):
        find_renders(tmp_path / "nothing")


def test_pictures_of_another_size_and_broken_ones_are_named(folders):
    found = read_folders(methods(folders), folders["truth"])
    Image.new("RGB", (16, 17)).save(folders["ours"] / "table" / "002.png")
    with pytest.raises(ValueError, match=r"ours/table/002.png: expected 16 x 16 pixels, as .*, got 16 x 17"):
        compare(found, ["psnr"], pyramid())
    (folders["ours"] / "table" / "002.png").write_bytes(b"no picture")
    with pytest.raises(ValueError, match=r"ours/table/002.png: expected a picture"):
        compare(found, ["psnr"], pyramid())


@pytest.mark.parametrize("given", [["ours=a", "b"], ["ours=a", "ours=b"], ["=a", "ours=b"], ["ours=a"], []])
def test_bad_names_are_refused(given: list[str]):
    with pytest.raises(ValueError, match="NAME=FOLDER"):
        parse_names(given)
