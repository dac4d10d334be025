"""What of Lightning's words is not said."""

import logging
import warnings

import pytest
from lightning import Trainer
from lightning.pytorch.demos.boring_classes import BoringModel

from kyvo.training.quiet import LOGGED, quiet


@pytest.fixture
def said():
    """Messages of Lightning's loggers."""
    messages: list[str] = []

    class Listening(logging.Handler):
        def emit(self, record):
            messages.append(record.getMessage())

    listening, logger = Listening(), logging.getLogger("lightning.pytorch")
    logger.addHandler(listening)
    yield messages
    logger.removeHandler(listening)


def _trainer(folder):
    return Trainer(
        accelerator="cpu", default_root_dir=folder, enable_progress_bar=False, enable_model_summary=False,
        max_steps=1, limit_val_batches=0,
    )  # fmt: skip


def test_advertising_is_left_out_and_news_is_not(said, tmp_path):
    with quiet():
        _trainer(tmp_path)
        assert any("GPU available" in message for message in said)
        assert not any("Tip:" in message for message in said)
    # Otherwise the test would pass where Lightning has nothing to sell.
    _trainer(tmp_path)
    assert any("Tip:" in message for message in said)


def test_saving_without_a_word_on_weights_only_says_nothing(said, tmp_path):
    trainer = _trainer(tmp_path)
    trainer.fit(BoringModel())
    with quiet():
        trainer.save_checkpoint(tmp_path / "one.ckpt")
    assert not any("weights_only" in message for message in said)
    trainer.save_checkpoint(tmp_path / "two.ckpt")
    assert any("`weights_only` was not set" in message for message in said)


def test_warnings_of_its_insides_are_left_out_and_others_are_not():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with quiet():
            warnings.warn("`isinstance(treespec, LeafSpec)` is deprecated, use ...", FutureWarning, stacklevel=1)
            warnings.warn("something is wrong", stacklevel=1)
    assert [str(one.message) for one in caught] == ["something is wrong"]


def test_one_within_another_leaves_the_outer_in_place():
    loggers = [logging.getLogger(name) for name in LOGGED]
    before = [list(logger.filters) for logger in loggers]
    with quiet():
        with quiet():
            pass
        for logger, text in zip(loggers, LOGGED.values(), strict=True):
            record = logger.makeRecord(logger.name, logging.INFO, "", 0, f"a {text} b", (), None)
            assert not logger.filter(record)
    assert [list(logger.filters) for logger in loggers] == before
