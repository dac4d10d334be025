"""What the scoring callbacks log and write of one validation of a tiny world, whatever their order."""

import json
import math

import pytest
import torch
from lightning import Trainer

from callbacks.ceilings import Ceilings
from callbacks.editing import Editing
from callbacks.frechet import FrechetDistance
from callbacks.jaccard import Jaccard
from callbacks.likelihood import GROUPS, Likelihood, token_groups
from callbacks.predictions import Predictions
from callbacks.question_answering import QuestionAnswering
from callbacks.rendering import Rendering
from callbacks.rerecognition import Rerecognition
from callbacks.summary import Summary, summary_rows
from data_modules.clevr import ClevrDataModule
from kyvo.models.recognizer import Recognizer
from kyvo.report.table import metric_markdown
from kyvo.sample import Sample
from kyvo.scene import SCHEMAS
from kyvo.task import Task
from kyvo.tokenizers.images import ImageTokenizer
from kyvo.tokenizers.tokenizer import UnifiedTokenizer
from kyvo.training.language import LanguageModule
from tests.tiny_world import make_coded_world, tiny_tokenizer
from tests.worlds import TINY, batch_of, random_sample, tiny_module

TASKS = {"3-I": 1.0, "I-3": 1.0, "I+3+Q-A": 1.0, "3+T-3": 1.0}
QUIET = dict.fromkeys(("logger", "enable_progress_bar", "enable_model_summary", "enable_checkpointing"), False)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return make_coded_world(tmp_path_factory.mktemp("world"))


def _module():
    torch.manual_seed(0)
    return LanguageModule(tiny_tokenizer(), backbone=TINY, total_steps=1)


def _trainer(folder, callbacks, **options):
    return Trainer(accelerator="cpu", default_root_dir=folder, callbacks=callbacks, **QUIET, **options)


@pytest.fixture(scope="module")
def run(root, tmp_path_factory):
    """The scores of a validation, and the folder of what it wrote; predictions come before what scores them."""
    folder = tmp_path_factory.mktemp("run")
    callbacks = [
        *(Predictions(str(folder)), Jaccard(), Ceilings(), QuestionAnswering(), Editing(), Likelihood()),
        *(Rendering(), Rerecognition("recognizer_quickstart", apart=2), FrechetDistance(_colours(folder))),
        Summary(folder=str(folder)),
    ]
    trainer = _trainer(folder, callbacks)
    data = ClevrDataModule(root, tiny_tokenizer(), TASKS, eval_batch_size=2)
    trainer.validate(_module(), datamodule=data, verbose=False)
    return {name.removeprefix("val/"): float(value) for name, value in trainer.callback_metrics.items()}, folder


def _colours(folder):
    """A network whose features are the mean colours of a picture."""
    network = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())
    torch.jit.script(network).save(str(folder / "colours.pt"))
    return str(folder / "colours.pt")


def _lines(folder, task):
    return [json.loads(line) for line in (folder / f"val/{task}.rank0.jsonl").read_text().splitlines()]


@pytest.mark.parametrize(
    ("task", "label", "names"),
    [
        (
            "3-I",
            "rendering",
            ["psnr", "ssim", "object_psnr", "box_psnr", "psnr_against_vq", "scene_success", "token_nll"],
        ),
        ("I-3", "recognition", ["jaccard"]),
        ("I+3+Q-A", "question_answering", ["accuracy"]),
        ("3+T-3", "instruction", ["jaccard"]),
    ],
)
def test_scores_of_samples_add_up_to_those_of_all(run, task, label, names):
    metrics, folder = run
    lines = _lines(folder, task)
    assert len({line["key"] for line in lines}) == len(lines) >= 5
    for name in names:
        # A scene whose objects all are too small to be recognised has no success.
        values = [line["scores"][name] for line in lines if name in line["scores"] or name != "scene_success"]
        if name != "token_nll":  # a mean over tokens
            assert metrics[f"{label}/{name}"] == pytest.approx(sum(values) / len(values), rel=1e-4, abs=1e-6), name
            low, high = (metrics[f"{label}/{name}_{end}"] for end in ("low", "high"))
            assert min(values) - 1e-5 <= low <= metrics[f"{label}/{name}"] + 1e-5 <= high + 2e-5 <= max(values) + 3e-5
    assert not any(math.isnan(value) for line in lines for value in line["scores"].values())


def test_bounds_stand_beside_what_they_bound(run):
    metrics, folder = run
    # A grid of 0.05 moves a place by at most 0.036, well below the mean of the thresholds.
    assert metrics["recognition/jaccard_ceiling"] == 1
    assert 0 < metrics["recognition/location_error_ceiling"] < 0.04
    assert metrics["instruction/jaccard_ceiling"] == metrics["instruction/edit_success_ceiling"] == 1
    assert metrics["instruction/preservation_ceiling"] == 1
    assert "instruction/copy_jaccard" in metrics
    assert not any("copy" in name and "ceiling" in name for name in metrics)
    assert metrics["rendering/psnr_ceiling"] > metrics["rendering/psnr"] - 10
    assert metrics["rendering/l1_against_vq"] >= 0
    assert metrics["rendering/fid"] > 0
    assert metrics["rendering/fid_ceiling"] > 0
    table = (folder / "summary-val.md").read_text()
    assert "ceiling" in table.splitlines()[0]
    assert "success@scene" in table
    assert "[" in next(line for line in table.splitlines() if "PSNR" in line)


def test_a_recogniser_is_calibrated_on_four_kinds_of_picture(run):
    metrics, _ = run
    for name in ("scene_success", "recognized_object", "recognized_color", "recognized_shape"):
        for ending in ("", "_true", "_vq", "_shuffled"):
            assert 0 <= metrics[f"rendering/{name}{ending}"] <= 1
    # The world's tokenizer is random: the recogniser sees colours in true pictures alone.
    assert metrics["rendering/recognized_color_true"] > 0.8
    assert metrics["rendering/recognized_color_true"] > metrics["rendering/recognized_color_vq"]


def test_pictures_are_decoded_once_for_all_callbacks(root, tmp_path, monkeypatch):
    decoded, decode = [], ImageTokenizer.decode
    monkeypatch.setattr(
        ImageTokenizer, "decode", lambda self, codes: (decoded.append(len(codes)), decode(self, codes))[1]
    )
    scored = [Rendering(), Rerecognition("recognizer_quickstart"), FrechetDistance(_colours(tmp_path))]
    data = ClevrDataModule(root, tiny_tokenizer(), {"3-I": 1.0}, eval_batch_size=2)
    _trainer(tmp_path, [*scored, Predictions(str(tmp_path))]).validate(_module(), datamodule=data, verbose=False)
    # What was written and what should have been.
    assert sum(decoded) == 2 * len(_lines(tmp_path, "3-I"))


def test_likelihoods_are_logged_by_part(run):
    metrics, _ = run
    codes, vocabulary = metrics["rendering/image_code_nll"], tiny_tokenizer().vocabulary.size
    # Random weights are close to uniform.
    assert codes == pytest.approx(math.log(vocabulary), rel=0.1)
    assert 0 <= metrics["rendering/first_code_accuracy"] <= 1
    assert "rendering/scene_token_nll" not in metrics
    assert {"recognition/scene_token_nll", "question_answering/text_token_nll"} <= set(metrics)


def test_groups_of_tokens_are_those_of_the_segments():
    module = tiny_module()
    tokenizer, task = module.tokenizer, Task.parse("I+3+T-I+3")
    samples = [random_sample(seed) for seed in range(3)]
    batch = batch_of(tokenizer, task, samples)
    groups = token_groups(tokenizer.vocabulary, batch.ids, batch.weights)
    for row, sample in enumerate(samples):
        found = {name: set((1 + groups[row, place].nonzero()[:, 0]).tolist()) for place, name in enumerate(GROUPS)}
        written = {one.name: one for one in tokenizer.encode(task, sample).segments if one.written}
        image, scene = written["image"], written["scene"]
        assert found["first_code"] == {image.start + 1}
        assert found["image_code"] == set(range(image.start + 1, image.stop - 1))
        assert found["scene_token"] == set(range(scene.start, scene.stop))
        assert found["text_token"] == set()
        assert found["token"] == set(range(image.start, written["eos"].stop))


def test_text_that_is_read_is_in_no_group():
    task, sample = Task.parse("3+T-3"), random_sample(0)
    plain, asked = (UnifiedTokenizer.from_preset("quickstart", read_text_weight=weight) for weight in (0.0, 0.5))
    batches = [batch_of(tokenizer, task, [sample]) for tokenizer in (plain, asked)]
    assert (batches[1].weights > 0).sum() > (batches[0].weights > 0).sum()
    groups = [token_groups(plain.vocabulary, batch.ids, batch.weights) for batch in batches]
    assert torch.equal(*groups)


# ---- training -------------------------------------------------------------------------------------------------------


def test_validations_in_training_look_at_the_same_samples_and_leave_ceilings_out(root, tmp_path):
    data = ClevrDataModule(root, tiny_tokenizer(), {"I-3": 1.0}, batch_size=2, eval_batch_size=2)
    module = _module()
    module.limit_generation = 3
    callbacks = [Jaccard(), Ceilings(), Predictions(str(tmp_path))]
    trainer = _trainer(tmp_path, callbacks, max_steps=1, val_check_interval=1, num_sanity_val_steps=0)
    trainer.fit(module, datamodule=data)
    assert "val/recognition/jaccard" in trainer.callback_metrics
    assert not any("ceiling" in name for name in trainer.callback_metrics)
    assert len(_lines(tmp_path, "I-3")) == 3


@pytest.mark.parametrize(
    ("limit", "ranks", "shares"), [(5, 2, [3, 2]), (4, 2, [2, 2]), (-1, 2, [-1, -1]), (0, 2, [0, 0])]
)
def test_ranks_share_the_samples_of_a_validation(limit, ranks, shares):
    class Processes:
        world_size = ranks

    module = tiny_module(limit_generation=limit)
    found = []
    for rank in range(ranks):
        Processes.global_rank = rank
        module._trainer = Processes
        found.append(module._share_of_generation())
    assert found == shares
    module.limit_generation = 1
    with pytest.raises(ValueError, match="at least one for each of 2 ranks, got 1"):
        module._share_of_generation()


# ---- refusals -------------------------------------------------------------------------------------------------------


def test_a_recogniser_of_other_words_is_refused(root, tmp_path):
    other = Recognizer({"shape": ("cube", "cone")})
    other.save_pretrained(tmp_path / "other")
    trainer = _trainer(tmp_path, [Rerecognition(str(tmp_path / "other"))])
    data = ClevrDataModule(root, tiny_tokenizer(), {"3-I": 1.0}, eval_batch_size=2)
    with pytest.raises(ValueError, match=r"other recognises .*'cone'.*the scenes have .*'material'"):
        trainer.validate(_module(), datamodule=data, verbose=False)


def test_samples_without_boxes_are_named():
    scene = SCHEMAS["clevr"].read({"objects": []})
    callback = Rerecognition("recognizer_quickstart")
    with pytest.raises(ValueError, match="sample '7' lacks bbox and visible_pixels of its objects"):
        callback._objects_of(Sample("7", scene=scene), SCHEMAS["clevr"])
    with pytest.raises(ValueError, match="apart should be at least 1, got 0"):
        Rerecognition("recognizer_quickstart", apart=0)


# ---- tables ---------------------------------------------------------------------------------------------------------


def test_the_table_has_intervals_and_ceilings():
    reached = {
        "val/recognition/jaccard": 0.4091,
        "val/recognition/jaccard_low": 0.391,
        "val/recognition/jaccard_high": 0.431,
        "val/recognition/jaccard_ceiling": 0.998,
        "val/rendering/scene_success": 0.5,
        "val/rendering/scene_success_shuffled": 0.01,
        "val/rendering/scene_success_vq": 0.9,
    }
    assert metric_markdown(summary_rows(reached, "val", {"recognition/jaccard": 0.1}, {})).split("\n") == [
        "| metric | reached | baseline | difference | ceiling |",
        "| :-- | --: | :-- | --: | --: |",
        "| recognition: Jaccard | 0.409 [0.39, 0.43] | 0.100 (untrained) | +0.309 | 0.998 |",
        "| rendering: success@scene | 0.500 | 0.010 (shuffled) | +0.490 | 0.900 |",
    ]
