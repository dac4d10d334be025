"""The Objectron-like world: its boxes, its pictures, and the way through Omni3D's layout."""

import math
import random

import numpy as np
import pytest

from data_modules.raw import omni3d
from data_modules.shards import decode_json, encode_json, encode_png
from data_modules.sources.omni3d import Omni3DSource
from data_modules.worlds import objectron
from data_modules.worlds.assets.asset import Asset
from data_modules.worlds.masks import from_run_lengths
from data_modules.worlds.objectron import ObjectronWorld, PhoneCamera
from kyvo.scene import SCHEMAS

WORLD = ObjectronWorld(image_size=(96, 72), shadow_samples=1, edge_samples=0)
SIGNS = np.array([(-1, -1, -1), (1, -1, -1), (1, 1, -1), (-1, 1, -1), (-1, -1, 1), (1, -1, 1), (1, 1, 1), (-1, 1, 1)])


def crate(category, dimensions, rng):
    """A box that fills its box: what is seen of it reaches to all sides of the projected corners."""
    width, height, length = dimensions
    half = np.array([[length / 2], [width / 2], [height / 2]], dtype=np.float32)

    def distance(p):
        q = np.abs(p - [[0], [0], [height / 2]]) - half
        return np.sqrt((np.maximum(q, 0) ** 2).sum(0)) + np.minimum(q.max(0), 0)

    return Asset(category, distance, np.ones_like, (-length / 2, -width / 2, 0.0), (length / 2, width / 2, height))


@pytest.fixture(scope="module")
def made():
    return [WORLD.make(random.Random(seed)) for seed in range(24)]


def projected(points, k):
    pixels = np.array(points) @ np.array(k).T
    return pixels[:, :2] / pixels[:, 2:]


def test_a_seed_gives_the_same_bytes(made):
    for seed in (0, 7):
        scene, image, ids = WORLD.make(random.Random(seed))
        assert encode_json(scene) == encode_json(made[seed][0])
        np.testing.assert_array_equal(image, made[seed][1])
        np.testing.assert_array_equal(ids, made[seed][2])


def test_scenes_have_all_fields(made):
    for scene, image, ids in made:
        assert image.shape == (96, 72, 3)
        assert (scene["height"], scene["width"]) == (96, 72)
        assert 1 <= len(scene["objects"]) <= 3
        assert len(SCHEMAS["objectron"].read(scene)) == len(scene["objects"])
        np.testing.assert_array_equal(from_run_lengths(scene["mask"], (96, 72)), ids >= 0)
        for k, o in enumerate(scene["objects"]):
            assert (ids == k).sum() == o["visible_pixels"] > 0
            assert o["bbox2D_tight"] == o["bbox"]
            assert o["valid3D"]
            assert not o["behind_camera"]
    counts = [len(scene["objects"]) for scene, _, _ in made]
    assert counts.count(1) > 12
    assert max(counts) > 1


def test_every_category_comes_up():
    drawn = {WORLD._draw(random.Random(seed)).categories[0] for seed in range(100, 160)}
    assert drawn == set(SCHEMAS["objectron"]["category"].values)


def test_boxes(made):
    """Corners follow from centre, dimensions [w, h, l] and rotation; boxes in the picture from corners and K."""
    for scene, _, _ in made:
        focal, center = scene["K"][0][0], [scene["K"][0][2], scene["K"][1][2]]
        assert 0.8 * 96 <= focal <= 1.1 * 96
        assert center == [36.0, 48.0]
        for o in scene["objects"]:
            rotation, (w, h, l) = np.array(o["R_cam"]), o["dimensions"]  # noqa: E741
            np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-12)
            assert np.linalg.det(rotation) == pytest.approx(1)
            corners = (SIGNS * [l / 2, h / 2, w / 2]) @ rotation.T + o["center_cam"]
            np.testing.assert_allclose(o["bbox3D_cam"], corners, atol=1e-9)
            pixels = projected(corners, scene["K"])
            x0, y0, x1, y1 = *pixels.min(0), *pixels.max(0)
            np.testing.assert_allclose(o["bbox2D_proj"], [x0, y0, x1, y1], atol=1e-6)
            cut = [max(x0, 0), max(y0, 0), min(x1, 72), min(y1, 96)]
            np.testing.assert_allclose(o["bbox2D_trunc"], cut, atol=1e-6)
            share = (cut[2] - cut[0]) * (cut[3] - cut[1]) / ((x1 - x0) * (y1 - y0))
            assert o["truncation"] == pytest.approx(1 - share, abs=1e-9)
            assert cut[3] - cut[1] >= 0.15 * 96
            assert rotation[1, 1] > 0, "the box's own y axis points down, as the camera's does"


def test_what_is_seen_lies_in_the_box(made):
    for scene, _, _ in made:
        for o in scene["objects"]:
            (x0, y0, x1, y1), (a, b, c, d) = o["bbox2D_tight"], o["bbox2D_trunc"]
            assert x0 >= a - 1
            assert y0 >= b - 1
            assert x1 <= c + 1
            assert y1 <= d + 1


def test_a_crate_fills_its_box(monkeypatch):
    """Pixels of the id map against projected corners: camera, roll, scale and axes all agree."""
    monkeypatch.setattr(objectron, "objectron_asset", crate)
    world = ObjectronWorld(image_size=(160, 120), objects=(1, 1), max_truncation=0.0, edge_samples=0, shadow_samples=1)
    for seed in range(6):
        scene, _, _ = world.make(random.Random(seed))
        for o in scene["objects"]:
            np.testing.assert_allclose(o["bbox2D_tight"], o["bbox2D_proj"], atol=2)


def test_lengths_are_metres(made):
    for scene, _, _ in made:
        if len(scene["objects"]) > 1:
            continue
        (o,) = scene["objects"]
        least, greatest = (1.5, 3.0) if o["category"] in ("bicycle", "chair") else (0.4, 1.5)
        assert least <= math.dist((0, 0, 0), o["center_cam"]) <= greatest
        assert max(o["dimensions"]) < (2.2 if greatest == 3.0 else 0.6)


def test_visibility_is_of_what_others_could_hide():
    world = ObjectronWorld(image_size=(96, 72), objects=(3, 3), min_visibility=0.3, shadow_samples=1, edge_samples=0)
    for seed in range(3):
        scene, _, _ = world.make(random.Random(seed))
        shares = [o["visibility"] for o in scene["objects"]]
        assert all(0.3 <= share <= 1 for share in shares)
        assert max(shares) == 1, "nothing hides the nearest"


def test_roll_turns_the_picture():
    level = PhoneCamera((4.0, -3.0, 2.0), 96, 72, 0.9, (0.1, 0.2, 0.3))
    rolled = PhoneCamera((4.0, -3.0, 2.0), 96, 72, 0.9, (0.1, 0.2, 0.3), math.radians(30))
    points = np.random.default_rng(0).uniform(-1, 1, (20, 3))
    before, after = level.project(points), rolled.project(points)
    c, s = math.cos(math.radians(30)), math.sin(math.radians(30))
    turned = (before[:, :2] - [36, 48]) @ np.array([[c, -s], [s, c]]) + [36, 48]
    np.testing.assert_allclose(after[:, :2], turned, atol=1e-9)
    np.testing.assert_allclose(after[:, 2], before[:, 2])
    rays = rolled.rays(after[:, 0], after[:, 1]).T
    away = points - rolled.location
    np.testing.assert_allclose(rays, away / np.linalg.norm(away, axis=1, keepdims=True), atol=1e-6)


@pytest.mark.parametrize("split", ["train", "val"])
def test_through_omni3d_and_back(made, tmp_path, split):
    samples = [
        (str(k), {"scene.json": encode_json(scene), "image.png": encode_png(image)})
        for k, (scene, image, _) in enumerate(made)
    ]
    for name in "ab":
        omni3d.write(tmp_path / name, split, samples)
    files = sorted(path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*") if path.is_file())
    assert len(files) == 1 + len(made)
    assert all((tmp_path / "a" / path).read_bytes() == (tmp_path / "b" / path).read_bytes() for path in files)
    source = Omni3DSource(tmp_path / "a", "Objectron")
    assert source.splits() == (split,)
    found = list(source.samples(split))
    assert len(found) == len({one.key for one in found}) == len(made), "the ignore rule ignores nothing that is made"
    for one, (scene, image, _) in zip(found, made, strict=True):
        back = decode_json(one.members["scene.json"])
        assert source.schema.read(back) == source.schema.read(scene)
        assert one.pictures["image"].path.read_bytes() == encode_png(image)
        for o, original in zip(back["objects"], scene["objects"], strict=True):
            assert o["R_cam"] == original["R_cam"]
            pixels = projected(o["bbox3D_cam"], back["K"])
            np.testing.assert_allclose([*pixels.min(0), *pixels.max(0)], original["bbox2D_proj"], atol=1e-4)


def test_published_names(made, tmp_path):
    scene, image, _ = next(one for one in made if len(one[0]["objects"]) == 1)
    scene = scene | {"objects": [scene["objects"][0] | {"category": "cereal box"}]}
    omni3d.write(tmp_path, "test", [("0", {"scene.json": encode_json(scene), "image.png": encode_png(image)})])
    content = decode_json((tmp_path / "Omni3D/Objectron_test.json").read_bytes())
    (record,), (annotation,) = content["images"], content["annotations"]
    assert record["file_path"] == "objectron/test/cereal_box_batch_0_0_0000000.png"
    assert (record["dataset_id"], content["info"]["name"]) == (8, "Objectron Test")
    assert (annotation["category_id"], annotation["category_name"]) == (17, "cereal box")
    assert {"mask", "bbox", "visible_pixels"}.isdisjoint(annotation)
    with pytest.raises(ValueError, match="train, val, test, not 'tests'"):
        omni3d.write(tmp_path, "tests", [])


@pytest.mark.parametrize("options", [{"objects": (0, 2)}, {"objects": (3, 2)}, {"image_size": (0, 64)}])
def test_impossible_settings(options):
    with pytest.raises(ValueError, match="must be"):
        ObjectronWorld(**options)


def test_pictures_that_cannot_be():
    world = ObjectronWorld(image_size=(24, 18), min_height=1.1)
    with pytest.raises(ValueError, match="in 1000 scenes some object was not in view"):
        world.make(random.Random(0))
