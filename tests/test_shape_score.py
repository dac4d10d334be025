"""The score of a shape tokenizer: exact on tokenizers that lose nothing or a known part, and whole through a folder."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from data_modules.shape_score import (
    NOT_QUANTISED,
    RECONSTRUCTION,
    ROWS,
    TRUE_COORDINATES,
    TRUTH,
    ScoredShape,
    ShapeScore,
    full_cells,
    montage,
    score,
    tables,
)
from kyvo.cameras import Cameras
from kyvo.metrics.images import psnr
from kyvo.models.gradient_quantizer import GradientVectorQuantizer
from kyvo.models.perceptual import GradientPyramid, PerceptualLoss
from kyvo.models.shape_decoder import Views
from kyvo.models.shape_vq import ShapeNetwork, ShapeVQ
from kyvo.models.voxel_renderer import VoxelDecoder
from kyvo.shape_ranking import find_renders
from kyvo.slat import Slat, densify
from kyvo.tokenizers.shapes import ShapeTokenizer

SIDE, CODES, SIZE = 8, 16, 24


def ball(radius: float = 3.0, shade: float = 0.5) -> Slat:
    """A shell of voxels about the middle, all of one colour."""
    coords = torch.cartesian_prod(*[torch.arange(SIDE)] * 3)
    outward = coords + 0.5 - SIDE / 2
    length = outward.norm(dim=1)
    shell = (length - radius).abs() < 0.8
    feats = torch.cat([torch.full((len(coords), 3), shade), outward / length[:, None]], 1)
    feats = torch.cat([feats, (radius - length)[:, None], torch.ones(len(coords), 1)], 1)
    return Slat(coords[shell], feats[shell], SIDE, "voxel8")


class FakeModel:
    """A network without a bottleneck."""

    def normalise(self, grid):
        return grid

    encode = decode = denormalise = normalise


class FakeTokenizer:
    """Answers as a shape tokenizer does, and gives back what it coded last, after a change."""

    space, resolution, device = "voxel8", SIDE, torch.device("cpu")

    def __init__(self, change=lambda slat: slat):
        self.change, self.model, self.codebook = change, FakeModel(), torch.zeros(CODES, 4)

    def encode(self, slats):
        self.kept = [self.change(slat) for slat in slats]
        return torch.arange(8).expand(len(slats), 8).clone() % 3

    def grid(self, codes):
        return densify(self.kept)

    def decode(self, codes):
        return self.kept

    def render(self, slats, cameras, size):
        return VoxelDecoder().render(densify(slats), cameras, size)


def scored(tokenizer, shape: ScoredShape) -> tuple[dict, dict[str, Views]]:
    total = ShapeScore(tokenizer, PerceptualLoss("gradient-pyramid", GradientPyramid()), SIZE)
    return total, total.update(shape)


# ---- scores ---------------------------------------------------------------------------------------------------------


def test_a_tokenizer_that_loses_nothing_is_perfect_in_every_row():
    total, _ = scored(FakeTokenizer(), ScoredShape("ball", ball(), Cameras.sphere(3)))
    found = total.compute()
    assert found["objects"] == 1
    assert tuple(found["rows"]) == ROWS
    for scores in found["rows"].values():
        for name in ("voxel_iou", "voxel_f1", "f_score_0_016", "normal_consistency", "ssim", "alpha_iou"):
            assert scores[name] == pytest.approx(1, abs=1e-5), name
        assert scores["psnr"] == scores["object_psnr"] == 100
        assert scores["chamfer_l1"] == scores["gradient-pyramid"] == 0


def smaller(slat: Slat) -> Slat:
    """The lower half, darker."""
    low = slat.coords[:, 2] < SIDE // 2
    return Slat(slat.coords[low], slat.feats[low] * torch.tensor([0.5] * 3 + [1] * 5), SIDE, slat.space)


def test_only_what_the_codes_lose_is_lost():
    total, seen = scored(FakeTokenizer(smaller), ScoredShape("ball", ball(), Cameras.sphere(3)))
    rows = total.compute()["rows"]
    assert rows[RECONSTRUCTION]["voxel_iou"] == pytest.approx(0.5)
    assert rows[RECONSTRUCTION]["voxel_f1"] == pytest.approx(2 / 3)
    # The oracle puts the vectors of codes where the true voxels are.
    assert rows[TRUE_COORDINATES]["voxel_iou"] == 1
    assert rows[TRUE_COORDINATES]["psnr"] < 100
    for row in (NOT_QUANTISED, TRUTH):
        assert (rows[row]["voxel_iou"], rows[row]["psnr"]) == (1, 100)
    error = (seen["reconstruction"].rgb - seen["truth"].rgb).square().mean((0, 2, 3, 4))
    assert rows[RECONSTRUCTION]["psnr"] == pytest.approx(psnr(error).mean().item(), abs=1e-4)


def test_pictures_are_compared_with_where_there_are_some():
    cameras = Cameras.sphere(2)
    views = VoxelDecoder().render(densify([ball()]), cameras, SIZE)
    brighter = Views((views.rgb + 0.1).clamp(max=1), views.alpha)
    total, seen = scored(FakeTokenizer(), ScoredShape("ball", ball(), cameras, brighter))
    rows = total.compute()["rows"]
    assert torch.equal(seen["truth"].rgb, brighter.rgb)
    assert 19 < rows[TRUTH]["object_psnr"] < 21
    assert rows[TRUTH]["object_psnr"] == rows[RECONSTRUCTION]["object_psnr"]


def test_codes_are_counted_over_all_cells_and_over_those_with_voxels():
    # One voxel lies in the last of the 2 x 2 x 2 cells, one in the cell after the first, along z.
    slat = Slat(torch.tensor([[7, 7, 7], [0, 0, 4]]), ball().feats[:2], SIDE, "voxel8")
    assert full_cells(slat, 8).tolist() == [[False, True, False, False, False, False, False, True]]
    total, _ = scored(FakeTokenizer(), ScoredShape("two", slat, Cameras.sphere(1)))
    codes = total.compute()["codes"]
    # Codes are 0 1 2 0 1 2 0 1.
    assert (codes["all"]["cells"], codes["not_empty"]["cells"]) == (8, 2)
    assert codes["all"]["codes_used"] == 3
    assert codes["all"]["usage"] == pytest.approx(3 / CODES)
    assert codes["all"]["top_code_share"] == pytest.approx(3 / 8)
    assert codes["all"]["perplexity"] == pytest.approx(np.exp(-2 * 3 / 8 * np.log(3 / 8) - 1 / 4 * np.log(1 / 4)))
    assert codes["not_empty"]["perplexity"] == pytest.approx(1)


def test_latents_without_normals_leave_their_score_out_and_tables_say_so():
    total, _ = scored(FakeTokenizer(), ScoredShape("ball", ball(), Cameras.sphere(1)))
    found = total.compute() | {"views": {"count": 1, "size": SIZE, "compared_with": "pictures"}}
    for scores in found["rows"].values():
        del scores["normal_consistency"]
    scores, codes = (table.markdown() for table in tables(found))
    assert f"**1 objects; 1 views of {SIZE} x {SIZE} against pictures**" in scores
    assert f"|  | {' | '.join(ROWS)} |" in scores
    assert "| voxel IoU | 1.0000 | 1.0000 | 1.0000 | 1.0000 |" in scores
    assert "| normals | – | – | – | – |" in scores
    assert "| gradient-pyramid | 0.0000 |" in scores
    assert "| all cells | 8 | 3 | 18.75 % |" in codes


def test_a_montage_shows_views_from_all_around():
    rgb = torch.linspace(0, 1, 8)[None, :, None, None, None].expand(1, 8, 3, 2, 2)
    shown = montage(Views(rgb, rgb[:, :, 0]))
    assert shown.shape == (4, 4, 3)
    assert shown[::2, ::2, 0].tolist() == [[0, 73], [146, 219]]
    assert montage(Views(rgb[:, :1], rgb[:, :1, 0])).shape == (4, 4, 3)


# ---- a folder -------------------------------------------------------------------------------------------------------


@pytest.fixture
def folders(tmp_path: Path) -> tuple[str, Path]:
    """An untrained tokenizer of 4 x 4 x 4 codes, and three objects."""
    torch.manual_seed(0)
    network = ShapeNetwork(SIDE, channels=(4, 8), layers=1, middle_layers=0, codes=CODES, code_dim=4)
    tokenizer = ShapeTokenizer(ShapeVQ(network, GradientVectorQuantizer(CODES, 4)), "voxel8")
    tokenizer.save_pretrained(tmp_path / "tokenizer")
    for number in range(3):
        ball(1.5 + number, shade=number / 3).save(tmp_path / "data" / "latents" / "voxel8" / f"ball{number}.npz")
    return str(tmp_path / "tokenizer"), tmp_path / "data"


def test_a_folder_is_scored_against_views_of_its_voxels(folders, tmp_path: Path, capsys):
    out = tmp_path / "new" / "scores.json"
    score(*folders, views=4, size=SIZE, limit=2, renders=tmp_path / "views", sheet=tmp_path / "sheet.png", out=out)
    found = json.loads(out.read_text())
    tokenizer = ShapeTokenizer.from_pretrained(folders[0])
    iou = []
    for number in range(2):
        source = ball(1.5 + number, shade=number / 3)
        decoded = tokenizer.decode(tokenizer.encode([source]))[0]
        a, b = ({tuple(row) for row in slat.coords.tolist()} for slat in (source, decoded))
        iou.append(len(a & b) / len(a | b))
    assert found["objects"] == 2
    assert found["views"] == {"count": 4, "size": SIZE, "compared_with": "the decoder's views of the true voxels"}
    rows = found["rows"]
    assert rows[RECONSTRUCTION]["voxel_iou"] == pytest.approx(np.mean(iou), abs=1e-6)
    assert rows[TRUE_COORDINATES]["voxel_iou"] == rows[TRUTH]["voxel_iou"] == 1
    assert rows[TRUTH]["psnr"] == 100 > rows[RECONSTRUCTION]["psnr"]
    assert found["codes"]["all"]["cells"] == 2 * 64 > found["codes"]["not_empty"]["cells"] > 0
    printed = capsys.readouterr().out
    assert all(word in printed for word in ("reconstruction", "quantisation", "perplexity", "Chamfer-L1", "oracle"))
    assert Image.open(tmp_path / "sheet.png").width > 2 * 288


def test_written_views_can_be_ranked_and_scored_against(folders, tmp_path: Path):
    root, out = folders[1], tmp_path / "scores.json"
    score(*folders, views=4, size=SIZE, renders=tmp_path / "views")
    cameras, pictures = Cameras.from_transforms(tmp_path / "views" / "truth" / "ball0" / "transforms.json")
    torch.testing.assert_close(cameras.extrinsics, Cameras.sphere(4).extrinsics, atol=1e-5, rtol=0)
    assert [picture.name for picture in pictures] == ["000.png", "001.png", "002.png", "003.png"]
    found = find_renders(tmp_path / "views" / "reconstruction")
    assert {asset: len(files) for asset, files in found.items()} == {"ball0": 4, "ball1": 4, "ball2": 4}
    # With pictures beside the latents these are what views are compared with, two of four of each.
    (tmp_path / "views" / "truth").rename(root / "renders")
    score(*folders, views=2, size=SIZE, out=out)
    scores = json.loads(out.read_text())
    assert scores["views"]["compared_with"] == "pictures"
    # Pictures of bytes are as near as half a level.
    assert 50 < scores["rows"][TRUTH]["psnr"] < 100
    with pytest.raises(ValueError, match=r"ball0/transforms.json: expected at least 5 pictures, got 4"):
        score(*folders, views=5, size=SIZE)


def test_what_does_not_fit_is_named(folders, tmp_path: Path):
    with pytest.raises(ValueError, match=r"\.json or \.md file, got .*scores.csv"):
        score(*folders, out=tmp_path / "scores.csv")
    other = ball()
    Slat(other.coords, other.feats, SIDE, "trellis").save(folders[1] / "latents" / "voxel8" / "ball0.npz")
    with pytest.raises(ValueError, match=r"ball0.npz: expected space and resolution \('voxel8', 8\) of the tokenizer"):
        score(*folders)
