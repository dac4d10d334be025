"""Shards: deterministic bytes, safe and loud reading, resumable making and coding."""

import io
import json
import pickle
import tarfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_modules.coding import add_codes, fingerprint
from data_modules.index import Index, Shard
from data_modules.inspection import check
from data_modules.make import make
from data_modules.records import Record, decode_record, load_records
from data_modules.shards import RawSample, ShardWriter, encode_json, encode_npy, encode_png, read_shard
from kyvo.scene import SCHEMAS
from tests.tiny_world import files_of, make_coded_world, tiny_image_tokenizer, tiny_recipe

SCENE = {
    "objects": [
        {"size": "small", "color": "red", "material": "metal", "shape": "cube", "3d_coords": [1.0, -0.5, 0.35]}
    ],
    "mask": [5, 2, 5],
}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return make_coded_world(tmp_path_factory.mktemp("world"))


def _shard(path, **members):
    with ShardWriter(path) as writer:
        writer.write("a", members)
    return writer.shard


def test_a_sample_comes_back_as_it_was_written(tmp_path):
    pixels = np.arange(36, dtype=np.uint8).reshape(3, 4, 3)
    members = {
        "image.png": encode_png(pixels),
        "image.codes.npy": encode_npy(np.array([3, 1, 2], dtype=np.uint16)),
        "scene.json": encode_json(SCENE),
        "question.json": encode_json([{"question": "how many cubes", "answer": 1, "type": "count", "program": []}]),
    }
    with ShardWriter(tmp_path / "x-000000.tar") as writer:
        writer.write("a", members)
    assert writer.shard == Shard("x-000000.tar", 1, dict.fromkeys(sorted(members), 1))
    (raw,) = read_shard(tmp_path / "x-000000.tar")
    record = decode_record(raw, SCHEMAS["clevr"], pixels=True)
    np.testing.assert_array_equal(record.sample.pixels, pixels)
    np.testing.assert_array_equal(record.sample.image, [3, 1, 2])
    assert record.sample.image.dtype == np.int64
    assert SCHEMAS["clevr"].write(record.sample.scene)["objects"] == SCENE["objects"]
    np.testing.assert_array_equal(np.flatnonzero(record.sample.mask), [5, 6])
    assert record.sample.mask.shape == (3, 4)
    asked = record.ask(0)
    assert (asked.key, asked.text, asked.target_text, asked.kind) == ("a-q0", "how many cubes", "1", "count")


def test_an_edit_reads_the_instruction_and_has_targets(tmp_path):
    target = {"objects": []}
    instruction = {"type": "remove", "text": "Remove the cube", "program": [], "edit": {}}
    files = {"scene.json": SCENE, "target.scene.json": target, "instruction.json": instruction}
    _shard(tmp_path / "x.tar", **{name: encode_json(value) for name, value in files.items()})
    sample = load_records(tmp_path / "x.tar", 1, SCHEMAS["clevr"])[0].sample
    assert (sample.text, sample.kind) == ("Remove the cube", "remove")
    assert len(sample.read("scene")) == 1
    assert len(sample.write("scene")) == 0


def test_a_tar_holds_no_times_and_no_owner(tmp_path):
    _shard(tmp_path / "x.tar", **{"scene.json": b"{}"})
    with tarfile.open(tmp_path / "x.tar") as tar:
        (info,) = tar.getmembers()
    assert (info.mtime, info.uid, info.gid, info.name) == (0, 0, 0, "a.scene.json")


def test_an_interrupted_shard_leaves_nothing(tmp_path):
    with pytest.raises(ValueError, match="bytes"), ShardWriter(tmp_path / "x.tar") as writer:
        writer.write("a", {"scene.json": {}})
    assert list(tmp_path.iterdir()) == []


def test_a_key_with_a_dot_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no dot"), ShardWriter(tmp_path / "x.tar") as writer:
        writer.write("a.b", {"scene.json": b"{}"})


@pytest.mark.parametrize("member", ["scene.json", "image.png", "image.codes.npy"])
def test_a_corrupt_member_is_named(tmp_path, member):
    _shard(tmp_path / "x.tar", **{member: b"\x80rubbish"})
    (raw,) = read_shard(tmp_path / "x.tar")
    with pytest.raises(ValueError, match=rf"x\.tar: key 'a': member '{member}'"):
        decode_record(raw, SCHEMAS["clevr"], pixels=True)


@pytest.mark.parametrize(
    ("member", "value", "reason"),
    [
        ("scene.json", encode_json({"objects": [{"size": "huge"}]}), "object 0, attribute 'size'.*huge"),
        ("question.json", encode_json([{"question": "?"}]), "KeyError: 'answer'"),
        ("image.codes.npy", encode_npy(np.zeros((2, 2), dtype=np.uint16)), r"expected codes uint16 \[N\]"),
    ],
)
def test_a_member_of_another_form_is_named(tmp_path, member, value, reason):
    _shard(tmp_path / "x.tar", **{member: value})
    (raw,) = read_shard(tmp_path / "x.tar")
    with pytest.raises(ValueError, match=f"key 'a': member '{member}'.*{reason}"):
        decode_record(raw, SCHEMAS["clevr"])


def test_a_missing_member_is_named():
    raw = RawSample("x.tar", "a", {"scene.json": b"{}"})
    with pytest.raises(ValueError, match=r"x\.tar: key 'a': member 'image\.png': missing"):
        raw.decode("image.png")


class _Bomb:
    def __reduce__(self):
        return (pytest.fail, ("unpickled",))


@pytest.mark.parametrize("member", ["scene.pkl", "scene.pyd", "image.codes.npy"])
def test_nothing_is_unpickled(member):
    with pytest.raises(ValueError, match=r"not read|corrupt"):
        RawSample("x.tar", "a", {member: pickle.dumps(_Bomb())}).decode(member)
    buffer = io.BytesIO()
    np.save(buffer, np.array([_Bomb()], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match="corrupt"):
        RawSample("x.tar", "a", {"image.codes.npy": buffer.getvalue()}).decode("image.codes.npy")


def test_a_name_starts_no_command(tmp_path):
    with pytest.raises(FileNotFoundError):
        list(read_shard(f"pipe:touch {tmp_path}/started"))
    assert not (tmp_path / "started").exists()


def test_a_broken_or_short_tar_is_named(tmp_path):
    (tmp_path / "x.tar").write_bytes(b"no tar")
    with pytest.raises(ValueError, match=r"x\.tar: not an intact tar"):
        list(read_shard(tmp_path / "x.tar"))
    _shard(tmp_path / "y.tar", **{"scene.json": encode_json(SCENE)})
    good, lost = load_records(tmp_path / "y.tar", 2, SCHEMAS["clevr"])
    assert isinstance(good, Record)
    assert str(lost) == f"{tmp_path / 'y.tar'}: holds 1 samples where index.json says 2"


@given(limit=st.integers(1, 12), sizes=st.lists(st.integers(1, 5), min_size=1, max_size=4))
def test_a_limit_keeps_the_first_samples(limit, sizes):
    shards = tuple(Shard(f"x-{number:06d}.tar", size, {}) for number, size in enumerate(sizes))
    kept = Index("clevr", families={"x": shards}).shards("x", limit)
    assert sum(shard.samples for shard in kept) == min(limit, sum(sizes))
    assert [shard.name for shard in kept] == [shard.name for shard in shards[: len(kept)]]
    assert all(shard.samples > 0 for shard in kept)


def test_an_index_round_trips_and_names_its_families(tmp_path):
    index = (
        Index("clevr")
        .with_settings("val", {"seed": 1})
        .with_shard("val", Shard("val-000000.tar", 3, {"scene.json": 3}))
    )
    index.write(tmp_path)
    assert Index.read(tmp_path) == index
    with pytest.raises(ValueError, match=r"no shards 'train'; the index has \['val'\]"):
        index.shards("train")
    with pytest.raises(FileNotFoundError, match="no folder of shards"):
        Index.read(tmp_path / "elsewhere")
    (tmp_path / "index.json").write_text('{"format": "other", "schema": "clevr", "settings": {}, "families": {}}')
    with pytest.raises(ValueError, match="format 'other'"):
        Index.read(tmp_path)


# ---- making ---------------------------------------------------------------------------------------------------------


def test_a_world_is_the_same_with_any_number_of_workers(root, tmp_path):
    make(tmp_path, tiny_recipe(), workers=2)
    add_codes(tmp_path, tiny_image_tokenizer())
    assert files_of(tmp_path) == files_of(root)


def test_another_seed_or_split_gives_other_scenes(root, tmp_path):
    make(tmp_path, tiny_recipe(seed=1, scenes={"train": 2}), workers=1)
    scenes = [
        load_records(folder / "train-000000.tar", 1, SCHEMAS["clevr"])[0].sample.scene for folder in (root, tmp_path)
    ]
    scenes.append(load_records(root / "val-000000.tar", 1, SCHEMAS["clevr"])[0].sample.scene)
    assert scenes[0] != scenes[1]
    assert scenes[0] != scenes[2]


def test_an_interrupted_world_is_finished_and_complete_shards_are_kept(root, tmp_path):
    make(tmp_path, tiny_recipe(), workers=1)
    whole = files_of(tmp_path)
    (tmp_path / "train-000002.tar").unlink()
    before = (tmp_path / "train-000001.tar").stat().st_ino
    make(tmp_path, tiny_recipe(), workers=1)
    assert files_of(tmp_path) == whole
    assert (tmp_path / "train-000001.tar").stat().st_ino == before


def test_another_recipe_in_the_same_folder_is_refused(root):
    with pytest.raises(ValueError, match=r"holds another world: its train split.*seed=0.*seed=7"):
        make(root, tiny_recipe(seed=7), workers=1)


def test_edits_have_pictures_if_asked_for(tmp_path):
    make(tmp_path, tiny_recipe(scenes={"val": 2}, edit_images=True), workers=1)
    raws = list(read_shard(tmp_path / "val-edits-000000.tar"))
    assert {"image.png", "target.image.png", "scene.json", "target.scene.json", "instruction.json"} == set(
        raws[0].members
    )
    sample = decode_record(raws[0], SCHEMAS["clevr"], pixels=True).sample
    assert sample.target_mask.shape == (32, 32)
    add_codes(tmp_path, tiny_image_tokenizer())
    coded = load_records(tmp_path / "val-edits-000000.tar", 1, SCHEMAS["clevr"])[0].sample
    assert coded.image.shape == coded.target_image.shape == (16,)


# ---- coding and checking --------------------------------------------------------------------------------------------


def test_codes_are_those_of_the_tokenizer(root):
    import torch

    for raw in read_shard(root / "train-000000.tar"):
        sample = decode_record(raw, SCHEMAS["clevr"], pixels=True).sample
        image = torch.from_numpy(sample.pixels.copy()).permute(2, 0, 1)[None] / 127.5 - 1
        np.testing.assert_array_equal(sample.image, tiny_image_tokenizer().encode(image)[0])
    assert Index.read(root).image_tokenizers() == {fingerprint(tiny_image_tokenizer())}


def test_coding_again_replaces_codes_of_another_tokenizer(tmp_path):
    make(tmp_path, tiny_recipe(scenes={"val": 2}, edits=0), workers=1)
    add_codes(tmp_path, tiny_image_tokenizer())
    first = files_of(tmp_path)
    add_codes(tmp_path, tiny_image_tokenizer(1))
    assert Index.read(tmp_path).image_tokenizers() == {fingerprint(tiny_image_tokenizer(1))}
    add_codes(tmp_path, tiny_image_tokenizer())
    assert files_of(tmp_path) == first


def test_pictures_of_another_size_are_refused(tmp_path):
    _shard(tmp_path / "x-000000.tar", **{"image.png": encode_png(np.zeros((8, 16, 3), dtype=np.uint8))})
    Index("clevr").with_shard("x", Shard("x-000000.tar", 1, {"image.png": 1})).write(tmp_path)
    with pytest.raises(ValueError, match=r"key 'a': member 'image.png' is \(8, 16\) pixels.*\(32, 32\)"):
        add_codes(tmp_path, tiny_image_tokenizer())


def test_check_counts_a_good_world_and_names_the_first_bad_key(root, tmp_path):
    counts = check(root)
    assert (counts["train"], counts["val"]) == (8, 5)
    index = Index("clevr").with_shard("x", _shard(tmp_path / "x.tar", **{"scene.json": encode_json(SCENE)}))
    index.write(tmp_path)
    assert check(tmp_path) == {"x": 1}
    _shard(tmp_path / "x.tar", **{"scene.json": json.dumps(SCENE).encode()[:-20]})
    with pytest.raises(ValueError, match=r"x\.tar: key 'a': member 'scene\.json'"):
        check(tmp_path)
    _shard(
        tmp_path / "x.tar", **{"scene.json": encode_json(SCENE), "image.codes.npy": encode_npy(np.zeros(2, np.uint16))}
    )
    with pytest.raises(ValueError, match=r"x\.tar holds 1 samples with .*image.codes.npy.* where index.json says"):
        check(tmp_path)
