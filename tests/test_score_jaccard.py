"""Files to numbers: the published scripts' files in both rules, our own lines, detections, and input that is bad."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

from kyvo.scene import SCHEMAS
from kyvo.score.jaccard import score
from kyvo.score.scene_text import official_objects, written_objects

GOLDEN = Path(__file__).resolve().parents[2] / "shared" / "golden" / "jaccard"


def golden_cases():
    path = GOLDEN / "cases.json"
    cases = json.loads(path.read_text()) if path.is_file() else []
    return [case for case in cases if case["dataset"] != "qa"]


@pytest.fixture(scope="module")
def expected(golden):
    return json.loads((golden / "jaccard" / "expected.json").read_text())


def run(case, rule, **options):
    """The command on the files of a case."""
    schema = {"clevr": "clevr", "objaworld": "objaworld"}.get(case["dataset"])
    schema = schema or ("arkitscenes" if case["taus"][0] > 1 else "objectron")
    places = [case.get("generated_folder", case.get("predictions_file"))]
    places.append(case.get("groundtruth_folder", case.get("groundtruth_file")))
    # Joined as text: a slash at the end counts.
    predictions, ground_truth = (f"{GOLDEN}/{place}" for place in places)
    return score(
        schema, predictions, ground_truth, case["taus"], case.get("dimensions_tau"), rule,
        "cube-rcnn" if case.get("method") == "cube-rcnn" else "kyvo", **options,
    )  # fmt: skip


@pytest.mark.parametrize("case", golden_cases(), ids=lambda case: case["id"])
def test_the_official_rule_equals_the_published_scripts(expected, case):
    reference = expected[case["id"]]["reference"]
    if "error" in reference[str(case["taus"][0])]:
        with pytest.raises(ValueError, match="published script ends with an error"):
            run(case, "official")
        return
    found = run(case, "official")
    assert found["mean"] == pytest.approx(expected[case["id"]]["reference_mean_over_taus"], abs=1e-12)
    for tau in case["taus"]:
        assert found["per_tau"][str(tau)] == pytest.approx(reference[str(tau)]["jaccard"], abs=1e-12)
        assert found["scenes"] == reference[str(tau)]["n_scenes"]


def correct_cases():
    detections = [(case, "correct_score_0.05") for case in golden_cases() if case.get("method") == "cube-rcnn"]
    return [(case, "correct") for case in golden_cases()] + detections


@pytest.mark.parametrize(
    ("case", "name"), correct_cases(), ids=lambda value: value if isinstance(value, str) else value["id"]
)
def test_the_optimal_rule_equals_the_independent_reference(expected, case, name):
    wanted = expected[case["id"]][name]
    if "error" in wanted:
        with pytest.raises(ValueError, match="malformed" if "malformed" in wanted["error"] else "is no scene of"):
            run(case, "optimal")
        return
    # 0.05 is the default.
    found = run(case, "optimal", **({"score_cut": 0.0} if "cube" in case["id"] and name == "correct" else {}))
    assert found["mean"] == pytest.approx(wanted["mean"], abs=1e-12)
    assert found["per_tau"] == pytest.approx({tau: one["jaccard"] for tau, one in wanted["per_tau"].items()}, abs=1e-12)
    assert found["scenes"] == wanted["n_scenes"]
    assert found["scores"]["micro_jaccard"] == pytest.approx(
        np.mean([one["micro"] for one in wanted["per_tau"].values()]), abs=1e-6
    )


def test_texts_are_read_as_the_published_parser_reads_them(golden):
    schemas = {"CLEVR": "clevr", "ObjaWorld": "objaworld", "Objectron": "objectron"}
    for case in json.loads((golden / "jaccard" / "parse" / "expected.json").read_text()):
        assert official_objects(case["text"], SCHEMAS[schemas[case["dataset"]]]) == case["reference_objects"], case


BOX = "[OBJECT-START][CATEGORY] cereal box [CENTER_CAM]0.00{gap}-0.10{gap}2.45[DIMENSIONS]0.60{gap}1.10{gap}1.00"


@pytest.mark.parametrize("gap", ["", " "])
def test_texts_are_read_as_they_are_meant(gap):
    text = BOX.format(gap=gap)
    objects, malformed = written_objects(f"[SCENE-START]{text}[OBJECT-END]{text}[SCENE-END]", SCHEMAS["objectron"])
    assert objects == [{"category": "cereal box", "center_cam": [0.0, -0.1, 2.45], "dimensions": [0.6, 1.1, 1.0]}]
    assert malformed == 1


# ---- files of our own

CUBE = {"size": "large", "color": "red", "material": "metal", "shape": "cube", "3d_coords": [0.0, 0.0, 0.7]}
BALL = {"size": "small", "color": "blue", "material": "rubber", "shape": "sphere", "3d_coords": [2.0, 0.0, 0.35]}


def line(key, generated, target, malformed=0):
    generated = None if generated is None else {"objects": generated}
    scenes = {"generated": {"scene": generated}, "target": {"scene": {"objects": target}}}
    return json.dumps({"key": key, "task": "I-3", "kind": "", "malformed": malformed, **scenes}) + "\n"


def truths(folder, scenes):
    folder.mkdir()
    for key, objects in scenes.items():
        (folder / f"{key}.json").write_text(json.dumps({"image_filename": f"{key}.png", "objects": objects}))
    return str(folder)


def published(path, scenes):
    path.write_text(json.dumps({"scenes": [{"key": key, "objects": objects} for key, objects in scenes]}))
    return str(path)


def test_lines_of_a_run_bring_their_own_truth(tmp_path):
    (tmp_path / "I-3.rank0.jsonl").write_text(line("a", [CUBE], [CUBE]) + line("b", None, [CUBE], 1))
    (tmp_path / "I-3.rank1.jsonl").write_text(line("c", [CUBE], [CUBE, BALL]))
    output = tmp_path / "out" / "scores.json"
    found = score("clevr", str(tmp_path), output=output)
    assert (found["mean"], found["scenes"], found["unreadable"]) == (pytest.approx(1.5 / 3), 3, 1)
    assert found == score("clevr", str(tmp_path / "I-3.rank*.jsonl"))
    assert found["scores"]["jaccard_shape_sphere"] == 0
    low, high = found["interval"]
    assert 0 <= low < found["mean"] < high <= 1
    written = json.loads(output.read_text())
    assert written["per_scene"] == [["a", 1.0], ["b", 0.0], ["c", 0.5]]
    assert list(written["per_tau"]) == ["0.05", "0.1", "0.15", "0.2", "0.25"]
    assert score("clevr", str(tmp_path), rule="official")["mean"] == found["mean"]


def test_lines_of_a_run_against_true_files(tmp_path):
    folder = truths(tmp_path / "true", {"a": [CUBE], "b": [BALL]})
    (tmp_path / "lines.jsonl").write_text(line("a", [CUBE], []))
    assert score("clevr", str(tmp_path / "lines.jsonl"), folder)["mean"] == 0.5


def test_a_scene_without_objects_is_unreadable_and_text_is_parsed(tmp_path):
    folder = truths(tmp_path / "true", {"a": [CUBE], "b": [CUBE]})
    text = (
        "[SCENE-START][OBJECT-START][SIZE] large [COLOR] red [MATERIAL] metal [SHAPE] cube [LOCATION] 0.000 0.000 0.700"
    )
    file = tmp_path / "predicted.json"
    file.write_text(
        json.dumps({"scenes": [{"key": "a", "objects": None}, {"key": "b", "text": text + "[OBJECT-END]"}]})
    )
    found = score("clevr", str(file), folder)
    assert (found["mean"], found["unreadable"]) == (0.5, 1)
    with pytest.raises(ValueError, match="TypeError"):
        score("clevr", str(file), folder, rule="official")


def test_shapes_are_compared_by_name(tmp_path):
    chair = {"shape": "chair", "3d_coords": [0.0, 0.0, 0.5], "rotation": 3.1}
    folder = truths(tmp_path / "true", {"a": [chair, chair | {"shape": "mug"}]})
    given = [{"shape": "chair", "3d_coords": [0.6, 0.0, 0.5, -3.1]}, {"shape": "hat", "3d_coords": [0, 0, 0, 0]}]
    found = score("objaworld-shapes", published(tmp_path / "p.json", [("a", given)]), folder)
    # At 0.5 nothing agrees; above that one of three.
    assert found["mean"] == pytest.approx(0.8 / 3)
    assert found["scores"]["yaw_error"] > 0


@pytest.mark.parametrize("limit", [0.05, 0.2])
def test_sizes_agree_up_to_a_bound(tmp_path, limit):
    box = {"category": "cup", "center_cam": [0, 0, 1.0], "dimensions": [0.1, 0.1, 0.1]}
    file = tmp_path / "omni.json"
    image = {"id": 7, "file_path": "objectron/test/cup_1.jpg"}
    true = box | {"image_id": 7, "category_id": 1, "category_name": "cup"}
    categories = [{"id": 1, "name": "cup"}]
    file.write_text(json.dumps({"images": [image], "categories": categories, "annotations": [true]}))
    thick = box | {"dimensions": [0.2, 0.2, 0.2]}
    (tmp_path / "p.jsonl").write_text(line("objectron-test-cup_1", [thick], []))
    assert score("objectron", str(tmp_path / "p.jsonl"), str(file), dimensions_tau=limit)["mean"] == (limit > 0.1)


def test_the_cut_of_detections_is_looked_for_on_other_images(golden):
    case = next(case for case in golden_cases() if case["id"] == "b73_random_cube")
    validation = [str(GOLDEN / "omni3d" / "b71_random_cube" / name) for name in ("pred.json", "gt.json")]
    places = dict(zip(("validation_predictions", "validation_ground_truth"), validation, strict=True))
    cut = run(case, "optimal", **places)["score_cut"]
    means = {
        step: score("objectron", *validation, format="cube-rcnn", score_cut=step)["mean"] for step in (0.05, cut, 0.5)
    }
    assert means[cut] == max(means.values())
    with pytest.raises(ValueError, match="compares all detections"):
        run(case, "official", score_cut=0.1)


# ---- bad input


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "p.json is not JSON"),
        ("[]", "p.json should hold a list under 'scenes'"),
        ('{"scenes": [{"objects": []}]}', "p.json, scene 0 should be an object with a 'key'"),
        ('{"scenes": [{"key": "a", "objects": 3}]}', "p.json, scene 0, key 'a': 'objects' should be a list, not int"),
        ('{"scenes": [{"key": "z", "objects": []}]}', "p.json has a prediction for 'z', which is no scene of"),
        (
            '{"scenes": [{"key": "a", "objects": []}, {"key": "a.png", "objects": []}]}',
            "two predictions for the scene 'a'",
        ),
    ],
)
def test_bad_predictions_are_named(tmp_path, content, message):
    (tmp_path / "p.json").write_text(content)
    with pytest.raises(ValueError, match=message):
        score("clevr", str(tmp_path / "p.json"), truths(tmp_path / "true", {"a": [CUBE]}))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("nonsense\n", "p.jsonl, line 1 is not JSON"),
        ("{}\n", "p.jsonl, line 1 should be an object with a 'key'"),
        (
            line("a", [], []).replace("generated", "made"),
            "line 1, key 'a': nothing was to be 'generated' under 'scene'",
        ),
        (line("a", [CUBE], [CUBE], -1), "key 'a': 'malformed' should be a count, not -1"),
        (line("a", [], []) * 2, "p.jsonl holds two scenes with the key 'a'"),
        (line("a", [], [CUBE | {"3d_coords": [float("nan"), 0, 0]}]), "object 0 of the true scene 'a' is malformed"),
    ],
)
def test_bad_lines_are_named(tmp_path, content, message):
    (tmp_path / "p.jsonl").write_text(content)
    with pytest.raises(ValueError, match=message):
        score("clevr", str(tmp_path / "p.jsonl"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "give the ground truth"),
        ({"ground_truth": "true", "dimensions_tau": 0.1}, "only boxes"),
        ({"ground_truth": "true", "score_cut": 0.1}, "only detections"),
        ({"ground_truth": "true", "validation_predictions": "v"}, "validation_ground_truth"),
        (
            {"ground_truth": "true", "format": "cube-rcnn", "score_cut": 0.1, "validation_predictions": "v"}
            | {"validation_ground_truth": "g"},
            "not both",
        ),
        ({"ground_truth": "true", "taus": [0.1, -1]}, "positive"),
        ({"ground_truth": "true", "taus": [math.nan]}, "positive"),
        ({"ground_truth": "true", "taus": [0.1, 0.1]}, "different"),
        ({"ground_truth": "empty"}, "empty should hold scenes"),
        ({"ground_truth": "nowhere"}, "nowhere"),
    ],
)
def test_bad_arguments_are_named(tmp_path, options, message, monkeypatch):
    monkeypatch.chdir(tmp_path)
    truths(tmp_path / "true", {"a": [CUBE]})
    (tmp_path / "empty").mkdir()
    with pytest.raises((ValueError, OSError), match=message):
        score("clevr", published(tmp_path / "p.json", [("a", [CUBE])]), **options)
    with pytest.raises(ValueError, match=r"empty should hold predicted_scenes_empty\.json"):
        score("clevr", str(tmp_path / "empty"), str(tmp_path / "true"))
