"""`kyvo score images`: folders of pictures, one model or several, and what is said of bad ones."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from kyvo.cli import main
from kyvo.metrics.bootstrap import interval
from kyvo.metrics.images import pixel_scores
from kyvo.score.images import score

NOISE = {"truth": 0, "ours": 8, "theirs": 30}
pytestmark = pytest.mark.filterwarnings("ignore:gradient-pyramid stands in")


@pytest.fixture
def folders(tmp_path):
    """Six pictures, and those of two models, one worse than the other."""
    for number in range(6):
        rng = np.random.default_rng(number)
        clean, noise = rng.integers(40, 200, (16, 20, 3)), rng.standard_normal((16, 20, 3))
        for name, amount in NOISE.items():
            (tmp_path / name).mkdir(exist_ok=True)
            pixels = (clean + amount * noise).clip(0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / name / f"{number}.png")
    return tmp_path


def _read(file):
    return torch.from_numpy(np.asarray(Image.open(file))).movedim(-1, 0)[None] / 255


def test_one_model_gets_means_and_intervals(folders, capsys):
    out = folders / "deep" / "out.json"
    score(ground_truth=folders / "truth", predictions=folders / "ours", output=out)
    report = json.loads(out.read_text())
    assert set(report) == {"mean", "interval", "images"}
    assert list(report["images"]) == [str(number) for number in range(6)]
    expected = [
        pixel_scores(_read(folders / "ours" / f"{n}.png"), _read(folders / "truth" / f"{n}.png")) for n in range(6)
    ]
    for name in ("psnr", "ssim", "l1", "l2"):
        values = [one[name].item() for one in expected]
        assert [one[name] for one in report["images"].values()] == pytest.approx(values, rel=1e-5)
        assert report["mean"][name] == pytest.approx(np.mean(values), rel=1e-5)
        assert report["interval"][name] == pytest.approx(interval(values), rel=1e-5)
    assert len(report["mean"]) == 5
    assert "scores of 6 pictures" in capsys.readouterr().out


def test_several_models_are_ranked(folders, capsys):
    words = [f"{name}={folders / name}" for name in ("ours", "theirs")]
    score(*words, ground_truth=folders / "truth", output=folders / "out.json")
    report = json.loads((folders / "out.json").read_text())
    assert report["ranks"]["ours"]["psnr"]["mean_rank"] == 1
    assert report["ranks"]["theirs"]["ssim"]["mean_rank"] == 2
    assert "ranks (1 is best)" in capsys.readouterr().out


def test_the_command_takes_a_folder_or_several_names(folders, capsys):
    truth = ["--ground-truth", str(folders / "truth")]
    main(["score", "images", "--predictions", str(folders / "ours"), *truth])
    assert "scores of 6 pictures" in capsys.readouterr().out
    main(["score", "images", *(f"{name}={folders / name}" for name in ("ours", "theirs")), *truth])
    assert "ranks (1 is best)" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="2"):
        main(["score", "images", *truth])
    assert capsys.readouterr().err.startswith("kyvo: error: expected either --predictions FOLDER")


def test_bad_folders_are_named(folders):
    good = {"ground_truth": folders / "truth", "predictions": folders / "ours"}
    with pytest.raises(ValueError, match="either --predictions"):
        score(ground_truth=folders / "truth")
    with pytest.raises(ValueError, match="either --predictions"):
        score("a=b", "c=d", **good)
    with pytest.raises(ValueError, match="found none"):
        score(ground_truth=folders / "truth", predictions=folders / "nowhere")
    (folders / "ours" / "2.png").rename(folders / "ours" / "extra.png")
    with pytest.raises(ValueError, match=r"ours: .*missing: 2; not among the true ones: extra"):
        score(**good)
    Image.new("RGB", (20, 15)).save(folders / "ours" / "2.png")
    (folders / "ours" / "extra.png").unlink()
    with pytest.raises(ValueError, match=r"2.png: expected 20 x 16 pixels.*got 20 x 15"):
        score(**good)
    (folders / "ours" / "2.jpg").write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"one picture of each name, got 2.jpg and 2.png"):
        score(**good)
    (folders / "ours" / "2.png").unlink()
    with pytest.raises(ValueError, match=r"2.jpg: expected a picture"):
        score(**good)
