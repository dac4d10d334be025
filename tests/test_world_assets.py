"""Assets: safe and tight distances, boxes that fit, colours, fronts that can be seen, groups that match the schemas."""

import functools
import math
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_modules.worlds.assets import outlines, primitives, solid, textures
from data_modules.worlds.assets.asset import Asset
from data_modules.worlds.assets.dimensions import DIMENSIONS
from data_modules.worlds.assets.library import (
    ASSETS,
    LIVING_ROOM,
    OBJECTRON,
    PARK,
    SHAPES,
    draw_dimensions,
    objectron_asset,
    reference_height,
    variants,
)
from kyvo.scene import SCHEMAS

WORDS = set(PARK) | set(LIVING_ROOM)
NO_FRONT = {"basketball", "soccer_ball", "balloon", "cheeseburger", "traffic_cone"}
CONVERGED_AFTER = 40


@functools.cache
def things() -> dict[str, Asset]:
    """The library, and two things of every category of Objectron."""
    drawn = {}
    for category in OBJECTRON:
        for seed in range(2):
            rng = random.Random(seed)
            drawn[f"{category} {seed}"] = objectron_asset(category, draw_dimensions(category, rng), rng)
    return ASSETS | drawn


NAMES = [*ASSETS, *(f"{category} {seed}" for category in OBJECTRON for seed in range(2))]


def corners(asset: Asset) -> tuple[np.ndarray, np.ndarray]:
    return np.array(asset.lower), np.array(asset.upper)


def points_around(asset: Asset, count: int, seed: int = 0) -> np.ndarray:
    low, high = corners(asset)
    noise = np.random.default_rng(seed).uniform(-0.3, 1.3, (3, count))
    return (low[:, None] + noise * (high - low)[:, None]).astype(np.float32)


def march(asset: Asset, origin: np.ndarray, direction: np.ndarray, steps: int) -> tuple[np.ndarray, np.ndarray]:
    """End points of rays, and their distances there."""
    p = origin
    stride = np.float32(np.linalg.norm(np.subtract(asset.upper, asset.lower)))
    for _ in range(steps):
        # Rays that missed must not run to infinity.
        p = p + direction * np.minimum(asset.distance(p), stride)
    return p, asset.distance(p)


def rays_inwards(asset: Asset, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Rays from a sphere around an asset to points in its box."""
    low, high = corners(asset)
    rng = np.random.default_rng(1)
    away = rng.normal(size=(3, count))
    away /= np.linalg.norm(away, axis=0)
    target = low[:, None] + rng.uniform(0.1, 0.9, (3, count)) * (high - low)[:, None]
    origin = (low + high)[:, None] / 2 + away * np.linalg.norm(high - low)
    direction = target - origin
    return origin.astype(np.float32), (direction / np.linalg.norm(direction, axis=0)).astype(np.float32)


def surface(asset: Asset, count: int = 300) -> np.ndarray:
    """Points where rays from around meet an asset."""
    p, distance = march(asset, *rays_inwards(asset, count), 60)
    return p[:, np.abs(distance) < 2e-3 * max(np.subtract(asset.upper, asset.lower))]


def least_on_plane(asset: Asset, axis: int, height: float) -> float:
    """The least distance over the part of a plane across an axis that lies in an asset's box."""
    low, high = corners(asset)
    i, j = (k for k in range(3) if k != axis)
    ticks = np.linspace(0, 1, 25)
    p = np.empty((3, 625))
    p[axis], p[i], p[j] = height, *(v.ravel() for v in np.meshgrid(*(low[k] + ticks * (high - low)[k] for k in (i, j))))
    reach = (high - low)[[i, j]] / 24
    for _ in range(4):
        best = p[:, np.argsort(asset.distance(p.astype(np.float32)))[:24]]
        steps = np.array(np.meshgrid(*[np.linspace(-1, 1, 5)] * 2)).reshape(2, -1) * reach[:, None]
        p = np.repeat(best, steps.shape[1], axis=1)
        p[[i, j]] += np.tile(steps, best.shape[1])
        reach = reach / 2
    return float(asset.distance(p.astype(np.float32)).min())


@pytest.mark.parametrize("name", NAMES)
def test_distances_never_change_faster_than_points_move(name):
    asset = things()[name]
    size = max(np.subtract(asset.upper, asset.lower))
    p = points_around(asset, 1500)
    value = asset.distance(p)
    assert value.shape == (1500,)
    assert value.dtype == np.float32
    assert np.isfinite(value).all()
    for step in (1.0, 0.1, 0.01):
        away = np.random.default_rng(2).normal(size=p.shape).astype(np.float32) * (step * size)
        change = np.abs(asset.distance(p + away) - value)
        assert (change <= np.linalg.norm(away, axis=0) * 1.0001 + 2e-6 * size).all()


@pytest.mark.parametrize("name", NAMES)
def test_box_is_tight_and_stands_on_the_ground(name):
    asset = things()[name]
    low, high = corners(asset)
    assert low[2] == pytest.approx(0, abs=1e-6)
    for axis in range(3):
        extent = high[axis] - low[axis]
        for face, outwards in ((low[axis], -1), (high[axis], 1)):
            assert least_on_plane(asset, axis, face + outwards * 2e-3 * extent) > 0
            assert least_on_plane(asset, axis, face - outwards * 0.05 * extent) < 0


@pytest.mark.parametrize("name", NAMES)
def test_rays_arrive_within_forty_steps(name):
    asset = things()[name]
    size = max(np.subtract(asset.upper, asset.lower))
    origin, direction = rays_inwards(asset, 500)
    _, settled = march(asset, origin, direction, 4 * CONVERGED_AFTER)
    _, distance = march(asset, origin, direction, CONVERGED_AFTER)
    met = settled < 1e-3 * size
    assert met.mean() > 0.1
    assert (distance[met] < 2e-3 * size).mean() > 0.97


@pytest.mark.parametrize("name", NAMES)
def test_colors_are_reflectances(name):
    p = surface(things()[name])
    color = things()[name].color(p)
    assert color.shape == p.shape
    assert color.dtype == np.float32
    assert ((color >= 0) & (color <= 1)).all()
    assert len(np.unique(color.round(3), axis=1).T) > 1


def turned(p: np.ndarray, degrees: float) -> np.ndarray:
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return np.stack([c * p[0] - s * p[1], s * p[0] + c * p[1], p[2]]).astype(np.float32)


@pytest.mark.parametrize("name", [name for name in ASSETS if name not in NO_FRONT])
def test_turned_assets_look_different(name):
    asset = ASSETS[name]
    p = surface(asset, 1200)
    size = max(np.subtract(asset.upper, asset.lower))
    for degrees in (90, 180, 270):
        moved = np.abs(asset.distance(turned(p, degrees))) > 0.02 * size
        recolored = np.abs(asset.color(turned(p, degrees)) - asset.color(p)).max(0) > 0.05
        assert (moved | recolored).mean() > 0.02


def test_groups_hold_the_words_of_the_schema():
    assert set(SCHEMAS["objaworld"]["shape"].values) == WORDS
    assert set(SCHEMAS["objectron"]["category"].values) == set(OBJECTRON)
    assert len(SHAPES) == len(set(SHAPES)) >= 20
    assert set(ASSETS) == {name for word in WORDS for name in variants(word)} | set(SHAPES)
    assert all(asset.name == name for name, asset in ASSETS.items())


@pytest.mark.parametrize("word", sorted(WORDS))
def test_words_have_variants_that_the_schema_reads(word):
    names = variants(word)
    assert names[0] == word
    assert len(names) >= 3
    schema = SCHEMAS["objaworld"]
    records = [{"shape": name, "3d_coords": [0, 0, reference_height(name)], "rotation": 0.1} for name in names]
    assert [o["shape"] for o in schema.read({"objects": records})] == [word] * len(names)


def test_heights_recorded_are_the_published_ones():
    found = {word: reference_height(word) for word in ("person", "lamppost", "sofa", "table", "bird", "basketball")}
    assert found == {"person": 0.7, "lamppost": 0.7, "sofa": 0.35, "table": 0.35, "bird": 3.0, "basketball": 0.0}
    assert {name for name, asset in ASSETS.items() if asset.floats} == set(variants("bird"))
    assert reference_height("sofa-02") == reference_height("sofa")


def test_unknown_names_are_refused():
    with pytest.raises(ValueError, match="no asset is called 'unicorn'"):
        variants("unicorn")
    with pytest.raises(ValueError, match="no asset is called 'bench-99'"):
        reference_height("bench-99")
    with pytest.raises(ValueError, match="no category is called 'car'"):
        objectron_asset("car", (1.0, 1.0, 1.0), random.Random(0))
    with pytest.raises(ValueError, match="no category is called 'car'"):
        draw_dimensions("car", random.Random(0))
    with pytest.raises(ValueError, match="must be positive"):
        objectron_asset("cup", (0.1, 0.0, 0.1), random.Random(0))


@settings(max_examples=30, deadline=None)
@given(
    category=st.sampled_from(OBJECTRON),
    sides=st.tuples(*[st.floats(0.02, 2.0)] * 3),
    seed=st.integers(0, 1000),
)
def test_objectron_assets_fill_any_dimensions(category, sides, seed):
    width, height, length = sides
    asset = objectron_asset(category, sides, random.Random(seed))
    assert asset.lower == pytest.approx((-length / 2, -width / 2, 0), abs=1e-6)
    assert asset.upper == pytest.approx((length / 2, width / 2, height), abs=1e-6)


@pytest.mark.parametrize("category", OBJECTRON)
def test_objectron_assets_are_drawn_from_the_generator(category):
    def draw(seed):
        rng = random.Random(seed)
        dimensions = draw_dimensions(category, rng)
        asset = objectron_asset(category, dimensions, rng)
        p = points_around(asset, 200)
        return dimensions, asset.distance(p).tobytes(), asset.color(p).tobytes()

    assert draw(1) == draw(1)
    assert len({draw(seed) for seed in range(5)}) == 5


@pytest.mark.parametrize("category", OBJECTRON)
def test_dimensions_stay_near_the_typical_ones(category):
    rng = random.Random(3)
    typical = np.array(DIMENSIONS[category].typical)
    drawn = np.array([draw_dimensions(category, rng) for _ in range(400)])
    assert np.median(drawn, axis=0) == pytest.approx(typical, rel=0.06)
    assert (np.abs(np.log(drawn / typical)) < 0.7).all()
    assert (drawn.std(axis=0) > 0.03 * typical).all()


def test_bottles_are_round():
    width, _, length = draw_dimensions("bottle", random.Random(0))
    assert width == pytest.approx(length)


@settings(max_examples=60, deadline=None)
@given(x=st.floats(-3, 3), y=st.floats(-3, 3))
def test_polygons_have_exact_distances(x, y):
    """Against the closed form for a square and a brute force over points of the sides of a bent polygon."""
    square = outlines.signed_distance([(-1, -1), (1, -1), (1, 1), (-1, 1)])
    q = np.abs(np.array([x, y])) - 1
    expected = np.linalg.norm(np.maximum(q, 0)) + min(q.max(), 0)
    at = np.array([x], dtype=np.float32), np.array([y], dtype=np.float32)
    assert square(*at)[0] == pytest.approx(expected, abs=1e-5)
    bent = np.array([(0, 0), (2, 0), (2, 2), (1, 0.5)])
    along = np.linspace(0, 1, 2001)[:, None]
    edge = np.concatenate([a + along * (b - a) for a, b in zip(bent, np.roll(bent, -1, axis=0), strict=True)])
    found = outlines.signed_distance([tuple(c) for c in bent.tolist()])(*at)[0]
    assert abs(found) == pytest.approx(np.linalg.norm(edge - (x, y), axis=1).min(), abs=2e-3)


def test_inside_of_a_bent_polygon_is_negative():
    bent = outlines.signed_distance([(0, 0), (2, 0), (2, 2), (1, 0.5)])
    x, y = np.array([[1.5, 0.6, 1.9, 3.0], [0.5, 0.5, 1.7, 0.5]], dtype=np.float32)
    assert (bent(x, y) < 0).tolist() == [True, False, True, False]


def test_a_revolved_square_is_a_cylinder():
    p = np.random.default_rng(0).uniform(-2, 2, (3, 500)).astype(np.float32)
    revolved = primitives.revolve([(0, -1), (0.5, -1), (0.5, 1), (0, 1)])
    cylinder = primitives.cylinder((0.0, 0.0, 0.0), 0.5, 1.0)
    # Inside, the polygon knows no side on the axis, so both agree everywhere.
    assert revolved.distance(p) == pytest.approx(cylinder.distance(p), abs=1e-5)


@settings(max_examples=40, deadline=None)
@given(degrees=st.floats(-180, 180), axis=st.sampled_from("xyz"), seed=st.integers(0, 99))
def test_turning_keeps_distances_and_boxes(degrees, axis, seed):
    rng = np.random.default_rng(seed)
    block = primitives.box((0.3, -0.2, 0.5), (0.4, 0.2, 0.7), 0.05)
    again = block.turned(degrees, axis).turned(-degrees, axis)
    p = rng.uniform(-2, 2, (3, 200)).astype(np.float32)
    assert again.distance(p) == pytest.approx(block.distance(p), abs=1e-5)
    assert again.lower == pytest.approx(block.lower, abs=1e-6)
    assert again.upper == pytest.approx(block.upper, abs=1e-6)


def test_turning_is_counterclockwise():
    ball = primitives.sphere((1.0, 0.0, 0.0), 0.1).turned(90, "z")
    assert ball.distance(np.array([[0.0], [1.0], [0.0]], dtype=np.float32))[0] == pytest.approx(-0.1, abs=1e-6)


def test_joining_and_carving():
    left, right = primitives.sphere((-0.5, 0.0, 0.0), 1.0), primitives.sphere((0.5, 0.0, 0.0), 1.0)
    p = np.random.default_rng(0).uniform(-2, 2, (3, 300)).astype(np.float32)
    a, b = left.distance(p), right.distance(p)
    assert solid.union(left, right).distance(p).tobytes() == np.minimum(a, b).tobytes()
    assert solid.carve(left, right).distance(p).tobytes() == np.maximum(a, -b).tobytes()
    blended = solid.blend(0.3, left, right).distance(p)
    assert (blended <= np.minimum(a, b) + 1e-6).all()
    assert (blended >= np.minimum(a, b) - 0.3 / 4 - 1e-6).all()
    assert blended[np.abs(a - b) > 0.3] == pytest.approx(np.minimum(a, b)[np.abs(a - b) > 0.3])


def test_union_takes_each_colour_from_its_own_part():
    red = primitives.sphere((-2.0, 0.0, 0.0), 1.0).painted(textures.plain("#ff0000"))
    blue = primitives.sphere((2.0, 0.0, 0.0), 1.0).painted(textures.plain("#0000ff"))
    p = np.array([[-1.0, 1.0], [0.0, 0.0], [0.0, 0.0]], dtype=np.float32)
    assert solid.union(red, blue).color(p).T.tolist() == [[1, 0, 0], [0, 0, 1]]


def test_colours_are_decoded_from_srgb():
    assert textures.rgb("#000000").tolist() == [0, 0, 0]
    assert textures.rgb("#ffffff").tolist() == pytest.approx([1, 1, 1])
    assert textures.rgb("#808080")[0] == pytest.approx(0.21586, abs=1e-4)
    with pytest.raises(ValueError, match="#rrggbb"):
        textures.rgb("teal")
    with pytest.raises(ValueError, match="2 limits part 3 layers, got 2"):
        textures.layers([0.0, 1.0], ["#000000", "#ffffff"])


def test_bands_and_sectors_lie_where_they_should():
    p = np.array([[1, -1, -1, 1], [1, 1, -1, -1], [0.1, 0.9, 1.1, 5.0]], dtype=np.float32)
    black_or_white = ["#000000", "#ffffff"]
    assert textures.layers([1.0], black_or_white)(p)[0].tolist() == [0, 0, 1, 1]
    assert textures.stripes(1.0, black_or_white)(p)[0].tolist() == [0, 0, 1, 1]
    assert textures.sectors(black_or_white, repeats=2)(p)[0].tolist() == [0, 1, 0, 1]


def test_spots_fill_the_share_of_space_that_they_should():
    p = np.random.default_rng(0).uniform(-20, 20, (3, 40000)).astype(np.float32)
    region = textures.spots(1.0, 0.4, share=0.5)
    assert (region(p) < 0).mean() == pytest.approx(0.5 * 4 / 3 * math.pi * 0.4**3, abs=0.01)
