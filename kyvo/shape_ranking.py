"""`kyvo score shapes`: ranks methods by their pictures of the same shapes, by metrics and by people.

A assets, M methods, V views of an asset, H and W height and width of a picture.
"""

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image
from rich.console import Console
from rich.progress import track
from torch import Tensor

from kyvo.metrics.ranking import Ranks, Scores, kendall_agreement, ranks_of, summarize
from kyvo.metrics.views import picture_scores
from kyvo.models.perceptual import PerceptualLoss, perceptual_loss
from kyvo.report.blind_sheet import BlindKey, Contest, read_ranks, write_sheet
from kyvo.report.score_table import ScoreTable, number

Ranker = Literal["psnr", "ssim", "perceptual"]

DIGITS = {"psnr": 2, "ssim": 4}
"""Decimals of scores in tables; others have 4."""


def rank(
    *renders: str,
    truth: Path,
    by: list[Ranker] = ["perceptual", "psnr", "ssim"],  # noqa: B006 (never changed)
    out: Path | None = None,
    sheet: Path | None = None,
    human: list[Path] | None = None,
    key: Path | None = None,
    views: int = 4,
    limit: int | None = None,
    seed: int = 0,
) -> None:
    """Rank methods by how near their pictures of shapes come to the true ones: kyvo score shapes ours=A theirs=B ...

    A folder holds ASSET/VIEW.png, or renders/ASSET/VIEW.png, the same names and sizes in all folders; transparent
    pixels are white. Scores of an asset are means over its views; on each asset the methods are ranked, equal ones
    sharing the best rank. Prints mean scores, mean ranks with 95 % bootstrap intervals over assets, win rates (share of
    assets with rank 1), and Kendall's tau-b between those who rank.

    Args:
        renders: NAME=FOLDER of each method.
        truth: Folder of the true pictures.
        by: What ranks: psnr, ssim, perceptual (LPIPS where its weights are at hand, else a stand-in under its own
            name).
        out: File to write as well: .csv (scores and ranks of every asset), .md (the tables), .json (both).
        sheet: Write an HTML page for people to rank on, methods without names and shuffled; who is who is in
            NAME.key.json beside it.
        human: CSV files that people saved from such a page, one of each of them (--human+ FILE --human+ FILE); they
            rank too, as `human`.
        key: The key of their page.
        views: Views of an asset on the page, evenly spaced.
        limit: At most this many assets are used, the first ones.
        seed: Seed of the bootstrap and of the page.

    Raises:
        ValueError: Assets, views or sizes that differ between the folders, naming them; unreadable pictures; a CSV or
            key of another page.
    """
    if human and key is None:
        raise ValueError("human ranks need the key of their sheet: --key SHEET.key.json")
    if out is not None and out.suffix not in (".csv", ".md", ".json"):
        raise ValueError(f"out should be a .csv, .md or .json file, got {out}")
    folders = read_folders(parse_names(renders), truth, limit)
    if sheet is not None:
        write_sheet([folders.contest(asset, views) for asset in folders.assets], sheet, seed)
    comparison = compare(folders, by, perceptual_loss())
    if human and key is not None:
        comparison.add_people(human, key)
    tables = comparison.tables(seed)
    for table in tables:
        Console().print(table.rich())
    if out is not None:
        _write(comparison, tables, out)


def parse_names(words: Sequence[str]) -> dict[str, Path]:
    """Folders by name of words NAME=FOLDER; ValueError for other words, a name given twice, or fewer than two."""
    found: dict[str, Path] = {}
    for word in words:
        name, equals, folder = word.partition("=")
        if not (name and equals and folder) or name in found:
            raise ValueError(f"expected NAME=FOLDER, each name once, got {word!r}")
        found[name] = Path(folder)
    if len(found) < 2:
        raise ValueError(f"ranking needs at least two methods, NAME=FOLDER NAME=FOLDER, got {list(words)}")
    return found


# ---- folders --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class RenderFolders:
    """Pictures of the same assets from the same views.

    Args:
        truth: Files of the V true views, in the order of their names, by asset.
        methods: The same of each method, by name.
    """

    truth: Mapping[str, Sequence[Path]]
    methods: Mapping[str, Mapping[str, Sequence[Path]]]

    @property
    def assets(self) -> list[str]:
        """Names of the assets."""
        return list(self.truth)

    def contest(self, asset: str, views: int) -> Contest:
        """The asset with some of its views, evenly spaced, for people to rank."""
        count = len(self.truth[asset])
        shown = [place * count // min(views, count) for place in range(min(views, count))]
        return Contest(
            asset,
            [read_picture(self.truth[asset][view]) for view in shown],
            {name: [read_picture(found[asset][view]) for view in shown] for name, found in self.methods.items()},
        )


def read_folders(methods: Mapping[str, Path], truth: Path, limit: int | None = None) -> RenderFolders:
    """Find the pictures of all folders.

    Args:
        methods: Folders by name.
        truth: Folder of the true pictures.
        limit: Most assets, the first by name.

    Raises:
        ValueError: A folder without pictures, or with other assets or views than the true ones.
    """
    true = find_renders(truth)
    found = {name: find_renders(folder) for name, folder in methods.items()}
    for name, assets in found.items():
        where = f"{name} ({methods[name]})"
        check_same(where, "assets", list(true), list(assets))
        for asset, files in true.items():
            views, others = ([file.name for file in one] for one in (files, assets[asset]))
            check_same(f"{where}, {asset}", "views", views, others)
    kept = list(true)[:limit]
    return RenderFolders(
        {asset: true[asset] for asset in kept},
        {name: {asset: assets[asset] for asset in kept} for name, assets in found.items()},
    )


def find_renders(folder: Path) -> dict[str, list[Path]]:
    """Pictures ASSET/VIEW.png of a folder, or of its subfolder `renders`, by asset, sorted by name.

    Raises:
        ValueError: There are none.
    """
    root = folder / "renders" if (folder / "renders").is_dir() else folder
    found: dict[str, list[Path]] = {}
    for file in sorted(root.glob("*/*.png")):
        found.setdefault(file.parent.name, []).append(file)
    if not found:
        raise ValueError(f"{folder}: expected pictures ASSET/VIEW.png or renders/ASSET/VIEW.png, found none")
    return found


def check_same(where: str, kind: str, expected: Sequence[str], found: Sequence[str]) -> None:
    """Raise ValueError unless the names are the same, naming up to five that are not."""
    missing, extra = sorted(set(expected) - set(found)), sorted(set(found) - set(expected))
    said = [
        f"{what} {', '.join(names[:5])}{f' and {len(names) - 5} more' if len(names) > 5 else ''}"
        for what, names in (("missing:", missing), ("not among the true ones:", extra))
        if names
    ]
    if said:
        raise ValueError(f"{where}: expected the {kind} of the truth; {'; '.join(said)}")


def read_picture(file: Path) -> np.ndarray:
    """A picture over white, uint8 [H, W, 3]."""
    try:
        with Image.open(file) as opened:
            picture = opened.convert("RGBA")
    except OSError as error:
        raise ValueError(f"{file}: expected a picture, it cannot be read: {error}") from error
    white = Image.new("RGBA", picture.size, "white")
    return np.asarray(Image.alpha_composite(white, picture).convert("RGB"))


# ---- scores ---------------------------------------------------------------------------------------------------------


@dataclass
class Comparison:
    """What methods score and rank.

    Args:
        assets: A names.
        methods: M names.
        scores: Scores [A, M], by metric.
        ranks: Ranks [P, A, M], by who ranks: a metric (P = 1), or P people.
    """

    assets: list[str]
    methods: list[str]
    scores: dict[str, Scores]
    ranks: dict[str, Ranks]

    def add_people(self, files: Sequence[Path], key: Path) -> None:
        """Let people rank too, under the name `human`; theirs become ranks as scores do.

        Raises:
            ValueError: See `kyvo.report.blind_sheet.read_ranks`.
        """
        given = read_ranks(files, BlindKey.load(key), self.assets, self.methods)
        self.ranks["human"] = np.stack([ranks_of(one.astype(float), False) for one in given])

    def tables(self, seed: int = 0) -> list[ScoreTable]:
        """Mean scores; mean ranks, their intervals and win rates; and, if several rank, whether they agree."""
        found = [self._score_table(), self._rank_table(seed)]
        return [*found, self._agreement_table()] if len(self.ranks) > 1 else found

    def _score_table(self) -> ScoreTable:
        means = {name: scores.mean(0) for name, scores in self.scores.items()}
        rows = [
            [method, *(number(mean[place], DIGITS.get(name, 4)) for name, mean in means.items())]
            for place, method in enumerate(self.methods)
        ]
        return ScoreTable(f"scores, mean of {len(self.assets)} assets", ["method", *means], rows)

    def _rank_table(self, seed: int) -> ScoreTable:
        rows = []
        for name, ranks in self.ranks.items():
            one = summarize(ranks, seed)
            for place, method in enumerate(self.methods):
                interval = f"{one.low[place]:.3f} to {one.high[place]:.3f}"
                rows.append([name, method, number(one.mean[place]), interval, f"{100 * one.win_rate[place]:.1f} %"])
        return ScoreTable("ranks (1 is best)", ["ranked by", "method", "mean", "95 % interval", "wins"], rows)

    def _agreement_table(self) -> ScoreTable:
        rows = [
            [f"{first} and {second}", number(self.agreement(first, second))]
            for first, second in combinations(self.ranks, 2)
        ]
        return ScoreTable("agreement of rankings", ["between", "Kendall's tau-b"], rows)

    def agreement(self, first: str, second: str) -> float:
        """Kendall's tau-b between two who rank; of people, their mean ranks."""
        return kendall_agreement(self.ranks[first].mean(0), self.ranks[second].mean(0))

    def rows(self) -> list[dict[str, Any]]:
        """Scores and ranks (of people, their mean) of every asset and method."""
        return [
            {"asset": asset, "method": method}
            | {name: float(scores[i, j]) for name, scores in self.scores.items()}
            | {f"rank_by_{name}": float(ranks[:, i, j].mean()) for name, ranks in self.ranks.items()}
            for i, asset in enumerate(self.assets)
            for j, method in enumerate(self.methods)
        ]

    def summary(self, seed: int = 0) -> dict[str, Any]:
        """Mean scores, ranks and agreements as plain numbers; agreements that are not defined are left out."""
        ranks: dict[str, dict[str, dict[str, float]]] = {method: {} for method in self.methods}
        for name, one in ((name, summarize(ranks, seed)) for name, ranks in self.ranks.items()):
            table = zip(one.mean.tolist(), one.low.tolist(), one.high.tolist(), one.win_rate.tolist(), strict=True)
            for method, (mean, low, high, wins) in zip(self.methods, table, strict=True):
                ranks[method][name] = {"mean_rank": mean, "low": low, "high": high, "win_rate": wins}
        means = {name: scores.mean(0).tolist() for name, scores in self.scores.items()}
        agreements = {f"{a} and {b}": self.agreement(a, b) for a, b in combinations(self.ranks, 2)}
        return {
            "assets": len(self.assets),
            "scores": {m: {name: mean[j] for name, mean in means.items()} for j, m in enumerate(self.methods)},
            "ranks": ranks,
            "kendall_tau_b": {name: value for name, value in agreements.items() if not np.isnan(value)},
        }


def compare(folders: RenderFolders, by: Sequence[Ranker], perceptual: PerceptualLoss) -> Comparison:
    """Score and rank all methods on all assets.

    Args:
        folders: The pictures.
        by: What ranks.
        perceptual: The perceptual distance; results bear its own name.

    Raises:
        ValueError: A picture of another size than the true one, or unreadable.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    found: dict[str, list[list[float]]] = {}
    for asset in track(folders.assets, "scoring", transient=True):
        true = read_pictures(folders.truth[asset], folders.truth[asset], device)
        scored = [
            picture_scores(read_pictures(files[asset], folders.truth[asset], device), true, perceptual)
            for files in folders.methods.values()
        ]
        for name in scored[0]:
            found.setdefault(name, []).append([one[name].double().mean().item() for one in scored])
    scores = {name: np.array(values) for name, values in found.items()}
    names = [perceptual.name if ranker == "perceptual" else ranker for ranker in by]
    ranks = {name: ranks_of(scores[name], higher_is_better=name != perceptual.name)[None] for name in names}
    return Comparison(folders.assets, list(folders.methods), scores, ranks)


def read_pictures(files: Sequence[Path], truth: Sequence[Path], device: str) -> Tensor:
    """Pictures float32 [V, 3, H, W] in [0, 1], checked to be as large as the first true one."""
    with Image.open(truth[0]) as first:
        expected = first.size
    pictures = [read_picture(file) for file in files]
    for file, picture in zip(files, pictures, strict=True):
        size = picture.shape[1], picture.shape[0]
        if size != expected:
            raise ValueError(
                f"{file}: expected {expected[0]} x {expected[1]} pixels, as {truth[0]} has, got {size[0]} x {size[1]}"
            )
    return torch.from_numpy(np.stack(pictures)).to(device).movedim(-1, 1) / 255


def _write(comparison: Comparison, tables: Sequence[ScoreTable], out: Path) -> None:
    out.parent.mkdir(parents=True, exist_ok=True)
    if out.suffix == ".md":
        out.write_text("\n\n".join(table.markdown() for table in tables) + "\n", encoding="utf-8")
        return
    rows = comparison.rows()
    if out.suffix == ".json":
        out.write_text(json.dumps({**comparison.summary(), "rows": rows}, indent=1) + "\n", encoding="utf-8")
        return
    with out.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
