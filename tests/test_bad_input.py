"""Bad input: named, counted, never replaced, and fatal unless some of it is allowed."""

import io
import tarfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_modules.clevr import ClevrDataModule
from data_modules.faults import BadInputError, Fault, FaultCount
from data_modules.index import Index
from data_modules.shards import ShardWriter, encode_npy, read_shard
from tests.tiny_world import make_coded_world, tiny_tokenizer

TASKS = {"I-3": 1.0}


@pytest.fixture
def root(tmp_path):
    """8 scenes for training in 4 shards, 5 for validation in 3."""
    return make_coded_world(tmp_path / "world", edits=0)


def _damage(root, name, member, data):
    """Put other bytes in the place of a member of the shard's second sample."""
    raws = list(read_shard(root / name))
    with ShardWriter(root / name) as writer:
        for number, raw in enumerate(raws):
            writer.write(raw.key, {**raw.members, **({member: data} if number == 1 else {})})
    return raws[1].key


def _batches(data, loader, count):
    """Batches as a trainer meets them."""
    data.setup("fit")
    batches = []
    for batch in getattr(data, loader)() if loader == "train_dataloader" else getattr(data, loader)()[0]:
        batches.append(data.on_before_batch_transfer(batch, 0))
        if len(batches) == count:
            break
    return batches


def _data(root, **options):
    defaults = {"tasks": TASKS, "batch_size": 4, "eval_batch_size": 4, "epoch_batches": 6}
    return ClevrDataModule(str(root), tiny_tokenizer(), **(defaults | options))


def _scene(x):
    """A scene of one object at x."""
    words = b'"shape": "cube", "size": "small", "color": "red", "material": "metal"'
    return b'{"objects": [{%s, "3d_coords": [%s, 0, 0.35]}]}' % (words, x)


DAMAGES = [
    ("image.codes.npy", encode_npy(np.zeros(3, dtype=np.uint16)), "an image has 16 codes, not 3"),
    ("image.codes.npy", encode_npy(np.full(16, 999, dtype=np.uint16)), "image codes go from 0 to 15"),
    ("image.codes.npy", encode_npy(np.zeros(16, dtype=np.float32)), "expected codes uint16"),
    ("scene.json", b"[1, 2]", "not as expected"),
    ("scene.json", b"{", "corrupt"),
    ("scene.json", _scene(b"NaN"), "expected finite numbers x, y, z"),
    ("scene.json", _scene(b"9"), "outside the number grid"),
    ("scene.json", _scene(b'"3"'), "expected finite numbers"),
    ("question.json", b'[{"question": "how many"}]', "answer"),
]


@pytest.mark.parametrize(("member", "data", "reason"), DAMAGES)
@pytest.mark.parametrize("loader", ["train_dataloader", "val_dataloader"])
def test_a_bad_sample_is_fatal_and_named(root, member, data, reason, loader):
    key = _damage(root, "train-000000.tar" if loader == "train_dataloader" else "val-000000.tar", member, data)
    with pytest.raises(BadInputError, match=f"(?s)key '{key}'.*{reason}"):
        _batches(_data(root), loader, 6)


@pytest.mark.parametrize(("member", "data", "reason"), DAMAGES)
def test_what_is_allowed_is_left_out_counted_and_not_replaced(root, member, data, reason):
    whole = _batches(_data(root), "train_dataloader", 6)
    key = _damage(root, "train-000000.tar", member, data)
    module = _data(root, max_bad_fraction=0.5)
    batches = _batches(module, "train_dataloader", 6)
    assert [[k for k in batch.keys if k != key] for batch in whole] == [list(batch.keys) for batch in batches]
    assert module.faults.bad == sum(key in batch.keys for batch in whole) == sum(len(b.faults) for b in batches)
    assert module.faults.good == sum(len(batch) for batch in batches)
    assert any(reason in name for name in module.faults.summary)


def test_each_good_sample_is_evaluated_once_though_others_are_bad(root):
    key = _damage(root, "val-000000.tar", "scene.json", b"{")
    module = _data(root, max_bad_fraction=0.5)
    keys = [key for batch in _batches(module, "val_dataloader", 9) for key in batch.keys]
    assert sorted(keys) == sorted({f"val-{number:06d}" for number in range(5)} - {key})


def test_behind_the_damage_of_a_shard_every_sample_counts(root):
    path = root / "val-000000.tar"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(BadInputError, match=r"val-000000\.tar"):
        _batches(_data(root), "val_dataloader", 9)
    module = _data(root, max_bad_fraction=0.9)
    read = _batches(module, "val_dataloader", 9)
    assert sum(len(batch) + len(batch.faults) for batch in read) == 5
    assert 1 <= module.faults.bad <= 2


def test_a_batch_without_a_good_sample_is_fatal(root):
    for shard in Index.read(root).shards("train"):
        for raw in list(read_shard(root / shard.name)):
            _damage(root, shard.name, "scene.json", b"{")
            with ShardWriter(root / shard.name) as writer:
                writer.write(raw.key, {**raw.members, "scene.json": b"{"})
                writer.write(raw.key + "x", {**raw.members, "scene.json": b"{"})
    with pytest.raises(BadInputError, match="as is every sample of its batch"):
        _batches(_data(root, max_bad_fraction=0.9), "train_dataloader", 1)


@pytest.mark.parametrize("name", ["/etc/a.scene.json", "../a.scene.json", "x/../../a.scene.json"])
def test_a_member_outside_of_the_folder_is_refused(tmp_path, name):
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        info = tarfile.TarInfo(name)
        info.size = 2
        tar.addfile(info, io.BytesIO(b"{}"))
    with pytest.raises(BadInputError, match="no absolute path and none with"):
        list(read_shard(tmp_path / "x.tar"))


def test_a_member_that_occurs_twice_is_refused(tmp_path):
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        for _ in range(2):
            info = tarfile.TarInfo("a.scene.json")
            info.size = 2
            tar.addfile(info, io.BytesIO(b"{}"))
    with pytest.raises(BadInputError, match=r"x\.tar.*duplicate"):
        list(read_shard(tmp_path / "x.tar"))


def test_a_key_that_occurs_twice_is_named(tmp_path):
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        for name in ("a.scene.json", "b.scene.json", "a.scene.json"):
            info = tarfile.TarInfo(name)
            info.size = 2
            tar.addfile(info, io.BytesIO(b"{}"))
    with pytest.raises(BadInputError, match=r"x\.tar: key 'a': the key occurs twice"):
        list(read_shard(tmp_path / "x.tar"))


@given(good=st.integers(0, 50), bad=st.integers(0, 50), fraction=st.floats(0.01, 0.99))
def test_a_count_stops_where_more_is_bad_than_may_be(good, bad, fraction):
    count = FaultCount(fraction)
    count.good = good
    for _ in range(bad):
        count.add(Fault("x.tar", "a", "scene.json", "corrupt"))
    if bad > fraction * (good + bad):
        with pytest.raises(BadInputError, match=f"{bad} of {good + bad} samples are bad"):
            count.check()
    else:
        count.check()
    with pytest.raises(BadInputError, match=r"x\.tar: key 'a': member 'scene.json': corrupt"):
        FaultCount().add(Fault("x.tar", "a", "scene.json", "corrupt"))
    with pytest.raises(ValueError, match="max_bad_fraction"):
        FaultCount(1.0)
