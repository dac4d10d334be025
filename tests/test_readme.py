"""The README's commands: the newcomer's two are the ones that CI and users run, and the others work as printed."""

import re
import runpy
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kyvo import cli
from kyvo.generation.folder import write_extras
from tests.worlds import tiny_kyvo

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


def test_the_example_of_the_api_runs(tmp_path, monkeypatch):
    [example] = [block for block in re.findall(r"```python\n(.*?)```", README, re.DOTALL) if "from_pretrained" in block]
    kyvo = tiny_kyvo()
    kyvo.model.save_pretrained(tmp_path / "mini")
    write_extras(tmp_path / "mini", kyvo.tokenizer, ("3-I", "I-3", "I+3+Q-A", "3+T-3"))
    Image.new("RGB", (48, 40), (90, 120, 150)).save(tmp_path / "scene.png")
    monkeypatch.chdir(tmp_path)
    found: dict = {}
    exec(example, found)
    images, scenes, text = found["images"], kyvo.recognize(found["images"]), "Remove the red cube"
    assert found["scenes"] == scenes
    assert np.array_equal(np.asarray(found["pictures"][0]), np.asarray(kyvo.render(scenes)[0]))
    assert found["edited"][0][1] == kyvo.edit_scenes(scenes, [text])[0]
    assert found["answers"] == kyvo.answer(images, scenes, ["what color is the sphere"])


def test_the_layout_names_every_top_folder():
    layout = README.split("## Layout", 1)[1]
    for folder in ("kyvo", "data_modules", "callbacks", "configs", "tests"):
        assert f"{folder}/" in layout
