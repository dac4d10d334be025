"""One process against two: the same parameters after training, the same metrics after validation."""

import json
import subprocess
import sys

import pytest

from data_modules.coding import add_codes
from data_modules.make import make
from data_modules.worlds.clevr import ClevrWorld
from kyvo.models.image_vq import ImageNetwork, build_vq_model
from kyvo.tokenizers.images import ImageTokenizer
from tests.tiny_world import tiny_recipe

SIZES = {"channels": (16,), "layers": 1, "codes": 512, "code_dim": 8, "latent_channels": 8, "groups": 4}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A tiny world with 8 x 8 codes of 512, as the quickstart's tokenizer has them."""
    root = tmp_path_factory.mktemp("worlds") / "world"
    view = ClevrWorld(image_size=(32, 32), objects=(1, 3), extent=1.5, focal=1.8, min_visible_pixels=20.0)
    make(root, tiny_recipe(world=view, scenes={"train": 4, "val": 5}), workers=1)
    network = ImageNetwork((32, 32), patch=4, **SIZES, attention=(), mid_attention=False)
    images = ImageTokenizer(build_vq_model(network))
    images.save_pretrained(root.parent / "images")
    add_codes(root, images)
    return root


def _run(processes, world, folder):
    output = folder / f"{processes}.json"
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    command += ["-m", "tests.distributed_run", str(world), str(output)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(output.read_text())


def test_two_processes_train_and_score_as_one(world, tmp_path):
    one, two = _run(1, world, tmp_path), _run(2, world, tmp_path)
    assert two["norms"] == pytest.approx(one["norms"], rel=1e-5)
    assert set(one["metrics"]) == set(two["metrics"])
    assert {"val/recognition/jaccard", "val/question_answering/accuracy", "val/instruction/copy_jaccard"} <= set(
        one["metrics"]
    )
    for name, value in one["metrics"].items():
        assert two["metrics"][name] == pytest.approx(value, rel=1e-4), name
    assert {"val/rendering/scene_success_shuffled", "val/rendering/psnr_low", "val/recognition/jaccard_ceiling"} <= set(
        one["metrics"]
    )
    assert _scores(tmp_path / "2") == _scores(tmp_path / "1")


def _scores(folder):
    """The scores of every sample by task and key, from the files of all ranks; a sample comes once."""
    found = {}
    for path in folder.glob("val/*.jsonl"):
        for line in map(json.loads, path.read_text().splitlines()):
            name = path.name.partition(".")[0], line["key"]
            assert name not in found
            found[name] = {score: pytest.approx(value, rel=1e-4, abs=1e-6) for score, value in line["scores"].items()}
    return found
