"""Structured latents: what they refuse, TRELLIS' files, and dense grids."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kyvo.slat import Slat, densify, sparsify


def some(count: int = 5, size: int = 4, seed: int = 0) -> Slat:
    generator = torch.Generator().manual_seed(seed)
    cells = torch.randperm(size**3, generator=generator)[:count].sort().values
    coords = torch.stack([cells // size**2, cells // size % size, cells % size], 1).int()
    return Slat(coords, torch.randn(count, 8, generator=generator), size, "voxel8")


# ---- what is refused ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("coords", "feats", "message"),
    [
        ([[0, 0, 0.5]], [[0.0] * 8], r"integers \[L, 3\].*float32"),
        ([[0, 0]], [[0.0] * 8], r"integers \[L, 3\].*\[1, 2\]"),
        ([[0, 0, 0]], [[0.0] * 8] * 2, r"each of 1 voxels, got torch.float32 \[2, 8\]"),
        ([[0, 0, 4]], [[0.0] * 8], "from 0 to 3, got some from 0 to 4"),
        ([[0, -1, 0]], [[0.0] * 8], "got some from -1 to 0"),
        ([[1, 2, 3], [0, 0, 0], [1, 2, 3]], [[0.0] * 8] * 3, "no voxel twice, got 1 repeated of 3"),
        ([[0, 0, 0]], [[float("nan")] * 2 + [0.0] * 6], "finite, got 2 numbers"),
    ],
)
def test_bad_values_are_named(coords: list, feats: list, message: str):
    with pytest.raises(ValueError, match=message):
        Slat(torch.tensor(coords), torch.tensor(feats), 4)


def test_nothing_is_no_object():
    with pytest.raises(ValueError, match="at least one voxel"):
        Slat(torch.zeros(0, 3, dtype=torch.int32), torch.zeros(0, 8))


# ---- files ----------------------------------------------------------------------------------------------------------


def test_a_file_brings_all_back(tmp_path: Path):
    slat = some()
    slat.save(tmp_path / "deep" / "object.npz")
    loaded = Slat.load(tmp_path / "deep" / "object.npz")
    assert torch.equal(loaded.coords, slat.coords)
    assert torch.equal(loaded.feats, slat.feats)
    assert (loaded.resolution, loaded.space) == (4, "voxel8")
    with np.load(tmp_path / "deep" / "object.npz") as arrays:
        assert arrays["coords"].dtype == np.uint8
        assert arrays["feats"].dtype == np.float32


@pytest.mark.parametrize("batch", [False, True])
def test_files_of_trellis(tmp_path: Path, batch: bool):
    coords = np.array([[0, 1, 63], [255 // 4, 0, 2]], dtype=np.uint8)
    feats = np.arange(16, dtype=np.float16).reshape(2, 8)
    stored = np.concatenate([np.full((2, 1), 3, np.uint8), coords], 1) if batch else coords
    np.savez_compressed(tmp_path / "object.npz", feats=feats, coords=stored)
    loaded = Slat.load(tmp_path / "object.npz")
    assert loaded.coords.tolist() == coords.tolist()
    assert loaded.feats.tolist() == feats.tolist()
    assert (loaded.resolution, loaded.space) == (64, "trellis")


def test_latents_of_trellis_2_are_refused(tmp_path: Path):
    np.savez(tmp_path / "shape.npz", feats=np.zeros((1, 32), np.float32), coords=np.zeros((1, 3), np.uint8))
    with pytest.raises(ValueError, match=r"shape.npz: expected 8 channels, got 32: .*TRELLIS\.2"):
        Slat.load(tmp_path / "shape.npz")


def test_several_objects_in_a_file_are_refused(tmp_path: Path):
    coords = np.array([[0, 0, 0, 0], [1, 0, 0, 0]], np.uint8)
    np.savez(tmp_path / "two.npz", feats=np.zeros((2, 8), np.float32), coords=coords)
    with pytest.raises(ValueError, match=r"two.npz: expected one object, got coords \[L, 4\] of 2"):
        Slat.load(tmp_path / "two.npz")


def test_other_files_are_refused(tmp_path: Path):
    (tmp_path / "text.npz").write_text("no archive")
    np.savez(tmp_path / "other.npz", points=np.zeros(3))
    for name in ("text.npz", "other.npz", "absent.npz"):
        with pytest.raises(ValueError, match=name):
            Slat.load(tmp_path / name)


# ---- grids ----------------------------------------------------------------------------------------------------------


def test_a_grid_is_indexed_x_y_z():
    slat = Slat(torch.tensor([[1, 2, 3]]), torch.arange(1.0, 9)[None], 4, "voxel8")
    grid = densify([slat])
    assert grid.shape == (1, 9, 4, 4, 4)
    assert grid[0, :, 1, 2, 3].tolist() == [1, 1, 2, 3, 4, 5, 6, 7, 8]
    assert grid.sum() == 37


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 64), st.integers(0, 9))
def test_grids_and_voxels_are_one(count: int, seed: int):
    slats = [some(count, seed=seed), some(65 - count, seed=seed + 1)]
    for found, slat in zip(sparsify(densify(slats), "voxel8"), slats, strict=True):
        assert torch.equal(found.coords, slat.coords)
        assert torch.equal(found.feats, slat.feats)


def test_only_alike_objects_share_a_grid():
    with pytest.raises(ValueError, match=r"\(4, 'voxel8', 8\), \(8, 'voxel8', 8\)"):
        densify([some(), some(size=8)])


def test_most_occupied_voxels_are_kept():
    grid = torch.zeros(2, 9, 2, 2, 2)
    grid[0, 0].view(-1)[[1, 4, 6]] = torch.tensor([0.6, 0.9, 0.8])
    grid[1, 0, 0, 1, 0] = 0.2
    full, faint = sparsify(grid, "voxel8", max_voxels=2)
    assert full.coords.tolist() == [[1, 0, 0], [1, 1, 0]]
    assert faint.coords.tolist() == [[0, 1, 0]]
