"""Cameras of samples: places that worlds and Omni3D's files give themselves are found again."""

import json
import random
from pathlib import Path

import numpy as np
import pytest

from data_modules.faults import BadInputError
from data_modules.records import decode_record
from data_modules.shards import RawSample, encode_png
from data_modules.viewpoint import projection
from data_modules.worlds.clevr import ClevrWorld
from data_modules.worlds.objaworld import ObjaWorld
from data_modules.worlds.objectron import ObjectronWorld
from kyvo.report.scene_overlay import project
from kyvo.scene import SCHEMAS
from tests.tiny_world import VIEW

SMALL = {"shadow_samples": 1, "edge_samples": 1}


def sample(scene, image, schema):
    """As read from a shard."""
    members = {"scene.json": json.dumps(scene).encode(), "image.png": encode_png(image)}
    return decode_record(RawSample("s", "a", members), SCHEMAS[schema], pixels=True).sample


@pytest.mark.parametrize(
    ("world", "schema"),
    [
        (VIEW, "clevr"),
        (ClevrWorld(image_size=(32, 48), camera_jitter=0.5, min_visible_pixels=5.0, **SMALL), "clevr"),
        (ObjaWorld(image_size=(48, 32), min_visible_pixels=1.0, **SMALL), "objaworld"),
    ],
)
def test_objects_are_where_the_world_says(world, schema):
    scene, image, _ = world.make(random.Random(0))
    found = sample(scene, image, schema)
    points = np.array([one["3d_coords"] for one in scene["objects"]], dtype=float)
    places, depths = project(points, found.camera)
    expected = np.array([one["pixel_coords"] for one in scene["objects"]])
    assert np.abs(places * image.shape[1::-1] - expected[:, :2]).max() <= 0.5
    assert depths == pytest.approx(expected[:, 2])
    assert found.written_camera is found.camera


def test_boxes_are_where_omni3d_says():
    scene, image, _ = ObjectronWorld(image_size=(40, 30), **SMALL).make(random.Random(1))
    found = sample(scene, image, "objectron")
    for one in scene["objects"]:
        places, _ = project(np.array(one["bbox3D_cam"]), found.camera)
        pixels = places * (30, 40)
        assert [*pixels.min(0), *pixels.max(0)] == pytest.approx(one["bbox2D_proj"])
    # Of a picture that was scaled, the camera stays that of the file.
    scene.pop("mask")
    assert sample(scene, np.zeros((64, 64, 3), np.uint8), "objectron").camera == pytest.approx(found.camera)


def test_a_packed_picture_of_another_shape_keeps_its_camera():
    record = {"camera": {"location": [7.0, -6.0, 5.0], "focal": 1.0, "size": [320, 480]}}
    assert projection(record, (64, 64)) == pytest.approx(projection({"camera": record["camera"]}, (320, 480)))
    record["camera"].pop("size")
    assert projection(record, (64, 64)) != pytest.approx(projection(record, (320, 480)))


def test_what_says_nothing_has_no_camera():
    for scene in ({}, {"camera": "front"}, {"camera": {"location": [1, 2]}}, {"K": np.eye(3).tolist()}):
        assert projection(scene, (8, 8)) is None
    assert projection({"camera": {"location": [7.0, -6.0, 5.0]}}, None) is None


def test_bad_cameras_are_named():
    scene = {"objects": [], "K": [[1, 0, 0], [0, 1, 0]], "width": 4, "height": 4}
    image = np.zeros((4, 4, 3), np.uint8)
    with pytest.raises(BadInputError, match=r"scene\.json"):
        sample(scene, image, "objectron")
    scene["K"] = [[1, 0, 0], [0, 1, 0], [0, 0, float("inf")]]
    with pytest.raises(BadInputError, match="finite"):
        sample(scene, image, "objectron")
    with pytest.raises(ValueError, match="straight up or down"):
        projection({"camera": {"location": [0, 0, 5]}}, (4, 4))


def test_pictures_of_an_edit_have_their_own(tmp_path: Path):
    rng = random.Random(3)
    world = ClevrWorld(image_size=(32, 32), camera_jitter=0.5, min_visible_pixels=1.0, **SMALL)
    (before, image, _), (after, edited, _) = world.make(rng), world.make(rng)
    members = {"scene.json": json.dumps(before).encode(), "target.scene.json": json.dumps(after).encode()}
    members |= {"image.png": encode_png(image), "target.image.png": encode_png(edited)}
    found = decode_record(RawSample("s", "a", members), SCHEMAS["clevr"], pixels=True).sample
    assert found.written_camera is found.target_camera
    assert found.target_camera == pytest.approx(projection(after, (32, 32)))
    assert found.camera != pytest.approx(found.target_camera)
