"""Template files: CLEVR's format with all that its own files use, and what is refused."""

import json
import random
import re
from collections import Counter
from pathlib import Path

import pytest

from data_modules.worlds.clevr import ATTRIBUTES, ClevrWorld
from data_modules.worlds.programs import answer, execute
from data_modules.worlds.questions import FAMILIES, QuestionEngine
from data_modules.worlds.templates import OWN, SIGNATURES, read_templates

KINDS = {"Z": "Size", "C": "Color", "M": "Material", "S": "Shape", "R": "Relation"}


def described(number=""):
    return [f"<{letter}{number}>" for letter in "ZCMS"]


def node(function, inputs=(), *slots):
    return {"inputs": list(inputs), "type": function, **({"side_inputs": list(slots)} if slots else {})}


def template(text, *nodes, null=(), apart=(), unequal=()):
    """A template as CLEVR's files have it, with keys of no concern."""
    slots = dict.fromkeys(slot for n in nodes for slot in n.get("side_inputs", []))
    return {
        "constraints": [
            *({"params": [slot], "type": "NULL"} for slot in null),
            *({"params": list(pair), "type": "OUT_NEQ"} for pair in apart),
            *({"params": list(pair), "type": "NEQ"} for pair in unequal),
        ],
        "nodes": list(nodes),
        "params": [{"name": slot, "type": KINDS[slot[1]]} for slot in slots],
        "query": "not ours to read",
        "text": text if isinstance(text, list) else [text],
    }


D1, D2, D3, D4 = ("<Z> <C> <M> <S>", "<Z2> <C2> <M2> <S2>", "<Z3> <C3> <M3> <S3>", "<Z4> <C4> <M4> <S4>")
SCENE, FIRST = node("scene"), node("filter_unique", [0], *described())

TEMPLATES = {
    "count": template("How many <Z> <C> <M> <S>s are there?", SCENE, node("filter_count", [0], *described())),
    "exist": template(" Are any <Z> <C> <M> <S>s visible?", SCENE, node("filter_exist", [0], *described())),
    "query": template(f"The {D1} has what shape?", SCENE, FIRST, node("query_shape", [1]), null=["<S>"]),
    "hops": template(
        f"What [material] is the {D3} [that is] <R2> the {D2} [that is [really]] <R> the {D1} made of?",
        SCENE,
        FIRST,
        node("relate_filter_unique", [1], "<R>", *described(2)),
        node("relate_filter_unique", [2], "<R2>", *described(3)),
        node("query_material", [3]),
        null=["<M3>"],
        unequal=[("<R>", "<R2>")],
    ),
    "hop_exist": template(
        f"There is a {D1}; are there any {D2}s <R> it?",
        SCENE,
        FIRST,
        node("relate_filter_exist", [1], "<R>", *described(2)),
    ),
    "same": template(
        f"Is there another {D2} that is the same size as the {D1}?",
        SCENE,
        FIRST,
        node("same_size", [1]),
        node("filter_exist", [2], *described(2)),
        null=["<Z>", "<Z2>"],
    ),
    "same_count": template(
        f"How many other things are [made of] the same material as the {D1}?",
        SCENE,
        FIRST,
        node("same_material", [1]),
        node("count", [2]),
        null=["<M>"],
    ),
    "compare": template(
        f"Do the {D2} [that is] <R> the {D1} and the {D3} have the same color?",
        SCENE,
        FIRST,
        node("relate_filter_unique", [1], "<R>", *described(2)),
        node("query_color", [2]),
        SCENE,
        node("filter_unique", [4], *described(3)),
        node("query_color", [5]),
        node("equal_color", [3, 6]),
        null=["<C2>", "<C3>"],
        apart=[(2, 5)],
    ),
    "numbers": template(
        f"Are there fewer {D2}s [that are] <R> the {D1} than {D3}s?",
        SCENE,
        FIRST,
        node("relate_filter_count", [1], "<R>", *described(2)),
        SCENE,
        node("filter_count", [3], *described(3)),
        node("less_than", [2, 4]),
    ),
    "both": template(
        f"How many {D3}s are [both] <R2> the {D2} and <R> the {D1}?",
        SCENE,
        FIRST,
        node("relate", [1], "<R>"),
        SCENE,
        node("filter_unique", [3], *described(2)),
        node("relate", [4], "<R2>"),
        node("intersect", [2, 5]),
        node("filter_count", [6], *described(3)),
        apart=[(2, 5)],
    ),
    "either": template(
        f"How many <S3>s are [either] {D1}s or {D2}s?",
        SCENE,
        SCENE,
        node("filter", [0], *described()),
        node("filter", [1], *described(2)),
        node("union", [2, 3]),
        node("filter_shape", [4], "<S3>"),
        node("count", [5]),
        null=["<S>", "<S2>"],
        apart=[(2, 3)],
    ),
    "either_there": template(
        f"How many things are [either] {D2}s [that are] <R> the {D1} or {D4}s [that are] <R2> the {D3}?",
        SCENE,
        FIRST,
        node("relate_filter", [1], "<R>", *described(2)),
        SCENE,
        node("filter_unique", [3], *described(3)),
        node("relate_filter", [4], "<R2>", *described(4)),
        node("union", [2, 5]),
        node("count", [6]),
    ),
    "one_object": template(
        f"Is the {D1} the {D2}?",
        SCENE,
        FIRST,
        SCENE,
        node("filter_unique", [2], *described(2)),
        node("equal_object", [1, 3]),
    ),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder of template files, one template in each."""
    path = tmp_path_factory.mktemp("templates")
    for name, record in TEMPLATES.items():
        (path / f"{name}.json").write_text(json.dumps([record]))
    return path


@pytest.fixture(scope="module")
def scenes():
    return [ClevrWorld(objects=(4, 8)).sample_scene(random.Random(seed)) for seed in range(40)]


@pytest.mark.parametrize("name", TEMPLATES)
def test_constructs_of_published_files_are_read(folder, scenes, name):
    engine = QuestionEngine(folder, families=[name], per_scene=2)
    asked = engine.ask(scenes, random.Random(0))
    records = [(scene, record) for scene, some in zip(scenes, asked, strict=True) for record in some]
    assert len(records) > 40
    constraints = TEMPLATES[name]["constraints"]
    for scene, record in records:
        assert record["family"] == name
        assert record["answer"] == answer(record["program"], scene)
        assert re.fullmatch(r"[A-Z][a-z ;]+[a-z]\?", record["question"]), record["question"]
        assert not re.search(r"\ba object|  | \?", record["question"])
        functions = [n["function"] for n in record["program"]]
        assert set(functions) <= set(SIGNATURES)
        assert not {f for f in functions if f in ("filter", "relate_filter") or f.endswith(("_unique", "_count"))}
        if any(c["type"] == "NEQ" for c in constraints):
            first, second = (n["value_inputs"][0] for n in record["program"] if n["function"] == "relate")
            assert first != second
        if name in ("compare", "both"):
            outputs = execute(record["program"], scene)
            ends = {"compare": "unique", "both": "relate"}[name]
            last = [outputs[k] for k, function in enumerate(functions) if function == ends]
            assert last[-1] != last[-2]
    assert len({record["answer"] for _, record in records}) > 1


def test_optional_parts_come_and_go(folder, scenes):
    asked = QuestionEngine(folder, families=["hops"]).ask(scenes, random.Random(0))
    texts = [record["question"] for some in asked for record in some]
    words = Counter(word for text in texts for word in ("What material", "that is really", "that is") if word in text)
    assert all(0.1 < count / len(texts) < 0.9 for count in words.values())
    assert len(words) == 3
    plain = QuestionEngine(folder, families=["hops"], synonyms=False).ask(scenes, random.Random(0))
    assert all(r["question"].startswith("What is the ") and "that" not in r["question"] for some in plain for r in some)


def test_empty_slots_stay_empty(folder, scenes):
    for some in QuestionEngine(folder, families=["query", "same"]).ask(scenes, random.Random(0)):
        for record in some:
            banned = {"query": "filter_shape", "same": "filter_size"}[record["family"]]
            assert banned not in [n["function"] for n in record["program"]]


def test_own_templates_cover_clevrs_families():
    own = read_templates()
    assert set(own) == set(FAMILIES) == {path.stem for path in OWN.glob("*.json")}
    counts = {family: len(templates) for family, templates in own.items()}
    # CLEVR's numbers, and one for existence in `single_and`.
    assert counts == {
        "compare_integer": 9, "comparison": 16, "one_hop": 6, "same_relate": 28, "single_and": 6, "single_or": 8,
        "three_hop": 6, "two_hop": 6, "zero_hop": 6,
    }  # fmt: skip
    used = {node.function for templates in own.values() for template in templates for node in template.nodes}
    assert {f"same_{name}" for name in ATTRIBUTES} | {f"query_{name}" for name in ATTRIBUTES} <= used
    assert {f"equal_{name}" for name in ATTRIBUTES} <= used
    for template in (template for templates in own.values() for template in templates):
        assert len(template.texts) == len(set(template.texts)) >= 3
        first, *others = template.texts
        assert re.fullmatch(r"[a-z][a-zA-Z0-9 <>\[\]]+", first), first
        assert all(re.fullmatch(r"[A-Z][^?]+\?", text) for text in others), others
        slots = {slot for node in template.nodes for slot in node.slots}
        for text in template.texts:
            said = set(re.findall(r"<\w+>", text))
            assert said == slots, text


def broken(change):
    """A sound template after a change."""
    record = json.loads(json.dumps(TEMPLATES["compare"]))
    change(record)
    return record


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t["nodes"][1].update(type="filter_one"), r"node 1: unknown function 'filter_one'; there are \["),
        (lambda t: t["nodes"][3].update(inputs=[0]), r"node 3: `query_color` reads \['Object'\], got \['ObjectSet'\]"),
        (lambda t: t["nodes"][3].update(inputs=[6]), r"node 3: `query_color` reads \['Object'\], got \['no node 6"),
        (lambda t: t["nodes"][1].update(side_inputs=["<C>", "<Z>", "<M>", "<S>"]), r"node 1: `filter_unique` has side"),
        (lambda t: t["nodes"][1].update(side_inputs=["<Z9>", "<C>", "<M>", "<S>"]), r"got \['undeclared <Z9>'"),
        (lambda t: t["nodes"].__delitem__(slice(5, None)), "node 4: the last node must give an answer, it gives Obj"),
        (lambda t: t["nodes"].insert(0, "scene"), "node 0: unknown function None"),
        (lambda t: t["nodes"][3].update(inputs=2), "node 3: `inputs` must be a list, got 2"),
        (
            lambda t: t["nodes"][1].update(side_inputs=[["<Z>"], "<C>", "<M>", "<S>"]),
            "node 1: `filter_unique` has side",
        ),
        (lambda t: t.update(constraints={}), "`constraints` must be a list, got {}"),
        (lambda t: t["nodes"].clear(), "the last node must give an answer, it gives None"),
        (lambda t: t["text"].append("Is <Z7> here?"), r"no node fills <Z7> of the text 'Is <Z7> here\?'"),
        (lambda t: t.update(text=[]), "`text` must hold wordings"),
        (lambda t: t.pop("text"), "`text` must be a list, got None"),
        (lambda t: t["params"].append({"name": "Z", "type": "Size"}), "a param is a name such as <Z> and a type"),
        (lambda t: t["params"].append({"name": "<X>", "type": "Weight"}), "a param is a name such as <Z> and a type"),
        (lambda t: t["constraints"].append({"type": "EQ", "params": []}), "a constraint's type is one of"),
        (lambda t: t["constraints"].append({"type": "NULL", "params": ["<R>"]}), "constraint NULL is about 1 of the"),
        (lambda t: t["constraints"].append({"type": "OUT_NEQ", "params": [1]}), "OUT_NEQ is about 2 of the node num"),
        (lambda t: t["constraints"].append({"type": "OUT_NEQ", "params": [1, 8]}), "OUT_NEQ is about 2 of the node"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, change, message):
    (tmp_path / "mine.json").write_text(json.dumps([TEMPLATES["count"], broken(change)]))
    with pytest.raises(ValueError, match=rf"mine\.json, template 1.*({message})"):
        read_templates(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[", "is not JSON"),
        ("{}", "must hold a list of templates, got dict"),
        ("[3]", "template 0: expected an object"),
    ],
)
def test_files_that_hold_no_templates_are_refused(tmp_path, content, message):
    (tmp_path / "mine.json").write_text(content)
    with pytest.raises(ValueError, match=message):
        read_templates(tmp_path)


def test_folders_without_templates_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"expected a folder with question templates \(\*\.json\), found none in"):
        QuestionEngine(tmp_path)
    with pytest.raises(ValueError, match="found none in"):
        read_templates(Path("no/such/folder"))
