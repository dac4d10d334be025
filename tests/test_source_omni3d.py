"""Omni3D's JSON: oddities, the ignore rule, mirrored copies, and what is named when it cannot be read."""

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_modules.faults import BadInputError, Fault
from data_modules.shards import decode_json, encode_png
from data_modules.sources.omni3d import Omni3DSource, mirrored
from data_modules.sources.source import SourceSample
from kyvo.scene import SCHEMAS

SIGNS = np.array([(-1, -1, -1), (1, -1, -1), (1, 1, -1), (-1, 1, -1), (-1, -1, 1), (1, -1, 1), (1, 1, 1), (-1, 1, 1)])
"""Corners in Omni3D's order, as signs along the box's own x (length), y (height) and z (width)."""

UNKNOWN = [-1, -1, -1, -1]
K = [[1500.0, 0.0, 700.0], [0.0, 1400.0, 960.0], [0.0, 0.0, 1.0]]


def image(number, path, **changes):
    named = {"id": number, "dataset_id": 8, "width": 1440, "height": 1920, "file_path": path, "K": K}
    return named | {"src_90_rotate": 1, "src_flagged": True} | changes


def box(number, of_image, **changes):
    """A cup that nothing is wrong with."""
    return {
        "id": number,
        "image_id": of_image,
        "category_id": 19,
        "category_name": "cup",
        "valid3D": True,
        "bbox2D_tight": UNKNOWN,
        "bbox2D_proj": [10.0, 20.0, 300.0, 400.0],
        "bbox2D_trunc": [10.0, 20.0, 300.0, 400.0],
        "bbox3D_cam": (SIGNS * 0.05 + [0.1, -0.2, 1.5]).tolist(),
        "center_cam": [0.1, -0.2, 1.5],
        "dimensions": [0.1, 0.1, 0.1],
        "R_cam": np.eye(3).tolist(),
        "behind_camera": False,
        "visibility": -1,
        "truncation": -1,
        "segmentation_pts": -1,
        "lidar_pts": -1,
        "depth_error": -1,
    } | changes


def write(root, annotations, images=None, dataset="Objectron", split="test", **changes):
    """A data set of one image, if images says nothing else."""
    images = images or [image(7, "objectron/test/cup_batch_1_2_0000030.jpg")]
    categories = [{"id": 19, "name": "cup", "supercategory": ""}, {"id": 17, "name": "cereal box", "supercategory": ""}]
    content = {"info": {"id": 8}, "images": images, "categories": categories, "annotations": annotations} | changes
    (root / "Omni3D").mkdir(exist_ok=True)
    (root / "Omni3D" / f"{dataset}_{split}.json").write_text(json.dumps(content))
    for one in images:
        path = root / one["file_path"]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode_png(np.zeros((2, 2, 3), dtype=np.uint8)))
    return root


def objects(found):
    return decode_json(found.members["scene.json"])["objects"]


def read(root, split="test", **options):
    return list(Omni3DSource(root, options.pop("dataset", "Objectron"), **options).samples(split))


def test_a_sample(tmp_path):
    (found,) = read(write(tmp_path, [box(1, 7)]))
    assert found.key == "objectron-test-cup_batch_1_2_0000030"
    assert found.pictures["image"].path == tmp_path / "objectron/test/cup_batch_1_2_0000030.jpg"
    scene = decode_json(found.members["scene.json"])
    assert (scene["K"], scene["width"], scene["height"], scene["image_id"]) == (K, 1440, 1920, 7)
    (cup,) = SCHEMAS["objectron"].read(scene)
    assert (cup["category"], cup["center_cam"], cup["dimensions"]) == ("cup", (0.1, -0.2, 1.5), (0.1, 0.1, 0.1))


def test_info_may_be_a_list_and_categories_go_by_name(tmp_path):
    by_id = {name: value for name, value in box(1, 7, category_id=17).items() if name != "category_name"}
    odd = [by_id, box(2, 7, category_name="cereal box", category_id=99), box(3, 7, category_name="dontcare")]
    (found,) = read(write(tmp_path, odd, info=[{"id": 8}]))
    assert [o["category"] for o in objects(found)] == ["cereal box", "cereal box"]


def test_arkitscenes_has_no_fireplace(tmp_path):
    path = "ARKitScenes/Training/42444477/1532.580_00004419.jpg"
    annotations = [box(k, 1, category_name=name) for k, name in enumerate(["fireplace", "sofa", "television", "cup"])]
    root = write(tmp_path, annotations, [image(1, path)], dataset="ARKitScenes", split="train")
    (found,) = read(root, "train", dataset="ARKitScenes")
    assert found.key == "ARKitScenes-Training-42444477-1532_580_00004419"
    assert [o["category"] for o in objects(found)] == ["sofa", "television"]
    assert Omni3DSource(root, "ARKitScenes").splits() == ("train",)


NOTHING, EVERYWHERE, TRAINING = "nowhere", "everywhere", "in training only"


@pytest.mark.parametrize(
    ("changes", "counts"),
    [
        ({}, EVERYWHERE),
        ({"behind_camera": True}, NOTHING),
        ({"valid3D": False}, NOTHING),
        ({"dimensions": [0.1, 0.0, 0.1]}, NOTHING),
        ({"center_cam": [0.0, 0.0, 2e8]}, NOTHING),
        ({"lidar_pts": 0}, NOTHING),
        ({"segmentation_pts": 0}, NOTHING),
        ({"segmentation_pts": 3, "lidar_pts": 1}, EVERYWHERE),
        ({"depth_error": 0.5}, EVERYWHERE),
        ({"depth_error": 0.51}, NOTHING),
        ({"bbox2D_trunc": [0, 0, 9, 96]}, NOTHING),
        ({"bbox2D_trunc": [0, 0, 9, 97]}, TRAINING),
        ({"bbox2D_trunc": [0, 0, 9, 120]}, TRAINING),
        ({"bbox2D_trunc": [0, 0, 9, 121]}, EVERYWHERE),
        ({"bbox2D_trunc": [0, 0, 9, 2880]}, NOTHING),
        ({"bbox2D_trunc": UNKNOWN}, EVERYWHERE),
        ({"bbox2D_trunc": UNKNOWN, "bbox2D_proj": [0, 0, 9, 10]}, NOTHING),
        ({"bbox2D_tight": [0, 0, 9, 10]}, EVERYWHERE),
        ({"bbox2D_trunc": UNKNOWN, "bbox2D_proj": UNKNOWN}, NOTHING),
        ({"truncation": 0.3332}, EVERYWHERE),
        ({"truncation": 0.3333}, TRAINING),
        ({"truncation": 0.75}, NOTHING),
        ({"visibility": 0.3334}, EVERYWHERE),
        ({"visibility": 0.3333}, TRAINING),
        ({"visibility": 0.25}, NOTHING),
        ({"visibility": 0}, NOTHING),
    ],
)
def test_the_ignore_rule(tmp_path, changes, counts):
    for split in ("train", "val", "test"):
        write(tmp_path, [box(1, 7, **changes), box(2, 7)], split=split)
        (found,) = read(tmp_path, split)
        expected = counts == EVERYWHERE or (counts == TRAINING and split == "train")
        assert len(objects(found)) == 1 + expected, split
    (found,) = read(tmp_path, "val", ignore=False)
    assert len(objects(found)) == 2


def test_scenes_without_objects_are_kept_for_evaluation(tmp_path):
    for split in ("train", "test"):
        write(tmp_path, [box(1, 7, behind_camera=True)], split=split)
    assert read(tmp_path, "train") == []
    assert [objects(one) for one in read(tmp_path, "test")] == [[]]


def test_mirrored_copies_are_for_training(tmp_path):
    turned = [[0.36, 0.48, -0.8], [-0.8, 0.6, 0.0], [0.48, 0.64, 0.6]]
    for split in ("train", "test"):
        write(tmp_path, [box(1, 7, R_cam=turned)], split=split)
    assert len(read(tmp_path, "test", flip=True)) == 1
    plain, flipped = read(tmp_path, "train", flip=True)
    assert flipped.key == plain.key + "-flip"
    assert (plain.pictures["image"].mirrored, flipped.pictures["image"].mirrored) == (False, True)
    (cup,) = objects(flipped)
    assert cup["center_cam"] == [-0.1, -0.2, 1.5]
    assert cup["bbox2D_proj"] == [1140.0, 20.0, 1430.0, 400.0]
    assert cup["bbox2D_tight"] == UNKNOWN
    assert cup["R_cam"] == [[-0.36, -0.48, -0.8], [-0.8, 0.6, 0.0], [0.48, 0.64, -0.6]]
    assert decode_json(flipped.members["scene.json"])["K"][0] == [1500.0, 0.0, 740.0]


unit_numbers = st.floats(-1, 1, width=32)


@settings(max_examples=50, deadline=None)
@given(st.lists(unit_numbers, min_size=9, max_size=9), st.lists(unit_numbers, min_size=3, max_size=3), unit_numbers)
def test_mirroring(entries, center, shift):
    """Corners land on the mirrored pixels, in the order that the mirrored rotation gives; twice is the identity."""
    rotation = np.linalg.qr(np.array(entries).reshape(3, 3) + 3 * np.eye(3))[0]
    rotation *= np.linalg.det(rotation)
    middle, sizes = np.array([center[0], center[1], center[2] + 4]), np.array([0.3, 0.5, 0.7])
    corners = (SIGNS * sizes[::-1] / 2) @ rotation.T + middle
    one = {"center_cam": middle.tolist(), "dimensions": sizes.tolist(), "R_cam": rotation.tolist()}
    one |= {"bbox3D_cam": corners.tolist(), "bbox2D_proj": [1.5, 2.0, 60.25, 80.0], "bbox2D_tight": UNKNOWN}
    k = [[500.0, 0.0, 320.0 + 100 * shift], [0.0, 400.0, 240.0], [0.0, 0.0, 1.0]]
    scene = {"objects": [one], "K": k, "width": 640, "height": 480}
    flipped = mirrored(scene)
    new, new_k = flipped["objects"][0], np.array(flipped["K"])
    expected = (SIGNS * sizes[::-1] / 2) @ np.array(new["R_cam"]).T + new["center_cam"]
    np.testing.assert_allclose(new["bbox3D_cam"], expected, atol=1e-12)
    assert np.linalg.det(new["R_cam"]) == pytest.approx(1)
    before, after = (p @ m.T for p, m in ((corners, np.array(k)), (np.array(new["bbox3D_cam"]), new_k)))
    pixels, mirror = before[:, :2] / before[:, 2:], after[:, :2] / after[:, 2:]
    np.testing.assert_allclose(mirror[[4, 5, 6, 7, 0, 1, 2, 3]], pixels * [-1, 1] + [640, 0], atol=1e-9)
    again = mirrored(flipped)
    np.testing.assert_allclose(again.pop("K"), k, atol=1e-12)
    assert again == {name: value for name, value in scene.items() if name != "K"}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"center_cam": [0.0, math.nan, 1.0]}, "annotation 1 (cup): 'center_cam' should be 3 finite"),
        ({"center_cam": [0.0, 1.0]}, "'center_cam' should be 3 finite"),
        ({"dimensions": [0.1, "0.1", 0.1]}, "'dimensions' should be 3 finite"),
        ({"dimensions": [0.1, math.inf, 0.1]}, "'dimensions' should be 3 finite"),
        ({"dimensions": None}, "'dimensions' should be 3 finite"),
        ({"R_cam": [[1, 0, 0], [0, 1, 0]]}, "'R_cam' should be 3 x 3 finite"),
        ({"bbox3D_cam": -1}, "'bbox3D_cam' should be 8 x 3 finite"),
        ({"visibility": True}, "'visibility' should be one finite"),
        ({"valid3D": 1}, "'valid3D' should be true or false"),
    ],
)
def test_bad_annotations_are_named(tmp_path, changes, reason):
    (found,) = read(write(tmp_path, [box(1, 7, **changes)]))
    assert isinstance(found, Fault)
    assert (found.key, found.member) == ("objectron-test-cup_batch_1_2_0000030", "scene.json")
    assert reason in found.reason


def test_missing_numbers(tmp_path):
    few = {name: box(1, 7)[name] for name in ("id", "image_id", "category_name", "center_cam", "dimensions")}
    (found,) = read(write(tmp_path, [few]))
    assert objects(found) == [{"category": "cup", "center_cam": [0.1, -0.2, 1.5], "dimensions": [0.1, 0.1, 0.1]}]
    del few["center_cam"]
    (found,) = read(write(tmp_path, [few]))
    assert found.reason == "annotation 1 (cup): 'center_cam' is missing"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"K": [[1, 0], [0, 1]]}, "'K' should be 3 x 3 finite numbers"),
        ({"width": 0}, "'width' should be a positive integer, got 0"),
        ({"height": "480"}, "'height' should be a positive integer, got '480'"),
        ({"id": "7"}, "an image needs an integer 'id'"),
        ({"file_path": "objectron/../../secret.jpg"}, "'file_path' should lie below"),
    ],
)
def test_bad_images_are_named(tmp_path, changes, reason):
    images = [image(1, "a/good.jpg"), image(7, "a/bad.jpg", **changes)]
    root = tmp_path / "datasets"
    root.mkdir()
    good, bad = read(write(root, [], images))
    assert isinstance(good, SourceSample)
    assert reason in bad.reason


def test_strays_and_doubles(tmp_path):
    images = [image(1, "a/x.jpg"), image(2, "a/x.jpg"), image(3, "a/y.jpg"), image(3, "a/z.jpg"), image(4, "a/w.jpg")]
    found = read(write(tmp_path, [box(1, 5), box(2, 4), "nonsense"], images))
    assert [type(one) for one in found] == [Fault, Fault, Fault, Fault, Fault, Fault, SourceSample]
    assert found[0].reason == "expected an annotation with the id of an image, got 5"
    assert all("another image has" in one.reason for one in found[2:6])


def test_a_missing_picture(tmp_path):
    write(tmp_path, [box(1, 7)])
    (tmp_path / "objectron/test/cup_batch_1_2_0000030.jpg").unlink()
    (found,) = read(tmp_path)
    assert (found.member, found.reason) == ("image", "the picture is not there")
    assert found.file.endswith("cup_batch_1_2_0000030.jpg")


def test_files_that_leave_nothing_to_go_on_with(tmp_path):
    write(tmp_path, {})
    with pytest.raises(BadInputError, match=r"Objectron_test.json.*'annotations'.*expected a list"):
        read(tmp_path)
    (tmp_path / "Omni3D/Objectron_test.json").write_text('{"images": [')
    with pytest.raises(BadInputError, match="not JSON"):
        read(tmp_path)
    with pytest.raises(ValueError, match="has the splits test, not 'train'"):
        read(tmp_path, "train")
    with pytest.raises(ValueError, match="Objectron or ARKitScenes"):
        Omni3DSource(tmp_path, "KITTI")


def test_reference_cases_are_read(golden, tmp_path):
    content = json.loads((golden / "jaccard/omni3d/b61_random_kyvo/gt.json").read_text())
    write(tmp_path, content["annotations"], content["images"], categories=content["categories"])
    found = read(tmp_path, ignore=False)
    assert sum(len(objects(one)) for one in found) == len(content["annotations"])
