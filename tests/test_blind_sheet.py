"""Sheets for people: what the page shows and hides, and the ranks that come back."""

import base64
import csv
import io
import json
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kyvo.report.blind_sheet import COLUMNS, BlindKey, Contest, read_ranks, write_sheet

ASSETS = [f'a "{number}", <b>' for number in range(6)]
METHODS = ["ours", "theirs", "others"]
SHADES = {"truth": 10, "ours": 60, "theirs": 120, "others": 180}

# What a browser would do with the page's script: `click` picks a rank in every row, then presses the button.
BROWSER = """
const fs = require("fs");
const [page, ranks] = process.argv.slice(2);
const script = fs.readFileSync(page, "utf8").match(/<script>([\\s\\S]*)<\\/script>/)[1];
const listeners = {}, elements = {}, kept = {};
const element = name => elements[name] ||= { addEventListener: (kind, run) => { listeners[name] = run; } };
const sections = JSON.parse(ranks).map(([asset, rows]) => ({
  dataset: { asset }, classList: { toggle() {} }, querySelectorAll: () => rows.map(([letter, rank]) => ({
    dataset: { letter }, querySelector: () => rank ? { value: rank } : null })) }));
global.localStorage = { getItem: name => kept[name], setItem: (name, value) => { kept[name] = value; } };
global.Blob = class { constructor(parts) { this.text = parts.join(""); } };
global.URL = { createObjectURL: blob => blob.text };
global.document = {
  body: { dataset: { sheet: "SHEET" } }, getElementById: element, querySelector: () => null,
  querySelectorAll: wanted => wanted === "section" ? sections : [],
  addEventListener: (kind, run) => { listeners[kind] = run; },
  createElement: () => ({ click() { process.stdout.write(JSON.stringify([this.href, this.download])); } }),
};
eval(script);
listeners.change();
if (!elements.save.disabled) listeners.save(); else process.stdout.write(elements.progress.textContent);
"""


class Page(HTMLParser):
    """What stands on a page: for each asset its pictures by letter ('' of the reference), and the choices."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found, self.names, self.sheet, self.sources = {}, {}, "", []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        if tag == "body":
            self.sheet = given["data-sheet"]
        elif tag == "section":
            self.rows = self.found.setdefault(given["data-asset"], {})
            self.letter = ""
        elif tag == "div":
            self.letter = given.get("data-letter", "")
        elif tag == "img":
            self.sources.append(given["src"])
            data = base64.b64decode(given["src"].removeprefix("data:image/png;base64,"))
            self.rows.setdefault(self.letter, []).append(np.asarray(Image.open(io.BytesIO(data))))
        elif tag == "input":
            self.names.setdefault(given["name"], []).append(given["value"])


def contest(asset: str) -> Contest:
    pictures = {
        name: [np.full((16, 16, 3), shade + view, np.uint8) for view in range(2)] for name, shade in SHADES.items()
    }
    return Contest(asset, pictures["truth"], {name: pictures[name] for name in METHODS})


@pytest.fixture
def sheet(tmp_path: Path) -> tuple[Page, BlindKey, Path]:
    key = write_sheet([contest(asset) for asset in ASSETS], tmp_path / "new" / "sheet.html")
    text = (tmp_path / "new" / "sheet.html").read_text()
    assert not any(name in text for name in METHODS)
    return Page(text), BlindKey.load(key), tmp_path / "new" / "sheet.html"


def save_ranks(file: Path, page: Page, rank) -> Path:
    """A CSV with the ranks that a person gives to the shades of pictures."""
    with file.open("w", newline="") as lines:
        writer = csv.writer(lines)
        writer.writerow(COLUMNS)
        for asset, rows in page.found.items():
            for letter in sorted(set(rows) - {""}):
                writer.writerow([page.sheet, asset, letter, rank(asset, int(rows[letter][0][0, 0, 0]))])
    return file


def test_the_page_shows_all_pictures_shuffled_under_letters_that_the_key_resolves(sheet):
    page, key, _ = sheet
    assert set(page.found) == set(ASSETS)
    assert list(page.found) != ASSETS
    orders = set()
    for asset, rows in page.found.items():
        for letter, pictures in rows.items():
            shade = SHADES["truth" if not letter else key.letters[asset][letter]]
            assert [int(picture[0, 0, 0]) for picture in pictures] == [shade, shade + 1]
        orders.add(tuple(key.letters[asset].values()))
    assert len(orders) > 1
    assert list(page.names.values()) == [["1", "2", "3"]] * 18
    assert all(source.startswith("data:") for source in page.sources)


def test_orders_are_seeded(tmp_path: Path):
    first, again, other = (
        BlindKey.load(write_sheet([contest(asset) for asset in ASSETS], tmp_path / f"{name}.html", seed))
        for name, seed in (("first", 0), ("again", 0), ("other", 1))
    )
    assert first.sheet == again.sheet != other.sheet


def test_ranks_come_back_by_method(sheet, tmp_path: Path):
    page, key, _ = sheet
    by_shade = save_ranks(tmp_path / "a.csv", page, lambda asset, shade: {60: 1, 120: 2, 180: 3}[shade])
    ties = save_ranks(tmp_path / "b.csv", page, lambda asset, shade: 2 if asset == ASSETS[0] and shade == 60 else 1)
    found = read_ranks([by_shade, ties], key, ASSETS, METHODS)
    assert found.shape == (2, 6, 3)
    assert (found[0] == [1, 2, 3]).all()
    assert found[1].tolist() == [[2, 1, 1]] + [[1, 1, 1]] * 5
    assert (read_ranks([by_shade], key, ASSETS, METHODS[::-1]) == [3, 2, 1]).all()


@pytest.mark.skipif(shutil.which("node") is None, reason="no node")
def test_the_script_saves_what_was_picked_once_all_is_ranked(sheet, tmp_path: Path):
    page, key, path = sheet
    rows = [(asset, [(letter, "2") for letter in "ABC"]) for asset in page.found]
    browser = tmp_path / "browser.js"
    browser.write_text(BROWSER.replace("SHEET", page.sheet))

    def run() -> str:
        return subprocess.run(
            ["node", browser, path, json.dumps(rows)], capture_output=True, text=True, check=True
        ).stdout

    text, name = json.loads(run())
    (tmp_path / name).write_bytes(text.encode())
    assert name == f"ranks-{page.sheet}.csv"
    assert (read_ranks([tmp_path / name], key, ASSETS, METHODS) == 2).all()
    rows[3] = (rows[3][0], [("A", ""), ("B", "1"), ("C", "1")])
    assert run() == "5 of 6 done"


def test_bad_ranks_are_named(sheet, tmp_path: Path):
    page, key, _ = sheet
    good = save_ranks(tmp_path / "a.csv", page, lambda asset, shade: 1).read_text().splitlines()
    asset, letter = next(iter(page.found)), "A"
    for change, message in (
        (good[:-1], "no rank for 1, the first of them"),
        ([*good, good[1]], "ranked twice"),
        ([good[0], good[1][:-1] + "4"], "line 2: expected a rank from 1 to 3, got '4'"),
        ([good[0], good[1][:-1]], "expected a rank from 1 to 3, got ''"),
        ([good[0], f"other,{asset},{letter},1"], f"expected ranks of sheet {key.sheet}, got some of 'other'"),
        ([good[0], f"{key.sheet},nothing,{letter},1"], "the key has no 'nothing'"),
        (["asset,rank"], r"expected the columns \['sheet'"),
    ):
        (tmp_path / "bad.csv").write_text("\n".join(change) + "\n")
        with pytest.raises(ValueError, match=message):
            read_ranks([tmp_path / "bad.csv"], key, ASSETS, METHODS)
    with pytest.raises(ValueError, match=r"methods \['mine', 'ours'\] .* it has \['others', 'ours', 'theirs'\]"):
        read_ranks([], key, ASSETS, ["ours", "mine"])


def test_a_changed_key_and_a_bad_sheet_are_refused(sheet, tmp_path: Path):
    *_, path = sheet
    content = json.loads(path.with_suffix(".key.json").read_text())
    content["assets"][ASSETS[0]]["A"] = "mine"
    (tmp_path / "key.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match="the key was changed"):
        BlindKey.load(tmp_path / "key.json")
    (tmp_path / "key.json").write_text("[]")
    with pytest.raises(ValueError, match="expected the key of a sheet"):
        BlindKey.load(tmp_path / "key.json")
    with pytest.raises(ValueError, match=r"\.html file with at least one asset"):
        write_sheet([contest("a")], tmp_path / "sheet.pdf")
