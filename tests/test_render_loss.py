"""The loss of renderings: each part against an independent count; views, backgrounds and targets."""

import warnings

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from kyvo.cameras import Cameras
from kyvo.models.perceptual import PerceptualLoss
from kyvo.models.voxel_renderer import VoxelDecoder
from kyvo.training import render_loss
from kyvo.training.render_loss import (
    RenderLoss,
    RenderWeights,
    composite,
    draw_background,
    draw_cameras,
    render_targets,
    structural_similarity,
)


def pictures(count: int = 2, size: int = 16, seed: int = 0) -> torch.Tensor:
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(seed))


def without_perceptual(**factors: float) -> RenderLoss:
    return RenderLoss(RenderWeights(perceptual=0.0, **factors))


def ssim_by_scipy(first: np.ndarray, second: np.ndarray) -> float:
    """As in TRELLIS: a Gaussian of deviation 1.5 over 11 pixels, zeros beyond the edges, the mean of all pixels."""

    def blur(values: np.ndarray) -> np.ndarray:
        return gaussian_filter(values, 1.5, mode="constant", radius=5, axes=(1, 2))

    a, b = blur(first), blur(second)
    variances = blur(first**2) - a**2 + blur(second**2) - b**2
    covariance = blur(first * second) - a * b
    scores = (2 * a * b + 0.01**2) * (2 * covariance + 0.03**2)
    return (scores / ((a**2 + b**2 + 0.01**2) * (variances + 0.03**2))).mean()


def test_ssim_as_in_trellis():
    first = pictures(3, 20)
    second = (first + 0.3 * pictures(3, 20, seed=1)).clamp(max=1)
    found = structural_similarity(first, second)
    for index in range(3):
        expected = ssim_by_scipy(first[index].double().numpy(), second[index].double().numpy())
        assert found[index].item() == pytest.approx(expected, abs=2e-5)
    assert structural_similarity(first, first).tolist() == pytest.approx([1.0] * 3, abs=1e-6)


def test_ssim_sees_the_edges():
    first = torch.zeros(1, 3, 32, 32)
    second = first.clone()
    second[..., 0] = 1
    assert structural_similarity(first, second).item() < 0.95


def test_even_areas_stay_exact_in_float32():
    # The variance of white is a difference of large numbers.
    white = torch.ones(1, 3, 24, 24, requires_grad=True)
    loss = 1 - structural_similarity(white, torch.ones(1, 3, 24, 24)).mean()
    loss.backward()
    assert loss.item() == pytest.approx(0, abs=1e-6)
    assert white.grad.isfinite().all()


def test_the_weighted_sum():
    first, second = pictures(), pictures(seed=1)
    terms = without_perceptual(weight=0.1)(first, second)
    l1, structure = (first - second).abs().mean(), 1 - structural_similarity(first, second).mean()
    assert terms.l1.item() == pytest.approx(l1.item())
    assert terms.ssim.item() == pytest.approx(structure.item())
    assert terms.total.item() == pytest.approx(0.1 * (l1 + 0.2 * structure).item())
    assert terms.perceptual == 0
    only = without_perceptual(weight=2.0, l1=0.5, ssim=0.0)(first, second)
    assert only.total.item() == pytest.approx(l1.item())
    assert only.ssim == 0


def test_the_perceptual_part_gets_pixels_in_minus_one_to_one(monkeypatch):
    class Distance(torch.nn.Module):
        def forward(self, first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
            return (first - second).amax((1, 2, 3))

    monkeypatch.setattr(render_loss, "perceptual_loss", lambda trunk, heads: PerceptualLoss(f"{trunk}", Distance()))
    loss = RenderLoss(RenderWeights(weight=1.0, l1=0.0, ssim=0.0, trunk="given"))
    terms = loss(torch.ones(2, 3, 16, 16), torch.zeros(2, 3, 16, 16))
    assert terms.perceptual == 2
    assert terms.total.item() == pytest.approx(0.2 * 2)
    assert loss.perceptual_name == "given"


def test_names_of_the_perceptual_loss():
    assert without_perceptual().perceptual_name == "none"
    assert RenderLoss(RenderWeights(weight=0.0)).perceptual_name == "none"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert RenderLoss(RenderWeights()).perceptual_name in ("lpips", "lpips-twin", "gradient-pyramid")


def test_equal_pictures_cost_nothing():
    terms = without_perceptual()(pictures(), pictures())
    assert terms.total.item() == pytest.approx(0, abs=1e-6)


def test_gradient_against_finite_differences():
    # A loss in float32: a step that is large enough to be seen, along one direction.
    first, second = pictures(1) * 0.8 + 0.1, pictures(1, seed=1)
    direction = 2 * pictures(1, seed=2) - 1
    loss = without_perceptual(weight=1.0, l1=0.0, ssim=1.0)
    first.requires_grad_()
    loss(first, second).total.backward()
    ends = [loss(first.detach() + step * direction, second).total.item() for step in (1e-2, -1e-2)]
    assert (first.grad * direction).sum().item() == pytest.approx((ends[0] - ends[1]) / 2e-2, rel=2e-2)


def test_the_same_under_autocast():
    loss = without_perceptual()
    expected = loss(pictures(), pictures(seed=1)).total
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(loss(pictures(), pictures(seed=1)).total, expected)


@pytest.mark.parametrize("sizes", [(15, 15), (16, 20)])
def test_refuses_small_and_unequal_pictures(sizes):
    with pytest.raises(ValueError, match=rf"at least 16 pixels .* got \[2, 3, {sizes[0]}, {sizes[0]}\]"):
        without_perceptual()(pictures(size=sizes[0]), pictures(size=sizes[1]))


# ---- cameras and targets ----------------------------------------------------------------------------------------


def test_many_views_are_drawn_from_150():
    every = Cameras.sphere(150).extrinsics
    drawn = draw_cameras("multi-view", 2000, torch.Generator().manual_seed(0)).extrinsics
    numbers = (drawn[:, None] == every).flatten(2).all(2)
    assert (numbers.sum(1) == 1).all()
    assert numbers.any(0).all()
    again = draw_cameras("multi-view", 2000, torch.Generator().manual_seed(0)).extrinsics
    assert torch.equal(again, drawn)


def test_a_single_view_is_always_the_same():
    cameras = draw_cameras("single-view", 3)
    assert torch.equal(cameras.extrinsics, Cameras.sphere(150)[[91] * 3].extrinsics)
    x, y, z = (cameras.positions[0] / 2).tolist()
    assert y < -0.7
    assert 0.4 < x < 0.6
    assert 0.4 < z < 0.5


def test_no_views_have_no_cameras():
    with pytest.raises(ValueError, match="got none"):
        draw_cameras("none", 3)


def test_backgrounds_are_black_or_white():
    generator = torch.Generator().manual_seed(0)
    drawn = [draw_background(generator) for _ in range(400)]
    assert set(drawn) == {0.0, 1.0}
    assert 150 < sum(drawn) < 250


def test_composite_by_hand():
    image, alpha = torch.full((1, 3, 1, 2), 0.5), torch.tensor([[[1.0, 0.25]]])
    assert composite(image, alpha, 1.0)[0, 0].tolist() == [[0.5, 0.875]]
    assert composite(image, alpha, 0.0)[0, 0].tolist() == [[0.5, 0.125]]
    with pytest.raises(ValueError, match="RGBA"):
        composite(image, None, 0.0)


def test_targets_carry_no_gradient_and_cost_nothing_when_met():
    grid = torch.zeros(2, 9, 8, 8, 8)
    grid[:, 0, 2:6, 2:6, 2:6] = 1
    grid[:, 8] = 1
    decoder, cameras = VoxelDecoder(), draw_cameras("multi-view", 2, torch.Generator().manual_seed(0))
    found = decoder.render_each(grid.requires_grad_(), cameras, 16, 0.0).rgb[:, 0]
    target = render_targets(decoder, grid, cameras, 16, 0.0)
    assert not target.requires_grad
    assert torch.equal(found, target)
    (found * target).sum().backward()
    assert grid.grad[:, 0].abs().sum() > 0
