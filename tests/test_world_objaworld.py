"""ObjaWorld: where assets stand, which way they face, and the way through the published layout."""

import itertools
import math
import pickle
import random

import numpy as np
import pytest

from data_modules.raw import objaworld as raw
from data_modules.shards import decode_json, encode_json, encode_png
from data_modules.sources.objaworld import ObjaWorldSource
from data_modules.worlds.assets.asset import Asset
from data_modules.worlds.assets.library import SHAPES
from data_modules.worlds.masks import from_run_lengths
from data_modules.worlds.objaworld import SETUPS, ObjaWorld, reach
from kyvo.scene import SCHEMAS

QUICK = {"image_size": (64, 64), "shadow_samples": 1, "edge_samples": 0}
WORLDS = {setup: ObjaWorld(setup, **QUICK) for setup in SETUPS}


@pytest.fixture(scope="module")
def made():
    return {setup: [world.make(random.Random(seed)) for seed in range(6)] for setup, world in WORLDS.items()}


def layouts(setup, count=60):
    return [WORLDS[setup].sample_scene(random.Random(f"layout {seed}")) for seed in range(count)]


@pytest.mark.parametrize("setup", SETUPS)
def test_a_seed_gives_the_same_bytes(made, setup):
    scene, image, ids = WORLDS[setup].make(random.Random(3))
    assert encode_json(scene) == encode_json(made[setup][3][0])
    np.testing.assert_array_equal(image, made[setup][3][1])
    np.testing.assert_array_equal(ids, made[setup][3][2])


@pytest.mark.parametrize("setup", SETUPS)
def test_scenes_and_pictures(made, setup):
    for scene, image, ids in made[setup]:
        assert image.shape == (64, 64, 3)
        assert scene["setup"] == setup
        assert 2 <= len(scene["objects"]) <= 3
        np.testing.assert_array_equal(from_run_lengths(scene["mask"], (64, 64)), ids >= 0)
        needed = WORLDS[setup]._clevr.visible_pixels_needed(scene)
        for k, o in enumerate(scene["objects"]):
            assert set(o) == {"shape", "3d_coords", "rotation", "pixel_coords", "bbox", "visible_pixels"}
            assert (ids == k).sum() == o["visible_pixels"] >= needed
        if setup != "shapes":
            assert len(SCHEMAS["objaworld"].read(scene)) == len(scene["objects"])
        again, _ = WORLDS[setup].render(scene)
        np.testing.assert_array_equal(again, image)


@pytest.mark.parametrize("setup", SETUPS)
def test_layouts(setup):
    world = WORLDS[setup]
    scenes = layouts(setup)
    objects = [o for scene in scenes for o in scene["objects"]]
    assert {o["shape"].partition("-")[0] for o in objects} == set(SETUPS[setup])
    yaws = [o["rotation"] for o in objects]
    assert all(-math.pi < yaw <= math.pi for yaw in yaws)
    quadrants = np.histogram(yaws, bins=4, range=(-math.pi, math.pi))[0]
    assert quadrants.min() > len(yaws) / 8, "objects are seen from all sides"
    for scene in scenes:
        assert all(abs(c) <= 3 for o in scene["objects"] for c in o["3d_coords"])
        for a, b in itertools.combinations(scene["objects"], 2):
            radii = [reach(world.placed(o).asset) for o in (a, b)]
            assert math.dist(a["3d_coords"][:2], b["3d_coords"][:2]) >= sum(radii) + 0.25 - 1e-9
    counts = [len(scene["objects"]) for scene in scenes]
    assert set(counts) == {2, 3}


def test_heights():
    heights = {o["shape"].partition("-")[0]: o["3d_coords"][2] for s in layouts("park") for o in s["objects"]}
    assert heights == {"person": 0.7, "bench": 0.35, "lamppost": 0.7, "bird": 3.0}
    assert {o["3d_coords"][2] for s in layouts("shapes") for o in s["objects"]} == {0.0}
    assert len(SHAPES) >= 20


@pytest.mark.parametrize("setup", SETUPS)
def test_pictures_show_the_whole_of_what_the_scene_says(made, setup):
    """What is seen lies in the projected box of the asset at the record's place and yaw, and that in the picture."""
    for scene, _, _ in made[setup]:
        camera = WORLDS[setup].camera(scene)
        for o in scene["objects"]:
            placed = WORLDS[setup].placed(o)
            box = np.array(list(itertools.product(*zip(placed.asset.lower, placed.asset.upper, strict=True))))
            c, s = math.cos(o["rotation"]), math.sin(o["rotation"])
            world = np.stack([c * box[:, 0] - s * box[:, 1], s * box[:, 0] + c * box[:, 1], box[:, 2]], 1)
            world += [*o["3d_coords"][:2], placed.asset.floats]
            column, row, _ = camera.project(world).T
            x0, y0, x1, y1 = o["bbox"]
            assert 0 <= column.min() <= x0 + 1
            assert 0 <= row.min() <= y0 + 1
            assert x1 - 1 <= column.max() <= 64
            assert y1 - 1 <= row.max() <= 64


def test_turning_an_object_turns_its_picture():
    scene = {"objects": [{"shape": "sofa", "3d_coords": [0, 0, 0.35], "rotation": 0.0}]}
    turned = {"objects": [scene["objects"][0] | {"rotation": math.pi / 2}]}
    first, second = (WORLDS["living_room"].identify(one) for one in (scene, turned))
    assert (first != second).sum() > 20


def test_a_word_alone_looks_like_its_first_variant():
    record = {"shape": "bench", "3d_coords": [1.0, 2.0, 0.35], "rotation": 0.5}
    assert WORLDS["park"].placed(record).asset.name == "bench"
    placed = WORLDS["park"].placed(record | {"shape": "bench-99"})
    assert (placed.asset.name, placed.position, placed.yaw) == ("bench", (1.0, 2.0, 0.0), 0.5)
    with pytest.raises(ValueError, match="setup 'park' has no asset 'sofa', only bench, bird, lamppost, person"):
        WORLDS["park"].placed(record | {"shape": "sofa"})


@pytest.mark.parametrize("setup", ["park", "living_room", "shapes"])
def test_through_the_published_layout_and_back(made, tmp_path, setup):
    samples = [
        (str(k), {"scene.json": encode_json(scene), "image.png": encode_png(image)})
        for k, (scene, image, _) in enumerate(made[setup])
    ]
    raw.write(tmp_path, "test", samples)
    found = list(ObjaWorldSource(tmp_path).samples("test"))
    assert len(found) == len(samples)
    for one, (scene, image, _) in zip(found, made[setup], strict=True):
        back = decode_json(one.members["scene.json"])
        assert {name: back[name] for name in scene} == decode_json(encode_json(scene))
        assert one.pictures["image"].path.read_bytes() == encode_png(image)
        if setup != "shapes":
            assert SCHEMAS["objaworld"].read(back) == SCHEMAS["objaworld"].read(scene)


def test_reach():
    def ball(p):
        return np.sqrt((p * p).sum(0)) - 1

    assert 1 <= reach(Asset("ball", ball, np.ones_like, (-1, -1, -1), (1, 1, 1))) <= 1.15

    def slab(p):
        return np.abs(p / [[2], [1], [0.1]]).max(0) - 1

    assert reach(Asset("slab", slab, np.ones_like, (-2, -1, -0.1), (2, 1, 0.1))) == pytest.approx(math.sqrt(5), abs=0.1)


def test_worlds_travel_to_workers():
    world = WORLDS["shapes"]
    world.sample_scene(random.Random(0))
    assert pickle.loads(pickle.dumps(world)) == world


def longest_side(asset):
    return max(np.subtract(asset.upper, asset.lower))


def boxes(folder, *names):
    trimesh = pytest.importorskip("trimesh")
    for name in names:
        trimesh.creation.box((1.0, 0.5, 0.5)).export(folder / name)
    return folder


def test_meshes_extend_or_replace(tmp_path):
    folder = boxes(tmp_path, "bench-07.ply", "bird-01.glb", "bench.obj")
    words = ObjaWorld("park", assets=folder, **QUICK).words
    procedural = WORLDS["park"].words
    assert set(words) == set(procedural)
    assert set(words["bench"]) == {*procedural["bench"], "bench-07"}
    assert words["bench"]["bench"] != procedural["bench"]["bench"]
    assert words["person"] == procedural["person"]
    model = longest_side(procedural["bench"]["bench"])
    assert longest_side(words["bench"]["bench-07"]) == pytest.approx(model, rel=0.05)
    assert words["bird"]["bird-01"].floats == 3.0
    alone = ObjaWorld("park", assets=folder, replace=True, **QUICK)
    assert {word: set(named) for word, named in alone.words.items()} == {
        "bench": {"bench", "bench-07"},
        "bird": {"bird-01"},
    }
    scene, _, _ = alone.make(random.Random(0))
    assert {o["shape"] for o in scene["objects"]} <= {"bench", "bench-07", "bird-01"}


def test_meshes_with_other_names(tmp_path):
    folder = boxes(tmp_path, "crate.ply")
    with pytest.raises(ValueError, match="setup 'park' has meshes of person, bench, lamppost, bird, not 'crate'"):
        _ = ObjaWorld("park", assets=folder).words
    words = ObjaWorld("shapes", assets=folder, replace=True, mesh_size=1.5).words
    assert longest_side(words["crate"]["crate"]) == pytest.approx(1.5, rel=0.05)
    boxes(tmp_path, "crate.obj")
    with pytest.raises(ValueError, match=r"another mesh is called as crate\.obj"):
        _ = ObjaWorld("shapes", assets=folder).words
    with pytest.raises(ValueError, match="expected a folder with meshes"):
        _ = ObjaWorld("shapes", assets=tmp_path / "none").words


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"setup": "zoo"}, "setup should be one of park, living_room, shapes, got 'zoo'"),
        ({"replace": True}, "needs a folder of meshes"),
        ({"mesh_size": 0}, "mesh_size must be positive"),
        ({"objects": (3, 2)}, "objects must be"),
        ({"extent": 0}, "extent"),
    ],
)
def test_impossible_settings(options, reason):
    with pytest.raises(ValueError, match=reason):
        ObjaWorld(**options)
