"""`kyvo score boxes` and detectors' files: the numbers of the golden cases, a split by hand, and bad input."""

import json
import math

import numpy as np
import pytest

from kyvo.metrics.jaccard import scene_jaccard
from kyvo.omni3d import CATEGORY_IDS
from kyvo.scene import SCHEMAS, Scene, SceneObject
from kyvo.score.boxes import score
from kyvo.score.cube_rcnn import read_boxes, read_detections

SCHEMA = SCHEMAS["objectron"]
K = [[1500.0, 0.0, 720.0], [0.0, 1500.0, 960.0], [0.0, 0.0, 1.0]]
TURN = [[0.8, 0.0, 0.6], [0.0, 1.0, 0.0], [-0.6, 0.0, 0.8]]


def load(path):
    return json.loads(path.read_text())


# ---- golden cases of a detector


def true_scenes(content):
    """Every image's true scene, without what the facts leave out."""
    names = {category["id"]: category["name"] for category in content["categories"]}
    scenes = {image["id"]: [] for image in content["images"]}
    for box in content["annotations"]:
        if box["valid3D"] and not box["behind_camera"] and min(box["dimensions"]) > 0:
            words = {"category": names[box["category_id"]]}
            scenes[box["image_id"]].append(
                SceneObject(words | {name: tuple(box[name]) for name in ("center_cam", "dimensions")})
            )
    return {key: Scene(tuple(objects)) for key, objects in scenes.items()}


@pytest.mark.parametrize(("cut", "expectation"), [(0.0, "correct"), (0.05, "correct_score_0.05")])
def test_scenes_of_a_detector_score_as_the_golden_cases(golden, cut, expectation):
    root = golden / "jaccard"
    cases = [case for case in load(root / "cases.json") if case.get("method") == "cube-rcnn"]
    assert cases
    for case in cases:
        wanted = load(root / "expected.json")[case["id"]][expectation]
        truth = load(root / case["groundtruth_file"])
        truths = true_scenes(truth)
        names = {category["id"]: category["name"] for category in truth["categories"]}
        for categories in (names, None):
            found = read_detections(root / case["predictions_file"], SCHEMA, truths, cut, categories)
            assert list(found) == list(truths)
            scores = scene_jaccard(list(found.values()), list(truths.values()), SCHEMA, case["taus"])
            assert scores["jaccard"].item() == pytest.approx(wanted["mean"], abs=1e-6), case["id"]


# ---- a split by hand


def image(number):
    return {"id": number, "width": 1440, "height": 1920, "file_path": f"objectron/test/cup_{number}.jpg", "K": K}


def box(image_id, center, category="cup", **changes):
    """An annotation of which all is seen."""
    x, y = (1500 * center[axis] / center[2] + (720, 960)[axis] for axis in (0, 1))
    rectangle = [x - 200, y - 200, x + 200, y + 200]
    return {
        "image_id": image_id,
        "category_id": CATEGORY_IDS[category],
        "category_name": category,
        "valid3D": True,
        "bbox2D_proj": rectangle,
        "bbox2D_trunc": rectangle,
        "center_cam": center,
        "dimensions": [0.1, 0.2, 0.3],
        "R_cam": TURN,
        "behind_camera": False,
        "visibility": -1,
        "truncation": 0.0,
    } | changes


def detection(of, score, **changes):
    """What a detector says who sees an annotation as it is."""
    left, top, right, bottom = of["bbox2D_trunc"]
    numbers = {"bbox": [left, top, right - left, bottom - top], "pose": of["R_cam"], "score": score}
    return {name: of[name] for name in ("image_id", "category_id", "center_cam", "dimensions")} | numbers | changes


def write(folder, predictions, annotations, **changes):
    categories = [{"id": number, "name": name, "supercategory": ""} for name, number in CATEGORY_IDS.items()]
    info = [{"source": "Objectron"}]
    truth = {"info": info, "images": [image(1), image(2)], "categories": categories}
    (folder / "truth.json").write_text(json.dumps(truth | {"annotations": annotations} | changes))
    (folder / "predictions.json").write_text(json.dumps(predictions))
    return {"predictions": folder / "predictions.json", "ground_truth": folder / "truth.json"}


CUP, CHAIR, CUT_OFF = box(1, [0, 0, 1.0]), box(2, [0, 0, 2.0], "chair"), box(2, [0.5, 0, 1.0], truncation=0.5)


def scene(of, *objects):
    return {"key": image(of)["file_path"], "objects": list(objects)}


def item(of, **changes):
    return {"category": of["category_name"], "center_cam": of["center_cam"], "dimensions": of["dimensions"]} | changes


def test_a_detector(tmp_path):
    half = detection(CHAIR, 0.6, pose=np.eye(3).tolist())
    found = [detection(CUP, 0.9), half, detection(CUT_OFF, 0.99), detection(CUP, 0.04, dimensions=[9, 9, 9])]
    files = write(tmp_path, found, [CUP, CHAIR, CUT_OFF])
    result = score(**files, format="cube-rcnn", output=tmp_path / "out" / "scores.json")
    assert load(tmp_path / "out" / "scores.json") == result
    assert (result["schema"], result["proximity"]) == ("objectron", True)
    assert [result[name] for name in ("images", "objects", "ignored", "predictions")] == [2, 2, 1, 4]
    assert result["ap3d"]["per_category"]["cup"] == pytest.approx(
        1
    )  # the ignored one does not count, nor what comes behind
    assert result["ap3d"]["per_category"]["bottle"] is None
    turned = result["ap3d"]["per_category"]["chair"]
    assert 0 < turned < 1  # turned by 37 degrees
    assert result["ap3d"]["mean"] == pytest.approx((1 + turned) / 2)
    assert result["ap3d"]["per_iou"]["0.05"] == pytest.approx(1)
    assert result["ap3d"]["per_depth"] == {"near": result["ap3d"]["mean"], "medium": None, "far": None}
    assert result["ap3d"]["recall"]["1"] == result["ap3d"]["recall"]["100"]
    assert result["ap3d_oracle_r"]["mean"] == pytest.approx(1)
    assert result["iou3d_oracle_r"]["all"] == pytest.approx(1)
    assert result["iou3d"]["pairs"] < 1


def test_everything_counts_if_nothing_is_ignored(tmp_path):
    nowhere = box(1, [0, 0, 3.0], valid3D=False, dimensions=[-1, -1, -1], R_cam=[[-1] * 3] * 3)
    files = write(tmp_path, [detection(CUT_OFF, 0.9)], [CUP, CUT_OFF, nowhere])
    result = score(**files, format="cube-rcnn", ignore=False)
    assert (result["objects"], result["ignored"]) == (2, 1)
    # Of two images with one object each, of which one was found.
    intervals = {"pairs_interval": pytest.approx([1, 1]), "all_interval": pytest.approx([0, 1])}
    assert result["iou3d"] == {"pairs": pytest.approx(1), "all": pytest.approx(0.5), **intervals}
    nothing = score(**files, format="cube-rcnn")["iou3d"]
    assert nothing == {"pairs": None, "pairs_interval": [None, None], "all": 0, "all_interval": [0, 0]}


def test_scenes_of_ours(tmp_path):
    shifted = item(CUP, center_cam=[0.0, 0.1, 1.0])  # half of the height
    result = score(**write(tmp_path, {"scenes": [scene(1, shifted)]}, [CUP, CHAIR, CUT_OFF]))
    assert "ap3d" not in result
    assert result["iou3d_oracle_r"]["pairs"] == pytest.approx(1 / 3)
    assert result["iou3d_oracle_r"]["all"] == pytest.approx(1 / 6)
    categories = result["ap3d_oracle_r"]["per_category"]
    assert (categories["cup"], categories["chair"], categories["bottle"]) == (pytest.approx(0.6), 0, None)


def test_scores_of_ours_and_proximity(tmp_path):
    # Far from anything in the picture: with proximity it does not count.
    stray = item(CUP, center_cam=[0.4, 0.4, 1.0], score=0.9)
    files = write(tmp_path, {"scenes": [scene(1, item(CUP, score=0.5), stray)]}, [CUP])
    assert score(**files)["ap3d_oracle_r"]["mean"] == pytest.approx(1)
    assert score(**files, proximity=False)["ap3d_oracle_r"]["mean"] == pytest.approx(0.5)
    assert score(**files, schema="objectron")["iou3d_oracle_r"]["pairs"] == pytest.approx(1)


def test_lines_that_the_callback_writes(tmp_path):
    files = write(tmp_path, [], [CUP])
    line = {"key": "objectron-test-cup_1", "generated": {"scene": {"objects": [item(CUP)]}}, "malformed": 2}
    (tmp_path / "written.jsonl").write_text(json.dumps(line) + "\n")
    result = score(tmp_path / "written.jsonl", files["ground_truth"])
    assert (result["ap3d_oracle_r"]["mean"], result["malformed"]) == (pytest.approx(1), 2)


def test_detections_that_match_nothing_still_count(tmp_path):
    odd = [
        detection(CUP, 0.9, category_id=999),
        detection(CUP, 0.9, center_cam=[0, math.nan, 1]),
        detection(CUP, 0.9, dimensions=[0.1]),
        detection(CUP, 0.9, category_id=CATEGORY_IDS["sofa"]),
    ]
    found = read_detections(write(tmp_path, odd, [])["predictions"], SCHEMA, [1])[1]
    assert [one["category"] for one in found] == ["999", "cup", "cup", "sofa"]
    assert all(math.isnan(number) for number in (*found.objects[1]["center_cam"], *found.objects[2]["dimensions"]))
    truth = Scene((SceneObject({"category": "cup", "center_cam": (0, 0, 1), "dimensions": (0.1, 0.2, 0.3)}),))
    assert scene_jaccard([found], [truth], SCHEMA)["precision"] == 0


# ---- bad input


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image_id": 3}, "detection 1: image 3 is not in the ground truth"),
        ({"image_id": "1"}, "detection 1: 'image_id' should be an integer, got '1'"),
        ({"score": math.nan}, "detection 1: 'score' should be a finite number"),
        ({"score": None}, "detection 1: 'score' should be a finite number"),
        ({"center_cam": [0, math.inf, 1]}, "detection 1: 'center_cam' is missing or not all finite"),
        ({"dimensions": [1, 1]}, "detection 1: 'dimensions' is missing or not all finite"),
        ({"bbox": None}, "detection 1: 'bbox' is missing"),
        ({"pose": [[1, 0], [0, 1]]}, "detection 1: 'pose' is missing"),
        ({"pose": [[2, 0, 0], [0, 1, 0], [0, 0, 1]]}, "detection 1: 'pose' should be a rotation"),
    ],
)
def test_bad_detections_are_named(tmp_path, changes, message):
    files = write(tmp_path, [detection(CUP, 0.9), detection(CUP, 0.8) | changes], [CUP])
    with pytest.raises(ValueError, match=message):
        score(**files, format="cube-rcnn")


@pytest.mark.parametrize(
    ("predictions", "message"),
    [
        ({"scenes": [{"key": "x.jpg", "objects": []}]}, "no image 'x.jpg'"),
        ({"scenes": [scene(1), scene(1)]}, "two scenes for image 'objectron/test/cup_1.jpg'"),
        (
            {"scenes": [scene(1, item(CUP, center_cam=[0, math.nan, 1]))]},
            "'center_cam' of an object should be 3 finite",
        ),
        ({"scenes": [scene(1, item(CUP, dimensions=[1]))]}, "'dimensions' of an object should be 3 finite"),
        ({"scenes": [scene(1, item(CUP, score="1"))]}, "'score' of an object should be a finite number"),
        ([], "should hold a list under 'scenes'"),
    ],
)
def test_bad_scenes_are_named(tmp_path, predictions, message):
    with pytest.raises(ValueError, match=message):
        score(**write(tmp_path, predictions, [CUP]))


@pytest.mark.parametrize(
    ("annotations", "changes", "message"),
    [
        ([], {"images": {}}, "a list of images"),
        ([], {"images": [image(1), image(1)]}, "two images have the id 1"),
        ([], {"images": [image(1) | {"K": [[1]]}]}, "'K' should be 3 x 3 finite numbers"),
        ([], {"info": {"source": "KITTI"}}, "names no known data set"),
        ([box(7, [0, 0, 1])], {}, "annotation 0: there is no image 7"),
        ([CUP, box(1, [0, math.nan, 1])], {}, "annotation 1: 'center_cam' should be 3 finite"),
        ([box(1, [0, 0, 1], R_cam=[[1, 1, 1]] * 3)], {}, "'R_cam' of a cup should be a rotation"),
    ],
)
def test_bad_ground_truth_is_named(tmp_path, annotations, changes, message):
    with pytest.raises(ValueError, match=message):
        score(**write(tmp_path, {"scenes": []}, annotations, **changes))


def test_files_that_are_no_json(tmp_path):
    files = write(tmp_path, {"scenes": []}, [CUP])
    files["predictions"].write_text("{")
    for format in ("kyvo", "cube-rcnn"):
        with pytest.raises(ValueError, match=r"predictions\.json is not JSON"):
            score(**files, format=format)
    with pytest.raises(ValueError, match="expected a list of detections"):
        read_boxes(files["ground_truth"], [1])
    files["predictions"].write_text("[]")
    with pytest.raises(ValueError, match="cut at should be a number, got nan"):
        score(**files, format="cube-rcnn", cut=math.nan)
    with pytest.raises(ValueError, match="schema should be objectron or arkitscenes"):
        score(**files, schema="clevr")
    with pytest.raises(ValueError, match="schema 'clevr' has no 'category'"):
        read_detections(files["predictions"], SCHEMAS["clevr"], [1])
