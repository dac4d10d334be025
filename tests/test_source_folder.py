"""A user's own folder: pictures and JSON files with a schema in YAML, and what is wrong with them by name."""

import json
import math

import numpy as np
import pytest
from PIL import Image

from data_modules.faults import Fault
from data_modules.sources.folder import FolderSource
from kyvo.sample import Sample
from kyvo.scene import Attribute, SceneSchema, get_schema
from kyvo.schema_file import read_schema_file
from kyvo.task import Task
from kyvo.tokenizers.tokenizer import UnifiedTokenizer

SCHEMA = """
name: kitchen
attributes:
  - name: thing
    marker: "[THING]"
    values: [cup, plate, cutting board]
  - name: place
    marker: "[PLACE]"
    kind: numbers
    quantities: [x, y]
  - name: pose
    marker: "[POSE]"
    quantities: [heading, mass]
    keys: {heading: 1, mass: 1}
numbers:
  x: {low: -1, high: 1, step: 0.02}
  y: {low: 0, high: 1, step: 0.1}
  heading: {count: 8, angle: true}
  mass: {low: 0.01, high: 10, count: 4}
"""
CUP = {"thing": "cup", "place": [0.51, 0.26], "heading": 3.1, "mass": 0.12}
BOARD = {"thing": "cutting board", "place": [-1.0, 1.0], "heading": -0.7, "mass": 9.0}


@pytest.fixture
def schema(tmp_path):
    path = tmp_path / "my.yaml"
    path.write_text(SCHEMA)
    return path


@pytest.fixture
def folder(tmp_path, schema):
    """Writes files below `data/train` and returns the source."""

    def write(**files):
        for name, value in files.items():
            path = tmp_path / "data" / "train" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if value is Image:
                Image.fromarray(np.zeros((4, 6, 3), np.uint8)).save(path)
            else:
                path.write_text(value if isinstance(value, str) else json.dumps(value))
        return FolderSource(tmp_path / "data", schema)

    return write


def scene(*items):
    return {"objects": list(items)}


# ---- schema files ----------------------------------------------------------------------------------------------------


def test_a_schema_file_is_a_schema_and_its_grids(schema):
    found = read_schema_file(schema)
    assert found.schema == SceneSchema(
        "kitchen",
        (
            Attribute("thing", "[THING]", values=("cup", "plate", "cutting board")),
            Attribute("place", "[PLACE]", "numbers", quantities=("x", "y")),
            Attribute("pose", "[POSE]", "numbers", quantities=("heading", "mass"), keys=(("heading", 1), ("mass", 1))),
        ),
    )
    assert get_schema(schema) == get_schema(str(schema)) == found.schema
    grids = {name: found.numbers.grid(name) for name in ("x", "y", "heading", "mass")}
    assert {name: len(grid.values) for name, grid in grids.items()} == {"x": 101, "y": 11, "heading": 8, "mass": 4}
    assert grids["mass"].values == (0.01, 0.1, 1.0, 10.0)
    assert grids["heading"].values[:3] == (-3.1416, -2.3562, -1.5708)
    assert [name for name, grid in grids.items() if grid.angle] == ["heading"]
    assert found.numbers.labels[0] == "x:-1.00"


def test_a_tokenizer_from_a_schema_file_writes_and_reads_its_scenes(schema, tmp_path):
    tokenizer = UnifiedTokenizer.from_preset("unified", schema=str(schema))
    assert tokenizer.vocabulary.markers[-2:] == ("[THING]", "[PLACE]")
    before = tokenizer.schema.read(scene(CUP, BOARD))
    task = Task.parse("3-3")
    sequence = tokenizer.encode(task, Sample("a", scene=before))
    tokenizer.save_pretrained(tmp_path / "tokenizer")
    again = UnifiedTokenizer.from_pretrained(tmp_path / "tokenizer")
    after = again.decode(task, sequence.ids[sequence.prompt_length :])
    assert after.malformed == 0
    cup, board = after.scene
    assert (cup["thing"], cup["place"], board["thing"]) == ("cup", (0.52, 0.3), "cutting board")
    # 3.1 is nearest to half a turn, which is written as minus half a turn.
    assert (cup["pose"], board["pose"]) == ((-3.1416, 0.1), (-0.7854, 10.0))
    with pytest.raises(ValueError, match=r"granularity = 0.1 has no effect: .*my.yaml gives the grid"):
        UnifiedTokenizer.from_preset("unified", schema=schema, granularity=0.1)


def test_words_alone_need_no_grids(tmp_path):
    path = tmp_path / "words.yml"
    path.write_text('{name: words, attributes: [{name: a, marker: "[A]", values: [b, c]}]}')
    assert read_schema_file(path).numbers is None
    tokenizer = UnifiedTokenizer.from_preset("quickstart", schema=path, object_order="given")
    assert len(tokenizer.numbers.labels) == 121
    shapes = tmp_path / "shapes.yaml"
    shapes.write_text('{name: s, attributes: [{name: a, marker: "[A]", kind: shape, codes: 64}]}')
    assert get_schema(shapes).attributes == (Attribute("a", "[A]", "shape", codes=64),)


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("name: kitchen", "names: kitchen", r"the file: unknown key 'names'; expected name, attributes and perhaps"),
        ("name: kitchen\n", "", r"the file: key 'name' is missing"),
        ("name: kitchen", "name: [kitchen]", r"expected name: a word, and attributes: a list"),
        (
            'marker: "[THING]"',
            "marker: THING",
            r"attribute 'thing': .*a marker like \"\[SIZE\]\", got 'thing' and 'THING'",
        ),
        ('marker: "[THING]"', "marker: [THING]", r"got 'thing' and \['THING'\]"),
        ('marker: "[THING]"', 'marker: "[IMAGE-END]"', r"'thing': the marker \[IMAGE-END\] has a meaning of its own"),
        ('"[POSE]"', '"[PLACE]"', r"the markers of attributes should differ from each other; '\[PLACE\]' occurs twice"),
        ("name: pose", "name: place", r"the names of attributes should differ from each other; 'place'"),
        ("[x, y]", "[x, mass]", r"the quantities of attributes should differ from each other; 'mass'"),
        ("cup, plate", "cup, no", r"attribute 'thing': expected a list of words, got False"),
        ("cup, plate", "cup, cup", r"attribute 'thing' should differ from each other; 'cup'"),
        ("values: [cup, plate, cutting board]", "values: []", r"attribute 'thing': expected a list of words"),
        ("values: [cup, plate, cutting board]", "valeus: [cup]", r"attribute 'thing': unknown key 'valeus'"),
        ("values: [cup, plate, cutting board]", "", r"attribute 'thing' \(word\): words need values"),
        ("kind: numbers", "kind: number", r"attribute 'place': kind is word, numbers or shape, not 'number'"),
        ("kind: numbers", "kind: word", r"attribute 'place' \(word\)"),
        ("keys: {heading: 1, mass: 1}", "keys: {heading: 1}", r"attribute 'pose': keys .* do not add up to 2"),
        ("keys: {heading: 1, mass: 1}", "keys: [heading, mass]", r"attribute 'pose': keys says how many values"),
        ("keys: {heading: 1, mass: 1}", "codes: many", r"attribute 'pose': codes is how many codes"),
        (
            "  - name: thing",
            "  - thing\n  - name: thing",
            r"attribute number 1: expected a mapping with name, marker, got str",
        ),
        ("  x: {low", "  z: {low", r"numbers: unknown key 'z'; expected x, y, heading, mass"),
        ("  y: {low: 0, high: 1, step: 0.1}", "", r"numbers: key 'y' is missing"),
        ("step: 0.02", "steps: 0.02", r"numbers of 'x': expected \{low, high, step\}, .*got \{'low': -1"),
        ("step: 0.02", "step: 0.03", r"numbers of 'x': -1 to 1 is not a whole number of steps of 0.03"),
        ("step: 0.02", "step: .inf", r"numbers of 'x': step should be a number, got inf"),
        ("step: 0.02", "step: fine", r"numbers of 'x': step should be a number, got 'fine'"),
        ("count: 4", "count: 4.5", r"numbers of 'mass': count should be a whole number, got 4.5"),
        ("low: 0.01", "low: 0", r"numbers of 'mass': expected 0 < low < high and a count of at least 2"),
        (
            "low: 0.01, high: 10, count: 4",
            "low: 1, high: 1.0001, count: 400",
            r"numbers of 'mass': neighbours differ by",
        ),
        ("angle: true", "angle: yes please", r"numbers of 'heading': expected"),
        (", angle: true", "", r"numbers of 'heading': expected"),
    ],
)
def test_faults_of_a_schema_file_are_named(tmp_path, old, new, reason):
    path = tmp_path / "my.yaml"
    path.write_text(SCHEMA.replace(old, new))
    with pytest.raises(ValueError, match=reason) as caught:
        read_schema_file(path)
    assert str(path) in str(caught.value)


def test_what_is_no_schema_file(tmp_path):
    with pytest.raises(ValueError, match=r"no\.yaml: there is no such schema file"):
        get_schema(tmp_path / "no.yaml")
    (tmp_path / "bad.yaml").write_text("a: [")
    with pytest.raises(ValueError, match=r"bad\.yaml: not YAML"):
        get_schema(tmp_path / "bad.yaml")
    with pytest.raises(ValueError, match="no schema is called 'clever'; there are clevr"):
        get_schema("clever")


# ---- folders ---------------------------------------------------------------------------------------------------------


def test_samples_and_their_edits(folder, tmp_path):
    asked = [{"question": "How many cups?", "answer": "1", "type": "count"}]
    source = folder(
        **{
            "images/a.png": Image,
            "images/b.jpg": Image,
            "scenes/a.json": scene(CUP) | {"camera": "mine"},
            "scenes/b.json": scene(),
            "questions/a.json": asked,
            "instructions/a.json": {"text": "Add a board", "type": "insert"},
            "target_scenes/a.json": scene(CUP, BOARD),
            "target_images/a.png": Image,
            ".DS_Store": "x",
            "scenes/.DS_Store": "x",
        }
    )
    assert (source.splits(), source.schema.name) == (("train",), "kitchen")
    first, edit, second = source.samples("train")
    assert [one.key for one in (first, edit, second)] == ["a", "a-edit", "b"]
    assert [one.edit for one in (first, edit, second)] == [False, True, False]
    assert json.loads(first.members["question.json"]) == asked
    assert json.loads(first.members["scene.json"]) == scene(CUP) | {"camera": "mine"}
    assert set(edit.members) == {"scene.json", "instruction.json", "target.scene.json"}
    assert {stem: picture.path.name for stem, picture in edit.pictures.items()} == {
        "image": "a.png",
        "target.image": "a.png",
    }
    assert second.pictures["image"].path == tmp_path / "data" / "train" / "images" / "b.jpg"


def test_scenes_or_pictures_alone_will_do(folder):
    (sample,) = folder(**{"scenes/a.json": scene(CUP)}).samples("train")
    assert (set(sample.members), dict(sample.pictures)) == ({"scene.json"}, {})


GOOD = {"images/a.png": Image, "scenes/a.json": scene(CUP), "images/z.png": Image, "scenes/z.json": scene()}


@pytest.mark.parametrize(
    ("files", "member", "reason"),
    [
        ({"images/m.png": Image}, "scene.json", "there is no such file"),
        ({"scenes/m.json": scene()}, "image", "expected m.png or m.jpg, found no file"),
        ({"scenes/m.json": scene(), "images/m.gif": "x"}, "image", "expected m.png or m.jpg, found m.gif"),
        ({"scenes/m.json": scene(), "images/m.jpg": "x", "images/m.png": "x"}, "image", "found m.jpg, m.png"),
        ({"images/m.png": Image, "scenes/m.json": "{"}, "scene.json", "Expecting property name"),
        ({"images/m.png": Image, "scenes/m.json": []}, "scene.json", "expected a mapping with a list under 'objects'"),
        (
            {"images/m.png": Image, "scenes/m.json": scene(CUP | {"thing": "fork"})},
            "scene.json",
            "'fork' is none of cup",
        ),
        (
            {"images/m.png": Image, "scenes/m.json": scene(CUP, CUP | {"place": [0, 7]})},
            "scene.json",
            "object 1, attribute 'place': y = 7 is outside the number grid (0 to 1)",
        ),
        (
            {"images/m.png": Image, "scenes/m.json": scene(CUP | {"mass": math.nan})},
            "scene.json",
            "expected finite numbers",
        ),
        (
            {"images/m.png": Image, "scenes/m.json": scene(), "questions/m.json": {}},
            "question.json",
            "expected a list of",
        ),
        (
            {"images/m.png": Image, "scenes/m.json": scene(), "questions/m.json": [{"question": "a", "answer": True}]},
            "question.json",
            "question 0 needs words under question, answer, type; 'answer': True",
        ),
        ({"questions/m.json": []}, "image", "found no file"),
        ({"images/m.n.png": Image, "scenes/m.n.json": scene()}, "", "must hold no dot"),
    ],
)
def test_bad_files_are_faults_in_their_places(folder, files, member, reason):
    first, fault, last = folder(**GOOD, **files).samples("train")
    assert (first.key, last.key) == ("a", "z")
    assert isinstance(fault, Fault)
    assert (fault.key, fault.member) == ("m.n" if "m.n" in str(files) else "m", member)
    assert reason in fault.reason


def test_bad_edits_leave_the_sample_they_start_from(folder):
    sample, fault, _ = folder(**GOOD, **{"instructions/a.json": {"text": "x", "type": "y"}}).samples("train")
    assert (sample.key, fault.reason) == ("a", "expected a folder target_scenes, target_images or both")
    sample, edit, missing, _ = folder(**{"target_scenes/b.json": scene()}).samples("train")
    assert (sample.key, edit.key, edit.member) == ("a", "a", "target.scene.json")
    assert (missing.key, missing.reason) == ("b", "expected b.png or b.jpg, found no file")


def test_a_folder_and_a_split_that_are_not_there(folder, tmp_path, schema):
    with pytest.raises(ValueError, match="no split 'val', only train"):
        list(folder(**GOOD).samples("val"))
    with pytest.raises(ValueError, match="nowhere is no folder"):
        FolderSource(tmp_path / "nowhere", schema)
