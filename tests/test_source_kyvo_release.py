"""The released Kyvo data: ids spelled out as published become scenes, text and codes, and damage is named."""

import copy
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_modules.faults import BadInputError, Fault
from data_modules.sources.json_table import JsonTable
from data_modules.sources.kyvo_release import KyvoReleaseSource, ReleasePart, answer_type, clevr_parts
from data_modules.sources.source import SourceSample
from kyvo.sample import Sample
from kyvo.scene import SCHEMAS
from kyvo.task import Task

# The released ids of CLEVR: numbers from 128256 (-3.000) in steps of 0.005, then the markers.
CUBE = [129459, 129461, 3544, 129462, 58988, 129463, 9501, 129464, 24671, 129465, 128746, 128866, 128996, 129460]
SPHERE = [129459, 129461, 2678, 129462, 2579, 129463, 23506, 129464, 26436, 129465, 128856, 129456, 128926, 129460]
SCENE, TARGET = [129457, *CUBE, 129458], [129457, *CUBE, *SPHERE, 129458]
STRING = "[SCENE-START][OBJECT-START][SIZE] large[COLOR] cyan[MATERIAL] metal[SHAPE] cube[LOCATION]-0.5500.0500.700"
STRING += "[OBJECT-END][SCENE-END]"
CUBE_JSON = {"size": "large", "color": "cyan", "material": "metal", "shape": "cube", "3d_coords": [-0.55, 0.05, 0.7]}
INSTRUCTION, QUESTION = [129468, 13319, 279, 24671, 129469], [129468, 3957, 1070, 264, 2579, 24671, 30, 129469]
TRUE, TWO, RED = [129468, 2575, 129469], [129468, 17, 129469], [129468, 1171, 129469]
CODES = list(range(256))
AFTER = list(range(1023, 767, -1))
SCENES, IMAGES = "3d-scenes/train_tokenized_scenes_{}.json", "images/train_vqgan_indices_{}.json"
MERGED = "merged_for_rendering_and_recognition"


@pytest.fixture(scope="module")
def sources(golden, tmp_path_factory):
    empty, text = tmp_path_factory.mktemp("empty"), golden / "llama3_tokenizer"
    return {name: KyvoReleaseSource(empty, text, name) for name in ("clevr", "objaworld", "objectron")}


@pytest.fixture
def source_of(sources, tmp_path):
    """Writes files and returns the source that reads them; the text tokenizer is loaded once."""

    def make(schema="clevr", parts=None, **files):
        for name, value in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(value if isinstance(value, str) else json.dumps(value))
        source = copy.copy(sources[schema])
        source.root = tmp_path
        source.parts = source._published(schema) if parts is None else parts
        return source

    return make


def entry(ids, string=None):
    return {"token_ids": ids} | ({} if string is None else {"string": string})


def plain(**changes):
    """The published scenes and codes of one sample, with entries put in their place."""
    files = {SCENES.format(MERGED): {"a.png": entry(SCENE)}, IMAGES.format(MERGED): {"a.png": CODES}}
    names = {"scenes": SCENES.format(MERGED), "images": IMAGES.format(MERGED)}
    return files | {names[field]: value for field, value in changes.items()}


def decoded(sample):
    """Members of a sample as values."""
    values = {name: json.loads(data) for name, data in sample.members.items() if name.endswith("json")}
    return values | {name: _codes(data) for name, data in sample.members.items() if name.endswith("npy")}


def _codes(data):
    from data_modules.shards import decode_npy

    array = decode_npy(data)
    assert array.dtype == np.uint16
    return array.tolist()


def test_scenes_and_codes(source_of):
    source = source_of(
        **plain(scenes={"a.png": entry(SCENE, STRING), "b": entry(TARGET)}, images={"a.png": CODES, "b": AFTER})
    )
    assert source.splits() == ("train",)
    first, second = source.samples("train")
    assert (first.key, second.key, first.edit, dict(first.pictures)) == ("train-scenes-a", "train-scenes-b", False, {})
    # Codes are stored in raster order and without the offset of their ids.
    assert decoded(first) == {
        "scene.json": {"image_filename": "a.png", "objects": [CUBE_JSON]},
        "image.codes.npy": CODES,
    }
    assert decoded(second)["scene.json"]["objects"][1]["3d_coords"] == [0.0, 3.0, 0.35]
    assert decoded(second)["image.codes.npy"] == AFTER


def test_questions_are_a_split_of_their_own(source_of):
    keys = ("a", "b", "c")
    source = source_of(
        **{
            SCENES.format("for_vqa"): {key: entry(SCENE) for key in keys},
            IMAGES.format("for_vqa"): dict.fromkeys(keys, CODES),
            "text/train_vqa_questions.json": {key: entry(QUESTION, "Is there a red cube?") for key in keys},
            "text/train_vqa_answers.json": dict(zip(keys, map(entry, (TRUE, TWO, RED)), strict=True)),
        }
    )
    assert source.splits() == ("train-questions",)
    samples = [decoded(sample) for sample in source.samples("train-questions")]
    asked = [sample["question.json"][0] for sample in samples]
    assert {one["question"] for one in asked} == {"Is there a red cube?"}
    assert [(one["answer"], one["type"]) for one in asked] == [("True", "boolean"), ("2", "number"), ("red", "color")]
    assert set(samples[0]) == {"scene.json", "image.codes.npy", "question.json"}
    assert answer_type("perhaps", SCHEMAS["clevr"]) == "text"


def edit_files():
    moving = "test_vqgan_indices_moving_with_relation.json"
    return {
        SCENES.format("source"): {"a": entry(SCENE)},
        SCENES.format("target"): {"a": entry(TARGET)},
        IMAGES.format("source"): {"a": CODES},
        IMAGES.format("target"): {"a": AFTER},
        "text/train_text_instructions.json": {"a": entry(INSTRUCTION, "[TEXT-START]Remove the cube[TEXT-END]")},
        "3d-scenes/instruction-following-eval-source/test_tokenized_scenes_moving_with_relation.json": {
            "a": entry(SCENE)
        },
        "3d-scenes/instruction-following-eval-target/test_tokenized_scenes_moving_with_relation.json": {
            "a": entry(TARGET)
        },
        f"images/instruction-following-eval-source/{moving}": {"a": CODES},
        f"images/instruction-following-eval-target/{moving}": {"a": AFTER},
        "text/instruction-following-eval/test_text_instructions_moving_with_relation.json": {"a": entry(INSTRUCTION)},
    }


def test_edits_and_the_kinds_of_those_for_testing(source_of):
    source = source_of(**edit_files())
    # Without the scenes of a split, its edits are there by themselves.
    assert source.splits() == ("train", "test")
    (train,), (test,) = source.samples("train"), source.samples("test")
    assert train.edit
    found = decoded(train)
    assert found["instruction.json"] == {"text": "Remove the cube", "type": "edit"}
    assert (found["image.codes.npy"], found["target.image.codes.npy"]) == (CODES, AFTER)
    assert [len(found[name]["objects"]) for name in ("scene.json", "target.scene.json")] == [1, 2]
    assert decoded(test)["instruction.json"]["type"] == "move"
    assert (train.key, test.key) == ("train-edits-a", "test-moving_with_relation-a")


def test_sequences_have_the_official_ids(source_of):
    from data_modules.records import decode_record
    from data_modules.shards import RawSample

    source = source_of(**edit_files())
    (edit,) = source.samples("train")
    sample = decode_record(RawSample("x", edit.key, edit.members), source.schema).sample
    found = source.tokenizer.encode(Task.parse("I+3+T-I+3"), sample).ids.tolist()
    order = sorted(range(256), key=lambda place: (abs(place - 120), place > 120))
    image = [129466, *(129471 + code for code in CODES), 129467]
    target = [129466, *(129471 + AFTER[place] for place in order), 129467]
    assert found == [128000, *image, *SCENE, *INSTRUCTION, 129470, *target, *TARGET, 128001]


def test_a_release_packs(source_of, tmp_path):
    from data_modules.index import Index
    from data_modules.inspection import check
    from data_modules.pack import pack

    source = source_of(**plain(), **edit_files())
    summary = pack(source, tmp_path / "shards", splits=("train",), workers=1)
    assert (summary["train"]["good"], summary["train"]["bad"]) == (2, 0)
    assert check(tmp_path / "shards") == {"train": 1, "train-edits": 1}
    assert Index.read(tmp_path / "shards").schema == "clevr"


def test_objectron_keeps_the_path_and_words_of_two_ids(source_of):
    ids = [128359, 128361, 128363, 62233, 3830, 128364, 128276, 128266, 128341, 128365, 128304, 128314, 128312]
    ids += [128362, 128360]
    source = source_of(
        "objectron",
        **{
            "3d-scenes/test_tokenized_scenes.json": {"7": entry(ids, {"file_path": "objectron/test/x.jpg"})},
            "images/test_vqgan_indices.json": {"7": CODES},
        },
    )
    (sample,) = source.samples("test")
    box = {"category": "cereal box", "center_cam": [0.0, -0.1, 2.45], "dimensions": [0.6, 1.1, 1.0]}
    assert decoded(sample)["scene.json"] == {"image_filename": "objectron/test/x.jpg", "objects": [box]}


def objaworld(*numbers):
    return entry([129457, 129459, 129464, 13731, 129465, *numbers, 129460, 129458])


def test_objaworlds_fourth_number_is_yaw(source_of):
    files = {"images/train_vqgan_indices.json": {"a.png_park": CODES}}
    source = source_of(
        "objaworld",
        **files,
        **{"3d-scenes/train_tokenized_scenes.json": {"a.png_park": objaworld(128856, 128256, 128896, 129456)}},
    )
    (sample,) = source.samples("train")
    bench = {"shape": "bench", "3d_coords": [0.0, -3.0, 0.2], "rotation": 3.0}
    assert (sample.key, decoded(sample)["scene.json"]["objects"]) == ("train-scenes-a_png_park", [bench])
    # Published birds have lost one of their four numbers.
    source = source_of(
        "objaworld",
        **files,
        **{"3d-scenes/train_tokenized_scenes.json": {"a.png_park": objaworld(128856, 128256, 129456)}},
    )
    (fault,) = source.samples("train")
    assert "1 of 1 objects are not [SHAPE] [LOCATION]" in str(fault)


BAD = {
    "255 codes": ("images", {"a.png": CODES[1:]}, "expected a list of 256 codes, got 255 entries"),
    "code 1024": ("images", {"a.png": [*CODES[1:], 1024]}, "codes are integers from 0 to 1023, got 1024"),
    "code -1": ("images", {"a.png": [*CODES[1:], -1]}, "from 0 to 1023, got -1"),
    "float": ("images", {"a.png": [*CODES[1:], 1.0]}, "from 0 to 1023, got 1.0"),
    "true": ("images", {"a.png": [*CODES[1:], True]}, "from 0 to 1023, got True"),
    "no list": ("images", {"a.png": {"token_ids": CODES}}, "expected a list of 256 codes, got dict"),
    "ids as text": ("scenes", {"a.png": entry("129457")}, "'token_ids': expected a list of integers from 0 to 130494"),
    "no ids": ("scenes", {"a.png": {"string": STRING}}, "expected a list of integers"),
    "beyond": ("scenes", {"a.png": entry([*SCENE[:-1], 130495])}, "expected a list of integers"),
    "no marker": ("scenes", {"a.png": entry(CUBE)}, "expected ids from 129457 to 129458, got 129459 to 129460"),
    "empty": ("scenes", {"a.png": entry([])}, "expected ids from 129457 to 129458, got none"),
    "a word as a colour": ("scenes", {"a.png": entry([*SCENE[:5], 3544, *SCENE[6:]])}, "1 of 1 objects are not"),
    "stray id": ("scenes", {"a.png": entry([*SCENE[:1], 5, *SCENE[1:]])}, "1 of 2 objects are not"),
    "another word": (
        "scenes",
        {"a.png": entry(SCENE, STRING.replace("cyan", "red"))},
        "'cyan' where the string says 'red'",
    ),
    "another number": (
        "scenes",
        {"a.png": entry(SCENE, STRING.replace("0.700", "0.350"))},
        "'0.700' where the string says '0.350'",
    ),
    "more objects": (
        "scenes",
        {"a.png": entry(SCENE, 2 * STRING)},
        "the ids say 14 words, numbers and markers, the string 28",
    ),
    "no path": ("scenes", {"a.png": entry(SCENE, {"path": "x"})}, "expected the picture's path under file_path"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_entry_is_a_fault_in_its_place(source_of, name):
    field, bad, reason = BAD[name]
    good = {"scenes": {"z": entry(SCENE)}, "images": {"z": CODES}}
    rest = {"scenes": {"a.png": entry(SCENE)}, "images": {"a.png": CODES}} | {field: bad}
    source = source_of(**plain(**{field: rest[field] | good[field] for field in good}))
    fault, sample = source.samples("train")
    assert isinstance(fault, Fault)
    assert (fault.key, sample.key) == ("a.png", "train-scenes-z")
    assert {"scenes": "tokenized_scenes", "images": "vqgan_indices"}[field] in fault.file
    assert reason in str(fault)


def test_strings_may_be_rounded_less_and_need_not_be_checked(source_of):
    close = STRING.replace("-0.5500.0500.700", "-0.5312 0.0487 0.7000").replace("[", " [")
    (sample,) = source_of(**plain(scenes={"a.png": entry(SCENE, close)})).samples("train")
    assert isinstance(sample, SourceSample)
    source = source_of(**plain(scenes={"a.png": entry(SCENE, "a cyan cube")}))
    assert isinstance(next(source.samples("train")), Fault)
    source.check_strings = False
    assert isinstance(next(source.samples("train")), SourceSample)


def test_text_that_is_written_with_other_ids_is_a_fault(source_of):
    parts = {"x": (ReleasePart("q", "s.json", texts="t.json", answers="a.json"),)}

    def fault_of(question, answer=TRUE):
        files = {"s.json": {"a": entry(SCENE)}, "t.json": {"a": question}, "a.json": {"a": entry(answer)}}
        (found,) = source_of(parts=parts, **files).samples("x")
        return str(found)

    assert "there are ids of other things than text" in fault_of(entry([129468, 128256, 129469]))
    # An id a letter.
    assert "'Remove' would be written with other ids" in fault_of(entry([129468, 49, 68, 76, 78, 85, 68, 129469]))
    assert "the ids say 'Remove the cube', the string 'Keep it'" in fault_of(entry(INSTRUCTION, "Keep it"))
    assert "a.json: key 'a': member 'token_ids'" in fault_of(entry(QUESTION), SCENE)


def test_keys_that_one_file_lacks_or_has_twice_or_that_look_alike(source_of):
    twice = f'{{"a.png": {CODES}, "b": {CODES}, "a.png": {CODES}}}'
    source = source_of(**plain(images=twice, scenes={"a.png": entry(SCENE), "c": entry(SCENE)}))
    double, sample, no_image, no_scene = source.samples("train")
    assert (double.key, double.reason) == ("a.png", "the key occurs twice")
    assert sample.key == "train-scenes-a"
    assert no_image.reason == f"the key is missing here; {SCENES.format(MERGED)[10:]} has it"
    assert (no_image.key, no_scene.key) == ("c", "b")
    same = {"a.b": entry(SCENE), "a/b": entry(SCENE)}
    _, fault = source_of(**plain(scenes=same, images={"a.b": CODES, "a/b": CODES})).samples("train")
    assert "another key is written 'train-scenes-a_b' too" in str(fault)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "'{' should follow, found 'the end' (character 0)"),
        ("[1]", "'{' should follow, found '['"),
        ('{"a": [1, 2', "no JSON: Expecting ',' delimiter (character 6)"),
        ('{"a": [1, 2]', "',' should follow, found 'the end' (character 12)"),
        ('{"a": [1] "b": 2}', "',' should follow, found '\"' (character 10)"),
        ('{"a": nope}', "no JSON: Expecting value (character 6)"),
        ("{3: 4}", "a key should be text, not 3"),
    ],
)
def test_a_damaged_file_stops_the_reading(source_of, text, reason):
    with pytest.raises(BadInputError, match="vqgan_indices") as caught:
        list(source_of(**plain(images=text)).samples("train"))
    assert reason in str(caught.value)


def test_a_file_that_is_not_there_and_a_split_that_is_not_there(source_of):
    parts = {"x": (ReleasePart("scenes", "s.json"),)}
    with pytest.raises(BadInputError, match=r"s\.json: there is no such file"):
        list(source_of(parts=parts).samples("x"))
    with pytest.raises(ValueError, match="no split 'val', only train"):
        list(source_of(**plain()).samples("val"))


def test_every_published_file_is_named_once():
    names = [
        name
        for split in ("train", "test")
        for parts in clevr_parts(split).values()
        for part in parts
        for name in part.files.values()
    ]
    assert len(names) == len(set(names)) == 2 * (2 + 4) + 5 + 5 * 5


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@settings(max_examples=40)
@given(
    st.dictionaries(st.text(st.characters(codec="utf-8")), VALUES),
    st.booleans(),
    st.sampled_from([None, 1]),
    st.integers(1, 60),
)
def test_tables_read_what_json_reads(tmp_path_factory, value, ascii_only, indent, chunk):
    from data_modules.sources import json_arrays

    path = tmp_path_factory.mktemp("table") / "t.json"
    path.write_text(json.dumps(value, ensure_ascii=ascii_only, indent=indent), encoding="utf-8", errors="surrogatepass")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_arrays, "_CHUNK", chunk)
        table = JsonTable(path)
    assert {key: table[key] for key in table} == value
    assert (len(table), table.duplicates) == (len(value), [])
    table.close()


def test_what_is_not_utf_8_is_named(tmp_path):
    (tmp_path / "t.json").write_bytes(b'{"\xc3\xa9\\u00e9": "\xe9"}')
    table = JsonTable(tmp_path / "t.json")
    assert list(table) == ["éé"]
    with pytest.raises(BadInputError, match=r"t\.json: not UTF-8 after byte 13"):
        table["éé"]


def test_a_release_is_a_sample_like_any_other(source_of):
    """The scene of a sample, read back through its schema, is the scene of its ids."""
    source = source_of(**plain())
    (sample,) = source.samples("train")
    scene = source.schema.read(decoded(sample)["scene.json"])
    ids = source.tokenizer.encode(Task.parse("3-3"), Sample("a", scene=scene)).ids.tolist()
    assert ids == [128000, *SCENE, 129470, *SCENE, 128001]
