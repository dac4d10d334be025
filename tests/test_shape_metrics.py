"""Metrics of shapes and of their views, against loops over all voxels and all pairs of points."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from kyvo.metrics import shapes, views
from kyvo.metrics.images import RenderingMetrics
from kyvo.metrics.shapes import SurfaceDistance, VoxelOverlap, surface_points
from kyvo.metrics.views import ViewMetrics
from kyvo.models.perceptual import GradientPyramid, PerceptualLoss
from kyvo.models.shape_decoder import Views
from kyvo.slat import Slat, densify

SIDE = 8


def some_shape(seed: int, voxels: int = 30, space: str = "voxel8") -> Slat:
    random = torch.Generator().manual_seed(seed)
    cells = torch.randperm(SIDE**3, generator=random)[:voxels]
    coords = torch.stack([cells // SIDE**2, cells // SIDE % SIDE, cells % SIDE], 1)
    return Slat(coords, torch.rand(voxels, 8, generator=random) * 2 - 1, SIDE, space)


def pyramid() -> PerceptualLoss:
    return PerceptualLoss("gradient-pyramid", GradientPyramid())


def some_views(seed: int, objects: int = 2, count: int = 3) -> Views:
    random = torch.Generator().manual_seed(seed)
    return Views(
        torch.rand(objects, count, 3, 16, 16, generator=random), torch.rand(objects, count, 16, 16, generator=random)
    )


# ---- voxels ---------------------------------------------------------------------------------------------------------


def test_overlap_equals_that_of_sets_of_voxels():
    predictions, targets = ([some_shape(seed, 200 + seed) for seed in range(start, start + 3)] for start in (0, 3))
    metric = VoxelOverlap()
    metric.update(predictions, targets)
    ious, f1s = [], []
    for one, other in zip(predictions, targets, strict=True):
        a, b = ({tuple(row) for row in slat.coords.tolist()} for slat in (one, other))
        ious.append(len(a & b) / len(a | b))
        f1s.append(2 * len(a & b) / (len(a) + len(b)))
    found = metric.compute()
    assert found["voxel_iou"].item() == pytest.approx(np.mean(ious))
    assert found["voxel_f1"].item() == pytest.approx(np.mean(f1s))


def test_a_grid_counts_as_its_voxels_whatever_their_latents_mean():
    predictions, targets = [some_shape(0), some_shape(1)], [some_shape(2, 60), some_shape(3, 60, "trellis")]
    slats, grids = VoxelOverlap(), VoxelOverlap()
    slats.update(predictions, targets)
    grids.update(0.9 * densify(predictions), targets)
    assert grids.compute() == slats.compute()


def test_nothing_equals_nothing():
    metric = VoxelOverlap()
    metric.update(torch.zeros(1, 9, 4, 4, 4), torch.zeros(1, 9, 4, 4, 4))
    assert metric.compute() == {"voxel_iou": 1, "voxel_f1": 1}


def test_other_grids_are_refused():
    with pytest.raises(ValueError, match=r"\[1, 4, 4, 4\] against \[2, 4, 4, 4\]"):
        VoxelOverlap().update(torch.zeros(1, 9, 4, 4, 4), torch.zeros(2, 9, 4, 4, 4))


# ---- surfaces -------------------------------------------------------------------------------------------------------


def by_hand(first: Slat, second: Slat, taus=shapes.TAUS) -> dict[str, float]:
    """The scores of surfaces from all pairs of points."""
    points, normals = [], []
    for slat in (first, second):
        normal = slat.feats[:, 3:6].double()
        normal = normal / normal.norm(dim=1, keepdim=True)
        points.append((slat.coords + 0.5) / SIDE - 0.5 + slat.feats[:, 6:7].double() * normal / SIDE)
        normals.append(normal)
    apart = torch.cdist(*points)
    there, back = apart.min(1), apart.min(0)
    found = {"chamfer_l1": (there.values.mean() + back.values.mean()) / 2}
    for tau in taus:
        precision, recall = ((one.values <= tau).double().mean() for one in (there, back))
        found[shapes.f_score_name(tau)] = 2 / (1 / precision + 1 / recall) if precision * recall else 0.0
    cosines = (normals[0] @ normals[1].T).abs()
    found["normal_consistency"] = (
        cosines.gather(1, there.indices[:, None]).mean() + cosines.gather(0, back.indices[None]).mean()
    ) / 2
    return {name: float(value) for name, value in found.items()}


def test_distances_equal_those_of_all_pairs_of_points():
    taus = (0.02, 0.05, 0.1)
    metric, expected = SurfaceDistance(taus), []
    for seed in range(3):
        pair = some_shape(seed, 40), some_shape(seed + 10, 50)
        metric.update([pair[0]], [pair[1]])
        expected.append(by_hand(*pair, taus))
    found = metric.compute()
    assert set(found) == set(expected[0])
    for name, value in found.items():
        assert value.item() == pytest.approx(np.mean([one[name] for one in expected]), abs=1e-6), name
    assert 0 < found["f_score_0_02"] < found["f_score_0_1"] < 1


def test_the_surface_passes_beside_the_middle_along_the_normal():
    feats = torch.tensor([[0, 0, 0, 0, 0, 2, 0.5, 1.0]])
    voxel8, other = (Slat(torch.tensor([[0, 3, 7]]), feats, SIDE, space) for space in ("voxel8", "trellis"))
    assert surface_points(other).tolist() == [[-0.4375, -0.0625, 0.4375]]
    assert surface_points(voxel8).tolist() == [[-0.4375, -0.0625, 0.5]]


def test_a_shape_equals_itself_and_normals_may_point_to_either_side():
    shape = some_shape(0)
    flipped = shape.feats.clone()
    flipped[:, 3:7] *= -1
    metric = SurfaceDistance()
    metric.update([Slat(shape.coords, flipped, SIDE, "voxel8")], [shape])
    found = metric.compute()
    assert found["chamfer_l1"].item() == pytest.approx(0, abs=1e-7)
    assert found["f_score_0_016"] == found["f_score_0_05"] == 1
    assert found["normal_consistency"].item() == pytest.approx(1)


def test_latents_without_normals_have_no_consistency():
    metric = SurfaceDistance()
    metric.update([some_shape(0, space="trellis")], [some_shape(0, space="trellis")])
    assert math.isnan(metric.compute()["normal_consistency"])
    metric.update([some_shape(0)], [some_shape(0)])
    assert metric.compute()["normal_consistency"].item() == pytest.approx(1)


def test_bad_arguments_of_surfaces_are_named():
    with pytest.raises(ValueError, match=r"positive numbers, got \[0.1, 0\]"):
        SurfaceDistance((0.1, 0))
    with pytest.raises(ValueError, match="each of 2 objects, got 1"):
        SurfaceDistance().update([some_shape(0)], [some_shape(0), some_shape(1)])


# ---- views ----------------------------------------------------------------------------------------------------------


def test_scores_of_views_are_those_of_their_pictures():
    predictions, targets = some_views(0), some_views(1)
    metric, pictures = ViewMetrics(pyramid()), RenderingMetrics()
    metric.update(predictions, targets)
    pictures.update(predictions.rgb.flatten(0, 1), targets.rgb.flatten(0, 1), targets.alpha.flatten(0, 1) > 0.5)
    found, expected = metric.compute(), pictures.compute()
    for name in ("psnr", "ssim", "object_psnr"):
        assert found[name].item() == pytest.approx(expected[name].item(), rel=1e-5), name
    distance = GradientPyramid()(*(2 * one.rgb.flatten(0, 1) - 1 for one in (predictions, targets))).mean()
    assert found["gradient-pyramid"].item() == pytest.approx(distance.item(), rel=1e-5)
    a, b = ((one.alpha > 0.5).flatten(0, 1).numpy() for one in (predictions, targets))
    overlap = np.mean([(x & y).sum() / (x | y).sum() for x, y in zip(a, b, strict=True)])
    assert found["alpha_iou"].item() == pytest.approx(overlap, rel=1e-5)


def test_views_of_nothing_have_no_foreground():
    blank = Views(torch.ones(1, 2, 3, 16, 16), torch.zeros(1, 2, 16, 16))
    metric = ViewMetrics(pyramid())
    metric.update(blank, blank)
    found = metric.compute()
    assert (found["psnr"], found["gradient-pyramid"], found["alpha_iou"]) == (100, 0, 1)
    assert math.isnan(found["object_psnr"])


def test_many_pictures_are_compared_in_parts():
    many = some_views(0, 3, 7), some_views(1, 3, 7)
    found = views.picture_scores(*(one.rgb.flatten(0, 1) for one in many), pyramid())["gradient-pyramid"]
    whole = GradientPyramid()(*(2 * one.rgb.flatten(0, 1) - 1 for one in many))
    torch.testing.assert_close(found, whole)


def test_other_views_are_refused():
    with pytest.raises(ValueError, match="alike"):
        ViewMetrics(pyramid()).update(some_views(0, 2, 3), some_views(0, 2, 2))


# ---- processes ------------------------------------------------------------------------------------------------------


def scores_of(indices):
    """Score shapes and views with these numbers, one by one."""
    overlap, surfaces, seen = VoxelOverlap(), SurfaceDistance(), ViewMetrics(pyramid())
    for index in indices:
        pair = [some_shape(index)], [some_shape(index + 50, space="voxel8" if index % 2 else "trellis")]
        overlap.update(*pair)
        surfaces.update(*pair)
        seen.update(some_views(index), some_views(index + 50))
    return [metric.compute() for metric in (overlap, surfaces, seen)]


def score_a_share(rank, folder):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2)
    torch.save(scores_of(range(rank, 5, 2)), Path(folder) / f"{rank}.pt")
    dist.destroy_process_group()


def test_two_processes_equal_one(tmp_path):
    mp.spawn(score_a_share, args=(str(tmp_path),), nprocs=2)
    for rank in range(2):
        torch.testing.assert_close(torch.load(tmp_path / f"{rank}.pt"), scores_of(range(5)), equal_nan=True)
