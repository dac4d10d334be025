"""Pictures made from codes: their bounds, regions, perceptual distances; intervals; likelihoods; re-recognition."""

import numpy as np
import pytest
import torch

from kyvo.metrics.bootstrap import interval
from kyvo.metrics.images import CodedRenderingMetrics, RenderingMetrics
from kyvo.metrics.intervals import Intervals
from kyvo.metrics.likelihood import TokenLikelihood
from kyvo.metrics.rerecognition import Rerecognition
from kyvo.models.perceptual import GradientPyramid, PerceptualLoss
from kyvo.training.loss import token_scores


def noise(seed, count=3, size=16):
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(seed))


def pyramid():
    return PerceptualLoss("gradient-pyramid", GradientPyramid())


# ---- pictures -------------------------------------------------------------------------------------------------------


def test_the_three_comparisons_are_those_of_their_pictures():
    made, true, coded = (noise(seed) for seed in range(3))
    masks = noise(3)[:, 0] > 0.5
    boxes = torch.zeros_like(masks)
    boxes[:2, 2:9, 3:7] = True
    metric = CodedRenderingMetrics(pyramid())
    metric.update(made, true, coded, masks, boxes)
    found = metric.compute()
    for ending, first, second in (("", made, true), ("_against_vq", made, coded), ("_ceiling", coded, true)):
        alone = RenderingMetrics(pyramid())
        alone.update(first, second, masks, boxes)
        for name, value in alone.compute().items():
            assert found[f"{name}{ending}"].item() == pytest.approx(value.item(), rel=1e-6), name + ending
    assert len(found) == 3 * 7


def test_boxes_are_a_region_of_their_own():
    target = torch.zeros(2, 3, 16, 16)
    prediction = target.clone()
    prediction[0, :, :4, :4] = 0.1
    boxes = torch.zeros(2, 16, 16, dtype=torch.bool)
    boxes[0, :4, :8] = True
    metric = RenderingMetrics()
    metric.update(prediction, target, boxes=boxes)
    found = metric.compute()
    # Half the box is 0.1 off: a mean squared error of 0.005.
    assert found["box_psnr"].item() == pytest.approx(-10 * np.log10(0.005), abs=1e-4)
    assert found["object_psnr"].isnan()
    assert metric.pictures == 2


def test_the_perceptual_distance_has_its_own_name():
    metric = RenderingMetrics(pyramid())
    metric.update(noise(0, 20), noise(1, 20))
    expected = GradientPyramid()(2 * noise(0, 20) - 1, 2 * noise(1, 20) - 1).mean()
    assert metric.compute()["gradient-pyramid"].item() == pytest.approx(expected.item(), rel=1e-5)
    assert "lpips" not in metric.compute()


def test_a_picture_that_is_no_numbers_shows_in_the_mean():
    broken = noise(0)
    broken[1, 0, 0, 0] = torch.nan
    metric = RenderingMetrics()
    metric.update(broken, noise(1))
    assert metric.compute()["l1"].isnan()


# ---- intervals ------------------------------------------------------------------------------------------------------


def test_intervals_do_not_depend_on_the_order():
    values = np.random.default_rng(0).normal(size=50).astype(np.float32)
    metrics = [Intervals(["psnr"]) for _ in range(2)]
    for order, metric in zip((values, values[::-1]), metrics, strict=True):
        for part in np.array_split(order, 7):
            metric.update([{"psnr": float(value), "other": 1.0} for value in part])
    low, high = interval(values)
    for metric in metrics:
        assert {k: v.item() for k, v in metric.compute().items()} == {
            "psnr_low": pytest.approx(low),
            "psnr_high": pytest.approx(high),
        }


def test_samples_without_a_score_are_left_out():
    metric = Intervals(["psnr", "object_psnr", "nothing"])
    metric.update([{"psnr": 1.0}, {"psnr": 1.0, "object_psnr": 2.0}, {"psnr": 1.0, "object_psnr": float("nan")}])
    found = metric.compute()
    assert (found["psnr_low"], found["object_psnr_low"], found["object_psnr_high"]) == (1, 2, 2)
    assert found["nothing_low"].isnan()
    assert Intervals(["psnr"]).compute()["psnr_high"].isnan()


# ---- likelihoods ----------------------------------------------------------------------------------------------------


def test_likelihoods_are_those_of_full_logits(monkeypatch):
    generator = torch.Generator().manual_seed(0)
    hidden, head = torch.randn(11, 8, generator=generator), torch.randn(7, 8, generator=generator)
    targets = torch.randint(7, (11,), generator=generator)
    monkeypatch.setattr("kyvo.training.loss.CHUNK_ELEMENTS", 3 * 7)
    losses, right = token_scores(hidden, head, targets)
    expected = -(hidden @ head.T).softmax(-1)[torch.arange(11), targets].log()
    torch.testing.assert_close(losses, expected)
    assert right.tolist() == ((hidden @ head.T).argmax(-1) == targets).tolist()
    assert token_scores(hidden[:0], head, targets[:0])[0].shape == (0,)


def test_a_group_without_tokens_has_no_likelihood():
    metric = TokenLikelihood(["token", "text_token"])
    members = torch.tensor([[[True, False], [False, False]]])
    metric.update(torch.tensor([[0.5, torch.nan]]), torch.tensor([[True, True]]), members)
    found = metric.compute()
    assert (found["token_nll"], found["token_accuracy"]) == (0.5, 1)
    assert found["text_token_nll"].isnan()
    with pytest.raises(ValueError, match=r"members \[B, 2, S\]"):
        metric.update(torch.zeros(1, 2), torch.zeros(1, 2, dtype=torch.bool), members[:, :1])


# ---- re-recognition -------------------------------------------------------------------------------------------------


def test_success_needs_every_object_and_kinds_are_kept_apart():
    target = torch.tensor([[0, 1], [2, 0]])
    wrong = torch.tensor([[0, 1], [2, 1]])
    nothing = torch.full((2, 2), -1)
    metric = Rerecognition(["color", "shape"])
    metric.update([{"generated": target, "true": target}, {"generated": wrong}], [target, target])
    metric.update([{"generated": nothing}], [target])
    metric.update([{"generated": target[:0]}], [target[:0]])
    found = {name: value.item() for name, value in metric.compute().items() if not value.isnan()}
    assert found == {
        "recognized_color": pytest.approx(4 / 6),
        "recognized_shape": pytest.approx(3 / 6),
        "recognized_object": pytest.approx(3 / 6),
        "scene_success": pytest.approx(1 / 3),
        "recognized_color_true": 1,
        "recognized_shape_true": 1,
        "recognized_object_true": 1,
        "scene_success_true": 1,
    }


@pytest.mark.parametrize(
    ("readings", "message"),
    [
        ([{"painted": torch.zeros(2, 2)}], "kinds of picture are generated, .*'painted'"),
        ([{"true": torch.zeros(1, 2)}], r"\[N, 2\] alike, got \[1, 2\] against \[2, 2\]"),
        ([], "0 readings and 1 targets"),
    ],
)
def test_wrong_readings_are_named(readings, message):
    with pytest.raises(ValueError, match=message):
        Rerecognition(["color", "shape"]).update(readings, [torch.zeros(2, 2, dtype=torch.long)])
