"""Pixel metrics against formulas written out and against similarity taken window by window."""

import math

import pytest
import torch

from kyvo.metrics.images import RenderingMetrics, psnr


def pictures(count=3, size=16, seed=0):
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(seed))


def test_scores_are_means_over_pictures():
    target = torch.full((2, 3, 16, 16), 0.5)
    prediction = target + torch.tensor([0.1, 0.01]).view(2, 1, 1, 1)
    metric = RenderingMetrics()
    metric.update(prediction, target)
    result = metric.compute()
    # 20 dB and 40 dB: the mean of the dB, not the dB of the mean error (23 dB).
    assert result["psnr"].item() == pytest.approx(30.0, abs=1e-3)
    assert result["l1"].item() == pytest.approx(0.055, abs=1e-6)
    assert result["l2"].item() == pytest.approx((0.01 + 0.0001) / 2, abs=1e-6)
    assert math.isnan(result["object_psnr"])


def test_equal_pictures_have_finite_psnr_and_full_similarity():
    metric = RenderingMetrics()
    metric.update(pictures(), pictures(), torch.ones(3, 16, 16, dtype=torch.bool))
    assert metric.compute()["psnr"] == metric.compute()["object_psnr"] == 100
    assert metric.compute()["ssim"].item() == pytest.approx(1.0)


def gaussian_ssim(a, b, sigma=1.5, size=11):
    """Structural similarity of two [3, H, W], window by window (Wang et al. 2004), mirrored at the border."""
    a, b = (torch.nn.functional.pad(picture, [size // 2] * 4, mode="reflect") for picture in (a, b))
    offsets = torch.arange(size) - size // 2
    line = torch.exp(-(offsets**2) / (2 * sigma**2))
    window = torch.outer(line, line).double() / line.sum() ** 2
    scores = []
    for top in range(a.shape[1] - size + 1):
        for left in range(a.shape[2] - size + 1):
            x, y = (p[:, top : top + size, left : left + size].double() for p in (a, b))
            mx, my = ((p * window).sum((1, 2)) for p in (x, y))
            vx, vy = ((p**2 * window).sum((1, 2)) - m**2 for p, m in ((x, mx), (y, my)))
            cov = (x * y * window).sum((1, 2)) - mx * my
            scores.append((2 * mx * my + 1e-4) * (2 * cov + 9e-4) / ((mx**2 + my**2 + 1e-4) * (vx + vy + 9e-4)))
    return torch.stack(scores).mean().item()


def test_similarity_equals_the_definition():
    target = pictures(2, 24)
    prediction = (target + 0.2 * pictures(2, 24, seed=1)).clamp(0, 1)
    metric = RenderingMetrics()
    metric.update(prediction, target)
    expected = sum(gaussian_ssim(*pair) for pair in zip(prediction, target, strict=True)) / 2
    assert metric.compute()["ssim"].item() == pytest.approx(expected, abs=1e-4)


def test_object_pixels_alone_count_and_pictures_without_objects_do_not():
    target = torch.zeros(2, 3, 16, 16)
    prediction = target.clone()
    prediction[0, :, :4, :4] = 0.1
    masks = torch.zeros(2, 16, 16, dtype=torch.bool)
    masks[0, :4, :4] = True
    metric = RenderingMetrics()
    metric.update(prediction, target, masks)
    assert metric.compute()["object_psnr"].item() == pytest.approx(20.0, abs=1e-4)
    assert metric.object_pictures == 1


def test_batches_add_up():
    target, prediction = pictures(4), pictures(4, seed=1)
    whole, parts = RenderingMetrics(), RenderingMetrics()
    whole.update(prediction, target)
    for start in (0, 1):
        parts.update(prediction[start * 2 : start * 2 + 2], target[start * 2 : start * 2 + 2])
    torch.testing.assert_close(whole.compute(), parts.compute(), equal_nan=True)


def test_psnr_formula():
    assert psnr(torch.tensor([1.0, 0.01, 0.0])).tolist() == pytest.approx([0.0, 20.0, 100.0])


@pytest.mark.parametrize(
    ("prediction", "target", "masks", "message"),
    [
        (torch.zeros(1, 3, 8, 8), torch.zeros(1, 3, 8, 9), None, "alike"),
        (torch.zeros(3, 8, 8), torch.zeros(3, 8, 8), None, "alike"),
        (torch.zeros(1, 3, 8, 8, dtype=torch.uint8), torch.zeros(1, 3, 8, 8), None, "float in"),
        (torch.zeros(1, 3, 8, 8), torch.zeros(1, 3, 8, 8), torch.zeros(1, 8, 8), "bool"),
        (torch.zeros(1, 3, 8, 8), torch.zeros(1, 3, 8, 8), torch.zeros(1, 8, 9, dtype=torch.bool), "bool"),
    ],
)
def test_wrong_pictures_are_named(prediction, target, masks, message):
    with pytest.raises(ValueError, match=message):
        RenderingMetrics().update(prediction, target, masks)
