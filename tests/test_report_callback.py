"""The page that ends an evaluation: what it takes from the run, and the same on two processes."""

import re
import subprocess
import sys

import pytest
from lightning import Trainer

from callbacks.report import Report
from data_modules.clevr import ClevrDataModule
from tests.report_run import TASKS, evaluate
from tests.tiny_world import make_coded_world, tiny_tokenizer
from tests.worlds import tiny_module


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return make_coded_world(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def page(world, tmp_path_factory):
    return evaluate(world, tmp_path_factory.mktemp("one"), devices=1).read_text()


def cards(text):
    """The samples of a page, with their pictures."""
    return re.findall(r"<article.*?</article>", text, re.DOTALL)


def test_the_page_shows_the_run_s_numbers_and_true_pictures(page):
    assert "<h1>run</h1>" in page
    assert "test: 15 outputs of 3 tasks" in page
    for said in (
        "recognition <small>Jaccard",
        "question answering <small>accuracy",
        "majority",
        "rendering <small>PSNR",
    ):
        assert said in page
    found = cards(page)
    assert {re.search('data-task="([a-z_]*)"', card).group(1) for card in found} == {
        "recognition", "question_answering", "rendering",
    }  # fmt: skip
    # Scenes over the pictures that show them: the world says where its camera stands.
    assert sum(card.count("in the image</figcaption>") for card in found if 'data-task="recognition"' in card) == 3
    assert sum(card.count("in the written image</figcaption>") for card in found) == 3
    # True pictures are not made of codes, written ones are.
    assert "of its codes" not in page
    assert sum(card.count("written image") for card in found) >= 3
    assert sum(card.count("true image") for card in found) >= 3


@pytest.mark.slow
def test_two_processes_make_the_same_page(world, page, tmp_path):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command += ["-m", "tests.report_run", str(world), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=500)
    assert done.returncode == 0, done.stderr[-3000:]
    assert cards((tmp_path / "run/test/report.html").read_text()) == cards(page)


def test_a_run_without_predictions_is_refused(world, tmp_path):
    data = ClevrDataModule(world, tiny_tokenizer(), TASKS, eval_batch_size=2)
    trainer = Trainer(accelerator="cpu", logger=False, default_root_dir=tmp_path, callbacks=[Report()])
    with pytest.raises(ValueError, match="add that one too"):
        trainer.validate(tiny_module(), datamodule=data, verbose=False)
