"""Invented assets: the same for a seed, different for others, and every one a valid asset with a tight box."""

import random

import numpy as np
import pytest

from data_modules.voxels import voxelize_asset
from data_modules.worlds.assets.invented import FAMILIES, invent, invented_solid
from data_modules.worlds.assets.inventions.kit import Kit

SIZE = 24


def points_around(asset, count=1500):
    rng = np.random.default_rng(0)
    low, high = np.array(asset.lower) - 0.3, np.array(asset.upper) + 0.3
    return rng.uniform(low, high, (count, 3)).T.astype(np.float32)


def test_a_seed_gives_one_asset_and_others_give_others():
    first, second = invent(7), invent(7)
    p = points_around(first)
    assert first.name == "invented-7"
    assert (first.lower, first.upper) == (second.lower, second.upper)
    assert np.array_equal(first.distance(p), second.distance(p))
    assert np.array_equal(first.color(p), second.color(p))
    boxes = {invent(seed).upper for seed in range(100)}
    assert len(boxes) == 100


@pytest.mark.parametrize("first", range(0, 60, 12))
def test_assets_are_valid(first):
    for seed in range(first, first + 12):
        asset = invent(seed)
        assert asset.lower[2] == pytest.approx(0, abs=1e-6)
        p = points_around(asset)
        assert np.isfinite(asset.distance(p)).all()
        colors = asset.color(p)
        assert colors.shape == p.shape
        assert colors.min() >= 0
        assert colors.max() <= 1 + 1e-6
        # Distances never change faster than the point moves.
        q = p + 0.05 * np.random.default_rng(1).normal(size=p.shape).astype(np.float32)
        moved = np.linalg.norm(p - q, axis=0)
        assert (np.abs(asset.distance(p) - asset.distance(q)) <= 1.001 * moved + 1e-4).all()


def test_boxes_are_tight():
    for seed in range(60):
        asset = invent(seed)
        coords = voxelize_asset(asset, SIZE).coords.numpy()
        sides = np.array(asset.upper) - asset.lower
        reach = SIZE * sides / sides.max()
        assert (coords.max(0) - coords.min(0) + 1 > reach - 1).all(), seed
        assert (coords.max(0) - coords.min(0) + 1 < reach + 2).all(), seed


def test_every_family_can_be_made_again_and_again():
    for family in dict.fromkeys(FAMILIES):
        for seed in range(15):
            solid = family(Kit(random.Random(seed)))
            assert all(low < high for low, high in zip(solid.lower, solid.upper, strict=True))


def test_there_is_variety():
    counts = [len(voxelize_asset(invent(seed), 16).coords) for seed in range(40)]
    assert np.percentile(counts, 90) > 2 * np.percentile(counts, 10)
    solid = invented_solid(3)
    assert solid.asset("x").upper == invent(3).upper
