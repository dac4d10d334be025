"""One process against two: the same parameters after training, the same metrics after validation."""

import json
import os
import shutil
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


# ---- nodes --------------------------------------------------------------------------------------------------------


@pytest.fixture
def nodes():
    """For each of two nodes the words before a command, and the address of the first.

    They are network namespaces joined by a wire where those are permitted, else the machine twice.
    """
    names, wires = ("kyvo-node0", "kyvo-node1"), ("kyvo-wire0", "kyvo-wire1")
    steps = [f"ip netns add {name}" for name in names]
    steps += [f"ip link add {wires[0]} type veth peer name {wires[1]}"]
    for number, (name, wire) in enumerate(zip(names, wires, strict=True)):
        inside = f"ip netns exec {name} ip"
        steps += [f"ip link set {wire} netns {name}", f"{inside} addr add 10.213.7.{number + 1}/24 dev {wire}"]
        steps += [f"{inside} link set {wire} up", f"{inside} link set lo up"]
    permitted = shutil.which("ip") is not None and all(
        subprocess.run(step.split(), capture_output=True, check=False).returncode == 0 for step in steps
    )
    if permitted:
        wired = [{"GLOO_SOCKET_IFNAME": wire} for wire in wires]
        yield [["ip", "netns", "exec", name] for name in names], wired, "10.213.7.1"
    else:
        yield [[], []], [{}, {}], "127.0.0.1"
    for name in names:
        subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)


@pytest.mark.slow
def test_two_nodes_train_and_score_as_one_process(world, tmp_path, nodes):
    prefixes, environments, address = nodes
    output = tmp_path / "nodes.json"
    command = [sys.executable, "-m", "torch.distributed.run", "--nnodes", "2", "--nproc-per-node", "1"]
    command += ["--rdzv-backend", "c10d", "--rdzv-id", "kyvo", "--rdzv-endpoint", f"{address}:29517"]
    script = ["-m", "tests.distributed_run", str(world), str(output)]
    started = []
    for number, (prefix, environment) in enumerate(zip(prefixes, environments, strict=True)):
        own = ["--local-addr", address if address == "127.0.0.1" else f"10.213.7.{number + 1}"]
        # In a namespace of its own a node does not know its address by the machine's name.
        own += ["--rdzv-conf", f"is_host={number == 0}"]
        words = [*prefix, *command, *own, *script]
        started.append(subprocess.Popen(words, stderr=subprocess.PIPE, text=True, env=os.environ | environment))
    for node in started:
        said = node.communicate(timeout=400)[1]
        assert node.returncode == 0, said[-3000:]
    one, two = _run(1, world, tmp_path), json.loads(output.read_text())
    assert two["norms"] == pytest.approx(one["norms"], rel=1e-5)
    assert two["metrics"] == pytest.approx(one["metrics"], rel=1e-4)
