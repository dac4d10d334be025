"""`kyvo data make` and `kyvo data pack`: every world, its published layout and back, resumed, and refused."""

import json

import numpy as np
import pytest

from data_modules.command import image_size, make_world, pack_source
from data_modules.inspection import check
from data_modules.shards import read_shard
from kyvo import cli
from tests.tiny_world import files_of

WORLDS = {
    "clevr": {"size": "48", "questions": 3, "edits": 1, "edit_images": True},
    "objaworld": {"size": "64x48", "setups": ["park"]},
    "objectron": {"size": "48x64"},
}


def _make(root, world, **changes):
    make_world(
        world, root, **({"split": "val", "scenes": 5, "scenes_per_shard": 2, "workers": 1} | WORLDS[world] | changes)
    )
    return root


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return {world: _make(tmp_path_factory.mktemp(world), world) for world in WORLDS}


@pytest.mark.parametrize("world", WORLDS)
def test_a_world_is_the_same_with_any_number_of_workers_and_after_an_interruption(made, tmp_path, world):
    assert check(made[world])["val"] == 5
    _make(tmp_path, world, workers=2)
    whole = files_of(tmp_path)
    assert whole == files_of(made[world])
    (tmp_path / "val-000001.tar").unlink()
    _make(tmp_path, world)
    assert files_of(tmp_path) == whole


@pytest.mark.parametrize("world", WORLDS)
def test_the_published_layout_packs_to_the_same_samples(made, tmp_path, world):
    raw = _make(tmp_path / "raw", world, raw=True)
    assert not (raw / ".shards").exists()
    assert not list(raw.rglob("*.tar"))
    pack_source(world, raw, tmp_path / "packed", samples_per_shard=2, workers=1)
    assert check(tmp_path / "packed") == check(made[world])
    for family in ("val", "val-edits") if world == "clevr" else ("val",):
        packed = [one for path in sorted((tmp_path / "packed").glob(f"{family}-0*.tar")) for one in read_shard(path)]
        drawn = [one for path in sorted(made[world].glob(f"{family}-0*.tar")) for one in read_shard(path)]
        for one, two in zip(packed, drawn, strict=True):
            assert {name for name in one.members if name.endswith(".png")} == {
                name for name in two.members if name.endswith(".png")
            }
            np.testing.assert_array_equal(one.decode("image.png"), two.decode("image.png"))
            for member in set(two.members) & {"scene.json", "target.scene.json"}:
                objects, expected = (raw.decode(member)["objects"] for raw in (one, two))
                keys = {"clevr": ("shape", "3d_coords"), "objaworld": ("shape", "rotation")}
                for name in keys.get(world, ("category", "dimensions", "center_cam")):
                    assert [o[name] for o in objects] == [o[name] for o in expected]


def test_packing_scales_pictures_and_masks(made, tmp_path):
    raw = _make(tmp_path / "raw", "clevr", raw=True)
    pack_source("clevr", raw, tmp_path / "packed", size="32x24", workers=1)
    assert check(tmp_path / "packed") == check(made["clevr"])
    (first, *_) = read_shard(tmp_path / "packed" / "val-000000.tar")
    assert first.decode("image.png").shape == (24, 32, 3)


def test_bad_samples_are_counted_and_named_when_packed(tmp_path, capsys):
    raw = _make(tmp_path / "raw", "clevr", raw=True, edits=0)
    picture = raw / "images" / "val" / "CLEVR_val_000002.png"
    picture.write_bytes(picture.read_bytes()[:200])
    with pytest.raises(ValueError, match=r"CLEVR_val_000002\.png: key 'val-000002': member 'image': not a readable"):
        pack_source("clevr", raw, tmp_path / "packed", workers=1)
    pack_source("clevr", raw, tmp_path / "packed", max_bad_fraction=0.3, workers=1)
    assert check(tmp_path / "packed")["val"] == 4
    table = capsys.readouterr().out
    assert "good" in table
    assert "not a readable" in table
    index = json.loads((tmp_path / "packed" / "index.json").read_text())
    assert (index["settings"]["val"]["good"], index["settings"]["val"]["bad"]) == (4, 1)


def test_more_bad_samples_than_allowed_leave_no_split(tmp_path):
    raw = _make(tmp_path / "raw", "clevr", raw=True, edits=0)
    for number in range(3):
        (raw / "images" / "val" / f"CLEVR_val_{number:06d}.png").write_bytes(b"no picture")
    with pytest.raises(ValueError, match=r"3 of 5 samples are bad, more than 50\.0%"):
        pack_source("clevr", raw, tmp_path / "packed", max_bad_fraction=0.5, workers=1)
    assert not (tmp_path / "packed" / "index.json").exists()


@pytest.mark.parametrize(("text", "size"), [("64", (64, 64)), ("320x240", (240, 320)), ("480X320", (320, 480))])
def test_sizes_are_width_by_height(text, size):
    assert image_size(text) == size


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--size", "64xx"], "size should look like 256 or 320x240"),
        (["--assets", "meshes"], "assets is an argument of world objaworld, not of clevr"),
        (["--templates", "nowhere"], "nowhere"),
    ],
)
def test_what_does_not_fit_ends_with_a_line(tmp_path, capsys, words, reason):
    with pytest.raises(SystemExit):
        cli.main(["data", "make", "--world", "clevr", "--out", str(tmp_path), "--scenes", "1", *words])
    assert reason in capsys.readouterr().err


def test_the_bench_prints_what_it_measured(tmp_path, capsys):
    cli.main(["bench", "data", "--samples", "64", "--shards", "1", "--growth", "2", "--images", "1", "--size", "32"])
    result = json.loads(capsys.readouterr().out)
    assert set(result) == {"machine", "render", "stream", "memory"}
    assert all(task["samples_per_second"] > 0 for task in result["stream"].values())
    assert result["memory"]["shards"] == [1, 2]
