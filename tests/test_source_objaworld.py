"""ObjaWorld's folders: what is read, in which form, and what is named when it cannot be."""

import json
import math

import numpy as np
import pytest

from data_modules.faults import BadInputError, Fault
from data_modules.raw import objaworld
from data_modules.shards import decode_json, encode_json, encode_png
from data_modules.sources.objaworld import ObjaWorldSource
from data_modules.sources.source import SourceSample
from kyvo.scene import SCHEMAS

PIXELS = encode_png(np.zeros((4, 4, 3), dtype=np.uint8))


def bench(**changes):
    return {"shape": "bench-01", "3d_coords": [1.5, -2.0, 0.45], "rotation": 1.25} | changes


def scene(*objects, setup="park"):
    return {"setup": setup, "objects": list(objects)}


def write_scene(folder, name, text, setup="park", picture=True):
    base = folder / f"output-{setup}-large-10K-6"
    (base / "scenes").mkdir(parents=True, exist_ok=True)
    (base / "scenes" / f"{name}.json").write_text(text)
    if picture:
        (base / "images").mkdir(exist_ok=True)
        (base / "images" / f"{name}.png").write_bytes(PIXELS)


def only(source, split="test"):
    (found,) = source.samples(split)
    return found


def test_what_is_written_is_read_back(tmp_path):
    scenes = [scene(bench()), scene(bench(shape="sofa"), setup="living_room"), scene()]
    samples = [(str(k), {"scene.json": encode_json(one), "image.png": PIXELS}) for k, one in enumerate(scenes)]
    objaworld.write(tmp_path / "raw", "val", samples)
    source = ObjaWorldSource(tmp_path / "raw")
    assert source.splits() == ("val",)
    assert source.schema is SCHEMAS["objaworld"]
    found = list(source.samples("val"))
    assert [one.key for one in found] == [
        "OBJAWORLD_val_000001_livingroom",
        "OBJAWORLD_val_000000_park",
        "OBJAWORLD_val_000002_park",
    ]
    for one, k in zip(found, (1, 0, 2), strict=True):
        record = decode_json(one.members["scene.json"])
        assert source.schema.read(record) == source.schema.read(scenes[k])
        assert record["objects"] == scenes[k]["objects"]
        assert record["image_index"] == k
        assert one.pictures["image"].path.read_bytes() == PIXELS
        assert not one.pictures["image"].mirrored


def test_writing_twice_gives_the_same_bytes(tmp_path):
    for name in "ab":
        objaworld.write(
            tmp_path / name, "val", [("0", {"scene.json": encode_json(scene(bench())), "image.png": PIXELS})]
        )
    first, second = (sorted(p for p in (tmp_path / name).rglob("*") if p.is_file()) for name in "ab")
    assert [p.relative_to(tmp_path / "a") for p in first] == [p.relative_to(tmp_path / "b") for p in second]
    assert [p.read_bytes() for p in first] == [p.read_bytes() for p in second]


def test_a_scene_without_setup_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"k7: the scene's setup should be one of park.*got None"):
        objaworld.write(tmp_path, "val", [("k7", {"scene.json": b'{"objects":[]}', "image.png": PIXELS})])


def test_folders_of_one_split_are_test(tmp_path):
    write_scene(tmp_path, "OBJAWORLD_new_000003", json.dumps({"objects": [bench()]}), picture=False)
    source = ObjaWorldSource(tmp_path)
    assert source.splits() == ("test",)
    found = only(source)
    assert found.key == "OBJAWORLD_new_000003_park"
    assert found.pictures == {}, "the official ground truth has no pictures"


@pytest.mark.parametrize(
    ("record", "yaw"),
    [
        (bench(size="large", color="red", pixel_coords=[1, 2, 3]), 1.25),
        ({"shape": "bench", "3d_coords": [1.5, -2.0, 0.45, -3.0]}, -3.0),
        (bench(rotation=6), 6 - 2 * math.pi),
        (bench(rotation=-math.pi), math.pi),
        (bench(rotation=math.pi), math.pi),
    ],
)
def test_dialects(tmp_path, record, yaw):
    write_scene(tmp_path, "a", json.dumps({"objects": [record]}))
    (found,) = decode_json(only(ObjaWorldSource(tmp_path)).members["scene.json"])["objects"]
    assert found["rotation"] == pytest.approx(yaw, abs=1e-12)
    assert SCHEMAS["objaworld"].read({"objects": [found]}).objects[0]["shape"] == "bench"
    assert found["3d_coords"] == [1.5, -2.0, 0.45]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"objects": [', "Expecting value"),
        ("[]", "expected a scene with 'objects', got list"),
        ('{"objects": 3}', "needs a list under 'objects'"),
        ('{"objects": [null]}', "should be a mapping"),
        (json.dumps({"objects": [bench(shape="car")]}), "'car' is none of person"),
        (json.dumps({"objects": [bench(rotation=math.nan)]}), "expected finite numbers x, y, z, yaw"),
        (json.dumps({"objects": [{"shape": "bench", "3d_coords": [1, 2, 3]}]}), "expected finite numbers"),
        (json.dumps({"objects": [bench(rotation=True)]}), "expected finite numbers"),
    ],
)
def test_bad_scenes_are_named(tmp_path, text, reason):
    write_scene(tmp_path, "a", text)
    found = only(ObjaWorldSource(tmp_path))
    assert isinstance(found, Fault)
    assert (found.key, found.member) == ("a_park", "scene.json")
    assert found.file.endswith("scenes/a.json")
    assert reason in found.reason


def test_a_missing_picture_is_a_fault(tmp_path):
    write_scene(tmp_path, "a", json.dumps({"objects": []}))
    write_scene(tmp_path, "b", json.dumps({"objects": []}), picture=False)
    first, second = ObjaWorldSource(tmp_path).samples("test")
    assert isinstance(first, SourceSample)
    assert (second.key, second.member, second.reason) == ("b_park", "image", "the picture is not there")


def test_explicit_shapes_may_lack_codes(tmp_path):
    plain = {"shape": "barrel", "3d_coords": [0.0, 1.0, 0.0], "rotation": 0.5}
    for name, record in {
        "a": plain,
        "b": plain | {"shape_codes": [7] * 512},
        "c": plain | {"shape_codes": [7]},
    }.items():
        write_scene(tmp_path, name, json.dumps({"objects": [record]}), setup="shapes")
    source = ObjaWorldSource(tmp_path)
    assert source.schema is SCHEMAS["objaworld-shapes"]
    first, second, third = source.samples("test")
    assert decode_json(first.members["scene.json"])["objects"] == [plain]
    assert source.schema.read(decode_json(second.members["scene.json"])).objects[0]["shape"] == (7,) * 512
    assert "expected a list of 512 integer codes" in third.reason


def test_nothing_there(tmp_path):
    with pytest.raises(BadInputError, match="expected folders output-SETUP"):
        ObjaWorldSource(tmp_path).splits()


def test_two_schemas_in_one_folder(tmp_path):
    write_scene(tmp_path, "a", "{}")
    write_scene(tmp_path, "a", "{}", setup="shapes")
    with pytest.raises(BadInputError, match="folder of its own"):
        _ = ObjaWorldSource(tmp_path).schema


def test_real_cases_are_read(golden):
    source = ObjaWorldSource(golden / "jaccard" / "objaworld" / "o31_random" / "gt")
    found = list(source.samples("test"))
    assert len(found) == 7
    assert all(isinstance(one, SourceSample) for one in found)
    assert isinstance(
        next(iter(ObjaWorldSource(golden / "jaccard/objaworld/o14_gt_without_rotation/gt").samples("test"))), Fault
    )
