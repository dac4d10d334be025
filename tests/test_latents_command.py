"""`kyvo data latents`: learned latents beside the voxels that they are of."""

from pathlib import Path

import pytest
import torch

from data_modules.latents_command import encode
from data_modules.shape_folder import find_shapes, write_shape
from kyvo.models.learned_decoder import LearnedDecoder, SlatAutoencoder, SlatNetwork, TrainedDecoder
from kyvo.slat import Slat


@pytest.fixture
def decoder(tmp_path: Path) -> LearnedDecoder:
    torch.manual_seed(0)
    decoder = LearnedDecoder(SlatAutoencoder(SlatNetwork(hidden=8)), torch.zeros(8), torch.ones(8))
    decoder.save_pretrained(tmp_path / "decoder")
    return decoder


def voxels(seed: int, space: str = "voxel8") -> Slat:
    generator = torch.Generator().manual_seed(seed)
    cells = torch.randperm(512, generator=generator)[:40]
    coords = torch.stack([cells // 64, cells // 8 % 8, cells % 8], 1).int()
    return Slat(coords, torch.rand(40, 8, generator=generator) * 2 - 1, 8, space)


def test_each_shape_gets_the_decoders_latents(decoder: LearnedDecoder, tmp_path: Path):
    for seed in range(3):
        write_shape(tmp_path / "shapes" / "latents" / "voxel8" / f"{seed}.npz", voxels(seed))
    for _ in range(2):
        summary = encode(tmp_path / "shapes", str(tmp_path / "decoder"))
    assert summary == {"latents": str(tmp_path / "shapes" / "latents" / "learned"), "shapes": 3}
    for seed, file in enumerate(find_shapes(tmp_path / "shapes", "learned")):
        [expected] = decoder.encode([voxels(seed)])
        found = Slat.load(file.latents)
        assert (found.space, found.resolution) == ("learned", 4)
        assert torch.equal(found.coords, expected.coords)
        assert torch.equal(found.feats, expected.feats)


def test_other_spaces_are_named(decoder: LearnedDecoder, tmp_path: Path):
    write_shape(tmp_path / "latents" / "voxel8" / "odd.npz", voxels(0, "trellis"))
    with pytest.raises(ValueError, match=r"odd\.npz: expected objects in the space voxel8, got trellis"):
        encode(tmp_path, str(tmp_path / "decoder"))


def test_a_config_names_its_folder(decoder: LearnedDecoder, tmp_path: Path):
    found = TrainedDecoder(str(tmp_path / "decoder"))
    for name, value in decoder.state_dict().items():
        assert torch.equal(found.state_dict()[name], value), name
