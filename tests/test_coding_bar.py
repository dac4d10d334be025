"""The bar of what is coded."""

import re
import tarfile
from types import SimpleNamespace

import pytest

from data_modules.coding import add_codes
from data_modules.coding_bar import CodingBar
from data_modules.make import make
from tests.tiny_world import tiny_image_tokenizer, tiny_recipe


@pytest.fixture
def bar(monkeypatch):
    """Starts bars that note their tasks instead of drawing them."""
    shown = []

    class Noted(CodingBar):
        def teardown(self, trainer, pl_module, stage):
            super().teardown(trainer, pl_module, stage)
            shown.extend((one.description, one.completed, one.total) for one in self._progress.tasks)

    monkeypatch.setattr("data_modules.coding.CodingBar", Noted)
    return shown


def test_pictures_are_counted_before_and_after(tmp_path, bar, capsys):
    make(tmp_path, tiny_recipe(scenes={"train": 3}, edit_images=True), workers=1)
    add_codes(tmp_path, tiny_image_tokenizer(), batch_size=2)
    pictures = 0
    for file in tmp_path.glob("*.tar"):
        with tarfile.open(file) as shard:
            pictures += sum(name.endswith("image.png") for name in shard.getnames())
    # Of each scene, and before and after each edit.
    assert pictures == 3 + 2 * 3 * 2
    assert bar == [("coding pictures", pictures, pictures)]
    assert re.search(r"coding pictures .*100%", capsys.readouterr().out)


@pytest.mark.parametrize(("rank", "total"), [(0, 8), (1, None)])
def test_the_first_of_two_ranks_shows_its_share(rank, total):
    bar = CodingBar("coding", [3, 4, 5], lambda batch: batch)
    trainer = SimpleNamespace(is_global_zero=rank == 0, world_size=2)
    bar.on_predict_start(trainer, None)
    bar.on_predict_batch_end(trainer, None, None, 3, 0)
    bar.on_exception(trainer, None, ValueError())
    found = [] if bar._progress is None else [(one.completed, one.total) for one in bar._progress.tasks]
    assert found == ([] if total is None else [(3, total)])
