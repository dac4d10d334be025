"""AP3D against a plain reading of its definition, worked examples, and two processes against one."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from kyvo.metrics import detection
from kyvo.metrics.box_comparison import (
    BoxComparison,
    Detections,
    Truths,
    View,
    compare,
    compare_with_oracle,
    near_pairs,
    rectangle_iou,
)
from kyvo.metrics.box_overlap import Boxes
from kyvo.metrics.detection import RANGES, RECALLS, THRESHOLDS, AveragePrecision3D
from kyvo.metrics.paired_overlap import PairedOverlap

CATEGORIES = ("cup", "cereal box", "chair")


def comparison(found, truths, overlaps, near=None, depth=5.0):
    """An image of cups: scores; for each true one whether it is ignored; overlaps [D, G]."""
    count = len(found)
    return BoxComparison(
        ["cup"] * count,
        np.array(found, dtype=float),
        np.full(count, depth),
        ["cup"] * len(truths),
        np.full(len(truths), 5.0),
        np.array(truths, dtype=bool),
        np.array(overlaps, dtype=float).reshape(count, len(truths)),
        None if near is None else np.array(near, dtype=bool).reshape(count, len(truths)),
    )


def scores(*comparisons, **options):
    metric = AveragePrecision3D(CATEGORIES, **options)
    metric.update(comparisons, range(len(comparisons)))
    return {name: value.item() for name, value in metric.compute().items()}


def random_image(seed, proximity):
    dice = np.random.default_rng(seed)
    count, truths = dice.integers(0, 12), dice.integers(0, 6)
    labels, true_labels = (dice.choice([*CATEGORIES[:2], "sofa"], size=size).tolist() for size in (count, truths))
    # Few values, so that equal overlaps and scores occur.
    overlaps = dice.choice([0.0, 0.04, 0.1, 0.2, 0.3, 0.6], size=(count, truths))
    alike = np.array([[a == b for b in true_labels] for a in labels]).reshape(count, truths)
    return BoxComparison(
        labels,
        dice.choice([0.1, 0.3, 0.5, 0.9], size=count),
        dice.choice([3.0, 10.0, 20.0, 50.0], size=count),
        true_labels,
        dice.choice([3.0, 10.0, 20.0, 50.0], size=truths),
        dice.random(truths) < 0.25,
        np.where(alike, overlaps, 0.0),
        dice.random((count, truths)) < 0.6 if proximity else None,
    )


def plain_outcomes(image, category, low, high, threshold):
    """Outcomes of an image's predictions, one loop within the other as the published evaluation has them."""
    ours = [k for k, label in enumerate(image.labels) if label == category]
    ours.sort(key=lambda k: -image.scores[k])
    theirs = [k for k, label in enumerate(image.true_labels) if label == category]
    ignored = {k: bool(image.ignored[k]) or not low <= image.true_depths[k] <= high for k in theirs}
    theirs.sort(key=lambda k: ignored[k])
    taken, rows = set(), []
    for prediction in ours:
        best, least = None, threshold
        for truth in theirs:
            if truth in taken or (image.near is not None and not image.near[prediction, truth]):
                continue
            if best is not None and not ignored[best] and ignored[truth]:
                break
            if image.overlaps[prediction, truth] >= least:
                best, least = truth, image.overlaps[prediction, truth]
        far = image.near is not None and theirs and not image.near[prediction, theirs].any()
        outside = best is None and not low <= image.depths[prediction] <= high
        taken.add(best)
        dropped = far or outside or (best is not None and ignored[best])
        rows.append((image.scores[prediction], best is not None, dropped))
    return rows, sum(not one for one in ignored.values())


def plain_precision(images, category, low, high, threshold):
    parts = [plain_outcomes(image, category, low, high, threshold) for image in images]
    total = sum(count for _, count in parts)
    rows = sorted((row for found, _ in parts for row in found), key=lambda row: -row[0])
    if not total:
        return np.nan
    right = wrong = 0
    curve = []
    for _, matched, dropped in rows:
        right, wrong = right + (matched and not dropped), wrong + (not matched and not dropped)
        curve.append((right / total, right / max(right + wrong, 1e-9)))
    # The best precision at this recall or a higher one, 0 where the recall is not reached.
    return np.mean([max((p for r, p in curve if r >= wanted), default=0.0) for wanted in RECALLS])


@pytest.mark.parametrize("proximity", [False, True])
def test_equals_a_plain_reading_of_the_definition(proximity):
    images = [random_image(seed, proximity) for seed in range(25)]
    metric = AveragePrecision3D(CATEGORIES)
    metric.update(images, range(len(images)))
    tables = metric.tables()
    for (row, category), (column, limits), (place, threshold) in (
        (a, b, c)
        for a in enumerate(CATEGORIES[:2])
        for b in enumerate(RANGES.values())
        for c in list(enumerate(THRESHOLDS))[::3]
    ):
        expected = plain_precision(images, category, *limits, threshold)
        assert tables.precision[row, column, place] == pytest.approx(expected, abs=1e-12)
    assert np.isnan(tables.precision[2]).all()


def test_worked_example():
    # Surest first: right, wrong, right; two of three objects are found.
    found = scores(comparison([0.9, 0.5, 0.4], [False] * 3, [[0.32, 0, 0], [0, 0, 0], [0, 0.6, 0]]))
    # Recall 1/3 (33 recalls besides 0) at precision 1, 2/3 (33 more) at 2/3.
    full = (34 + 33 * 2 / 3) / 101
    assert found["ap3d_iou05"] == found["ap3d_iou30"] == pytest.approx(full, abs=1e-6)
    # At 0.35 and above only the last is right: a third, with precision 1/3.
    assert found["ap3d_iou35"] == found["ap3d_iou50"] == pytest.approx(34 / 101 / 3, abs=1e-6)
    assert found["ap3d"] == found["ap3d_cup"] == found["ap3d_near"]
    assert found["ap3d"] == pytest.approx(0.6 * found["ap3d_iou05"] + 0.4 * found["ap3d_iou50"], abs=1e-6)
    assert np.isnan(found["ap3d_far"])
    assert np.isnan(found["ap3d_cereal_box"])
    assert found["ar3d_1"] == pytest.approx(0.6 / 3, abs=1e-6)
    assert found["ar3d_10"] == found["ar3d_100"] == pytest.approx((0.6 * 2 + 0.4) / 3, abs=1e-6)


def test_ignored_objects_neither_help_nor_harm():
    found = scores(comparison([0.9, 0.8], [True, False], [[1, 0], [0, 1]]))
    assert found["ap3d"] == 1
    # One that could take both takes the object that counts.
    assert scores(comparison([0.9], [True, False], [[0.9, 0.3]]))["ap3d_iou30"] == 1
    assert np.isnan(scores(comparison([0.9], [True], [[1]]))["ap3d"])


def test_depth_ranges():
    far = comparison([0.9, 0.8], [False], [[0], [1]], depth=40.0)
    assert scores(far)["ap3d_near"] == 1  # the first, wrong one lies elsewhere
    assert scores(far)["ap3d"] == pytest.approx(0.5)


def test_proximity():
    overlaps = [[0], [1]]
    assert scores(comparison([0.9, 0.8], [False], overlaps))["ap3d"] == pytest.approx(0.5)
    # The surer one is near nothing that is annotated.
    assert scores(comparison([0.9, 0.8], [False], overlaps, near=[[0], [1]]))["ap3d"] == 1
    # But it counts in an image without any object of the category, as in the published evaluation.
    assert scores(comparison([0.7], [False], [1], near=[[1]]), comparison([0.9], [], [], near=[]))[
        "ap3d"
    ] == pytest.approx(0.5)


def test_only_the_surest_hundred_count():
    overlaps = np.zeros((120, 1))
    overlaps[110] = 1.0
    assert scores(comparison(np.linspace(1, 0.1, 120), [False], overlaps))["ap3d"] == 0
    assert scores(comparison(np.linspace(0.1, 1, 120), [False], overlaps))["ap3d"] == pytest.approx(0.1)


def test_nothing_predicted_and_nothing_to_find():
    assert scores(comparison([], [False], []))["ap3d"] == 0
    assert np.isnan(scores(comparison([0.5], [], []))["ap3d"])
    assert np.isnan(list(scores().values())).all()


def test_wrong_arguments():
    metric = AveragePrecision3D(CATEGORIES)
    with pytest.raises(ValueError, match="0 images and 1 numbers"):
        metric.update([], [1])
    with pytest.raises(ValueError, match="finite"):
        metric.update([comparison([np.nan], [], [])], [1])
    with pytest.raises(ValueError, match="at least one category"):
        AveragePrecision3D([])


# ---- comparisons


def tilted_scene():
    turn = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]
    turn *= np.linalg.det(turn)
    boxes = Boxes.of([[0, 0, 2], [1, 0, 3], [0, 1, 4]], [[0.5, 1, 0.7], [1, 1, 2], [0.3, 0.2, 0.1]], [turn] * 3)
    return Truths(boxes, ["cup", "chair", "cup"])


def test_right_boxes_overlap_fully_and_only_with_their_category():
    truths = tilted_scene()
    boxes = truths.boxes
    exact = Detections(boxes.centers, boxes.dimensions, truths.labels, np.ones(3), boxes.rotations)
    np.testing.assert_allclose(compare(exact, truths).overlaps, np.eye(3), atol=1e-12)
    without = Detections(boxes.centers, boxes.dimensions, truths.labels, np.ones(3))
    np.testing.assert_allclose(compare_with_oracle(without, truths).overlaps, np.eye(3), atol=1e-12)
    with pytest.raises(ValueError, match="without rotations"):
        compare(without, truths)
    # In the same place, but of another category.
    swapped = Detections(boxes.centers, boxes.dimensions, ["chair", "cup", "chair"], np.ones(3), boxes.rotations)
    assert compare(swapped, truths).overlaps.max() == 0
    assert compare_with_oracle(swapped, truths).overlaps.max() == 0


def test_rectangles_in_the_picture():
    view = View(np.array([[100.0, 0, 50], [0, 100, 40], [0, 0, 1]]), 100, 80)
    boxes = Boxes.of([[0, 0, 2.5], [2, 0, 2.5]], [[1, 1, 1]] * 2, [np.eye(3)] * 2)
    np.testing.assert_allclose(view.rectangles(boxes), [[25, 15, 75, 65], [100, 15, 100, 65]])
    overlap = rectangle_iou(np.array([[0.0, 0, 10, 10]] * 2), np.array([[5.0, 0, 15, 10], [20, 20, 30, 30]]))
    np.testing.assert_allclose(overlap, [1 / 3, 0])
    truths = Truths(boxes, ["cup", "cup"], rectangles=view.rectangles(boxes))
    shifted = Detections(boxes.centers + np.array([0.05, 0, 0]), boxes.dimensions, ["cup", "cup"], np.ones(2))
    assert near_pairs(shifted, truths, view).tolist() == [[True, False], [False, False]]
    given = Detections(
        boxes.centers, boxes.dimensions, ["cup"] * 2, np.ones(2), rectangles=view.rectangles(boxes)[::-1]
    )
    assert near_pairs(given, truths, view)[:, 0].tolist() == [False, True]
    with pytest.raises(ValueError, match="rectangles of true objects"):
        near_pairs(given, Truths(boxes, ["cup", "cup"]), view)


def test_paired_overlap():
    metric = PairedOverlap()
    # Taking the best pair first would leave 0.5 + 0; ignored objects are nobody's partners.
    metric.update([comparison([1, 1], [False, False, True], [[0.5, 0.4, 1], [0.4, 0.0, 1]])])
    metric.update([comparison([], [False], [])])
    found = {name: value.item() for name, value in metric.compute().items()}
    assert [found["iou3d"], found["iou3d_all"]] == pytest.approx([0.4, 0.8 / 3])
    assert np.isnan(PairedOverlap(oracle_rotation=True).compute()["iou3d_oracle_r"].item())


# ---- processes

IMAGES = 7


def metrics_of(numbers):
    precision, overlap = AveragePrecision3D(CATEGORIES, oracle_rotation=True), PairedOverlap()
    for number in numbers:
        image = random_image(number, False)
        # Equal scores everywhere: only the order of the images is left to go by.
        image = BoxComparison(**vars(image) | {"scores": np.ones(len(image.scores))})
        precision.update([image], [number])
        overlap.update([image])
    return [precision, overlap]


def score_a_share(rank, folder):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2)
    results = [metric.compute() for metric in metrics_of(range(rank, IMAGES, 2))]
    # A process without any image has something to gather all the same.
    lonely = [metric.compute() for metric in metrics_of(range(3) if rank else range(0))]
    torch.save((results, lonely), Path(folder) / f"{rank}.pt")
    dist.destroy_process_group()


def test_two_processes_equal_one(tmp_path):
    mp.spawn(score_a_share, args=(str(tmp_path),), nprocs=2)
    alone = [[metric.compute() for metric in metrics_of(range(count))] for count in (IMAGES, 3)]
    for rank in range(2):
        torch.testing.assert_close(list(torch.load(tmp_path / f"{rank}.pt")), alone, equal_nan=True)


def test_an_image_that_counts_twice_is_an_image_that_comes_twice():
    images = [random_image(seed, proximity=False) for seed in range(12)]
    weights = np.random.default_rng(0).integers(0, 4, len(images))
    metric, repeated = AveragePrecision3D(CATEGORIES), AveragePrecision3D(CATEGORIES)
    metric.update(images, range(len(images)))
    copies = [(image, 10 * number + copy) for number, image in enumerate(images) for copy in range(weights[number])]
    repeated.update([image for image, _ in copies], [number for _, number in copies])
    weighted = detection._mean_precision(metric._rankings(), weights)
    assert weighted == pytest.approx(repeated.compute()["ap3d"].item())
    assert weighted != pytest.approx(metric.compute()["ap3d"].item())


def test_intervals_resample_images():
    # Half of the images have their cup found, half do not.
    images = [comparison([0.9], [False], [float(number % 2)]) for number in range(100)]
    metric, other = AveragePrecision3D(["cup"]), AveragePrecision3D(["cup"])
    metric.update(images, range(100))
    found = {name: value.item() for name, value in metric.compute().items()}
    assert 0.15 < found["ap3d_low"] < found["ap3d"] < found["ap3d_high"] < 0.4
    for number in np.random.default_rng(1).permutation(100):
        other.update([images[number]], [number])
    assert other.interval() == metric.interval()
    assert metric.interval(level=0.5)[0] > found["ap3d_low"]
    assert np.isnan(AveragePrecision3D(["cup"]).interval()).all()
    overlap = PairedOverlap()
    overlap.update(images)
    found = {name: value.item() for name, value in overlap.compute().items()}
    # The spread of a mean of 100 zeros and ones.
    assert found["iou3d_high"] - found["iou3d_low"] == pytest.approx(4 * 0.05, abs=0.03)
    assert found["iou3d_low"] < 0.5 < found["iou3d_high"]


def test_it_starts_anew():
    metric = AveragePrecision3D(CATEGORIES)
    metric.update([comparison([0.9], [False], [0])], [1])
    assert metric.compute()["ap3d"] == 0
    metric.reset()
    metric.update([comparison([0.9], [False], [1])], [1])
    assert metric.compute()["ap3d"] == 1
