"""`kyvo score shape-tokenizer`: how near decoded shapes come, in voxels and in views, and how their codes are used.

B objects, V views of one, N voxels along each side of the cube, n codes along it, S side of a picture in pixels.
"""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from rich.console import Console
from rich.progress import track
from torch import Tensor
from torchmetrics import Metric

from data_modules.shape_folder import ShapeFile, ViewFiles, find_shapes
from kyvo.cameras import Cameras
from kyvo.metrics.codebook import CodeUsage
from kyvo.metrics.shapes import SurfaceDistance, VoxelOverlap
from kyvo.metrics.views import ViewMetrics
from kyvo.models.perceptual import PerceptualLoss, perceptual_loss
from kyvo.models.shape_decoder import ShapeDecoder, Views
from kyvo.report.score_table import ScoreTable, number
from kyvo.report.sheet import draw_sheet
from kyvo.slat import Slat, densify, sparsify
from kyvo.tokenizers.pixels import pixels
from kyvo.tokenizers.shapes import ShapeTokenizer

RECONSTRUCTION = "reconstruction"
TRUE_COORDINATES = "oracle: true coordinates (features of codes at the true voxels)"
NOT_QUANTISED = "oracle: no quantisation"
TRUTH = "oracle: ground truth through the decoder"
ROWS = (RECONSTRUCTION, TRUE_COORDINATES, NOT_QUANTISED, TRUTH)
"""What is scored. Oracles know what a decoder of codes does not: they say where a loss comes from."""

_LABELS = {
    "voxel_iou": "voxel IoU", "voxel_f1": "voxel F1", "chamfer_l1": "Chamfer-L1", "f_score_0_016": "F-score 1/64",
    "f_score_0_02": "F-score 0.02", "f_score_0_05": "F-score 0.05", "normal_consistency": "normals", "psnr": "PSNR",
    "object_psnr": "object PSNR", "ssim": "SSIM", "alpha_iou": "alpha IoU",
}  # fmt: skip
_DIGITS = {"psnr": 2, "object_psnr": 2}
_SHOWN = 16
"""Objects on a sheet."""


def score(
    shape_tokenizer: str,
    root: Path,
    model: str | None = None,
    limit: int = 100,
    views: int = 24,
    size: int = 128,
    renders: Path | None = None,
    sheet: Path | None = None,
    out: Path | None = None,
    decoder: ShapeDecoder | None = None,
) -> None:
    """Score a shape tokenizer on a folder of shapes that it was not trained on.

    Prints the overlap of voxels, distances of surfaces (in sides of the cube) and the likeness of views, for what
    comes back from the codes alone and for three oracles that are given more; and how the codes are used, over all
    cells of the cube and over those with a voxel in them. If all objects have pictures, views are compared with these;
    else with what the decoder makes of the true voxels, so that the last oracle is perfect by construction.

    Args:
        shape_tokenizer: Folder of a shape tokenizer, or the name of one that ships.
        root: Folder of shapes in the layout of TRELLIS' data sets.
        model: Name of the latents in it; default is the only one.
        limit: At most this many objects are used, the first ones.
        views: Views of each object: of its pictures, evenly spaced, or by cameras spread over a sphere, always the
            same. They are over white.
        size: Their width and height in pixels.
        renders: Write the views into RENDERS/reconstruction/NAME and RENDERS/truth/NAME, for `kyvo score shapes`.
        sheet: Draw 16 objects beside their reconstructions into this PNG file.
        out: File for the scores, .json, or the tables, .md.
        decoder: What renders the tokenizer's latents; default is the embedded one for voxel8.

    Raises:
        ValueError: Naming the file: no shapes, or of another kind than the tokenizer's.
    """
    if out is not None and out.suffix not in (".json", ".md"):
        raise ValueError(f"out should be a .json or .md file, got {out}")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    tokenizer = ShapeTokenizer.from_pretrained(shape_tokenizer, decoder).to(device)
    files = find_shapes(root, model)[:limit]
    total = ShapeScore(tokenizer, perceptual_loss(), size)
    drawn: list[tuple[str, dict[str, np.ndarray]]] = []
    for shape in track(_shapes(files, tokenizer, views, size), "scoring", total=len(files), transient=True):
        seen = total.update(shape)
        if renders is not None:
            for name, one in seen.items():
                _write_views(one, shape.cameras, renders / name / shape.name)
        if len(drawn) < _SHOWN:
            drawn.append((shape.name, {name: montage(one) for name, one in seen.items()}))
    if sheet is not None:
        draw_sheet(drawn, sheet)
    found = total.compute() | {"views": {"count": views, "size": size, "compared_with": _reference(files)}}
    _report(found, out)


@dataclass(frozen=True)
class ScoredShape:
    """An object to reconstruct.

    Args:
        name: Its name.
        slat: Its voxels.
        cameras: V cameras.
        pictures: What they see, B = 1; None to take what the decoder makes of the true voxels.
    """

    name: str
    slat: Slat
    cameras: Cameras
    pictures: Views | None = None


class ShapeScore:
    """Adds up how well shapes survive a shape tokenizer.

    Args:
        tokenizer: Codes, decodes and renders.
        perceptual: A perceptual distance.
        size: S of the views.
    """

    def __init__(self, tokenizer: ShapeTokenizer, perceptual: PerceptualLoss, size: int) -> None:
        self.tokenizer = tokenizer
        self.size = size
        device = tokenizer.device
        self.voxels = {row: VoxelOverlap().to(device) for row in ROWS}
        self.surfaces = {row: SurfaceDistance() for row in ROWS}
        self.views = {row: ViewMetrics(perceptual).to(device) for row in ROWS}
        self.codes, self.codes_of_full_cells = (CodeUsage(len(tokenizer.codebook)).to(device) for _ in range(2))

    @torch.no_grad()
    def update(self, shape: ScoredShape) -> dict[str, Views]:
        """Add an object; returns its views: `truth` and `reconstruction`."""
        source = shape.slat.to(self.tokenizer.device)
        codes = self.tokenizer.encode([source])
        self.codes.update(codes)
        self.codes_of_full_cells.update(codes[full_cells(source, codes.shape[1])])
        found = self._versions(source, codes)
        seen = {row: self.tokenizer.render([slat], shape.cameras, self.size) for row, slat in found.items()}
        target = seen[TRUTH] if shape.pictures is None else _on(shape.pictures, self.tokenizer.device)
        for row, slat in found.items():
            self.voxels[row].update([slat], [source])
            self.surfaces[row].update([slat], [source])
            self.views[row].update(seen[row], target)
        return {"truth": target, "reconstruction": seen[RECONSTRUCTION]}

    def _versions(self, source: Slat, codes: Tensor) -> dict[str, Slat]:
        """What is made of an object, by row."""
        tokenizer, (x, y, z) = self.tokenizer, source.coords.long().unbind(1)
        at_true_voxels = tokenizer.grid(codes)[0, 1:, x, y, z].T.contiguous()
        vectors = tokenizer.model.encode(tokenizer.model.normalise(densify([source])))
        exact = tokenizer.model.denormalise(tokenizer.model.decode(vectors))
        return {
            RECONSTRUCTION: tokenizer.decode(codes)[0],
            TRUE_COORDINATES: Slat(source.coords, at_true_voxels, source.resolution, source.space),
            NOT_QUANTISED: sparsify(exact, source.space)[0],
            TRUTH: source,
        }

    def compute(self) -> dict[str, Any]:
        """Scores: `objects` (how many), by row (see `ROWS`) those of `kyvo.metrics.shapes` and `kyvo.metrics.views`.

        And `codes`, of `all` cells of the cube and of those that are `not_empty`, see
        `kyvo.metrics.codebook.usage_scores`. What could not be measured is left out.
        """
        kinds: list[Mapping[str, Metric]] = [self.voxels, self.surfaces, self.views]
        rows = {row: _numbers(dict(pair for kind in kinds for pair in kind[row].compute().items())) for row in ROWS}
        usage = {"all": self.codes, "not_empty": self.codes_of_full_cells}
        counts = {name: int(one.counts.sum()) for name, one in usage.items()}
        codes = {name: _numbers(one.compute()) | {"cells": counts[name]} for name, one in usage.items()}
        return {"objects": int(self.voxels[TRUTH].objects), "rows": rows, "codes": codes}


def full_cells(slat: Slat, codes: int) -> Tensor:
    """Which of the cube's cells, in the order of their codes, have a voxel in them: bool [1, n ** 3]."""
    side = round(codes ** (1 / 3))
    pooled = F.max_pool3d(densify([slat])[:, :1], slat.resolution // side)
    return pooled.flatten(1) > 0


def _numbers(scores: Mapping[str, Tensor]) -> dict[str, float]:
    return {name: value.item() for name, value in scores.items() if not math.isnan(value)}


def _on(views: Views, device: torch.device) -> Views:
    return Views(views.rgb.to(device), views.alpha.to(device))


# ---- shapes and their views -----------------------------------------------------------------------------------------


def _reference(files: Sequence[ShapeFile]) -> str:
    return "pictures" if all(file.renders for file in files) else "the decoder's views of the true voxels"


def _shapes(files: Sequence[ShapeFile], tokenizer: ShapeTokenizer, views: int, size: int) -> Iterator[ScoredShape]:
    """The objects, each with its pictures if all have some; ValueError naming one that does not fit the tokenizer."""
    with_pictures, fixed = all(file.renders for file in files), Cameras.sphere(views)
    for file in files:
        slat = Slat.load(file.latents)
        expected, found = (tokenizer.space, tokenizer.resolution), (slat.space, slat.resolution)
        if found != expected:
            raise ValueError(f"{file.latents}: expected space and resolution {expected} of the tokenizer, got {found}")
        if with_pictures and file.renders is not None:
            yield ScoredShape(file.name, slat, *_pictures(file.renders, views, size))
        else:
            yield ScoredShape(file.name, slat, fixed)


def _pictures(transforms: Path, views: int, size: int) -> tuple[Cameras, Views]:
    """Some pictures of an object, evenly spaced, and their cameras; ValueError where there are fewer."""
    files = ViewFiles.of(transforms)
    if len(files) < views:
        raise ValueError(f"{transforms}: expected at least {views} pictures, got {len(files)}")
    shown = [place * len(files) // views for place in range(views)]
    colors, alphas = zip(*(files.read(index, size) for index in shown), strict=True)
    return files.cameras[shown], Views(torch.stack(colors)[None], torch.stack(alphas)[None])


def _write_views(views: Views, cameras: Cameras, folder: Path) -> None:
    """Write the views of one object as PNG over white, and their cameras as transforms.json."""
    names = [f"{number:03d}.png" for number in range(len(cameras))]
    cameras.write_transforms(folder / "transforms.json", names)
    for name, picture in zip(names, pixels(2 * views.rgb[0] - 1), strict=True):
        Image.fromarray(picture).save(folder / name)


def montage(views: Views) -> np.ndarray:
    """Up to four views of one object, evenly spaced, as one picture uint8 [2 S, 2 S, 3]."""
    count = views.rgb.shape[1]
    shown = pixels(2 * views.rgb[0, [place * count // 4 for place in range(4)]] - 1)
    return np.concatenate([np.concatenate(list(shown[start : start + 2]), 1) for start in (0, 2)])


# ---- report ---------------------------------------------------------------------------------------------------------


def tables(found: Mapping[str, Any]) -> list[ScoreTable]:
    """Tables of what `ShapeScore.compute` gives, with `views` as `score` adds it: likeness, and codes."""
    views, rows = found["views"], found["rows"]
    names = dict.fromkeys([*_LABELS, *rows[RECONSTRUCTION]])
    lines = [
        [
            _LABELS.get(name, name),
            *(number(scores.get(name, math.nan), _DIGITS.get(name, 4)) for scores in rows.values()),
        ]
        for name in names
    ]
    seen = f"{views['count']} views of {views['size']} x {views['size']} against {views['compared_with']}"
    return [ScoreTable(f"{found['objects']} objects; {seen}", ["", *rows], lines), _code_table(found["codes"])]


def _code_table(codes: Mapping[str, Mapping[str, float]]) -> ScoreTable:
    rows = []
    for name, one in codes.items():
        cells, used = f"{one['cells']:.0f}", f"{one['codes_used']:.0f}"
        shares = [f"{100 * one[share]:.2f} %" for share in ("usage", "top_code_share")]
        rows.append(
            [f"{name.replace('_', ' ')} cells", cells, used, shares[0], number(one["perplexity"], 1), shares[1]]
        )
    return ScoreTable("codes", ["of", "cells", "codes used", "usage", "perplexity", "commonest code"], rows)


def _report(found: dict[str, Any], out: Path | None) -> None:
    made = tables(found)
    for table in made:
        Console().print(table.rich())
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps(found, indent=1) if out.suffix == ".json" else "\n\n".join(one.markdown() for one in made)
        out.write_text(text + "\n", encoding="utf-8")
