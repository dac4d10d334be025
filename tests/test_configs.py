"""Every config that ships parses with its own command."""

from pathlib import Path

import pytest
import yaml
from jsonargparse import Namespace

from kyvo import cli


@pytest.mark.parametrize("name", cli.config_names())
def test_config_parses(name, monkeypatch, tmp_path):
    from kyvo.training.command import KyvoCLI

    monkeypatch.chdir(tmp_path)
    parsed: list[Namespace] = []
    # Parsing and validation happen before this hook; nothing is built.
    monkeypatch.setattr(KyvoCLI, "instantiate_classes", lambda self: parsed.append(self.config))
    monkeypatch.setattr(KyvoCLI, "_run_subcommand", lambda self, subcommand: None)
    cli.run_trainer(["fit", *_beneath(name), "-c", name])
    assert parsed[0].fit.trainer.max_steps > 0


def _beneath(name):
    """The config that this one is laid over."""
    model = yaml.safe_load(Path(cli.find_config(name)).read_text()).get("model", {})
    large = name.startswith(("llama3_2_1b/", "backbones/"))
    return [] if "class_path" in model else ["-c", "llama3_2_1b/base" if large else "quickstart"]


@pytest.mark.parametrize(
    "name", [name for name in cli.config_names() if name.startswith(("llama3_2_1b/", "backbones/"))]
)
def test_configs_over_the_papers_recipe_are_short(name):
    assert len(Path(cli.find_config(name)).read_text().splitlines()) <= 15 or name == "llama3_2_1b/base"


@pytest.mark.parametrize(
    "name", [name for name in cli.config_names() if name.startswith(("image_tok", "llama", "quick", "recog", "shape_"))]
)
def test_what_is_broken_off_can_go_on(name):
    trainer = yaml.safe_load(Path(cli.find_config(name)).read_text()).get("trainer", {})
    kept = [one["init_args"] for one in trainer.get("callbacks", []) if one["class_path"].endswith("ModelCheckpoint")]
    beneath = bool(_beneath(name))
    assert [one["save_last"] for one in kept] == ([] if beneath else [True])
