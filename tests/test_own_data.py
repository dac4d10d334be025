"""The page on data, followed: its schema, its folder and its scene make a data set that a tokenizer reads."""

import json
import math
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data_modules.index import Index
from data_modules.inspection import check
from data_modules.pack import pack
from data_modules.records import decode_record
from data_modules.shards import read_shard
from data_modules.showing import show
from data_modules.sources.folder import FolderSource
from kyvo.task import Task
from kyvo.tokenizers.tokenizer import UnifiedTokenizer

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "data_modules" / "README.md").read_text(encoding="utf-8")
OWN = PAGE.split("## Your own data")[1].split("\n## ")[0]
CUP = {"thing": "cup", "position": [0.0, 0.333, 0.1], "rotation": -3.1, "weight": 0.25}


def block(language):
    """The first block of the page's section in a language."""
    return re.search(rf"```{language}\n(.*?)```", OWN, flags=re.DOTALL)[1]


@pytest.fixture
def folder(tmp_path):
    """The page's schema and a data set in its layout: three keys of which each has all files that the page names."""
    (tmp_path / "my.yaml").write_text(block("yaml"))
    before = json.loads(block("json"))
    after = {"objects": [*before["objects"], CUP]}
    for split, keys in (("train", "abc"), ("val", "d")):
        for key in keys:
            values = {
                "scenes": before,
                "questions": [{"question": "Is there a cup?", "answer": "False", "type": "exist"}],
                "instructions": {"text": "Put a cup behind the board", "type": "insert"},
                "target_scenes": after,
            }
            for name, value in values.items():
                _path(tmp_path, split, name, f"{key}.json").write_text(json.dumps(value))
            for name, level in (("images", 90), ("target_images", 200)):
                picture = Image.fromarray(np.full((6, 8, 3), level, np.uint8))
                picture.save(_path(tmp_path, split, name, f"{key}.png"))
    return tmp_path


def _path(root, split, folder, name):
    path = root / "data" / split / folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def test_the_page_names_every_folder_that_is_read():
    from data_modules.sources import folder

    assert all(f"{name}/KEY" in OWN for name in folder._FOLDERS)


def test_a_data_set_made_as_the_page_says(folder):
    source, shards = FolderSource(folder / "data", folder / "my.yaml"), folder / "shards"
    summary = pack(source, shards, workers=1)
    assert {split: (counts["good"], counts["bad"]) for split, counts in summary.items()} == {
        "train": (6, 0),
        "val": (2, 0),
    }
    assert check(shards) == {"train": 3, "train-edits": 3, "val": 1, "val-edits": 1}
    assert Index.read(shards).scene_schema == source.schema


def test_samples_are_written_and_read(folder):
    source, shards = FolderSource(folder / "data", folder / "my.yaml"), folder / "shards"
    pack(source, shards, workers=1)
    tokenizer = UnifiedTokenizer.from_preset("unified", schema=folder / "my.yaml")
    raw = next(read_shard(shards / "train-edits-000000.tar"))
    sample = decode_record(raw, Index.read(shards).scene_schema, pixels=True).sample
    assert (sample.key, sample.kind, sample.pixels.shape) == ("a-edit", "insert", (6, 8, 3))
    task = Task.parse("3+T-3")
    sequence = tokenizer.encode(task, sample)
    board, cup = tokenizer.decode(task, sequence.ids[sequence.prompt_length :]).scene
    assert (board["thing"], board["position"]) == ("cutting board", (0.3, -0.5, 0.02))
    assert board["pose"] == (pytest.approx(math.pi / 2, abs=1e-4), pytest.approx(0.8, rel=0.06))
    # 0.333 is nearest to 0.34, and -3.1 nearer to half a turn than to the step before it.
    assert (cup["position"], cup["pose"][0]) == ((0.0, 0.34, 0.1), -3.1416)


SMALL = {
    "--trainer.max_steps": "2",
    "--trainer.val_check_interval": "2",
    "--data.init_args.batch_size": "2",
    "--model.init_args.backbone": "{hidden_size: 32, layers: 1, heads: 2}",
}


def test_the_commands_of_the_page_pack_show_and_train(folder, monkeypatch, capsys):
    from kyvo import cli

    monkeypatch.chdir(folder)
    (folder / "data").rename(folder / "ROOT")
    commands = [shlex.split(line)[1:] for line in OWN.splitlines() if line.startswith("kyvo ")]
    assert [words[:2] for words in commands] == [["data", "pack"], ["data", "show"], ["fit", "-c"]]
    for words in commands[:2]:
        cli.main(words)
    assert "[THING] cutting board" in capsys.readouterr().out
    trained = cli.run_trainer([*commands[2], *(word for pair in SMALL.items() for word in pair)])
    reached = trained.trainer.callback_metrics
    assert {"val/recognition/jaccard", "val/rendering/psnr"} <= set(reached)
    assert float(reached["val/rendering/well_formed"]) == 1


def test_it_can_be_shown(folder, capsys):
    pack(FolderSource(folder / "data", folder / "my.yaml"), folder / "shards", workers=1)
    show(str(folder / "shards"), "3+Q-A", tokenizer=folder / "my.yaml", png=folder / "sheet.png")
    printed = "".join(capsys.readouterr().out.split())
    assert "[THING]cuttingboard[POSITION]x:0.30y:-0.50z:0.02[POSE]yaw:1.5708weight:" in printed
    assert "[TEXT-START]Isthereacup?[TEXT-END][OUTPUT-START][TEXT-START]False[TEXT-END]" in printed
    assert Image.open(folder / "sheet.png").width > 3 * 288
