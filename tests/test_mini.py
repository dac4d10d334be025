"""The model that ships: on scenes that it never saw it does what the README says, by the commands printed there."""

from pathlib import Path

import numpy as np
import pytest
import torch

from kyvo import Kyvo, cli
from kyvo.assets import ROOT

SCENES = 48


@pytest.fixture(scope="module")
def metrics(tmp_path_factory):
    """What `kyvo validate` finds on the first held-out scenes."""
    fewer = ["--data.init_args.make.scenes", f"{{val: {SCENES}}}", "--trainer.enable_progress_bar", "false"]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("mini"))
        shipped = ["validate", "-c", "quickstart", "-c", "mini", "--model.init_args.init", "mini"]
        done = cli.run_trainer([*shipped, *fewer])
        assert not list(Path("data/mini").glob("train*"))
    return {name: float(value) for name, value in done.trainer.callback_metrics.items()}


@pytest.mark.parametrize(
    ("metric", "least"),
    [
        # The README's numbers are of 500 scenes; these leave room for the spread of fewer.
        ("recognition/jaccard", 0.8),
        ("question_answering[I+3+Q-A]/accuracy", 0.94),
        ("question_answering[3+Q-A]/accuracy", 0.94),
        ("instruction/jaccard", 0.92),
        ("rendering/psnr", 34),
        ("rendering/object_psnr", 25),
    ],
)
def test_it_reaches_what_is_said_of_it(metrics, metric, least):
    assert metrics[f"val/{metric}"] >= least


def test_all_that_it_writes_is_well_formed(metrics):
    assert all(value == 1 for name, value in metrics.items() if name.endswith("/well_formed"))


def test_baselines_that_need_training_data_are_left_out_without(metrics):
    assert not [name for name in metrics if "majority" in name]


@pytest.mark.parametrize(("wanted", "found"), [(None, torch.float32), (torch.bfloat16, torch.bfloat16)])
def test_it_loads_by_its_name_and_takes_any_picture(wanted, found, tmp_path, monkeypatch):
    # A folder of that name would come first.
    monkeypatch.chdir(tmp_path)
    model = Kyvo.from_pretrained("mini", dtype=wanted)
    assert model.model.lm_head.weight.dtype == found
    noise = np.random.default_rng(0).integers(0, 256, (2, 48, 80, 3), dtype=np.uint8)
    scenes = model.recognize(list(noise))
    assert [picture.size for picture in model.render(scenes)] == [(64, 64), (64, 64)]


def test_it_is_small():
    assert sum(path.stat().st_size for path in (ROOT / "mini").rglob("*") if path.is_file()) <= 12e6
