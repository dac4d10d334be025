"""Scenes of the CLEVR world against CLEVR's rules and its published files."""

import json
import math
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import least_squares

from data_modules.worlds.camera import BASE_LOCATION, Camera
from data_modules.worlds.clevr import ATTRIBUTES, ClevrWorld
from data_modules.worlds.placement import relationships
from kyvo.clevr import DIRECTIONS

SIZES = {"large": 0.7, "small": 0.35}


def real_scenes(golden):
    return json.loads((golden / "clevr_real/scenes/CLEVR_val_scenes.json").read_text())["scenes"]


@given(seed=st.integers(0, 2**32), close=st.booleans())
@settings(max_examples=60, deadline=None)
def test_scenes_obey_the_rules_of_placement(seed, close):
    world = ClevrWorld(objects=(1, 3), extent=1.5, focal=1.8) if close else ClevrWorld()
    scene = world.sample_scene(random.Random(seed))
    objects = scene["objects"]
    assert world.objects[0] <= len(objects) <= world.objects[1]
    for o in objects:
        assert all(o[name] in values for name, values in ATTRIBUTES.items())
        assert o["3d_coords"][2] == SIZES[o["size"]]
        assert max(map(abs, o["3d_coords"][:2])) <= world.extent
        assert 0 <= o["rotation"] < 360
    for i, a in enumerate(objects):
        for b in objects[:i]:
            (x, y, r), (u, v, s) = a["3d_coords"], b["3d_coords"]
            assert math.dist((x, y), (u, v)) - r - s >= 0.25
            for dx, dy, _ in (DIRECTIONS["right"], DIRECTIONS["behind"]):
                assert abs((x - u) * dx + (y - v) * dy) >= 0.4


@given(seed=st.integers(0, 2**32))
@settings(max_examples=20, deadline=None)
def test_every_pair_has_one_relation_on_each_axis(seed):
    scene = ClevrWorld().sample_scene(random.Random(seed))
    relations = scene["relationships"]
    count = len(scene["objects"])
    for one, other in (("left", "right"), ("front", "behind")):
        for i in range(count):
            assert sorted(relations[one][i] + relations[other][i]) == [j for j in range(count) if j != i]
            assert all(i in relations[other][j] for j in relations[one][i])


def test_scenes_are_a_function_of_the_seed():
    world = ClevrWorld(camera_jitter=0.5)
    one, two, other = (world.sample_scene(random.Random(seed)) for seed in ("0/train/7", "0/train/7", "0/train/8"))
    assert one == two != other
    assert json.loads(json.dumps(one)) == one


def test_jitter_moves_camera_and_lamps_alone():
    still, moved = (
        ClevrWorld(camera_jitter=jitter, light_jitter=jitter).sample_scene(random.Random(3)) for jitter in (0.0, 0.5)
    )
    assert still["camera"]["location"] == list(BASE_LOCATION)
    assert [o["3d_coords"] for o in still["objects"]] == [o["3d_coords"] for o in moved["objects"]]
    for before, after in [
        (still["camera"]["location"], moved["camera"]["location"]),
        *((still["lights"][name], moved["lights"][name]) for name in still["lights"]),
    ]:
        assert all(0 < abs(a - b) <= 0.5 for a, b in zip(before, after, strict=True))


def test_relations_equal_those_of_published_scenes(golden):
    lists = 0
    for scene in real_scenes(golden):
        ours = relationships(scene["objects"])
        for name, theirs in scene["relationships"].items():
            assert ours[name] == [sorted(row) for row in theirs]
            lists += len(theirs)
    assert lists == 144


def test_directions_equal_those_of_published_scenes(golden):
    for scene in real_scenes(golden):
        assert scene["directions"].keys() == DIRECTIONS.keys()
        for name, vector in scene["directions"].items():
            assert tuple(vector) == DIRECTIONS[name]


def test_camera_projects_as_in_published_scenes(golden):
    # The files do not say where the jittered camera stood: three unknowns, three numbers for each object.
    for scene in real_scenes(golden):
        points = np.array([o["3d_coords"] for o in scene["objects"]])
        pixels = np.array([o["pixel_coords"] for o in scene["objects"]])

        def error(place, points=points, pixels=pixels):
            return Camera(tuple(place), 320, 480).project(points) - pixels

        fitted = least_squares(lambda place, error=error: (error(place) * [1, 1, 200]).ravel(), BASE_LOCATION).x
        assert np.abs(fitted - BASE_LOCATION).max() < 0.51
        assert np.abs(error(fitted)).max(0) == pytest.approx([0, 0, 0], abs=0.51)
        assert np.abs(error(fitted)[:, 2]).max() < 1e-3


def test_rays_and_projection_agree():
    camera = Camera((7.0, -6.0, 5.0), 48, 64, focal=1.8)
    points = np.random.default_rng(0).uniform(-1, 1, (20, 3))
    columns, rows, depth = camera.project(points).T
    ends = np.array(camera.location)[:, None] + camera.rays(columns, rows) * np.linalg.norm(
        points - camera.location, axis=1
    )
    assert np.allclose(ends.T, points, atol=1e-5)
    assert np.allclose(depth, (points - camera.location) @ camera.axes[2])


def test_impossible_worlds_are_refused():
    with pytest.raises(ValueError, match="9 objects do not fit into an extent"):
        ClevrWorld(objects=(9, 9), extent=0.5).sample_scene(random.Random(0))
    with pytest.raises(ValueError, match="least <= greatest"):
        ClevrWorld(objects=(3, 1))
    with pytest.raises(ValueError, match="must be positive"):
        ClevrWorld(focal=0)
