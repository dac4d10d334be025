"""Worlds that several runs share are made by one of them at a time."""

import pytest
from filelock import FileLock, Timeout

from data_modules import mixture
from data_modules.clevr import ClevrDataModule
from tests.tiny_world import make_coded_world, tiny_recipe, tiny_tokenizer


def _held(root):
    lock = FileLock(root / ".making.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return True
    lock.release()
    return False


@pytest.mark.parametrize("makes", [True, False])
def test_a_world_is_locked_while_it_is_made_and_coded(makes, tmp_path, monkeypatch):
    root = make_coded_world(tmp_path / "world", scenes={"train": 2, "val": 2})
    recipe = tiny_recipe(scenes={"train": 2, "val": 2}) if makes else None
    seen = []
    monkeypatch.setattr(mixture, "make_unless_packed", lambda *_: seen.append(_held(root)))
    monkeypatch.setattr(mixture, "add_codes", lambda *_: seen.append(_held(root)))
    ClevrDataModule(str(root), tiny_tokenizer(), {"3-I": 1.0}, recipe).prepare_data()
    # What is there without a recipe may lie where nothing can be written.
    assert seen == [makes, makes]
    assert not _held(root)
