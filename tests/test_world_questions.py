"""Programs and questions: the executor on published questions, and what holds for every question made here."""

import json
import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_modules.worlds.clevr import ATTRIBUTES, ClevrWorld
from data_modules.worlds.programs import IllPosedError, answer, execute, normalize_answer, question_type
from data_modules.worlds.questions import FAMILIES, questions
from data_modules.worlds.references import References

FULL = ClevrWorld()
QUICK = ClevrWorld(objects=(1, 3), extent=1.5, focal=1.8)
ANSWERS = {"True", "False", *map(str, range(11)), *(v for values in ATTRIBUTES.values() for v in values)}


@pytest.mark.parametrize(("name", "count"), [("CLEVR_val", 9), ("generator_1obj_val", 30)])
def test_executor_answers_published_questions(golden, name, count):
    folder = golden / "clevr_real"
    scenes = json.loads((folder / f"scenes/{name}_scenes.json").read_text())["scenes"]
    by_image = {scene["image_filename"]: scene for scene in scenes}
    records = json.loads((folder / f"questions/{name}_questions.json").read_text())["questions"]
    assert len(records) == count
    for record in records:
        scene = by_image[record["image_filename"]]
        assert answer(record["program"], scene) == normalize_answer(record["answer"])


def scene_of(*objects):
    return FULL.complete({"objects": [dict(zip(("size", "color", "material", "shape"), o, strict=True)) | place
                                      for o, place in zip(objects, PLACES, strict=False)]})  # fmt: skip


PLACES = [{"3d_coords": [x, y, 0.7], "rotation": 0.0} for x, y in ((0.0, 0.0), (2.0, 2.0), (-2.0, 1.0))]
THREE = scene_of(
    ("large", "red", "metal", "cube"), ("large", "blue", "rubber", "cube"), ("large", "red", "rubber", "sphere")
)


def program(*nodes, key="function", side="value_inputs"):
    return [{key: name, "inputs": inputs, side: values} for name, inputs, *values in nodes]


@pytest.mark.parametrize(
    ("nodes", "expected"),
    [
        ((("scene", []), ("count", [0])), 3),
        ((("scene", []), ("filter_color", [0], "red"), ("exist", [1])), True),
        ((("scene", []), ("filter_shape", [0], "sphere"), ("unique", [1]), ("query_material", [2])), "rubber"),
        ((("scene", []), ("filter_material", [0], "metal"), ("unique", [1]), ("same_color", [2])), [2]),
        ((("scene", []), ("filter_material", [0], "metal"), ("unique", [1]), ("relate", [2], "right")), [1]),
        ((("scene", []), ("filter_color", [0], "red"), ("filter_shape", [0], "cube"), ("union", [1, 2])), [0, 1, 2]),
        ((("scene", []), ("filter_color", [0], "red"), ("filter_shape", [0], "cube"), ("intersect", [1, 2])), [0]),
        ((("scene", []), ("count", [0]), ("count", [0]), ("less_than", [1, 2])), False),
        ((("scene", []), ("count", [0]), ("count", [0]), ("equal_integer", [1, 2])), True),
    ],
)
def test_executor_functions(nodes, expected):
    assert execute(program(*nodes), THREE)[-1] == expected
    assert execute(program(*nodes, key="type", side="side_inputs"), THREE)[-1] == expected


def test_executor_refuses_what_has_no_answer():
    with pytest.raises(IllPosedError, match="one object, got 2"):
        answer(program(("scene", []), ("filter_color", [0], "red"), ("unique", [1]), ("query_size", [2])), THREE)
    with pytest.raises(ValueError, match="no function `paint` of 1 inputs"):
        answer(program(("scene", []), ("paint", [0])), THREE)


def test_answers_have_one_spelling():
    assert [normalize_answer(a) for a in ("yes", "no", True, False, 3, "3", "cyan")] == [
        "True", "False", "True", "False", "3", "3", "cyan",
    ]  # fmt: skip


@given(seed=st.integers(0, 2**32), full=st.booleans(), synonyms=st.booleans())
@settings(max_examples=50, deadline=None)
def test_every_question_is_well_posed(seed, full, synonyms):
    scene = (FULL if full else QUICK).sample_scene(random.Random(seed))
    records = questions(scene, random.Random(seed), 8, synonyms=synonyms)
    assert len({r["question"] for r in records}) == len(records)
    for record in records:
        # Raises if something spoken of as "the ..." were not the only one.
        assert record["answer"] == answer(record["program"], scene)
        assert record["answer"] in ANSWERS
        assert record["type"] == question_type(record["program"])
        assert record["family"] in FAMILIES
        assert all(k < n for n, node in enumerate(record["program"]) for k in node["inputs"])
        queried = record["type"].removeprefix("query_")
        told = [n["function"] for n in record["program"] if n["function"].startswith("filter")]
        if record["type"] != queried and record["family"] == "zero_hop":
            assert told
            assert f"filter_{queried}" not in told


def spoken_count(noun_phrase, scene):
    """How many objects fit a phrase such as `small red cubes`."""
    words = {w.removesuffix("s") for w in noun_phrase.split()} - {"thing"}
    return sum(words <= {o[name] for name in ATTRIBUTES} for o in scene["objects"])


def test_words_say_what_programs_do():
    seen = Counter()
    for seed in range(150):
        scene = FULL.sample_scene(random.Random(seed))
        for record in questions(scene, random.Random(seed), 6, ["zero_hop", "compare_integer", "single_or"]):
            text, kind = record["question"], record["family"]
            seen[kind] += 1
            if text.startswith("how many") and kind == "zero_hop":
                phrase = text.removeprefix("how many ").removesuffix(" are there")
                assert record["answer"] == str(spoken_count(phrase, scene))
            elif text.startswith("is there a"):
                phrase = text.split(maxsplit=3)[3]
                assert record["answer"] == str(spoken_count(phrase, scene) > 0)
            elif text.startswith("what"):
                attribute, _, phrase = text.split(maxsplit=1)[1].partition(" is the ")
                (fitting,) = [
                    o for o in scene["objects"] if set(phrase.split()) - {"thing"} <= {o[n] for n in ATTRIBUTES}
                ]
                assert record["answer"] == fitting[attribute]
            elif kind == "compare_integer":
                _, _, sign, rest = text.split(maxsplit=3)
                if sign == "as":
                    rest = rest.removeprefix("many ")
                first, second = rest.split(" as " if sign == "as" else " than ")
                one, two = spoken_count(first, scene), spoken_count(second, scene)
                assert record["answer"] == str({"as": one == two, "fewer": one < two, "more": one > two}[sign])
    assert min(seen.values()) > 200


@pytest.mark.parametrize("family", FAMILIES)
def test_answers_are_balanced(family):
    records = []
    for seed in range(200):
        scene = FULL.sample_scene(random.Random(seed))
        records += questions(scene, random.Random(seed), 4, [family])
    assert len(records) > 0.9 * 800
    truths = Counter(r["answer"] for r in records if r["answer"] in ("True", "False"))
    if truths:
        assert 0.4 < truths["True"] / truths.total() < 0.65
    counts = Counter(r["answer"] for r in records if r["type"] == "count")
    if counts:
        assert counts.most_common(1)[0][1] < 0.7 * counts.total()
        assert len(counts) >= 5
    for attribute, values in ATTRIBUTES.items():
        answers = Counter(r["answer"] for r in records if r["type"] == f"query_{attribute}")
        assert not answers or answers.most_common(1)[0][1] < 3 * answers.total() / len(values)


def test_small_scenes_are_asked_about_too():
    for seed in range(60):
        scene = QUICK.sample_scene(random.Random(seed))
        records = questions(scene, random.Random(seed), 4, ["zero_hop"])
        assert len(records) >= 3
        for record in records:
            assert record["question"] == record["question"].lower()
            assert record["question"].split()[0] in ("what", "how", "is")


def test_related_references_need_their_relation():
    for seed in range(60):
        scene = FULL.sample_scene(random.Random(seed))
        for record in questions(scene, random.Random(seed), 4, ["one_hop"]):
            if not record["type"].startswith("query"):
                continue
            nodes = record["program"]
            related = next(k for k, n in enumerate(nodes) if n["function"] == "relate")
            without = [n | {"inputs": [0]} if n["inputs"] == [related] else n for n in nodes]
            with pytest.raises(IllPosedError):
                execute(without, scene)


def test_synonyms_vary_the_words():
    scene = FULL.sample_scene(random.Random(1))
    plain = " ".join(r["question"] for r in questions(scene, random.Random(0), 60))
    varied = " ".join(r["question"] for r in questions(scene, random.Random(0), 60, synonyms=True))
    words = {"tiny", "big", "shiny", "matte", "ball", "block", "object"}
    assert not words & set(plain.split())
    assert len(words & set(varied.split())) >= 5


def test_questions_are_a_function_of_the_seed():
    scene = FULL.sample_scene(random.Random(2))
    assert questions(scene, random.Random(4), 5) == questions(scene, random.Random(4), 5)


def test_unknown_families_are_refused():
    with pytest.raises(ValueError, match="question families must be some of"):
        questions(THREE, random.Random(0), 1, ["four_hop"])


def test_references_know_what_fits():
    references = References(THREE)
    assert references.fitting((None, "red", None, None)) == [0, 2]
    assert references.fitting((None, "red", None, None), among=[1, 2]) == [2]
    assert references.fitting((None, None, None, None)) == [0, 1, 2]
    assert references.fitting((None, "gray", None, None)) == []
    assert references.of(2, random.Random(0), longest=1) == (None, None, None, "sphere")
    assert references.of(2, random.Random(0), longest=1, without=["shape"]) is None
