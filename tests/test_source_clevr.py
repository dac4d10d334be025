"""CLEVR v1.0's layout: real records, the generator's dialects, damage, and worlds written and read back."""

import io
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from data_modules.faults import BadInputError, Fault
from data_modules.make import make
from data_modules.raw.clevr import write
from data_modules.recipes.clevr import ClevrRecipe
from data_modules.shards import decode_json, decode_pixels, read_shard
from data_modules.sources import json_arrays
from data_modules.sources.clevr import ClevrSource
from data_modules.sources.json_arrays import read_array
from data_modules.worlds.clevr import ClevrWorld
from data_modules.worlds.programs import answer
from kyvo.clevr import DIRECTIONS

WORLD = ClevrWorld(image_size=(64, 64), objects=(1, 3), extent=1.5, focal=1.8, min_visible_pixels=20.0)


def read(root, split, prefix=None):
    """Samples of a split by key, and faults."""
    found = list(ClevrSource(root, prefix).samples(split))
    samples = [one for one in found if not isinstance(one, Fault)]
    assert len({one.key for one in samples}) == len(samples)
    return {one.key: one for one in samples}, [one for one in found if isinstance(one, Fault)]


def members_of(sample):
    return {name: decode_json(data) for name, data in sample.members.items()}


# Real data.


def test_released_records(golden):
    source = ClevrSource(golden / "clevr_real", prefix="CLEVR")
    assert source.splits() == ("val",)
    assert source.schema.name == "clevr"
    # There are no pictures: the root has no folder of them.
    samples, faults = read(golden / "clevr_real", "val", "CLEVR")
    assert not faults
    assert list(samples) == [f"val-{k:06d}" for k in range(5)]
    published = json.loads((golden / "clevr_real" / "scenes" / "CLEVR_val_scenes.json").read_text())["scenes"]
    for sample, scene in zip(samples.values(), published, strict=True):
        ours = members_of(sample)["scene.json"]
        assert ours == {name: scene[name] for name in ("objects", "relationships", "directions")}
    questions = members_of(samples["val-000000"])["question.json"]
    assert len(questions) == 9
    assert questions[0]["answer"] == "False"
    assert questions[0]["type"] == "exist"
    assert "question.json" not in samples["val-000001"].members
    for one in questions:
        assert answer(one["program"], published[0]) == one["answer"]


def test_dialect_of_the_generator_says_the_same(golden):
    samples, faults = read(golden / "clevr_real", "val", "generator_1obj")
    assert not faults
    assert len(samples) == 10
    count = 0
    for sample in samples.values():
        members = members_of(sample)
        assert members["scene.json"]["directions"]["below"] == list(DIRECTIONS["below"])
        for one in members.get("question.json", []):
            assert set(one) == {"question", "answer", "type", "program"}
            assert all(set(node) == {"function", "inputs", "value_inputs"} for node in one["program"])
            assert answer(one["program"], members["scene.json"]) == one["answer"]
            count += 1
    assert count == 30


def test_files_of_single_scenes_with_pictures(golden):
    with pytest.raises(BadInputError, match=r"one prefix, or the one wanted to be named.*CLEVR, generator_1obj"):
        ClevrSource(golden / "clevr_real").splits()
    for folder, objects in (("generator_1obj_train", 1), ("generator_2obj_train", 2)):
        samples, faults = read(golden / "clevr_real" / folder, "train")
        assert not faults
        assert list(samples) == ["train-000000", "train-000001"]
        for key, sample in samples.items():
            scene = members_of(sample)["scene.json"]
            assert len(scene["objects"]) == objects
            # One object leaves the camera open.
            assert ("camera" in scene) == (objects > 1)
            assert sample.pictures["image"].path.name == f"CLEVR_{key.replace('-', '_')}.png"


# Worlds written and read back.


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Shards of a tiny world with edits and their pictures, by family."""
    root = tmp_path_factory.mktemp("world")
    recipe = ClevrRecipe(
        world=WORLD, scenes={"train": 6}, questions=3, edits=2, edit_images=True, synonyms=True, scenes_per_shard=3
    )
    make(root, recipe, workers=1)
    return {
        family: [(raw.key, raw.members) for path in sorted(root.glob(f"{family}-0*.tar")) for raw in read_shard(path)]
        for family in ("train", "train-edits")
    }


@pytest.fixture
def raw(world, tmp_path):
    write(tmp_path / "raw", "train", world["train"], world["train-edits"])
    return tmp_path / "raw"


def files_of(root):
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def test_a_written_world_is_read_back_whole(world, raw):
    samples, faults = read(raw, "train")
    assert not faults
    written = dict(world["train"] + world["train-edits"])
    assert samples.keys() == written.keys()
    assert {key for key, one in samples.items() if one.edit} == {key for key, _ in world["train-edits"]}
    for key, members in written.items():
        sample = samples[key]
        assert set(sample.members) == {name for name in members if name.endswith(".json")}
        for name, data in sample.members.items():
            assert decode_json(data) == decode_json(members[name])
        assert {f"{stem}.png" for stem in sample.pictures} == {name for name in members if name.endswith(".png")}
        for stem, picture in sample.pictures.items():
            assert not picture.mirrored
            assert np.array_equal(decode_pixels(picture.path.read_bytes()), decode_pixels(members[f"{stem}.png"]))


def test_written_files_are_clevrs(world, raw):
    scenes = json.loads((raw / "scenes" / "CLEVR_train_scenes.json").read_text())
    assert scenes["info"]["split"] == "train"
    assert [scene["image_index"] for scene in scenes["scenes"]] == list(range(6))
    for scene in scenes["scenes"]:
        assert scene["image_filename"] == f"CLEVR_train_{scene['image_index']:06d}.png"
        assert scene["split"] == "train"
    questions = json.loads((raw / "questions" / "CLEVR_train_questions.json").read_text())["questions"]
    assert [one["question_index"] for one in questions] == list(range(len(questions)))
    released = {"question", "answer", "program", "question_index", "image_index", "image_filename", "split"}
    released |= {"question_family_index"}
    for one in questions:
        assert set(one) >= released
        assert one["answer"] not in ("True", "False")
        assert isinstance(one["answer"], str)
    assert len(questions) == sum(len(decode_json(members["question.json"])) for _, members in world["train"])


def test_writing_twice_gives_the_same_bytes(world, raw, tmp_path):
    before = files_of(raw)
    assert not [name for name in before if name.endswith(".partial")]
    write(raw, "train", world["train"], world["train-edits"])
    assert files_of(raw) == before
    write(tmp_path / "other", "train", iter(world["train"]), iter(world["train-edits"]), prefix="OTHER")
    assert {name.replace("OTHER", "CLEVR") for name in files_of(tmp_path / "other")} == set(before)
    assert ClevrSource(tmp_path / "other").prefix == "OTHER"


def test_an_interrupted_writer_leaves_nothing_that_reads_as_whole(world, tmp_path):
    def some():
        yield from world["train"][:2]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write(tmp_path, "train", some())
    assert not list(tmp_path.rglob("*.json"))


def test_edits_without_pictures_stay_without(world, tmp_path):
    bare = [(key, {n: d for n, d in members.items() if n.endswith(".json")}) for key, members in world["train-edits"]]
    write(tmp_path, "train", world["train"], bare)
    samples, faults = read(tmp_path, "train")
    assert not faults
    for key, members in bare:
        assert not samples[key].pictures
        assert {n: decode_json(d) for n, d in members.items()} == members_of(samples[key])


def test_what_cannot_be_written_is_said(world, tmp_path):
    key, members = world["train"][0]
    without = {name: data for name, data in members.items() if name != "image.png"}
    with pytest.raises(ValueError, match=r"needs image.png or image.jpg, found \['question.json', 'scene.json'\]"):
        write(tmp_path, "train", [(key, without)])
    with pytest.raises(ValueError, match="end in its number"):
        write(tmp_path, "train", [("train", members)])
    with pytest.raises(ValueError, match="without underscores"):
        write(tmp_path, "train_a", [])
    with pytest.raises(ValueError, match="start from a scene of the split"):
        write(tmp_path, "train", world["train"][1:], world["train-edits"])


# Dialects and damage, put into a written world.


def change(path, change):
    """Rewrite a JSON file."""
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def test_every_dialect_reads_alike(raw):
    plain, _ = read(raw, "train")
    indices = {"yes": True, "no": False}

    def scenes(content):
        for scene in content["scenes"]:
            scene["relations"] = scene.pop("relationships")
            del scene["directions"]
        del content["scenes"][2]["relations"]

    def questions(content):
        for one in content["questions"]:
            one["answer"] = indices.get(
                one["answer"], int(one["answer"]) if one["answer"].isdecimal() else one["answer"]
            )
            for node in one["program"]:
                node["type"], node["side_inputs"] = node.pop("function"), node.pop("value_inputs")
                node["_output"] = 1

    change(raw / "scenes" / "CLEVR_train_scenes.json", scenes)
    change(raw / "questions" / "CLEVR_train_questions.json", questions)
    for path in (raw / "images" / "train").iterdir():
        Image.open(path).convert("RGBA").save(path)
    other, faults = read(raw, "train")
    assert not faults
    assert {key: members_of(one) for key, one in other.items()} == {key: members_of(one) for key, one in plain.items()}


def test_scenes_in_files_of_their_own_read_alike(raw):
    plain, _ = read(raw, "train")
    together = raw / "scenes" / "CLEVR_train_scenes.json"
    scenes = json.loads(together.read_text())["scenes"]
    together.unlink()
    for folder in (raw / "scenes", raw / "scenes" / "train"):
        folder.mkdir(exist_ok=True)
        for scene in scenes:
            (folder / f"CLEVR_train_{scene['image_index']:06d}.json").write_text(json.dumps(scene, indent=2))
        assert {key: one.members for key, one in read(raw, "train")[0].items()}.keys() == plain.keys()
        for scene in scenes:
            (folder / f"CLEVR_train_{scene['image_index']:06d}.json").unlink()


def test_a_split_of_pictures_alone(raw):
    (raw / "scenes" / "CLEVR_train_scenes.json").unlink()
    (raw / "instructions" / "CLEVR_train_instructions.json").unlink()

    def unanswered(content):
        for one in content["questions"]:
            if one["image_index"]:
                del one["answer"], one["program"]

    change(raw / "questions" / "CLEVR_train_questions.json", unanswered)
    samples, faults = read(raw, "train")
    assert not faults
    assert list(samples) == [f"train-{k:06d}" for k in range(6)]
    assert set(samples["train-000000"].members) == {"question.json"}
    assert all(not samples[f"train-{k:06d}"].members for k in range(1, 6))
    assert all(one.pictures["image"].path.is_file() for one in samples.values())


def test_bad_scenes_are_named_and_left_out(raw):
    (raw / "images" / "train" / "CLEVR_train_000004.png").unlink()
    (raw / "images" / "train" / "CLEVR_train_000005.png").write_bytes(b"no picture")

    def damage(content):
        scenes = content["scenes"]
        scenes[0]["objects"][0]["3d_coords"][1] = float("nan")
        scenes[1]["objects"][0]["color"] = "pink"
        scenes[2]["relationships"]["left"] = [[99]]
        scenes[3]["objects"] = {"a": 1}
        scenes += [7, {"image_index": True}, dict(scenes[3])]

    change(raw / "scenes" / "CLEVR_train_scenes.json", damage)
    samples, faults = read(raw, "train")
    assert not samples
    found = [(fault.key, fault.member, fault.reason) for fault in faults if fault.file.endswith("_scenes.json")]
    assert [key for key, _, _ in found] == [*(f"train-{k:06d}" for k in range(6)), "", "", ""]
    expected = [
        ("scene.json", "objects[0].3d_coords[1] is nan"),
        ("scene.json", "'pink' is none of gray"),
        ("scene.json", "relationships.left should be"),
        ("scene.json", "needs a list under 'objects'"),
        ("image", "there is no picture CLEVR_train_000004.png"),
        ("image", "is no picture"),
        ("scenes[6]", "whole 'image_index', got 7"),
        ("scenes[7]", "whole 'image_index'"),
        ("scenes[8]", "image_index 3 occurs more than once"),
    ]
    for (_, member, reason), (named, said) in zip(found, expected, strict=True):
        assert member == named
        assert said in reason
    # The edits of bad scenes are bad too, each of them.
    edits = [fault for fault in faults if fault.file.endswith("_instructions.json")]
    assert edits
    assert {fault.reason for fault in edits} == {"the scene it starts from is bad"}


def test_bad_questions_are_named_and_the_rest_is_asked(raw):
    def damage(content):
        one, two, three, four, five = content["questions"][:5]
        one["image_index"] = 17
        two["image_index"] = "0"
        three["answer"] = None
        four["program"][-1]["inputs"] = [len(four["program"])]
        five["question"] = "\ud800"
        content["questions"].append([])

    before, _ = read(raw, "train")
    change(raw / "questions" / "CLEVR_train_questions.json", damage)
    samples, faults = read(raw, "train")
    assert samples.keys() == before.keys()
    reasons = {fault.member: fault.reason for fault in faults}
    last = max(int(member[len("questions[") : -1]) for member in reasons)
    assert reasons.keys() == {f"questions[{k}]" for k in (*range(5), last)}
    assert "image_index 17 is that of no scene" in reasons["questions[0]"]
    assert "whole 'image_index'" in reasons["questions[1]"]
    assert "got None" in reasons["questions[2]"]
    assert "read from earlier nodes" in reasons["questions[3]"]
    count = sum(len(members_of(one).get("question.json", [])) for one in samples.values() if not one.edit)
    assert count == last - 5


def test_bad_edits_are_named(raw):
    def damage(content):
        edits = content["instructions"]
        edits[0]["target"]["objects"][0]["size"] = 3
        edits[1]["text"] = None
        edits[2]["target"]["image_filename"] = "../../scenes/CLEVR_train_scenes.json"
        edits[3]["image_index"] = 99

    before, _ = read(raw, "train")
    change(raw / "instructions" / "CLEVR_train_instructions.json", damage)
    samples, faults = read(raw, "train")
    assert len(samples) == len(before) - 4
    assert [fault.member for fault in faults] == [f"instructions[{k}]" for k in range(4)]
    for fault, said in zip(faults, ("attribute 'size'", "'text'", "the name of a file", "of no scene"), strict=True):
        assert said in fault.reason


@pytest.mark.parametrize("name", ["scenes/CLEVR_train_scenes.json", "questions/CLEVR_train_questions.json"])
def test_damaged_files_are_fatal(raw, name):
    text = (raw / name).read_bytes()
    for bad in (b"", b"[]", b"{}", text[:-40], text[: len(text) // 2], b"\xff" + text, text.replace(b":", b";", 9)):
        (raw / name).write_bytes(bad)
        with pytest.raises(BadInputError, match="CLEVR_train_"):
            list(ClevrSource(raw).samples("train"))


def test_missing_splits_and_folders_are_named(raw, tmp_path):
    with pytest.raises(ValueError, match="has the splits train, not 'val'"):
        list(ClevrSource(raw).samples("val"))
    with pytest.raises(BadInputError, match="found none"):
        ClevrSource(tmp_path / "nothing").splits()
    with pytest.raises(BadInputError, match="expected 'ABC'"):
        ClevrSource(raw, "ABC").splits()


# Reading long arrays.

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=60, deadline=None)
@given(values=st.lists(JSON, max_size=8), before=JSON, indent=st.sampled_from([None, 2]), chunk=st.integers(1, 40))
def test_arrays_are_read_whatever_the_chunks(tmp_path_factory, values, before, indent, chunk):
    path = tmp_path_factory.mktemp("json") / "a.json"
    path.write_text(json.dumps({"info": before, "b": values, "c": 1}, indent=indent, ensure_ascii=bool(chunk % 2)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_arrays, "_CHUNK", chunk)
        assert list(read_array(path, "b")) == values
        with pytest.raises(BadInputError, match="no such key"):
            list(read_array(path, "d"))


def test_a_long_array_is_read_piece_by_piece(tmp_path, monkeypatch):
    path = tmp_path / "a.json"
    path.write_text(json.dumps({"a": [{"k": k, "text": "x" * 90} for k in range(5000)]}))
    read_characters = []

    class Counting(io.StringIO):
        def read(self, size=-1):
            read_characters.append(size)
            return super().read(size)

    text = path.read_text()
    monkeypatch.setattr(json_arrays, "_CHUNK", 1000)
    monkeypatch.setattr("builtins.open", lambda *_, **__: Counting(text))
    elements = read_array(path, "a")
    assert next(elements)["k"] == 0
    assert sum(read_characters) <= 2000
    assert sum(1 for _ in elements) == 4999
