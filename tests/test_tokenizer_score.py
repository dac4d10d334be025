"""The score of an image tokenizer: pixels, codes, what is still recognised; and the sheet of pairs."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from data_modules.crops import SceneThing
from data_modules.faults import BadInputError
from data_modules.make import make
from data_modules.shards import decode_json, decode_pixels, read_shard
from data_modules.tokenizer_score import Picture, TokenizerScore, score
from data_modules.worlds.masks import from_run_lengths
from kyvo.models.recognizer import Recognizer, RecognizerNetwork, word_attributes
from kyvo.report.grid import GAP, HEADER, MARGIN
from kyvo.report.pairs import Pair, draw_pairs
from kyvo.tokenizers.images import ImageTokenizer
from kyvo.tokenizers.pixels import image_batch
from tests.tiny_world import tiny_image_tokenizer, tiny_recipe

CLEVR = word_attributes("clevr")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("world")
    make(root, tiny_recipe(questions=0, edits=0), workers=1)
    return root


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """An image tokenizer and a recogniser of random weights."""
    root = tmp_path_factory.mktemp("models")
    tiny_image_tokenizer().save_pretrained(root / "tokenizer")
    torch.manual_seed(0)
    Recognizer(CLEVR, RecognizerNetwork(side=8, channels=(8, 8), layers=(1, 1))).save_pretrained(root / "recognizer")
    return str(root / "tokenizer"), str(root / "recognizer")


# ---- scores ---------------------------------------------------------------------------------------------------------


def test_scores_are_those_worked_out_by_hand(world: Path, folders: tuple[str, str]):
    found = score(str(world), *folders, limit=5, batch_size=2)
    tokenizer, reader = ImageTokenizer.from_pretrained(folders[0]), Recognizer.from_pretrained(folders[1])
    decibels, on_objects, codes, right = [], [], [], {"true": [], "reconstructed": []}
    for path in sorted(world.glob("val-0*.tar")):
        for raw in read_shard(path):
            image, scene = decode_pixels(raw.members["image.png"]), decode_json(raw.members["scene.json"])
            codes.append(tokenizer.encode(image_batch([image])))
            decoded = tokenizer.decode(codes[-1])
            squared = ((decoded[0].movedim(0, -1).numpy() + 1) / 2 - image / 255) ** 2
            mask = from_run_lengths(scene["mask"], image.shape[:2])
            decibels.append(-10 * np.log10(squared.mean()))
            on_objects.append(-10 * np.log10(squared[mask].mean()))
            seen = [one for one in scene["objects"] if one["visible_pixels"] >= 25]
            boxes = [torch.tensor([one["bbox"] for one in seen]).reshape(-1, 4)]
            for name, pictures in (("true", image_batch([image])), ("reconstructed", decoded)):
                words = reader.predict(pictures, boxes)["shape"]
                right[name] += [word == one["shape"] for word, one in zip(words, seen, strict=True)]
    assert found["images"] == 5
    assert found["psnr"] == pytest.approx(np.mean(decibels), abs=1e-3)
    assert found["object_psnr"] == pytest.approx(np.mean(on_objects), abs=1e-3)
    share = np.bincount(torch.cat(codes).flatten(), minlength=16) / (5 * 16)
    entropy = -sum(one * np.log(one) for one in share if one)
    assert found["codes"] == pytest.approx(
        {
            "codes_used": (share > 0).sum(),
            "usage": (share > 0).mean(),
            "perplexity": np.exp(entropy),
            "top_code_share": share.max(),
        },
        abs=1e-4,
    )
    shape = found["recognition"]["shape"]
    assert shape["objects"] == len(right["true"]) > 0
    assert shape["true"] == pytest.approx(np.mean(right["true"]))
    assert shape["reconstructed"] == pytest.approx(np.mean(right["reconstructed"]))
    json.dumps(found, allow_nan=False)


class Identity(ImageTokenizer):
    """Codes that hold the pixels themselves."""

    def encode(self, images):
        self.kept = images
        return super().encode(images)

    def decode(self, codes):
        return self.kept


def test_a_perfect_tokenizer_loses_nothing(folders: tuple[str, str]):
    rng = np.random.default_rng(0)
    total = TokenizerScore(Identity(tiny_image_tokenizer().model), Recognizer.from_pretrained(folders[1]))
    mask = np.zeros((32, 32), dtype=bool)
    mask[4:20, 4:20] = True
    batch = [
        Picture(str(n), rng.integers(0, 256, (32, 32, 3), np.uint8), mask, [SceneThing((4, 4, 20, 20), (n, 0, 0, 1))])
        for n in range(2)
    ]
    total.update(batch)
    found = total.compute()
    assert (found["images"], found["psnr"], found["object_psnr"]) == (2, pytest.approx(100), pytest.approx(100))
    assert found["ssim"] == pytest.approx(1, abs=1e-4)
    for one in found["recognition"].values():
        assert one["true"] == one["reconstructed"]
    assert found["recognition"]["shape_small"]["objects"] == 1


def test_what_is_not_known_is_left_out(world: Path, folders: tuple[str, str]):
    found = score(str(world), folders[0], limit=2)
    assert found["images"] == 2
    assert "recognition" not in found
    plain = TokenizerScore(tiny_image_tokenizer())
    plain.update([Picture("a", np.zeros((32, 32, 3), np.uint8))])
    assert "object_psnr" not in plain.compute()


def test_bad_input_is_named(world: Path, folders: tuple[str, str], tmp_path: Path):
    with pytest.raises(BadInputError, match=r"val-000000.tar: key 'val-000000': .*is \(32, 32\) pixels, .* \(64, 64\)"):
        score(str(world), "image_tokenizer_quickstart")
    Recognizer({"shape": ["bench", "bird"]}).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"recognises \{'shape': \('bench', 'bird'\)\}, the scenes of .* have"):
        score(str(world), folders[0], str(tmp_path))
    with pytest.raises(ValueError, match="no shards 'test'"):
        score(str(world), folders[0], split="test")


# ---- sheet ----------------------------------------------------------------------------------------------------------


def test_a_sheet_shows_pairs_side_by_side(tmp_path: Path):
    shades = [np.full((4, 4, 3), level, np.uint8) for level in (10, 60, 110, 160, 210, 250)]
    pairs = [Pair(*shades[2 * n : 2 * n + 2], caption=f"pair {n}") for n in range(3)]
    path = draw_pairs(pairs, tmp_path / "new" / "sheet.png", columns=2, panel=40)
    page = np.asarray(Image.open(path))
    assert page.shape[1] == 2 * (2 * 40 + GAP + 2 * MARGIN)
    for number, (row, column) in enumerate(((0, 0), (0, 1), (1, 0))):
        top = HEADER + row * (page.shape[0] - HEADER) // 2 + 20
        left = MARGIN + column * page.shape[1] // 2 + 20
        assert page[top, left, 0] == shades[2 * number][0, 0, 0]
        assert page[top, left + 40 + GAP, 0] == shades[2 * number + 1][0, 0, 0]
    assert (page[-page.shape[0] // 4 :, page.shape[1] // 2 + MARGIN :] == 255).all()


def test_a_sheet_needs_pairs(tmp_path: Path):
    with pytest.raises(ValueError, match="at least one pair"):
        draw_pairs([], tmp_path / "sheet.png")


def test_the_score_draws_the_first_pictures(world: Path, folders: tuple[str, str], tmp_path: Path):
    score(str(world), folders[0], limit=3, sheet=tmp_path / "pairs.png", batch_size=2)
    page = np.asarray(Image.open(tmp_path / "pairs.png"))
    (raw, *_) = read_shard(world / "val-000000.tar")
    shown = page[HEADER + 1 : HEADER + 191, MARGIN + 1 : MARGIN + 191]
    original = decode_pixels(raw.members["image.png"]).repeat(6, 0).repeat(6, 1)
    assert np.array_equal(shown, original[1:-1, 1:-1])
