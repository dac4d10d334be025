"""Programs and questions: the executor on published questions, and what holds for every question made here."""

import json
import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_modules.worlds.clevr import ATTRIBUTES, ClevrWorld
from data_modules.worlds.programs import IllPosedError, answer, execute, normalize_answer, question_type
from data_modules.worlds.questions import FAMILIES, QuestionEngine
from data_modules.worlds.references import References

FULL = ClevrWorld()
QUICK = ClevrWorld(image_size=(64, 64), objects=(1, 3), extent=1.5, focal=1.8, light_jitter=0)
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


@pytest.fixture(scope="module")
def scenes():
    return [FULL.sample_scene(random.Random(seed)) for seed in range(100)]


@pytest.fixture(scope="module")
def quick_scenes():
    return [QUICK.sample_scene(random.Random(seed)) for seed in range(300)]


def steps(program):
    """Indices of the nodes that go from an object to others."""
    return [k for k, n in enumerate(program) if n["function"] == "relate" or n["function"].startswith("same_")]


def with_everything(program, k):
    """The program with all objects in place of a node's."""
    return [*program[:k], {"function": "scene", "inputs": [], "value_inputs": []}, *program[k + 1 :]]


@given(seed=st.integers(0, 2**32), full=st.booleans(), synonyms=st.booleans(), longest=st.integers(1, 4))
@settings(max_examples=35, deadline=None)
def test_every_question_is_well_posed(seed, full, synonyms, longest):
    rng = random.Random(seed)
    block = [(FULL if full else QUICK).sample_scene(rng) for _ in range(3)]
    asked = QuestionEngine(longest=longest, synonyms=synonyms, per_scene=12).ask(block, rng)
    for scene, records in zip(block, asked, strict=True):
        assert 1 <= len({r["question"] for r in records}) == len(records) <= 12
        for record in records:
            # Raises if something spoken of as "the ..." were not the only one.
            assert record["answer"] == answer(record["program"], scene)
            assert record["answer"] in ANSWERS
            assert record["type"] == question_type(record["program"])
            assert record["family"] in FAMILIES
            check_program(record, scene, longest)
            assert not set("<>[]") & set(record["question"])
            assert "  " not in record["question"]


def check_program(record, scene, longest):
    program = record["program"]
    assert all(k < n for n, node in enumerate(program) for k in node["inputs"])
    used = [k for node in program for k in node["inputs"]]
    assert sorted(used) == list(range(len(program) - 1)), "a tree: each node but the last is read once"
    functions = [node["function"] for node in program]
    queried = record["type"].removeprefix("query_")
    if record["type"] != queried:
        for k in description(program, len(program) - 2):
            assert functions[k] != f"filter_{queried}"
    for k in range(len(program)):
        # A union is filtered by one more attribute.
        if not functions[k].startswith("filter_") and "union" not in functions:
            assert len(description(program, k)) <= longest


def description(program, k):
    """The filters that end in node k, or in what `unique`, `count` and `exist` of node k read."""
    if program[k]["function"] in ("unique", "count", "exist"):
        k = program[k]["inputs"][0]
    found = []
    while program[k]["function"].startswith("filter_"):
        found.append(k)
        k = program[k]["inputs"][0]
    return found


def spoken_count(noun_phrase, scene):
    """How many objects fit a phrase such as `small red cubes`."""
    words = {w.removesuffix("s") for w in noun_phrase.split()} - {"thing"}
    return sum(words <= {o[name] for name in ATTRIBUTES} for o in scene["objects"])


def test_words_say_what_programs_do(scenes):
    seen = Counter()
    engine = QuestionEngine(families=["zero_hop", "compare_integer", "single_or"], synonyms=False, per_scene=18)
    for scene, records in zip(scenes, engine.ask(scenes, random.Random(0)), strict=True):
        for record in records:
            text, kind = record["question"], record["family"]
            if "the " in text and kind != "zero_hop":
                continue
            seen[kind] += 1
            if kind == "single_or":
                lead, _, phrase = text.removeprefix("how many ").partition(" are ")
                wanted = [set(p.replace("s ", " ").rstrip("s").split()) - {"thing"} for p in phrase.split(" or ")]
                more = {w.removesuffix("s") for w in lead.split()} - {"thing"}
                looks = [{o[name] for name in ATTRIBUTES} for o in scene["objects"]]
                assert record["answer"] == str(sum(more <= o and any(w <= o for w in wanted) for o in looks))
            elif text.startswith("how many"):
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
            else:
                _, _, sign, rest = text.split(maxsplit=3)
                if sign == "as":
                    rest = rest.removeprefix("many ")
                first, second = rest.split(" as " if sign == "as" else " than ")
                one, two = spoken_count(first, scene), spoken_count(second, scene)
                assert record["answer"] == str({"as": one == two, "fewer": one < two, "more": one > two}[sign])
    assert min(seen.values()) > 120


def test_relations_are_said_as_they_are_meant(scenes):
    words = {"left of": "left", "right of": "right", "in front of": "front", "behind": "behind"}
    engine = QuestionEngine(families=["one_hop"], synonyms=False)
    for scene, records in zip(scenes, engine.ask(scenes, random.Random(0)), strict=True):
        for record in records:
            if record["type"] == "count":
                phrase, _, rest = record["question"].removeprefix("how many ").partition(" are ")
                said, _, anchor = rest.partition(" the ")
                looks = [{o[name] for name in ATTRIBUTES} for o in scene["objects"]]
                spoken = [k for k, words_of in enumerate(looks) if set(anchor.split()) - {"thing"} <= words_of]
                there = [scene["objects"][k] for k in scene["relationships"][words[said]][spoken[0]]]
                assert len(spoken) == 1
                assert record["answer"] == str(spoken_count(phrase, {"objects": there}))


@pytest.mark.parametrize("family", FAMILIES)
def test_answers_are_balanced(family, scenes):
    asked = QuestionEngine(families=[family], per_scene=4).ask(scenes, random.Random(1))
    records = [record for some in asked for record in some]
    assert len(records) > 0.85 * 4 * len(scenes)
    truths = Counter(r["answer"] for r in records if r["answer"] in ("True", "False"))
    if truths:
        assert 0.45 < truths["True"] / truths.total() < 0.55
    counts = Counter(r["answer"] for r in records if r["type"] == "count")
    if counts:
        assert counts.most_common(1)[0][1] < 0.4 * counts.total()
        assert len(counts) >= 4
    for attribute, values in ATTRIBUTES.items():
        answers = Counter(r["answer"] for r in records if r["type"] == f"query_{attribute}")
        assert not answers or answers.most_common(1)[0][1] < 1.6 * answers.total() / len(values)


def test_families_and_answers_have_their_shares(scenes):
    """Templates are used alike, so families have the shares of CLEVR's."""
    records = [r for some in QuestionEngine().ask(scenes, random.Random(2)) for r in some]
    assert len(records) == 10 * len(scenes)
    templates = {"same_relate": 28, "comparison": 16, "compare_integer": 9, "single_or": 8}
    for family, count in Counter(r["family"] for r in records).items():
        assert count / len(records) == pytest.approx(templates.get(family, 6) / 91, rel=0.25)


def test_small_worlds_are_asked_shortly_and_evenly(quick_scenes):
    engine = QuestionEngine(families=["zero_hop"], longest=2, synonyms=False, per_scene=6)
    asked = engine.ask(quick_scenes, random.Random(0))
    assert all(len(records) >= 5 for records in asked)
    records = [r for some in asked for r in some]
    for record in records:
        assert record["question"] == record["question"].lower()
        assert record["question"].split()[0] in ("what", "how", "is")
        assert len(record["question"].split()) <= 7
    # Shares of the commonest answers; of words, a little above what even answers would have.
    limits = {"count": 0.39, "exist": 0.52, "query_color": 0.16, "query_material": 0.52, "query_shape": 0.36}
    for kind, limit in {**limits, "query_size": 0.52}.items():
        answers = Counter(r["answer"] for r in records if r["type"] == kind)
        assert answers.total() > 0.12 * len(records)
        assert answers.most_common(1)[0][1] < limit * answers.total()


@pytest.mark.parametrize("block", [1, 8])
def test_small_blocks_are_even_too(block, scenes):
    records = []
    for start in range(0, 64, block):
        asked = QuestionEngine().ask(scenes[start : start + block], random.Random(start))
        records += [r for some in asked for r in some]
    truths = Counter(r["answer"] for r in records if r["answer"] in ("True", "False"))
    assert 0.4 < truths["True"] / truths.total() < 0.6


def test_steps_to_other_objects_matter(scenes):
    asked = QuestionEngine().ask(scenes, random.Random(3))
    seen = Counter()
    for scene, records in zip(scenes, asked, strict=True):
        for record in records:
            nodes = record["program"]
            if record["family"] == "compare_integer" or (record["family"], record["answer"]) == ("single_or", "0"):
                continue
            for k in steps(nodes):
                try:
                    outputs = execute(with_everything(nodes, k), scene)
                except IllPosedError:
                    continue
                end = nodes[-1]["inputs"][0] if nodes[-1]["function"] == "exist" else -1
                if record["family"] == "single_or":
                    # The filters behind the step say less without it; the union may be the same.
                    end = next(n for n in range(k + 1, len(nodes)) if not nodes[n]["function"].startswith("filter")) - 1
                assert outputs[end] != execute(nodes, scene)[end]
                seen[record["family"]] += 1
    assert set(seen) >= {"one_hop", "same_relate", "single_and", "single_or"}


def test_neither_of_two_descriptions_contains_the_other(scenes):
    engine = QuestionEngine(families=["compare_integer"], synonyms=False)
    plain = 0
    for records in engine.ask(scenes, random.Random(4)):
        for record in records:
            if "the " not in record["question"]:
                plain += 1
                _, _, sign, rest = record["question"].split(maxsplit=3)
                first, second = rest.removeprefix("many ").split(" as " if sign == "as" else " than ")
                one, two = ({w.removesuffix("s") for w in phrase.split()} - {"thing"} for phrase in (first, second))
                assert not one <= two
                assert not two <= one
    assert plain > 60


def test_every_scene_with_objects_is_asked_about(tmp_path):
    lone = ClevrWorld(objects=(1, 1)).sample_scene(random.Random(0))
    assert QuestionEngine().ask([{**lone, "objects": []}], random.Random(0)) == [[]]
    (tmp_path / "sizes.json").write_text(
        json.dumps(
            [
                {
                    "text": ["what size is the <S>"],
                    "params": [{"name": s, "type": t} for s, t in TYPES],
                    "constraints": [{"type": "NULL", "params": [s]} for s in ("<Z>", "<C>", "<M>")],
                    "nodes": [
                        {"type": "scene", "inputs": []},
                        {"type": "filter_unique", "inputs": [0], "side_inputs": [s for s, _ in TYPES]},
                        {"type": "query_size", "inputs": [1]},
                    ],
                }
            ]
        )
    )
    asked = QuestionEngine(tmp_path, synonyms=False).ask([lone] * 40, random.Random(0))
    assert [len(records) for records in asked[1:]] == [1] * 39, "the same answer, against all balance"
    assert {r["question"] for records in asked for r in records} <= {
        "what size is the thing", f"what size is the {lone['objects'][0]['shape']}",
    }  # fmt: skip


TYPES = [("<Z>", "Size"), ("<C>", "Color"), ("<M>", "Material"), ("<S>", "Shape")]


def test_synonyms_vary_the_words(scenes):
    plain, varied = (
        " ".join(r["question"] for some in QuestionEngine(synonyms=s).ask(scenes[:20], random.Random(0)) for r in some)
        for s in (False, True)
    )
    words = {"tiny", "big", "shiny", "metallic", "matte", "ball", "block", "object", "side"}
    assert not words & set(plain.replace("?", "").split())
    assert words <= set(varied.replace("?", "").split())
    assert "?" not in plain


def test_other_is_said_only_of_what_may_be_another(scenes):
    """Not `another red cube` beside `the blue cube`, which is no red cube."""
    engine = QuestionEngine(families=["same_relate"], synonyms=False)
    with_other = Counter()
    for records in engine.ask(scenes, random.Random(5)):
        for record in records:
            values = [{}, {}]
            functions = [node["function"] for node in record["program"]]
            same = next(k for k, name in enumerate(functions) if name.startswith("same_"))
            for k, node in enumerate(record["program"]):
                if node["function"].startswith("filter_"):
                    values[k > same][node["function"]] = node["value_inputs"][0]
            clash = any(values[0].get(name, value) != value for name, value in values[1].items())
            says_other = {"other", "another"} & set(record["question"].split())
            assert bool(says_other) != clash
            with_other[clash] += 1
    assert min(with_other.values()) > 15


def test_questions_are_a_function_of_the_seed(scenes):
    one, two = (QuestionEngine().ask(scenes[:8], random.Random(4)) for _ in range(2))
    assert json.dumps(one) == json.dumps(two)
    assert one != QuestionEngine().ask(scenes[:8], random.Random(5))
    assert len(QuestionEngine(per_scene=5).ask(scenes[:1], random.Random(4))[0]) == 5


def test_the_first_questions_are_of_all_kinds(scenes):
    asked = QuestionEngine(families=["zero_hop"], longest=2, per_scene=6).ask(scenes, random.Random(0))
    first, every = (Counter(record["type"] for records in asked for record in records[:n]) for n in (1, 6))
    shares = {kind: count / sum(every.values()) for kind, count in every.items()}
    assert set(first) == set(every)
    assert all(abs(first[kind] / len(asked) - share) < 0.12 for kind, share in shares.items())


def test_unknown_settings_are_refused():
    with pytest.raises(ValueError, match="question families must be some of"):
        QuestionEngine(families=["four_hop"])
    with pytest.raises(ValueError, match="longest must be at least 1"):
        QuestionEngine(longest=0)


def test_references_know_what_fits():
    references = References(THREE)
    assert references.fitting((None, "red", None, None)) == [0, 2]
    assert references.fitting((None, "red", None, None), among=[1, 2]) == [2]
    assert references.fitting((None, None, None, None)) == [0, 1, 2]
    assert references.fitting((None, "gray", None, None)) == []
    assert references.of(2, random.Random(0), longest=1) == (None, None, None, "sphere")
