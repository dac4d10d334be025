"""Confidences in predictions, and the average precision that ranks objects by them."""

import json

import pytest
import torch
from lightning import Trainer

from callbacks.predictions import Predictions
from callbacks.slot_precision import SlotPrecision, has_places
from data_modules.clevr import ClevrDataModule
from kyvo.generation.sampling import Sampling
from kyvo.metrics.slot_precision import SlotPrecision as Metric
from kyvo.scene import SCHEMAS
from kyvo.training.language import LanguageModule
from tests.tiny_world import make_coded_world, tiny_tokenizer
from tests.worlds import TINY

QUIET = dict.fromkeys(("logger", "enable_progress_bar", "enable_model_summary", "enable_checkpointing"), False)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return make_coded_world(tmp_path_factory.mktemp("world"))


def validate(root, folder, **options):
    torch.manual_seed(0)
    module = LanguageModule(
        tiny_tokenizer(), backbone=TINY, total_steps=1, sampling=Sampling(temperature=1.0), **options
    )
    trainer = Trainer(
        accelerator="cpu", default_root_dir=folder, callbacks=[Predictions(str(folder)), SlotPrecision()], **QUIET
    )
    data = ClevrDataModule(root, tiny_tokenizer(), {"3-I": 1.0, "I-3": 1.0}, eval_batch_size=2)
    trainer.validate(module, datamodule=data, verbose=False)
    return trainer.callback_metrics


def test_precision_is_that_of_the_objects_and_confidences_in_the_file(root, tmp_path):
    metrics = validate(root, tmp_path, confidences=True)
    lines = [json.loads(line) for line in (tmp_path / "val/I-3.rank0.jsonl").read_text().splitlines()]
    schema, expected = SCHEMAS["clevr"], Metric("clevr")
    assert sum(len(line["confidences"]) for line in lines) > 0
    for line in lines:
        generated, target = (schema.read(line[name]["scene"]) for name in ("generated", "target"))
        assert all(0 < one <= 1 for one in line["confidences"])
        expected.update([generated], [target], [line["confidences"]])
    for name, value in expected.compute().items():
        assert float(metrics[f"val/recognition/{name}"]) == pytest.approx(float(value), abs=1e-6)
    pictures = [json.loads(line) for line in (tmp_path / "val/3-I.rank0.jsonl").read_text().splitlines()]
    assert not any("confidences" in line for line in pictures)
    assert not any("rendering/ap" in name for name in metrics)


def test_without_confidences_it_says_what_to_set(root, tmp_path):
    with pytest.raises(ValueError, match=r"set model\.confidences to true"):
        validate(root, tmp_path)


def test_only_places_in_a_world_are_ranked():
    assert [name for name, schema in SCHEMAS.items() if has_places(schema)] == ["clevr", "objaworld", "objaworld-pose"]
