"""The camera of a scene from its pixel coordinates: on real scenes, and on cameras that are known."""

import json
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_modules.worlds.camera import BASE_LOCATION, Camera
from data_modules.worlds.camera_recovery import recover_camera
from data_modules.worlds.clevr import ClevrWorld


def real_scenes(golden):
    """Scenes with two objects or more, and their pictures' height and width."""
    folder = golden / "clevr_real"
    released = json.loads((folder / "scenes" / "CLEVR_val_scenes.json").read_text())["scenes"]
    generated = [json.loads(path.read_text()) for path in sorted(folder.glob("generator_2obj_*/scenes/*.json"))]
    return [(scene, (320, 480)) for scene in released] + [(scene, (240, 320)) for scene in generated]


def test_real_objects_appear_where_they_were_seen(golden):
    scenes = real_scenes(golden)
    assert len(scenes) == 9
    for scene, size in scenes:
        camera = recover_camera(scene["objects"], *size)
        points, seen = (np.array([o[key] for o in scene["objects"]]) for key in ("3d_coords", "pixel_coords"))
        error = np.abs(camera.project(points) - seen).max(axis=0)
        # Columns and rows are whole numbers, so that half a pixel is as near as can be.
        assert error[:2].max() <= 0.5
        assert error[2] <= 1e-3
        # CLEVR's camera moves by up to half a unit; a rounded pixel of a far object is about 0.05.
        assert np.abs(np.array(camera.location) - BASE_LOCATION).max() <= 0.56


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    count=st.integers(2, 10),
    size=st.sampled_from([(256, 256), (240, 320), (320, 480)]),
    focal=st.sampled_from([1.0, 1.8]),
)
def test_a_known_camera_is_found_again(seed, count, size, focal):
    rng = random.Random(seed)
    location = tuple(x + rng.uniform(-0.5, 0.5) for x in BASE_LOCATION)
    camera = Camera(location, *size, focal)
    points = [[rng.uniform(-3, 3), rng.uniform(-3, 3), rng.choice((0.35, 0.7))] for _ in range(count)]
    objects = [
        {"3d_coords": point, "pixel_coords": seen}
        for point, seen in zip(points, camera.project(np.array(points)).tolist(), strict=True)
    ]
    found = recover_camera(objects, *size, focal)
    assert (found.height, found.width, found.focal) == (*size, focal)
    assert np.allclose(found.location, location, atol=1e-4)


def test_rounding_to_pixels_moves_the_camera_little():
    world = ClevrWorld(image_size=(240, 320), objects=(3, 10), camera_jitter=0.5)
    moves = []
    for seed in range(30):
        scene = world.sample_scene(random.Random(seed))
        found = recover_camera(scene["objects"], 240, 320)
        moves.append(np.abs(np.array(found.location) - scene["camera"]["location"]).max())
    assert np.median(moves) < 0.03
    assert max(moves) < 0.2


def test_too_little_is_refused():
    record = {"3d_coords": [1.0, 2.0, 0.7], "pixel_coords": [200, 100, 11.0]}
    for objects in ([], [record]):
        with pytest.raises(ValueError, match="two or more objects"):
            recover_camera(objects, 240, 320)
    with pytest.raises(ValueError, match="undetermined"):
        # Two objects in one place say no more than one, which says nothing of the way round it.
        recover_camera([{"3d_coords": [0.0, 0.0, 0.0], "pixel_coords": [160, 120, 11.2]}] * 2, 240, 320)


def test_pixels_of_another_size_are_refused(golden):
    scene, _ = real_scenes(golden)[0]
    with pytest.raises(ValueError, match="pixels off"):
        recover_camera(scene["objects"], 240, 320)
