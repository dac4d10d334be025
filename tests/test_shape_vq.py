"""The shape tokenizer's network: sizes, layout, normalisation, the mode without occupancy, checkpointing."""

from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn

from kyvo.models.gradient_quantizer import GradientVectorQuantizer
from kyvo.models.shape_vq import SHARPNESS, TRELLIS_MEAN, TRELLIS_STD, ChannelNorm, ShapeNetwork, ShapeVQ, fold, unfold

SMALL = ShapeNetwork(
    resolution=8, channels=(4, 8), layers=1, middle_layers=1, codes=8, code_dim=3, upsample="nearest"
)  # fmt: skip


def build(network: ShapeNetwork, seed: int = 0) -> ShapeVQ:
    """A network whose residual blocks do something, other than at the start of a training."""
    torch.manual_seed(seed)
    model = ShapeVQ(network, GradientVectorQuantizer(network.codes, network.code_dim))
    for name, value in model.named_parameters():
        if "conv2" in name:
            nn.init.normal_(value, std=0.1)
    return model


def grids(count: int = 2, size: int = 8, features: int = 8) -> Tensor:
    there = (torch.rand(count, 1, size, size, size) < 0.2).float()
    return torch.cat([there, torch.randn(count, features, size, size, size) * there], 1)


# ---- sizes ----------------------------------------------------------------------------------------------------------


def test_the_papers_network():
    network = ShapeNetwork()
    with torch.device("meta"):
        model = ShapeVQ(network, GradientVectorQuantizer(network.codes, network.code_dim))
    assert (network.side, model.quantize.vectors.shape) == (8, (8192, 128))
    widths = [32, 128, 512, 1024]
    convolution = 27

    def block(width: int) -> int:
        return 2 * (convolution * width * width + width) + 4 * width

    blocks = sum(2 * block(width) for width in widths) + 2 * block(1024)
    encoder = convolution * 9 * 32 + 32 + blocks + sum(8 * a * b + b for a, b in pairwise(widths))
    encoder += 2 * 1024 + convolution * 1024 * 128 + 128
    decoder = convolution * 128 * 1024 + 1024 + blocks
    decoder += sum(convolution * b * 8 * a + 8 * a for a, b in pairwise(widths)) + 2 * 32 + convolution * 32 * 9 + 9
    found = [sum(p.numel() for p in part.parameters()) for part in (model.encoder, model.decoder)]
    assert found == [encoder, decoder]
    assert [round(count / 1e6) for count in found] == [265, 389]


@pytest.mark.parametrize(
    ("changes", "side"),
    [
        ({}, 4),
        ({"patch": 2, "channels": (8,)}, 4),
        ({"upsample": "shuffle", "channels": (4, 4, 8)}, 2),
        ({"occupancy": False, "features": 5}, 4),
        ({"variational": True}, 4),
    ],
)
def test_shapes(changes: dict[str, object], side: int):
    network = replace(SMALL, **changes)
    model = build(network)
    grid = grids(features=network.features)
    z = model.encode(grid)
    assert network.side == side
    assert z.shape == (2, 3, side, side, side)
    assert model.decode(z).shape == grid.shape


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"resolution": 10, "channels": (4, 4, 4)}, "multiple of 4 .* got 10"), ({"upsample": "cubic"}, "got 'cubic'")],
)
def test_sizes_that_do_not_fit(changes: dict[str, object], message: str):
    with pytest.raises(ValueError, match=message):
        replace(SMALL, **changes)


# ---- layout ---------------------------------------------------------------------------------------------------------


def test_folding_puts_each_voxel_into_its_cube():
    voxels = torch.randn(2, 3, 6, 6, 6)
    folded = fold(voxels, 2)
    assert folded.is_contiguous(memory_format=torch.channels_last_3d)
    # Place (1, 0, 1) in cube (2, 1, 0) is voxel (5, 2, 1); channels of one voxel lie together.
    place = (1 * 2 + 0) * 2 + 1
    assert torch.equal(folded[:, 3 * place : 3 * place + 3, 2, 1, 0], voxels[:, :, 5, 2, 1])
    assert torch.equal(unfold(folded, 2), voxels)


def test_weights_are_channels_last():
    model = build(SMALL)
    weights = [value for value in model.parameters() if value.ndim == 5 and value.shape[1] > 1]
    assert all(value.is_contiguous(memory_format=torch.channels_last_3d) for value in weights)


def test_a_norm_looks_at_one_position():
    norm = ChannelNorm(5)
    x = torch.randn(2, 5, 3, 3, 3)
    changed = x.clone()
    changed[0, :, 1, 1, 1] += 1 + torch.arange(5.0)
    differs = (norm(x) != norm(changed)).any(1)
    assert differs.nonzero().tolist() == [[0, 1, 1, 1]]
    expected = (x - x.mean(1, keepdim=True)) / (x.var(1, correction=0, keepdim=True) + 1e-5).sqrt()
    torch.testing.assert_close(norm(x), expected)


def test_a_code_knows_its_neighbourhood_alone():
    model = build(replace(SMALL, resolution=32, patch=2, layers=0, middle_layers=0, channels=(4, 4)))
    grid = grids(1, 32)
    changed = grid.clone()
    changed[0, 0, 0, 0, 0] = 1 - changed[0, 0, 0, 0, 0]
    reached = (model.encode(grid) != model.encode(changed)).any(1)[0]
    # Convolutions of 3 over cubes of 2, halving, and of 3 again: two codes along each axis.
    assert reached.any()
    assert not reached[2:].any()
    assert not reached[:, 2:].any()
    assert not reached[:, :, 2:].any()


# ---- normalisation --------------------------------------------------------------------------------------------------


def test_an_empty_voxel_is_zero_after_normalisation():
    model = build(SMALL)
    model.set_statistics(TRELLIS_MEAN, TRELLIS_STD)
    grid = grids()
    normalised = model.normalise(grid)
    there = grid[:, 0].bool()
    assert torch.equal(normalised[:, 0], grid[:, 0])
    assert not normalised[:, 1:].movedim(1, -1)[~there].any()
    mean, std = torch.tensor(TRELLIS_MEAN), torch.tensor(TRELLIS_STD)
    rows = grid[:, 1:].movedim(1, -1)[there]
    torch.testing.assert_close(normalised[:, 1:].movedim(1, -1)[there], (rows - mean) / std)
    logits = torch.where(grid[:, :1] > 0, 30.0, -30.0)
    back = model.denormalise(torch.cat([logits, normalised[:, 1:]], 1))
    torch.testing.assert_close(back[:, 0], grid[:, 0])
    torch.testing.assert_close(back[:, 1:].movedim(1, -1)[there], rows)


def test_without_statistics_vectors_stay_as_they_are():
    model, grid = build(SMALL), grids()
    assert model.mean.isnan().all()
    assert torch.equal(model.normalise(grid), grid)


@pytest.mark.parametrize(("mean", "std"), [([0.0] * 7, [1.0] * 7), ([0.0] * 8, [0.0] * 8)])
def test_statistics_that_are_none(mean: list[float], std: list[float]):
    with pytest.raises(ValueError, match="expected 8 means and standard deviations above 0"):
        build(SMALL).set_statistics(mean, std)


# ---- modes ----------------------------------------------------------------------------------------------------------


def test_without_occupancy_long_vectors_are_voxels():
    model = build(replace(SMALL, occupancy=False))
    model.threshold.fill_(0.7)
    grid = grids()
    changed = torch.cat([1 - grid[:, :1], grid[:, 1:]], 1)
    assert torch.equal(model.encode(grid), model.encode(changed))
    output = model.decode(torch.randn(2, 3, 4, 4, 4))
    length = output[:, 1:].square().sum(1).sqrt()
    assert 0 < (length > 0.7).float().mean() < 1
    assert torch.equal(model.denormalise(output)[:, 0] > 0.5, output[:, 0] > 0)
    torch.testing.assert_close(output[:, 0], SHARPNESS * (length - 0.7))


def test_cells_without_a_voxel_are_told_alike():
    grid = grids()
    grid[:, :, :5] = 0
    for variational in (False, True):
        model = build(replace(SMALL, blank=True, variational=variational))
        z, filled = model.encode(grid), model.filled(grid)
        expected = grid[:, 0].reshape(2, 4, 2, 4, 2, 4, 2).amax((2, 4, 6))
        assert torch.equal(filled[:, 0], expected)
        assert not filled[:, :, :2].any()
        assert torch.equal(z != 0, filled.expand_as(z) > 0)
        if variational:
            assert torch.equal(model.posterior(grid)[0], z)


def test_a_variational_encoder_gives_a_distribution():
    model = build(replace(SMALL, variational=True))
    mean, log_variance = model.posterior(grids())
    assert mean.shape == log_variance.shape == (2, 3, 4, 4, 4)
    grid = grids()
    assert torch.equal(model.encode(grid), model.posterior(grid)[0])
    with pytest.raises(ValueError, match="variational: true"):
        build(SMALL).posterior(grid)


def test_checkpointing_changes_nothing_but_memory():
    grid = grids()
    gradients = []
    for network in (SMALL, replace(SMALL, checkpointing=True)):
        model = build(network)
        output = model.decode(model.quantize(model.encode(grid))[0])
        output.square().sum().backward()
        gradients.append([value.grad for value in [*model.encoder.parameters(), *model.decoder.parameters()]])
    for first, second in zip(*gradients, strict=True):
        assert torch.equal(first, second)
