"""The quickstart at a tiny size: one command makes, trains, evaluates and draws; the others repeat its numbers."""

import json
from pathlib import Path

import pytest
import torch
import yaml

from kyvo import cli
from kyvo.models.image_vq import ImageNetwork, build_vq_model
from kyvo.tokenizers.images import ImageTokenizer

SIZES = {"channels": (16,), "layers": 1, "codes": 512, "code_dim": 8, "latent_channels": 8, "groups": 4}
CHECKPOINT = "runs/quickstart/checkpoints/last.ckpt"


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    """Overrides that make the quickstart tiny, beside an image tokenizer of random weights."""
    folder = tmp_path_factory.mktemp("quickstart")
    torch.manual_seed(0)
    network = ImageNetwork((64, 64), patch=8, **SIZES, attention=(), mid_attention=False)
    ImageTokenizer(build_vq_model(network)).save_pretrained(folder / "images")
    checkpoints = {"dirpath": "kept", "every_n_train_steps": 2, "save_top_k": -1, "filename": "{step}"}
    checkpoints |= {"save_last": True}
    changes = {
        "tokenizer": {"image": str(folder / "images")},
        "model": {"init_args": {"backbone": {"hidden_size": 32, "layers": 2, "heads": 2}}},
        "data": {
            "init_args": {
                "batch_size": 2,
                "eval_batch_size": 3,
                "make": {"scenes": {"train": 8, "val": 4}, "scenes_per_shard": 4, "edits": 1, "questions": 2},
                "workers": 1,
            }
        },
        "trainer": {
            "max_steps": 5,
            "val_check_interval": 2,
            "log_every_n_steps": 1,
            "enable_progress_bar": False,
            "callbacks+": [{"class_path": "lightning.pytorch.callbacks.ModelCheckpoint", "init_args": checkpoints}],
        },
    }
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump(changes))
    return path


@pytest.fixture(scope="module")
def run(config, tmp_path_factory):
    """The folder of a finished `kyvo fit`, and what it ended with."""
    folder = tmp_path_factory.mktemp("run")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        done = cli.run_trainer(["fit", "-c", "quickstart", "-c", str(config)])
    return folder, {name: float(value) for name, value in done.trainer.callback_metrics.items()}, done.model


def _again(run, config, command, *words):
    folder, _, _ = run
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        return cli.run_trainer([command, "-c", "quickstart", "-c", str(config), "--ckpt_path", CHECKPOINT, *words])


def test_fit_leaves_metrics_predictions_pictures_and_logs(run):
    folder, metrics, _ = run
    root = folder / "runs/quickstart"
    for name in ("recognition/jaccard", "question_answering/majority_baseline", "instruction/copy_jaccard"):
        assert f"val/{name}" in metrics
    assert metrics["val/rendering/well_formed"] == 1
    assert "val/rendering/object_psnr" in (root / "metrics.csv").read_text()
    assert list(root.glob("events.out.tfevents.*"))
    for task in ("3-I", "I-3", "I+3+Q-A", "3+T-3"):
        lines = (root / f"predictions/val/{task}.rank0.jsonl").read_text().splitlines()
        keys = {"key", "task", "kind", "read", "target", "generated", "malformed", "scores"}
        # Where its camera stands is said of a picture that a scene belongs to.
        assert set(json.loads(lines[0])) == keys | ({"camera"} if task != "3+T-3" else set())
        assert (root / f"gallery/val-{task}.png").stat().st_size > 1000
    table = (root / "summary-val.md").read_text()
    for baseline in ("majority", "unchanged", "untrained"):
        assert baseline in table


def test_every_process_is_recorded_beside_what_it_left(run, config, monkeypatch):
    root = run[0] / "runs/quickstart"
    fitted = json.loads((root / "run.json").read_text())["starts"][0]
    assert fitted["command"].startswith("kyvo fit -c ")
    assert (fitted["status"], fitted["seed"], fitted["first_step"], fitted["last_step"]) == ("finished", 0, 0, 5)
    assert (fitted["processes"], fitted["precision"], fitted["checkpoint"]) == (1, "bf16-mixed", None)
    assert fitted["config"]["trainer"]["max_steps"] == 5
    monkeypatch.setattr("kyvo.training.language.LanguageModule.predict_step", _refuse)
    with pytest.raises(ValueError, match="nothing to predict"):
        _again(run, config, "predict")
    predicted = json.loads((root / "predict/run.json").read_text())["starts"][-1]
    assert (predicted["status"], predicted["error"]) == ("failed", "ValueError: nothing to predict")
    assert json.loads((root / "run.json").read_text())["starts"] == [fitted]


def _refuse(*_):
    raise ValueError("nothing to predict")


def test_training_logs_its_speed_and_its_losses_of_tasks_and_tokens(run):
    header = (run[0] / "runs/quickstart/metrics.csv").read_text().splitlines()[0].split(",")
    names = ("tokens_per_second", "supervised_tokens_per_second", "data_wait", "text/loss", "markers/loss")
    assert {f"train/{name}" for name in names} <= set(header)


def test_the_last_checkpoint_is_the_end_of_training_whatever_the_interval(run):
    for name in (CHECKPOINT, "kept/last.ckpt"):
        assert torch.load(run[0] / name, weights_only=True)["global_step"] == 5


def test_validate_and_test_repeat_the_numbers_of_fit(run, config):
    _, metrics, _ = run
    wanted = {name: value for name, value in metrics.items() if name.startswith("val/")}
    again = _again(run, config, "validate").trainer.callback_metrics
    assert {name: float(value) for name, value in again.items()} == wanted
    # The curve of the training run is still there.
    assert "train/" in (run[0] / "runs/quickstart/metrics.csv").read_text()
    tested = _again(run, config, "test").trainer.callback_metrics
    assert {name.replace("test/", "val/"): float(value) for name, value in tested.items()} == wanted


def test_predict_writes_every_sample_once(run, config):
    _again(run, config, "predict")
    root = run[0] / "runs/quickstart/predict/predictions/predict"
    keys = [json.loads(line)["key"] for line in (root / "I-3.rank0.jsonl").read_text().splitlines()]
    assert len(keys) == len(set(keys)) == 4


def test_the_command_line_wins_over_the_checkpoint(run, config):
    done = _again(run, config, "validate", "--model.init_args.sampling.temperature", "0.5")
    assert done.model.sampling.temperature == 0.5


def test_a_resumed_run_equals_an_unbroken_one(run, config, tmp_path, monkeypatch):
    folder, _, unbroken = run
    (tmp_path / "data").symlink_to(folder / "data")
    monkeypatch.chdir(tmp_path)
    middle = next(Path(folder / "kept").glob("step=2.ckpt"))
    resumed = cli.run_trainer(["fit", "-c", "quickstart", "-c", str(config), "--ckpt_path", str(middle)]).model
    for ours, theirs in zip(resumed.parameters(), unbroken.parameters(), strict=True):
        assert torch.equal(ours, theirs)
