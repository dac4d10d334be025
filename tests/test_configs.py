"""Every config that ships parses with its own command."""

from pathlib import Path

import pytest
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
    base = [] if "model:" in Path(cli.find_config(name)).read_text() else ["-c", "quickstart"]
    cli.run_trainer(["fit", *base, "-c", name])
    assert parsed[0].fit.trainer.max_steps > 0
