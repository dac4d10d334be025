"""The README's commands: the newcomer's two are the ones that CI and users run, and the others work as printed."""

import re
import runpy
import shlex
from pathlib import Path

import pytest

from kyvo import cli

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()
COMMANDS = [
    shlex.split(line)[1:]
    for block in re.findall(r"```bash\n(.*?)```", README, flags=re.DOTALL)
    for line in block.splitlines()
    if line.startswith(".venv/bin/kyvo")
]


def test_the_newcomers_commands_are_two_single_lines():
    blocks = runpy.run_path(str(ROOT / ".ci" / "readme_command.py"))["quickstart_commands"](README)
    assert all("\n" not in block for block in blocks[:2])
    assert blocks[0].endswith("kyvo fit -c configs/quickstart.yaml")
    assert blocks[1].endswith("pytest")
    assert all("-c constraints.txt" in block for block in blocks[:2])


@pytest.mark.parametrize("words", [c for c in COMMANDS if c[0] in cli.TRAINER_COMMANDS], ids=" ".join)
def test_trainer_commands_parse(words, monkeypatch):
    from kyvo.training.command import KyvoCLI

    monkeypatch.setattr(KyvoCLI, "instantiate_classes", lambda self: None)
    monkeypatch.setattr(KyvoCLI, "_run_subcommand", lambda self, subcommand: None)
    assert cli.run_trainer(words).subcommand == words[0]


def test_data_commands_run_one_after_the_other(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    commands = [words for words in COMMANDS if words[0] == "data"]
    assert [words[1] for words in commands] == ["make", "make", "pack", "code", "check", "show"]
    for words in commands:
        cli.main(words)
    assert "[SCENE-START]" in capfd.readouterr().out


def test_the_layout_names_every_top_folder():
    layout = README.split("## Layout", 1)[1]
    for folder in ("kyvo", "data_modules", "callbacks", "configs", "tests"):
        assert f"{folder}/" in layout
