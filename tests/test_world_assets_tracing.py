"""Assets given by distance functions, drawn beside CLEVR's solids and measured against them."""

import math

import numpy as np
import pytest

from data_modules.worlds.assets.asset import Asset, Placed
from data_modules.worlds.camera import BASE_LOCATION, Camera
from data_modules.worlds.lights import BASE_LAMPS
from data_modules.worlds.marching import Marched
from data_modules.worlds.ray_tracer import RayTracer, Sampling
from data_modules.worlds.rendering import identify, render
from kyvo.clevr import COLORS

CLOSE_UP = Camera(BASE_LOCATION, 192, 192, 1.6)


def plain(*color):
    return lambda p: np.repeat(np.array(color, dtype=np.float32)[:, None], p.shape[1], axis=1)


def box_distance(p, center, half, rounding=0.0):
    q = np.abs(p - np.array(center, dtype=np.float32)[:, None]) - (np.array(half, dtype=np.float32)[:, None] - rounding)
    outside = np.maximum(q, 0)
    return np.sqrt((outside * outside).sum(0)) + np.minimum(q.max(0), 0) - rounding


def ball(share=1.0, color=(173 / 255, 35 / 255, 35 / 255)):
    """A ball of radius one that stands on the ground; `share` of the distance is a lower bound of it."""
    return Asset(
        "ball",
        lambda p: np.float32(share) * (np.sqrt(p[0] ** 2 + p[1] ** 2 + (p[2] - 1) ** 2) - 1),
        plain(*color),
        (-1, -1, 0),
        (1, 1, 2),
        gloss=1.0,
    )


def block(lower, upper, color=(0.2, 0.3, 0.8), rounding=0.0):
    """An axis-aligned box that is as wide as its own box."""
    middle, half = (np.add(lower, upper) / 2).tolist(), (np.subtract(upper, lower) / 2).tolist()
    return Asset("block", lambda p: box_distance(p, middle, half, rounding), plain(*color), lower, upper, gloss=1.0)


def tracer(*objects, **settings):
    return RayTracer(objects, BASE_LAMPS, Sampling(), **settings)


def clevr(shape, color, place, radius, rotation=0.0, material="rubber"):
    record = {"shape": shape, "color": color, "material": material, "rotation": rotation}
    return record | {"3d_coords": [*place, radius]}


def overlap(a, b):
    return (a & b).sum() / (a | b).sum()


def psnr(a, b):
    return 10 * math.log10(255**2 / np.mean((a.astype(float) - b) ** 2))


# A ball whose distance is only a lower bound is met a little early along its outline.
@pytest.mark.parametrize(("share", "same"), [(1.0, 0.99), (0.6, 0.975)])
def test_assets_look_like_clevrs_solids(share, same):
    blue = [c / 255 for c in COLORS["blue"]]
    places = ((-1.0, -0.5), (0.3, -1.0), (1.0, 0.5))
    real, real_ids = render(
        tracer(
            clevr("sphere", "red", places[0], 0.7),
            clevr("sphere", "red", places[1], 0.35),
            clevr("cube", "blue", places[2], 0.7, 0.5),
        ),
        CLOSE_UP,
    )
    cube = block((-1, -1, 0), (1, 1, 2), blue, 0.18)
    objects = [
        Placed(ball(share), (*places[0], 0), 0.3, 0.7),
        Placed(ball(share), (*places[1], 0), 0.0, 0.35),
        Placed(cube, (*places[2], 0), 0.5, 0.7),
    ]
    image, ids = render(tracer(*objects), CLOSE_UP)
    for k in range(3):
        assert overlap(ids == k, real_ids == k) > same
    assert psnr(image, real) > 42
    beside = (ids == -1) & (real_ids == -1)
    ground = np.abs(image.astype(int) - real)[beside]
    assert ground.mean() < 1.0


def test_assets_and_clevrs_solids_share_a_scene():
    solid = clevr("sphere", "cyan", (-0.9, 0.0), 0.7, material="metal")
    near = Placed(block((-0.4, -0.4, 0), (0.4, 0.4, 1.2), (0.9, 0.05, 0.02)), (0.9, -0.6, 0))
    with_block, ids = render(tracer(solid, near), CLOSE_UP)
    without, alone = render(tracer(solid), CLOSE_UP)
    assert set(np.unique(ids)) == {-1, 0, 1}
    mirror = (ids == 0) & (alone == 0)
    # The mirror shows the red block.
    assert (with_block.astype(int) - without)[mirror][:, 0].max() > 30
    other = render(tracer(near, solid), CLOSE_UP)
    assert np.array_equal(other[0], with_block)
    assert np.array_equal(other[1], np.choose(ids + 1, [-1, 1, 0]))


def test_pictures_are_equal_bytes():
    objects = [Placed(ball(), (0.2, 0.1, 0), 0.3, 0.6), Placed(block((-1, -1, 0), (1, 1, 0.3)), (0, 0, 0), 0.4)]
    image, ids = render(tracer(*objects), CLOSE_UP)
    again, _ = render(tracer(*objects), CLOSE_UP)
    assert image.tobytes() == again.tobytes()
    assert np.array_equal(identify(tracer(*objects), CLOSE_UP), ids)


def seen_share(lower, upper, point, lamp, side, ticks=31):
    """Share of a square lamp that looks at the origin which a point sees past an axis-aligned box."""
    axis = np.array(lamp) / np.linalg.norm(lamp)
    u = np.cross(axis, [0, 0, 1])
    u /= np.linalg.norm(u)
    a, b = np.meshgrid(*[((np.arange(ticks) + 0.5) / ticks - 0.5) * side] * 2)
    toward = np.array(lamp) + a.reshape(-1, 1) * u + b.reshape(-1, 1) * np.cross(u, axis) - point
    ends = np.stack([(np.array(lower) - point) / toward, (np.array(upper) - point) / toward])
    return (ends.min(0).max(1) > np.minimum(ends.max(0).min(1), 1)).mean()


def test_soft_shadows_follow_the_share_of_the_lamp_that_is_seen():
    corners = (-0.5, -0.3, 0.0), (0.5, 0.3, 1.4)
    post = block(*corners)
    scene = tracer(Placed(post, (0, 0, 0)))
    rng = np.random.default_rng(0)
    points = np.concatenate([rng.uniform(-2.5, 2.5, (300, 2)), np.zeros((300, 1))], 1)
    points = points[post.distance(points.T) > 0.05]
    surface = scene.surface(points.T.astype(np.float32), np.full(len(points), -1))
    ours = scene.visibility(surface, 16)
    for k, (lamp, side) in enumerate(zip(BASE_LAMPS.values(), (0.5, 0.5, 1.0), strict=True)):
        reference = np.array([seen_share(*corners, p, lamp, side) for p in points])
        assert 0.05 < np.mean(reference < 1) < 0.6
        assert np.abs(ours[k] - reference).max() < 0.35
        assert np.abs(ours[k] - reference).mean() < 0.02


def test_hollow_assets_shade_themselves():
    def room(p):
        walls = box_distance(p, (0, 0.9, 1), (1, 0.1, 1))
        return np.minimum(walls, box_distance(p, (0, 0, 0.05), (1, 1, 0.05)))

    corner = Asset("corner", room, plain(0.8, 0.8, 0.8), (-1, -1, 0), (1, 1, 2))
    scene = tracer(Placed(corner, (0, 0, 0), math.pi))
    floor = np.array([[0.0], [-0.6], [0.1]], dtype=np.float32)
    surface = scene.surface(floor, np.array([0]))
    seen = scene.visibility(surface, 16)[:, 0]
    # The wall now stands at y = -0.9, between the floor and the two lamps in front; the third is behind.
    assert seen[1] == 0
    assert seen[2] == 1
    assert np.abs(surface.n[:, 0] - [0, 0, 1]).max() < 1e-3


def test_yaw_turns_and_scale_scales():
    sign = block((0, -0.1, 0), (2, 0.1, 0.5))
    above = Camera((0.01, 0, 12), 96, 96, 1.0)

    def middle(**place):
        rows, columns = np.nonzero(identify(tracer(Placed(sign, (0, 0, 0), **place)), above) == 0)
        return columns.mean() + 0.5, rows.mean() + 0.5, rows.size

    for yaw in (0.0, 0.7, -2.0, math.pi / 2):
        for scale in (1.0, 1.8):
            column, row, count = middle(yaw=yaw, scale=scale)
            ends = [[scale * math.cos(yaw), scale * math.sin(yaw), 0.5 * scale]]
            assert np.abs(above.project(np.array(ends))[0, :2] - (column, row)).max() < 0.8
            area = 2 * 0.2 * (scale * above.focal_pixels / (12 - 0.5 * scale)) ** 2
            assert count == pytest.approx(area, rel=0.2)


def test_large_assets_may_surround_the_camera():
    top = block((-6, -6, -1), (6, 6, 0), (0.5, 0.3, 0.15), 0.05)
    ids = identify(
        tracer(Placed(ball(), (0, 0, 0.5), 0.0, 0.5), Placed(top, (0, 0, 0.5))), Camera((3, -3, 2.5), 64, 64)
    )
    assert (ids == 0).sum() > 50
    assert (ids == 1).mean() > 0.4


def test_thin_plates_are_whole_at_small_angles():
    top = block((-3, -2, 0), (3, 2, 0.4))
    weak = Asset("weak", lambda p: np.float32(0.5) * top.distance(p), top.color, top.lower, top.upper)
    camera = Camera((5, -5, 0.8), 96, 128)
    strong, weaker = (identify(tracer(Placed(asset, (0, 0, 0), 0.4)), camera) == 0 for asset in (top, weak))
    assert overlap(strong, weaker) > 0.97
    for mask in (strong, weaker):
        # Every column of the picture shows one run of the plate, without holes.
        assert (np.abs(np.diff(mask.astype(int), axis=0)).sum(0) <= 2).all()


def test_ground_and_sky_have_colors():
    camera = Camera((6, 6, 2), 48, 48, target=(0, 0, 2))
    scene = tracer(Placed(ball(), (0, 0, 0)), ground=(0.1, 0.3, 0.1), sky=(0.2, 0.4, 1.0))
    image, ids = render(scene, camera)
    assert (ids == -2).any()
    assert np.array_equal(image[0, 0], [124, 170, 255])
    red, green, blue = image[ids == -1].mean(0)
    assert green > 1.3 * max(red, blue)
    with pytest.raises(ValueError, match="ground must be a reflectance"):
        tracer(ground=(0, 0.5, 0.5))


def test_a_mean_color_is_that_of_what_is_seen():
    half = Asset(
        "half", ball().distance, lambda p: np.where(p[2] > 1, 1.0, 0.0) * np.ones((3, 1)), (-1, -1, 0), (1, 1, 2)
    )
    assert np.abs(Marched(half).mean_color - 0.5).max() < 0.08
    nowhere = Asset("nowhere", lambda p: np.full(p.shape[1], 9.0), plain(1, 0, 0), (-1, -1, 0), (1, 1, 2))
    assert np.array_equal(Marched(nowhere).mean_color, np.full(3, 0.5, dtype=np.float32))


def test_cameras_agree_with_their_matrices():
    camera = Camera.with_focal_pixels((1.2, -2.0, 1.7), 96, 72, 90.0, (0.3, 0.2, 0.4))
    assert camera.focal_pixels == pytest.approx(90)
    rotation = camera.rotation
    assert np.allclose(rotation @ rotation.T, np.eye(3))
    assert np.linalg.det(rotation) == pytest.approx(1)
    assert rotation[1, 2] < 0
    points = np.array([[0.3, 0.2, 0.4], [0.5, 0.5, 0.1], [0.0, 0.3, 0.6]])
    local = camera.to_camera(points)
    assert np.allclose(local[0], [0, 0, np.linalg.norm(np.subtract(camera.location, camera.target))])
    pixels = local @ camera.intrinsics.T
    assert np.allclose(pixels[:, :2] / pixels[:, 2:], camera.project(points)[:, :2])
    for k, point in enumerate(points):
        dot = Placed(ball(), (point[0], point[1], point[2] - 0.06), 0.0, 0.06)
        rows, columns = np.nonzero(identify(tracer(dot), camera) == 0)
        column, row, _ = camera.project(points)[k]
        assert abs(columns.mean() + 0.5 - column) < 0.5
        assert abs(rows.mean() + 0.5 - row) < 0.5
    with pytest.raises(ValueError, match="straight up or down"):
        Camera((1.0, 2.0, 3.0), 8, 8, target=(1.0, 2.0, 0.0))


def test_assets_say_what_is_wrong():
    with pytest.raises(ValueError, match="lower must be below upper"):
        Asset("flat", ball().distance, ball().color, (0, 0, 0), (1, 1, 0))
    with pytest.raises(ValueError, match="scale must be positive"):
        Placed(ball(), (0, 0, 0), 0.0, 0.0)
