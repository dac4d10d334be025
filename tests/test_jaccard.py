"""The Jaccard index against the published scripts' numbers, and its properties."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import maximum_bipartite_matching

from kyvo.metrics.criteria import CRITERIA, GUARD, agreement, criterion_of
from kyvo.metrics.jaccard import SceneJaccard, SceneMatcher, scene_jaccard, tau_name
from kyvo.metrics.matching import greedy_assignment, optimal_assignment
from kyvo.scene import SCHEMAS, Attribute, Scene, SceneObject, SceneSchema

# ---- golden cases: files of the published scripts, read with all their flaws

NUMBERS = {"clevr": {"location": 2}, "objaworld": {"location": 4}, "omni3d": {"center_cam": 3, "dimensions": 3}}
WORDS = {"clevr": ("size", "color", "material", "shape"), "objaworld": ("shape",), "omni3d": ("category",)}
KEYS = {"location": "3d_coords"}


def raw_object(dataset: str, raw: Any) -> SceneObject:
    """Take over whatever is there, well-formed or not."""
    if not isinstance(raw, dict):
        return SceneObject({})
    names = (*WORDS[dataset], *NUMBERS[dataset])
    return SceneObject({name: raw[KEYS.get(name, name)] for name in names if KEYS.get(name, name) in raw})


def is_well_formed(dataset: str, obj: SceneObject) -> bool:
    def numbers(name, least):
        found = obj.values.get(name)
        if not isinstance(found, list) or (len(found) != least if dataset == "omni3d" else len(found) < least):
            return False
        return all(isinstance(x, int | float) and not isinstance(x, bool) and math.isfinite(x) for x in found)

    words = all(isinstance(obj.values.get(name), str) for name in WORDS[dataset])
    return words and all(numbers(*item) for item in NUMBERS[dataset].items())


def load(path: Path) -> Any:
    return json.loads(path.read_text())


def clevr_case(case, root):
    """Return predictions and truths by key, in the order in which the published script pairs them."""
    folder = root / case["generated_folder"]
    scenes = load(folder / f"predicted_scenes_{folder.name}.json")["scenes"]
    predictions = [(scene["key"].removesuffix(".png"), scene["objects"]) for scene in scenes]
    truths = [load(path) for path in sorted((root / case["groundtruth_folder"]).glob("*.json"))]
    return predictions, {truth["image_filename"].removesuffix(".png"): truth["objects"] for truth in truths}


def objaworld_case(case, root):
    folder = root / case["generated_folder"]
    scenes = load(folder / f"predicted_scenes_{folder.name}.json")["scenes"]
    truths = {}
    for path in (root / case["groundtruth_folder"]).glob("output-*-large-10K-6/scenes/*.json"):
        setup, truth = path.parts[-3].split("-")[1], load(path)
        for obj in truth["objects"]:
            obj["shape"] = obj["shape"].split("-")[0]
            obj["3d_coords"] = obj["3d_coords"] + ([obj["rotation"]] if "rotation" in obj else [])
        truths[f"{truth['image_filename']}_{setup}"] = truth["objects"]
    return [(scene["key"], scene["objects"]) for scene in scenes], dict(sorted(truths.items()))


def omni3d_case(case, root, official, least_score=None):
    truth, found = load(root / case["groundtruth_file"]), load(root / case["predictions_file"])
    names = {category["id"]: category["name"] for category in truth["categories"]}
    truths = {image["id"]: [] for image in truth["images"]}
    for box in truth["annotations"]:
        if official or (box["valid3D"] and not box["behind_camera"] and min(box["dimensions"]) > 0):
            truths[box["image_id"]].append(box | {"category": names[box["category_id"]]})
    predictions = {}
    if case["method"] == "kyvo":
        ids = {image["file_path"]: image["id"] for image in truth["images"]}
        for scene in found["scenes"]:
            predictions.setdefault(ids[scene["key"]], []).extend(scene["objects"])
    else:
        for box in found:
            if least_score is None or box["score"] >= least_score:
                category = names[box["category_id"]] if official else names.get(box["category_id"], "?")
                predictions.setdefault(box["image_id"], []).append(box | {"category": category})
    return list(predictions.items()), truths


def read_case(case, root, official, **options):
    if case["dataset"] == "omni3d":
        return omni3d_case(case, root, official, **options)
    return {"clevr": clevr_case, "objaworld": objaworld_case}[case["dataset"]](case, root)


def official_pairing(case, predictions, truths):
    """Pair scenes as the scripts do, which drops some."""
    if case["dataset"] == "omni3d":
        with_boxes = {key: objects for key, objects in truths.items() if objects}
        return {key: (objects, with_boxes[key]) for key, objects in predictions if key in with_boxes}
    if case["dataset"] == "objaworld":
        return {index: (objects, truths[key]) for index, (key, objects) in enumerate(predictions)}
    both = list(zip(predictions, truths.items(), strict=False))
    assert all(prediction[0] == truth[0] for prediction, truth in both)
    return {index: (prediction[1], truth[1]) for index, (prediction, truth) in enumerate(both)}


def matcher_of(case, rule):
    name = "arkitscenes" if case["taus"][0] > 1 else "objectron"
    return SceneMatcher(name if case["dataset"] == "omni3d" else case["dataset"], rule)


def raw_scene(dataset, objects):
    return Scene(tuple(raw_object(dataset, raw) for raw in objects))


def case_ids():
    path = Path(__file__).resolve().parents[2] / "shared" / "golden" / "jaccard" / "cases.json"
    return [case["id"] for case in load(path) if case["dataset"] != "qa"] if path.is_file() else []


def expectations():
    """Every case, and those of a detector, whose names say so, also with its low scores dropped."""
    names = case_ids()
    return [(name, "correct") for name in names] + [
        (name, "correct_score_0.05") for name in names if "cube" in name and name[0] == "b"
    ]


@pytest.fixture(scope="module")
def cases(golden):
    root = golden / "jaccard"
    expected = load(root / "expected.json")
    if isinstance(expected, list):
        expected = {entry["id"]: entry for entry in expected}
    return {case["id"]: (case, expected[case["id"]]) for case in load(root / "cases.json")}, root


def count(matcher, prediction, target, taus, malformed=0):
    return [
        (c.true_positives, c.false_positives, c.false_negatives)
        for c in matcher.counts(prediction, target, taus, malformed)
    ]


# A wrong path given to the script, not a matter of scores.
@pytest.mark.parametrize("name", [name for name in case_ids() if name != "c53_trailing_slash"])
def test_official_rule_equals_the_published_scripts(cases, name):
    (case, expected), root = cases[0][name], cases[1]
    dataset, taus = case["dataset"], case["taus"]
    reference = expected["reference"]
    if "error" in reference[str(taus[0])]:
        kinds = {"AssertionError": AssertionError, "KeyError": KeyError, "IndexError": KeyError}
        error = reference[str(taus[0])]["error"]["type"]
        if error == "ZeroDivisionError":
            assert not official_pairing(case, *read_case(case, root, official=True))
            return
        with pytest.raises(kinds.get(error, ValueError)):
            official_scores(case, root)
        return
    scores = official_scores(case, root)
    for index, tau in enumerate(taus):
        rows = {key: [count[index].jaccard(-1.0), *vars(count[index]).values()] for key, count in scores.items()}
        wanted = reference[str(tau)]
        if dataset == "omni3d":
            assert {str(key): row for key, row in rows.items()} == wanted["per_image"]
        else:
            assert list(rows.values()) == wanted["per_scene"]
        assert np.mean([row[0] for row in rows.values()]) == pytest.approx(wanted["jaccard"], abs=1e-12)


def official_scores(case, root):
    matcher = matcher_of(case, "official")
    pairs = official_pairing(case, *read_case(case, root, official=True))
    return {
        key: matcher.counts(*(raw_scene(case["dataset"], objects) for objects in pair), case["taus"])
        for key, pair in pairs.items()
    }


@pytest.mark.parametrize(("name", "expectation"), expectations())
def test_optimal_rule_equals_the_independent_reference(cases, name, expectation):
    (case, expected), root = cases[0][name], cases[1]
    options = {"least_score": 0.05} if expectation != "correct" else {}
    predictions, truths = read_case(case, root, official=False, **options)
    wanted = expected[expectation]
    if "error" in wanted:
        unknown = set(dict(predictions)) - set(truths)
        broken = not all(
            is_well_formed(case["dataset"], raw_object(case["dataset"], raw)) for o in truths.values() for raw in o
        )
        assert unknown if "unknown" in wanted["error"] else broken
        return
    scenes, malformed = [], []
    for key in truths:
        objects = raw_scene(case["dataset"], dict(predictions).get(key, [])).objects
        kept = tuple(obj for obj in objects if is_well_formed(case["dataset"], obj))
        scenes.append(Scene(kept))
        malformed.append(len(objects) - len(kept))
    targets = [raw_scene(case["dataset"], objects) for objects in truths.values()]
    matcher = matcher_of(case, "optimal")
    result = scene_jaccard(scenes, targets, matcher.schema.name, case["taus"], "optimal", malformed)
    assert result["jaccard"].item() == pytest.approx(wanted["mean"], abs=1e-6)
    rows = [count(matcher, *row[:2], case["taus"], row[2]) for row in zip(scenes, targets, malformed, strict=True)]
    for index, tau in enumerate(case["taus"]):
        per_tau = wanted["per_tau"][str(tau)]
        assert result[tau_name(tau)].item() == pytest.approx(per_tau["jaccard"], abs=1e-6)
        assert [list(row[index]) for row in rows] == per_tau["per_scene"]
    assert result["micro_jaccard"].item() == pytest.approx(
        np.mean([v["micro"] for v in wanted["per_tau"].values()]), abs=1e-6
    )


# ---- exact values


def cube(x=0.0, y=0.0, **words):
    values = {"size": "large", "color": "red", "material": "metal", "shape": "cube", "location": (x, y, 0.7)}
    return SceneObject(values | words)


def bench(yaw=0.0, z=0.45):
    return SceneObject({"shape": "bench", "location": (0.0, 0.0, z, yaw)})


def test_every_scalar_on_a_scene_counted_by_hand():
    # The first cube is 0.12 off (found at 3 of 5 thresholds), the second has the wrong colour, one could not be read.
    prediction = Scene((cube(0.12), cube(2.0, color="blue")))
    target = Scene((cube(), cube(2.0)))
    result = {k: v.item() for k, v in scene_jaccard([prediction], [target], malformed=[1]).items()}
    quarter = 0.6 / 4  # TP 1, FP 2, FN 1
    assert result == pytest.approx(
        {
            **{"jaccard": quarter, "jaccard_low": quarter, "jaccard_high": quarter},
            "jaccard_tau0_05": 0.0,
            "jaccard_tau0_10": 0.0,
            "jaccard_tau0_15": 0.25,
            "jaccard_tau0_20": 0.25,
            "jaccard_tau0_25": 0.25,
            "micro_jaccard": quarter,
            "precision": 0.6 / 3,
            "recall": 0.6 / 2,
            "f1": 0.6 * 2 / 5,
            "exact_scene_rate": 0.0,
            "count_accuracy": 0.0,
            "location_error": 0.06,
            "size_accuracy": 1.0,
            "color_accuracy": 0.5,
            "material_accuracy": 1.0,
            "shape_accuracy": 1.0,
            "parse_failure_rate": 1 / 3,
            # Of cubes alone, TP 1, FP 1, FN 1 at three thresholds.
            "jaccard_shape_cube": 0.2,
            "jaccard_shape_sphere": math.nan,
            "jaccard_shape_cylinder": math.nan,
        },
        nan_ok=True,
    )


def test_empty_scenes_agree_and_are_minus_one_by_the_official_rule():
    assert scene_jaccard([Scene()], [Scene()])["jaccard"] == 1
    assert scene_jaccard([Scene()], [Scene()])["precision"] == 1
    assert scene_jaccard([Scene()], [Scene()], rule="official")["jaccard"] == -1
    assert scene_jaccard([Scene()], [Scene((cube(),))])["precision"] == 0


def test_yaw_wraps_in_ours_and_not_in_the_official_rule():
    close = [Scene((bench(3.0),))], [Scene((bench(-3.2),))]
    assert scene_jaccard(*close, "objaworld")["jaccard"] == 1
    assert scene_jaccard(*close, "objaworld", rule="official")["jaccard"] == 0


def test_yaw_errors_go_around_the_circle_and_categories_are_counted_over_all_scenes():
    metric = SceneJaccard("objaworld")
    turned = Scene((bench(3.1), SceneObject(bench().values | {"shape": "table"})))
    metric.update([turned, Scene()], [Scene((bench(-3.1),)), Scene((bench(),))])
    result = {name: value.item() for name, value in metric.compute().items()}
    assert result["yaw_error"] == pytest.approx(2 * math.pi - 6.2)
    assert (result["jaccard_shape_bench"], result["jaccard_shape_table"]) == (0.5, 0)
    assert math.isnan(result["jaccard_shape_bird"])
    assert "yaw_error" not in scene_jaccard([Scene()], [Scene()])
    assert "jaccard_category_cereal_box" in scene_jaccard([Scene()], [Scene()], "objectron")


def test_the_interval_is_that_of_scenes():
    scores = [(Scene((cube(),)) if hit else Scene(), Scene((cube(),))) for hit in [1] * 30 + [0] * 10]
    metric = SceneJaccard()
    metric.update(*zip(*scores, strict=True))
    result = metric.compute()
    assert metric.scene_scores.tolist() == [1.0] * 30 + [0.0] * 10
    # 1.96 standard errors, 0.067 each.
    assert result["jaccard_low"].item() == pytest.approx(0.75 - 0.134, abs=0.03)
    assert result["jaccard_high"].item() == pytest.approx(0.75 + 0.134, abs=0.03)


def test_sizes_agree_up_to_another_bound():
    def box(size):
        return Scene((SceneObject({"category": "cup", "center_cam": (0, 0, 1), "dimensions": (size,) * 3}),))

    for limit, expected in ((0.05, 0), (0.1, 1)):
        metric = SceneJaccard("objectron", criterion=CRITERIA["objectron"].with_size_limit(limit))
        metric.update([box(0.2)], [box(0.3)])
        assert metric.compute()["jaccard"] == expected
    with pytest.raises(ValueError, match="positive"):
        CRITERIA["objectron"].with_size_limit(0.0)
    with pytest.raises(ValueError, match="only boxes"):
        CRITERIA["clevr"].with_size_limit(0.1)


def test_thresholds_are_not_decided_by_rounding():
    # 0.15 - 0.10 is below 0.05 in binary and 0.10 - 0.05 is not.
    for x in (0.05, 0.10, 0.15, 0.30, 0.85):
        pair = [Scene((cube(x),))], [Scene((cube(x - 0.05),))]
        assert scene_jaccard(*pair, taus=[0.05])["jaccard"] == 0
        assert scene_jaccard(*pair, taus=[0.05 + 3 * GUARD])["jaccard"] == 1


def test_greedy_depends_on_the_order_and_on_the_choice():
    distance = np.array([[0.2, 0.1], [np.nan, 0.1]])

    def table(prediction, target):
        found = distance[prediction, target]
        return None if np.isnan(found) else found

    assert greedy_assignment(table, 2, 2, "first") == [(0, 0), (1, 1)]
    assert greedy_assignment(table, 2, 2, "nearest") == [(0, 1)]
    assert optimal_assignment(distance, ~np.isnan(distance)) == [(0, 0), (1, 1)]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"schema": "kitti"}, "no schema is called 'kitti'"),
        ({"schema": "objaworld-shapes"}, "with shapes, as those of schema 'objaworld-shapes', are not compared"),
        ({"rule": "best"}, "'optimal' or 'official'"),
        ({"taus": []}, "positive"),
        ({"taus": [0.1, -1]}, "positive"),
    ],
)
def test_wrong_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        SceneJaccard(**arguments)


def _own(*quantities):
    return SceneSchema(
        "own",
        (
            Attribute("thing", "[THING]", values=("cup", "plate")),
            *(Attribute(f"a{k}", f"[A{k}]", "numbers", quantities=names) for k, names in enumerate(quantities)),
        ),
    )


def test_a_schema_of_your_own_is_compared_by_its_words_and_its_place():
    assert criterion_of(_own(("yaw",), ("x", "y", "z"))).distance == ("x", "y")
    assert criterion_of(_own(("yaw",), ("u", "v"))).distance == ("u", "v")
    with pytest.raises(ValueError, match="no numbers that say where an object is"):
        criterion_of(_own(("yaw",)))
    metric, schema = SceneJaccard(_own(("x", "y", "z"))), _own(("x", "y", "z"))
    true = schema.read({"objects": [{"thing": "cup", "a0": [0, 0, 0]}, {"thing": "plate", "a0": [1, 0, 0]}]})
    near = schema.read({"objects": [{"thing": "cup", "a0": [0, 0.12, 9]}, {"thing": "cup", "a0": [1, 0, 0]}]})
    metric.update([near], [true])
    # Within .15, .20 and .25 one of three different objects is common to both; below that none.
    assert float(metric.compute()["jaccard"]) == pytest.approx(3 / 5 / 3)


def test_lengths_must_agree():
    with pytest.raises(ValueError, match="1 predictions, 2 targets"):
        SceneJaccard().update([Scene()], [Scene(), Scene()])


# ---- properties

coordinates = st.integers(-8, 8).map(lambda step: step * 0.05)
cubes = st.builds(
    lambda x, y, color: cube(x, y, color=color), coordinates, coordinates, st.sampled_from(["red", "blue"])
)
scenes = st.lists(cubes, max_size=5).map(lambda objects: Scene(tuple(objects)))


@settings(max_examples=60, deadline=None)
@given(scenes, scenes, st.randoms())
def test_order_of_objects_does_not_matter_and_sides_may_be_swapped(prediction, target, random):
    shuffled = Scene(tuple(random.sample(prediction.objects, len(prediction))))
    result = scene_jaccard([prediction], [target])
    for other in (scene_jaccard([shuffled], [target]), scene_jaccard([target], [prediction])):
        assert other["jaccard"] == result["jaccard"]
    assert 0 <= result["jaccard"] <= 1
    assert scene_jaccard([target], [target])["jaccard"] == 1


@settings(max_examples=60, deadline=None)
@given(scenes, scenes)
def test_as_many_pairs_as_an_independent_matching(prediction, target):
    matcher = SceneMatcher("clevr")
    allowed = agreement(CRITERIA["clevr"], SCHEMAS["clevr"], prediction.objects, target.objects)
    allowed &= matcher.distances(prediction.objects, target.objects) < 0.25 - GUARD
    most = (maximum_bipartite_matching(csr_matrix(allowed)) >= 0).sum() if allowed.size else 0
    pairs = matcher.pairs(prediction, target, [0.25])[0]
    assert len(pairs) == most
    assert all(allowed[pair] for pair in pairs)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(scenes, scenes, st.integers(0, 2)), min_size=1, max_size=6))
def test_batches_add_up(rows):
    whole, parts = SceneJaccard(), SceneJaccard()
    whole.update(*zip(*rows, strict=True))
    for row in rows:
        parts.update(*([entry] for entry in row))
    torch.testing.assert_close(whole.compute(), parts.compute(), equal_nan=True)


def test_it_draws_itself():
    pytest.importorskip("matplotlib")
    metric = SceneJaccard()
    metric.update([Scene((cube(),))], [Scene((cube(),))])
    assert metric.plot()
