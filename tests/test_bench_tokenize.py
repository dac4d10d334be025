"""`kyvo bench tokenize`: the counts it reports, and where its pictures come from."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kyvo import cli
from kyvo.bench.tokenize import bench, image_bytes
from tests.tiny_world import tiny_image_tokenizer


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    tiny_image_tokenizer().save_pretrained(tmp_path / "tokenizer")
    return tmp_path


def test_bytes_of_an_image_in_each_form():
    pictures = [np.full((32, 32, 3), 9, np.uint8), np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)]
    sizes = []
    for picture in pictures:
        buffer = io.BytesIO()
        Image.fromarray(picture).save(buffer, format="png")
        sizes.append(len(buffer.getvalue()))
    assert image_bytes(pictures, length=16, codebook=512) == {
        "pixels": 3072.0,
        "png": np.mean(sizes),
        "codes": 32.0,
        "codes_packed": 18.0,
    }
    assert image_bytes(pictures, length=256, codebook=1024)["codes_packed"] == 320


def test_the_command_line(folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(cli.FUNCTIONS, "bench tokenize", ("kyvo.bench.tokenize:bench", "-"))
    words = ["--image_tokenizer", str(folder / "tokenizer"), "--batch_size", "2", "--images", "5", "--device", "cpu"]
    cli.main(["bench", "tokenize", *words])
    report = json.loads(capsys.readouterr().out)
    weights = sum(weight.numel() for weight in tiny_image_tokenizer().model.parameters())
    assert (report["parameters"], report["codes"], report["grid"]) == (weights, 16, [4, 4])
    for way in ("encode", "decode"):
        images, codes = report[f"{way}_images_per_second"], report[f"{way}_codes_per_second"]
        assert images > 0
        assert codes == pytest.approx(16 * images, rel=1e-2)
    assert report["bytes_per_image"]["codes_packed"] == 8
    assert report["bytes_per_image"]["pixels"] == 3072


def test_pictures_of_a_folder_are_measured(folder: Path):
    Image.fromarray(np.full((64, 48), 9, np.uint8)).save(folder / "a.png")
    (folder / "notes.txt").write_text("no picture")
    plain = bench(str(folder / "tokenizer"), 2, 2, pictures=folder, device="cpu")["bytes_per_image"]["png"]
    assert plain == image_bytes([np.full((32, 32, 3), 9, np.uint8)], 1, 2)["png"]
    assert plain < bench(str(folder / "tokenizer"), 2, 2, device="cpu")["bytes_per_image"]["png"]
    with pytest.raises(ValueError, match=r"expected a folder of PNG or JPEG files, .*tokenizer has none"):
        bench(str(folder / "tokenizer"), 2, 2, pictures=folder / "tokenizer")


def test_no_images_to_measure(folder: Path):
    with pytest.raises(ValueError, match="must be positive, got 0 and 5"):
        bench(str(folder / "tokenizer"), batch_size=0, images=5)
