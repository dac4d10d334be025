"""`kyvo score images`: how near folders of pictures come to the true ones, and which of several comes nearest.

H and W height and width of a picture.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import track
from torch import Tensor

from kyvo.metrics.bootstrap import interval
from kyvo.metrics.frechet import ScriptedFeatures, frechet_distance
from kyvo.metrics.images import perceptual_scores, pixel_scores
from kyvo.models.perceptual import PerceptualLoss, perceptual_loss
from kyvo.report.score_table import ScoreTable, number
from kyvo.shape_ranking import RenderFolders, check_same, compare, parse_names, read_pictures

SUFFIXES = (".png", ".jpg", ".jpeg")

WHOLE = ("psnr", "ssim", "l1", "l2")
"""The scores of a picture for which nothing but the two pictures is needed."""

_DIGITS = {"psnr": 2}
"""Decimals of scores in the table; others have 4."""


def score(
    *models: str,
    ground_truth: Path,
    predictions: Path | None = None,
    inception: Path | None = None,
    output: Path | None = None,
    seed: int = 0,
) -> None:
    """Score pictures against the true ones of the same names: kyvo score images --predictions A --ground_truth B.

    Prints PSNR (dB), SSIM (Gaussian window, colour), L1 and L2 (mean absolute and squared error at values in [0, 1])
    and a perceptual distance (LPIPS where its weights are at hand, else a stand-in under its own name): means over
    pictures with 95 % bootstrap intervals. Several models, kyvo score images ours=A theirs=B --ground_truth C, are also
    ranked on each picture, with mean ranks and win rates. Pictures are .png or .jpg; names are compared without that.
    `kyvo score shapes` ranks folders of several views of each asset, and lets people rank.

    Args:
        models: NAME=FOLDER of each of several models, in place of `predictions`.
        ground_truth: Folder of the true pictures.
        predictions: Folder of the pictures of one model.
        inception: A features network in TorchScript, such as inception-2015-12-05.pt, to measure FID with as well.
        output: JSON file to write. Of one model: `mean`, `interval` ([low, high]) and `images` (the scores of each
            picture), each by name of the score. Of several: what `kyvo score shapes` writes. With `inception`, `fid` by
            name of the model too.
        seed: Seed of the bootstrap.

    Raises:
        ValueError: Pictures that are missing, too many, of another size or unreadable, naming them; neither or both of
            `predictions` and models; or no network in the file of `inception`.
    """
    if bool(models) == (predictions is not None):
        raise ValueError("expected either --predictions FOLDER, or NAME=FOLDER NAME=FOLDER to rank several models")
    features = None if inception is None else ScriptedFeatures(inception)
    folders = parse_names(models) if predictions is None else {predictions.name: predictions}
    if predictions is not None:
        found = score_pictures(find_pictures(predictions), find_pictures(ground_truth), predictions, perceptual_loss())
        report = summary(found, seed)
        Console().print(table(report).rich())
    else:
        comparison = compare(flat_folders(folders, ground_truth), ["psnr", "ssim", "perceptual"], perceptual_loss())
        report = {**comparison.summary(seed), "rows": comparison.rows()}
        for one in comparison.tables(seed):
            Console().print(one.rich())
    if features is not None:
        report["fid"] = frechet_distances(features, folders, ground_truth)
        rows = [[name, number(value, 2)] for name, value in report["fid"].items()]
        Console().print(ScoreTable("Frechet distance of features", ["model", "FID"], rows).rich())
    if output is not None:
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


def find_pictures(folder: Path) -> dict[str, Path]:
    """The pictures in a folder by name, without what they end in, sorted.

    Raises:
        ValueError: There are none, or two of one name.
    """
    files = sorted(file for file in folder.glob("*") if file.suffix.lower() in SUFFIXES)
    found: dict[str, Path] = {}
    for file in files:
        if file.stem in found:
            raise ValueError(
                f"{folder}: expected one picture of each name, got {found[file.stem].name} and {file.name}"
            )
        found[file.stem] = file
    if not found:
        raise ValueError(f"{folder}: expected pictures, NAME.png or NAME.jpg, found none")
    return found


def flat_folders(models: Mapping[str, Path], ground_truth: Path) -> RenderFolders:
    """Folders of pictures as those of assets with one view each; ValueError if the names differ."""
    truth = find_pictures(ground_truth)
    found = {name: find_pictures(folder) for name, folder in models.items()}
    for name, pictures in found.items():
        check_same(f"{name} ({models[name]})", "pictures", list(truth), list(pictures))
    return RenderFolders(
        {key: [file] for key, file in truth.items()},
        {name: {key: [pictures[key]] for key in truth} for name, pictures in found.items()},
    )


def score_pictures(
    predictions: Mapping[str, Path], truth: Mapping[str, Path], folder: Path, perceptual: PerceptualLoss
) -> dict[str, dict[str, float]]:
    """The scores of each picture by name, by name of the picture.

    Args:
        predictions: Files by name.
        truth: The true ones.
        folder: What errors call the predictions.
        perceptual: The perceptual distance.

    Raises:
        ValueError: Names or sizes that differ, or an unreadable picture.
    """
    check_same(str(folder), "pictures", list(truth), list(predictions))
    device = "cuda" if torch.cuda.is_available() else "cpu"
    found: dict[str, dict[str, float]] = {}
    for name, file in track(truth.items(), "scoring", total=len(truth), transient=True):
        pair = [read_pictures([one], [file], device) for one in (predictions[name], file)]
        scores = pixel_scores(pair[0], pair[1])
        scores = {key: scores[key] for key in WHOLE} | {
            perceptual.name: perceptual_scores(pair[0], pair[1], perceptual)
        }
        found[name] = {key: float(value) for key, value in scores.items()}
    return found


def frechet_distances(features: ScriptedFeatures, folders: Mapping[str, Path], ground_truth: Path) -> dict[str, float]:
    """FID of each folder of pictures against the true ones, by name."""
    network = features.to("cuda" if torch.cuda.is_available() else "cpu")
    truth = find_pictures(ground_truth)
    return {
        name: frechet_distance(network, _pictures(find_pictures(folder)), _pictures(truth))
        for name, folder in folders.items()
    }


def _pictures(files: Mapping[str, Path]) -> Iterator[Tensor]:
    """Pictures one by one, float [1, 3, H, W] in [0, 1]."""
    for file in files.values():
        yield read_pictures([file], [file], "cpu")


def summary(images: Mapping[str, Mapping[str, float]], seed: int = 0) -> dict[str, Any]:
    """Means and bootstrap intervals of the scores of pictures, and the scores, as plain numbers."""
    names = list(next(iter(images.values())))
    columns = {name: [scores[name] for scores in images.values()] for name in names}
    return {
        "mean": {name: sum(values) / len(values) for name, values in columns.items()},
        "interval": {name: list(interval(values, seed=seed)) for name, values in columns.items()},
        "images": {key: dict(scores) for key, scores in images.items()},
    }


def table(report: Mapping[str, Any]) -> ScoreTable:
    """What `summary` says, a line a score."""
    rows: list[Sequence[str]] = []
    for name, mean in report["mean"].items():
        digits = _DIGITS.get(name, 4)
        low, high = (number(end, digits) for end in report["interval"][name])
        rows.append([name, number(mean, digits), f"{low} to {high}"])
    return ScoreTable(f"scores of {len(report['images'])} pictures", ["score", "mean", "95 % interval"], rows)
