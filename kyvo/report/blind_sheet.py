"""Sheets on which people rank pictures without knowing who made them: an HTML page, its key, and the ranks they give.

P people, A assets, M methods.
"""

import base64
import csv
import hashlib
import html
import io
import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from string import ascii_uppercase

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Picture = NDArray[np.uint8]
"""uint8 [H, W, 3]."""

COLUMNS = ("sheet", "asset", "letter", "rank")
"""Columns of the CSV that the page exports."""


@dataclass(frozen=True)
class Contest:
    """One asset to rank.

    Args:
        asset: Its name.
        truth: The pictures that the others should look like.
        entries: Pictures by method, at most 26 methods.
    """

    asset: str
    truth: Sequence[Picture]
    entries: Mapping[str, Sequence[Picture]]


@dataclass(frozen=True)
class BlindKey:
    """Who is who on a sheet.

    Args:
        letters: For each asset, the method behind each letter.
    """

    letters: Mapping[str, Mapping[str, str]]

    @property
    def sheet(self) -> str:
        """A name of the sheet that ties its CSV files to its key."""
        return hashlib.sha256(json.dumps(self.letters).encode()).hexdigest()[:12]

    def save(self, file: Path) -> None:
        """Write the key as JSON."""
        file.write_text(json.dumps({"sheet": self.sheet, "assets": self.letters}, indent=1) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, file: Path) -> "BlindKey":
        """Read what `save` wrote.

        Raises:
            ValueError: Naming the file, if it is no such key.
        """
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
            key = cls({asset: dict(letters) for asset, letters in content["assets"].items()})
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ValueError(f"{file}: expected the key of a sheet, a JSON with sheet and assets: {error}") from error
        if key.sheet != content.get("sheet"):
            raise ValueError(f"{file}: the key was changed: it is of sheet {key.sheet}, not {content.get('sheet')}")
        return key


def write_sheet(contests: Sequence[Contest], path: Path, seed: int = 0) -> Path:
    """Write the page and, beside it, its key (`NAME.key.json`), which those who rank must not see.

    Assets are shuffled, and on each asset the methods, under letters. The page holds its pictures, newly encoded so
    that nothing in a file gives its maker away, and needs no network; ranks stay in the browser until they are saved
    as CSV.

    Args:
        contests: The assets, at least one, all with the same methods.
        path: The .html file to write; its folder is made.
        seed: Seed of both orders.

    Returns:
        The path of the key.

    Raises:
        ValueError: Another name of a file, no assets, or too many methods.
    """
    if path.suffix != ".html" or not contests:
        raise ValueError(f"a sheet is an .html file with at least one asset, got {path} and {len(contests)}")
    most = max(len(contest.entries) for contest in contests)
    if most > len(ascii_uppercase):
        raise ValueError(f"a sheet holds up to {len(ascii_uppercase)} methods, got {most}")
    dice = random.Random(seed)
    order = dice.sample(list(contests), len(contests))
    drawn = (dice.sample(list(contest.entries), len(contest.entries)) for contest in order)
    key = BlindKey(
        {
            contest.asset: dict(zip(ascii_uppercase, names, strict=False))
            for contest, names in zip(order, drawn, strict=True)
        }
    )
    sections = [_section(contest, key, place, len(order)) for place, contest in enumerate(order, 1)]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(_page("\n".join(sections), key.sheet), encoding="utf-8")
    target = path.with_suffix(".key.json")
    key.save(target)
    return target


def read_ranks(files: Sequence[Path], key: BlindKey, assets: Sequence[str], methods: Sequence[str]) -> NDArray:
    """The ranks that people gave, as they gave them.

    Args:
        files: The CSV that each of the P people saved.
        key: Of their sheet.
        assets: Order of the assets.
        methods: Order of the methods.

    Returns:
        int64 [P, A, M], from 1.

    Raises:
        ValueError: A CSV or key of another sheet, or ranks that are missing, doubled or not numbers from 1 to M.
    """
    expected = {asset: set(methods) for asset in assets}
    found = {asset: set(letters.values()) for asset, letters in key.letters.items()}
    if found != expected:
        differ = sorted(asset for asset in {*found, *expected} if found.get(asset) != expected.get(asset))
        raise ValueError(
            f"the key should be of the methods {sorted(methods)} on the same {len(assets)} assets; it differs at "
            f"{differ[0]!r} ({len(differ)} in all): it has {sorted(found.get(differ[0], ()))}"
        )
    people = [_read_person(file, key) for file in files]
    return np.array([[[given[asset, name] for name in methods] for asset in assets] for given in people])


def _read_person(file: Path, key: BlindKey) -> dict[tuple[str, str], int]:
    """The rank of each asset and method."""
    given: dict[tuple[str, str], int] = {}
    with file.open(newline="", encoding="utf-8-sig") as lines:
        reader = csv.DictReader(lines)
        if not set(COLUMNS) <= set(reader.fieldnames or ()):
            raise ValueError(f"{file}: expected the columns {list(COLUMNS)}, got {reader.fieldnames}")
        for row in reader:
            where = f"{file}, line {reader.line_num}"
            if row["sheet"] != key.sheet:
                raise ValueError(f"{where}: expected ranks of sheet {key.sheet}, got some of {row['sheet']!r}")
            letters = key.letters.get(row["asset"], {})
            if row["letter"] not in letters:
                raise ValueError(f"{where}: the key has no {row['asset']!r} with a letter {row['letter']!r}")
            spot = row["asset"], letters[row["letter"]]
            if spot in given:
                raise ValueError(f"{where}: {row['asset']!r}, {row['letter']} is ranked twice")
            given[spot] = _rank(row["rank"], len(letters), where)
    missing = [(asset, letter) for asset, names in key.letters.items() for letter in names]
    missing = [spot for spot in missing if (spot[0], key.letters[spot[0]][spot[1]]) not in given]
    if missing:
        raise ValueError(f"{file}: no rank for {len(missing)}, the first of them {missing[0]}")
    return given


def _rank(word: str, most: int, where: str) -> int:
    if not (word or "").strip().isdecimal() or not 1 <= int(word) <= most:
        raise ValueError(f"{where}: expected a rank from 1 to {most}, got {word!r}")
    return int(word)


# ---- the page -------------------------------------------------------------------------------------------------------


def _section(contest: Contest, key: BlindKey, place: int, count: int) -> str:
    letters = key.letters[contest.asset]
    entries = [_entry(letter, contest.entries[name], place, len(letters)) for letter, name in letters.items()]
    asset = html.escape(contest.asset, quote=True)
    head = f'<section data-asset="{asset}"><h2>{place} of {count}</h2>\n<div class="row"><b>reference</b>'
    return "\n".join([head + _pictures(contest.truth, "reference") + "</div>", *entries, "</section>"])


def _entry(letter: str, pictures: Sequence[Picture], place: int, ranks: int) -> str:
    options = "".join(
        f'<label><input type="radio" name="{place}{letter}" value="{rank}"> {rank}</label>'
        for rank in range(1, ranks + 1)
    )
    fields = f"<fieldset><legend>rank of {letter}</legend>{options}</fieldset>"
    return f'<div class="row" data-letter="{letter}"><b>{letter}</b>{_pictures(pictures, letter)}{fields}</div>'


def _pictures(pictures: Sequence[Picture], name: str) -> str:
    return "".join(
        f'<img alt="{name}, view {number}" src="data:image/png;base64,{_png(picture)}">'
        for number, picture in enumerate(pictures, 1)
    )


def _png(picture: Picture) -> str:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def _page(sections: str, sheet: str) -> str:
    return _PAGE.replace("SHEET", sheet).replace("SECTIONS", sections)


_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Which comes nearest?</title>
<style>
body { font: 16px/1.5 system-ui, sans-serif; max-width: 1100px; margin: 0 auto; padding: 1rem 1rem 5rem; color: #222; }
section { border-top: 1px solid #ccc; padding: 0 0 1.5rem; }
section.done h2::after { content: " \\2713"; color: #2a7; }
.row { display: flex; flex-wrap: wrap; align-items: center; gap: .5rem; margin: .4rem 0; }
.row > b { width: 5.5rem; }
img { width: 180px; height: 180px; object-fit: contain; border: 1px solid #ddd; background: #fff; }
fieldset { border: 1px solid #ccc; border-radius: 6px; }
label { padding: .3rem .5rem; cursor: pointer; }
footer { position: fixed; inset: auto 0 0; background: #fff; border-top: 1px solid #ccc; padding: .6rem 1rem; }
button { font: inherit; padding: .3rem 1rem; }
</style>
</head>
<body data-sheet="SHEET">
<h1>Which comes nearest to the reference?</h1>
<p>Each block shows a reference object from several sides and, below it, what different methods made of it, in an order
that changes from block to block. Rank them: 1 comes nearest. If you see no difference, give the same rank.
When all blocks are done, save your ranks as a file. Until then they are kept in this browser.</p>
SECTIONS
<footer><span role="status" id="progress"></span> <button id="save" disabled>Save ranks (CSV)</button></footer>
<script>
"use strict";
const sheet = document.body.dataset.sheet;
const sections = Array.from(document.querySelectorAll("section"));
const rowsOf = section => Array.from(section.querySelectorAll("[data-letter]"));
const rankOf = row => { const picked = row.querySelector("input:checked"); return picked ? picked.value : ""; };
const quote = text => '"' + text.replace(/"/g, '""') + '"';

function table() {
  const lines = ["sheet,asset,letter,rank"];
  for (const section of sections)
    for (const row of rowsOf(section))
      lines.push([sheet, quote(section.dataset.asset), row.dataset.letter, rankOf(row)].join(","));
  return lines.join("\\r\\n") + "\\r\\n";
}

function refresh() {
  let done = 0;
  for (const section of sections) {
    const complete = rowsOf(section).every(row => rankOf(row) !== "");
    section.classList.toggle("done", complete);
    done += complete ? 1 : 0;
  }
  document.getElementById("progress").textContent = done + " of " + sections.length + " done";
  document.getElementById("save").disabled = done < sections.length;
}

// A browser may refuse to keep anything for a page that is a file; ranking works without.
function keep() {
  const picked = Array.from(document.querySelectorAll("input:checked")).map(input => [input.name, input.value]);
  try { localStorage.setItem("ranks-" + sheet, JSON.stringify(picked)); } catch (error) { /* not kept */ }
}

function restore() {
  let picked = [];
  try { picked = JSON.parse(localStorage.getItem("ranks-" + sheet) || "[]"); } catch (error) { /* nothing kept */ }
  for (const [name, value] of picked) {
    const input = document.querySelector('input[name="' + name + '"][value="' + value + '"]');
    if (input) input.checked = true;
  }
}

document.addEventListener("change", () => { keep(); refresh(); });
document.getElementById("save").addEventListener("click", () => {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([table()], { type: "text/csv" }));
  link.download = "ranks-" + sheet + ".csv";
  link.click();
});
restore();
refresh();
</script>
</body>
</html>
"""
