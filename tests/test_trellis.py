"""TRELLIS' networks: equal to its own, windows, files, gradients, and the decoders that render through them."""

import json
import sys
import types
from pathlib import Path
from typing import ClassVar

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import nn

from kyvo.cameras import Cameras
from kyvo.models import gaussians, trellis_decoder
from kyvo.models.gaussians import GaussianFormat
from kyvo.models.trellis import SlatEncoder, SlatGaussianDecoder, TrellisNetwork, VoxelTransformer, Windows, join
from kyvo.models.trellis_decoder import NativeTrellisDecoder, TrellisDecoder
from kyvo.slat import Slat, densify

TINY = TrellisNetwork(resolution=16, model_channels=20, num_blocks=2, num_heads=2, window_size=4)
FORM = GaussianFormat(count=2)


def voxels(count: int, resolution: int = 16, seed: int = 0) -> torch.Tensor:
    cells = torch.randperm(resolution**3, generator=torch.Generator().manual_seed(seed))[:count]
    return torch.stack([cells // resolution**2, cells // resolution % resolution, cells % resolution], 1)


def slat(count: int = 40, seed: int = 0, channels: int = 8, space: str = "trellis") -> Slat:
    feats = torch.randn(count, channels, generator=torch.Generator().manual_seed(seed))
    return Slat(voxels(count, seed=seed).int(), feats, 16, space)


def decoder() -> SlatGaussianDecoder:
    torch.manual_seed(0)
    return SlatGaussianDecoder(TINY, FORM).eval().requires_grad_(False)


def write_pair(folder: Path, name: str = "small", half: bool = False, **changes: object) -> Path:
    """Files of a tiny Gaussian decoder as TRELLIS writes them."""
    form = {"num_gaussians": 2, "voxel_size": 1.5, "perturb_offset": True, "scaling_bias": 4e-3, "opacity_bias": 0.1}
    form |= {"scaling_activation": "softplus", "3d_filter_kernel_size": 9e-4, "2d_filter_kernel_size": 0.1}
    form |= {"lr": {"_xyz": 1, "_features_dc": 1, "_opacity": 1, "_scaling": 1, "_rotation": 0.1}}
    sizes = {"resolution": 16, "model_channels": 20, "latent_channels": 8, "num_blocks": 2, "num_heads": 2}
    args = {**sizes, "mlp_ratio": 4, "attn_mode": "swin", "window_size": 4, "use_fp16": half}
    config = {"name": "SLatGaussianDecoder", "args": {**args, "representation_config": form, **changes}}
    (folder / f"{name}.json").write_text(json.dumps(config))
    dtype = torch.float16 if half else torch.float32
    save_file({key: value.to(dtype) for key, value in decoder().state_dict().items()}, folder / f"{name}.safetensors")
    return folder / name


# ---- the same as TRELLIS --------------------------------------------------------------------------------------------


def test_the_encoder_gives_the_numbers_of_trellis(golden):
    expected = load_file(golden / "trellis" / "io.safetensors")
    model = SlatEncoder.from_pretrained(golden / "trellis", "encoder")
    mean, log_variance = model(expected["patch_features"], F.pad(expected["coords"], (1, 0)))
    torch.testing.assert_close(mean, expected["latent_mean"], rtol=0, atol=5e-6)
    torch.testing.assert_close(log_variance, expected["latent_logvar"], rtol=0, atol=5e-6)
    [found] = model.encode([Slat(expected["coords"], expected["patch_features"], 64, "dinov2")])
    assert found.space == "trellis"
    torch.testing.assert_close(found.feats, mean)


def test_the_decoder_gives_the_numbers_of_trellis(golden):
    expected = load_file(golden / "trellis" / "io.safetensors")
    model = SlatGaussianDecoder.from_pretrained(golden / "trellis" / "gaussian_decoder")
    head = model(expected["latents"], F.pad(expected["coords"], (1, 0)))
    torch.testing.assert_close(head, expected["gaussian_head"], rtol=0, atol=5e-6)
    assert model.form == GaussianFormat()
    torch.testing.assert_close(model.offset_perturbation, GaussianFormat().perturbation(), rtol=0, atol=1e-6)


def test_the_released_sizes_have_the_published_numbers_of_weights():
    with torch.device("meta"):
        models = (SlatEncoder(), SlatGaussianDecoder(TrellisNetwork(), GaussianFormat()))
    counts = [sum(weight.numel() for weight in model.parameters()) / 1e6 for model in models]
    assert counts == pytest.approx([85.85, 85.40], abs=0.05)
    assert models[1].out_layer.out_features == 448


# ---- windows --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shift", [0, 2])
def test_each_voxel_takes_from_those_of_its_window_alone(shift):
    coords = torch.cat([F.pad(voxels(90), (1, 0)), F.pad(voxels(60, seed=1), (1, 0), value=1)])
    qkv = torch.randn(150, 3 * 12)
    query, key, value = qkv.view(150, 3, 2, 6).unbind(1)
    cells = torch.cat([coords[:, :1], (coords[:, 1:] + shift) // 4], 1)
    same = (cells[:, None] == cells[None]).all(-1)
    scores = torch.einsum("ahd,bhd->hab", query, key) / 6**0.5
    expected = torch.einsum("hab,bhd->ahd", scores.masked_fill(~same, -torch.inf).softmax(-1), value).flatten(1)
    torch.testing.assert_close(Windows.of(coords, 4, shift).attend(qkv, 2), expected)


def test_one_crowded_window_does_not_widen_the_others():
    crowded = torch.cartesian_prod(*[torch.arange(8)] * 3)
    lonely = torch.cartesian_prod(*[torch.arange(1, 8) * 8] * 3)
    coords = F.pad(torch.cat([crowded, lonely]), (1, 0))
    shapes = [tuple(rows.shape) for rows, _ in Windows.of(coords, 8, 0).groups]
    assert shapes == [(343, 16), (1, 512)]


def test_objects_of_a_batch_do_not_see_each_other_and_order_does_not_matter():
    model, objects = decoder(), [slat(50), slat(30, seed=1)]
    feats, coords = join(objects, 16)
    together = model(feats, coords)
    apart = torch.cat([model(*join([one], 16)) for one in objects])
    torch.testing.assert_close(together, apart)
    mixed = torch.randperm(80)
    torch.testing.assert_close(model(feats[mixed], coords[mixed]), together[mixed])


# ---- files ----------------------------------------------------------------------------------------------------------


def test_a_pair_is_found_by_path_by_name_and_alone_in_a_folder(tmp_path):
    path = write_pair(tmp_path)
    (tmp_path / "other.json").write_text('{"name": "SLatMeshDecoder", "args": {}}')
    (tmp_path / "broken.json").write_text("{")
    given = [(path, ""), (f"{path}.json", ""), (f"{path}.safetensors", ""), (tmp_path, "small"), (tmp_path, "")]
    for source, name in given:
        model = SlatGaussianDecoder.from_pretrained(source, name)
        assert model.network == TINY
        assert model.form == FORM
        assert not model.training
        assert not any(weight.requires_grad for weight in model.parameters())
        for key, value in decoder().state_dict().items():
            assert torch.equal(model.state_dict()[key], value)
    write_pair(tmp_path, "second")
    with pytest.raises(ValueError, match=r"expected one \.json of a SLatGaussianDecoder.*got second, small"):
        SlatGaussianDecoder.from_pretrained(tmp_path)


def test_weights_in_half_precision_are_computed_with_in_float32(tmp_path):
    model = SlatGaussianDecoder.from_pretrained(write_pair(tmp_path, half=True))
    assert {value.dtype for value in model.state_dict().values()} == {torch.float32}
    one = slat()
    torch.testing.assert_close(model(*join([one], 16)), decoder()(*join([one], 16)), atol=5e-3, rtol=0)


def test_the_variant_for_elastic_training_is_the_same_network(tmp_path):
    path = write_pair(tmp_path)
    config = Path(f"{path}.json")
    config.write_text(config.read_text().replace("SLatGaussianDecoder", "ElasticSLatGaussianDecoder"))
    assert SlatGaussianDecoder.from_pretrained(path).network == TINY


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"attn_mode": "full"}, "expected attn_mode = 'swin', the only one here, got 'full'"),
        ({"pe_mode": "rope"}, "expected pe_mode = 'ape'"),
        ({"qk_rms_norm": True}, "expected qk_rms_norm = False"),
        ({"no_such": 1}, r"missing \[\], unknown \['no_such'\]"),
        ({"num_heads": 3}, "multiple of num_heads 3"),
        ({"representation_config": {"lr": {}}}, "expected a representation_config with lr, num_gaussians"),
        ({"representation_config": None}, "TypeError"),
        ({"model_channels": 24, "num_heads": 2}, r"expected weight offset_perturbation|expected weight input_layer"),
    ],
)
def test_configs_of_other_networks_are_refused(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        SlatGaussianDecoder.from_pretrained(write_pair(tmp_path, **changes))


def test_the_number_of_heads_may_be_given_by_their_channels(tmp_path):
    path = write_pair(tmp_path, num_heads=None, num_head_channels=10)
    assert SlatGaussianDecoder.from_pretrained(path).network.num_heads == 2


def test_the_first_wrong_weight_is_named(tmp_path):
    path = write_pair(tmp_path)
    file, state = f"{path}.safetensors", decoder().state_dict()
    name = "blocks.1.attn.to_qkv.weight"
    save_file({key: value for key, value in state.items() if key != name}, file)
    with pytest.raises(ValueError, match=rf"expected weight {name} of shape \[60, 20\], there is none"):
        SlatGaussianDecoder.from_pretrained(path)
    save_file({**state, name: torch.zeros(60, 21)}, file)
    with pytest.raises(ValueError, match=rf"expected weight {name} of shape \[60, 20\], got \[60, 21\]"):
        SlatGaussianDecoder.from_pretrained(path)
    save_file({**state, "blocks.2.norm": torch.zeros(1)}, file)
    with pytest.raises(ValueError, match=r"weight blocks\.2\.norm has no place"):
        SlatGaussianDecoder.from_pretrained(path)
    Path(file).write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"small\.safetensors can't be read"):
        SlatGaussianDecoder.from_pretrained(path)


def test_missing_and_foreign_files_are_named(tmp_path):
    with pytest.raises(ValueError, match=r"there is no .*none\.json and no .*none\.safetensors.*hf download"):
        SlatEncoder.from_pretrained(tmp_path / "none")
    path = write_pair(tmp_path)
    with pytest.raises(ValueError, match=r"small\.json: expected a SLatEncoder, got a SLatGaussianDecoder"):
        SlatEncoder.from_pretrained(path)
    with pytest.raises(ValueError, match=r"expected one \.json of a SLatEncoder in .*, got none"):
        SlatEncoder.from_pretrained(tmp_path)
    for text, message in (("[1]", "expected an object with name and args"), ("{", "is no JSON")):
        Path(f"{path}.json").write_text(text)
        with pytest.raises(ValueError, match=message):
            SlatGaussianDecoder.from_pretrained(path)


# ---- input and gradients --------------------------------------------------------------------------------------------


def test_other_input_is_refused():
    model, (feats, coords) = decoder(), join([slat()], 16)
    for wrong in (feats[:, :7], feats[0], feats.int()):
        with pytest.raises(ValueError, match=r"expected feats float \[L, 8\], got"):
            model(wrong, coords)
    for wrong in (coords[:, 1:], coords[:-1], coords.float()):
        with pytest.raises(ValueError, match=r"expected coords as integers \[40, 4\]"):
            model(feats, wrong)
    for wrong in (coords + 16, coords - 1):
        with pytest.raises(ValueError, match="expected voxels with x, y and z from 0 to 15"):
            model(feats, wrong)
    with pytest.raises(ValueError, match="expected voxels"):
        model(feats[:0], coords[:0])
    with pytest.raises(ValueError, match="expected latents of the space trellis, got voxel8"):
        model.decode([slat(space="voxel8")])
    with pytest.raises(ValueError, match=r"expected objects of 16 voxels a side .* \[\(16, 7\), \(16, 8\)\]"):
        model.decode([slat(channels=7), slat()])
    with pytest.raises(ValueError, match="expected objects of 64 voxels a side"):
        join([slat()], 64)
    with pytest.raises(ValueError, match=r"got \[\]"):
        model.decode([])
    with pytest.raises(NotImplementedError):
        VoxelTransformer.from_args({})


def test_gradients_reach_the_latents_and_checkpointing_does_not_change_them():
    found = []
    for checkpointed in (False, True):
        model, calls = decoder(), []
        model.checkpointed = checkpointed
        model.blocks[0].register_forward_pre_hook(lambda *_, calls=calls: calls.append(1))
        feats, coords = join([slat()], 16)
        feats.requires_grad_()
        model(feats, coords).square().sum().backward()
        assert len(calls) == (2 if checkpointed else 1)
        assert all(weight.grad is None for weight in model.parameters())
        found.append(feats.grad)
    assert found[0].abs().min() > 0
    torch.testing.assert_close(*found)


def test_autocast_leaves_the_ends_in_float32():
    model, (feats, coords) = decoder(), join([slat()], 16)
    with torch.autocast("cpu", torch.bfloat16):
        found = model(feats.bfloat16(), coords)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, model(feats, coords), atol=0.1, rtol=0)


def test_decode_gives_each_object_its_gaussians():
    first, second = decoder().decode([slat(50), slat(30, seed=1)])
    assert (len(first), len(second)) == (100, 60)
    middles = (slat(30, seed=1).coords + 0.5) / 16 - 0.5
    # No Gaussian's middle lies further from its voxel's than 0.75 of a voxel.
    assert (second.positions.view(30, 2, 3) - middles[:, None]).abs().max() <= 0.75 / 16


# ---- decoders that render -------------------------------------------------------------------------------------------


@pytest.fixture
def grid() -> torch.Tensor:
    return densify([slat(50), slat(30, seed=1)]) * torch.tensor([0.8, *[1.0] * 8]).view(1, 9, 1, 1, 1)


def test_occupancy_fades_gaussians_and_gets_a_gradient(tmp_path, grid):
    model = TrellisDecoder(str(write_pair(tmp_path)))
    assert model.space == "trellis"
    assert not any(weight.requires_grad for weight in model.parameters())
    grid.requires_grad_()
    found = model.gaussians(grid)
    assert [len(one) for one in found] == [100, 60]
    order = slat(50).cells().argsort()
    [expected] = decoder().decode([Slat(slat(50).coords[order], slat(50).feats[order], 16)])
    torch.testing.assert_close(found[0].opacities, 0.8 * expected.opacities)
    torch.testing.assert_close(found[0].positions, expected.positions)
    sum(one.opacities.sum() + one.positions.sum() for one in found).backward()
    there = grid.detach()[:, 0] > 0
    assert (grid.grad[:, 0][there] > 0).all()
    assert (grid.grad[:, 1:].abs().sum(1)[there] > 0).all()
    assert not grid.grad.movedim(1, -1)[~there].any()


def test_which_voxels_are_decoded(tmp_path, grid):
    grid[0, 0] *= torch.rand(16, 16, 16)
    path = str(write_pair(tmp_path))
    high = int((grid[0, 0] > 0.3).sum())
    assert len(TrellisDecoder(path, threshold=0.3).gaussians(grid)[0]) == 2 * high
    assert [len(one) for one in TrellisDecoder(path, threshold=0.1, max_voxels=20).gaussians(grid)] == [40, 40]
    assert [len(one) for one in TrellisDecoder(path, threshold=1.0).gaussians(grid)] == [2, 2]
    with pytest.raises(ValueError, match=r"expected a grid float \[B, 9, N, N, N\]"):
        TrellisDecoder(path).gaussians(grid[:, :8])
    with pytest.raises(ValueError, match="expected objects of 16 voxels a side"):
        TrellisDecoder(path).gaussians(grid[:, :, :8, :8, :8])


def test_trellis_decoder_renders_through_gsplat(tmp_path, grid, monkeypatch):
    def rasterize(means, width, height, viewmats, **given):
        assert given["eps2d"] == 0.1
        return (
            torch.full((len(viewmats), height, width, 3), 0.25),
            torch.full((len(viewmats), height, width, 1), 0.5),
            {},
        )

    model, cameras = TrellisDecoder(str(write_pair(tmp_path))), Cameras.sphere(3)
    with pytest.raises(ValueError, match=r"rendering Gaussians needs .*CUDA"):
        model.render(grid, cameras, 4)
    monkeypatch.setattr(gaussians, "_rasterizer", lambda device: rasterize)
    views = model.render(grid, cameras, 4, background=0.5)
    assert views.rgb.shape == (2, 3, 3, 4, 4)
    assert views.alpha.shape == (2, 3, 4, 4)
    assert (views.rgb == 0.5).all()
    assert model.render_each(grid, cameras[:2], 4).rgb.shape == (2, 1, 3, 4, 4)


# ---- a user's own TRELLIS -------------------------------------------------------------------------------------------


class FakeGaussian:
    def __init__(self, opacity: torch.Tensor) -> None:
        self.get_opacity = opacity

    def from_opacity(self, opacity: torch.Tensor) -> None:
        assert opacity.shape == self.get_opacity.shape
        self.get_opacity = opacity


class FakeSparse:
    def __init__(self, feats: torch.Tensor, coords: torch.Tensor) -> None:
        self.feats, self.coords = feats, coords


class FakeNetwork(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight, self.given = nn.Parameter(torch.ones(1)), []

    def forward(self, sparse: FakeSparse) -> list[FakeGaussian]:
        self.given.append(sparse)
        return [FakeGaussian(torch.full((2 * len(sparse.feats), 1), 0.5))]


class FakeRenderer:
    made: ClassVar[list[dict]] = []

    def __init__(self, options: dict) -> None:
        self.options, self.pipe = options, types.SimpleNamespace(kernel_size=None)
        self.made.append(options)

    def render(self, gaussian: FakeGaussian, extrinsics: torch.Tensor, intrinsics: torch.Tensor) -> dict:
        assert self.pipe.kernel_size == 0.1
        assert (extrinsics.shape, intrinsics.shape) == ((4, 4), (3, 3))
        alpha, size = gaussian.get_opacity.mean(), self.options["resolution"]
        back = torch.tensor(self.options["bg_color"])[:, None, None]
        return {
            "color": (torch.tensor([1.0, 0.5, 0.0])[:, None, None] * alpha + (1 - alpha) * back).expand(3, size, size)
        }


@pytest.fixture
def fake(monkeypatch) -> FakeNetwork:
    network = FakeNetwork()
    modules = {
        "trellis": types.ModuleType("trellis"),
        "trellis.models": types.SimpleNamespace(from_pretrained=lambda path: setattr(network, "path", path) or network),
        "trellis.modules.sparse": types.SimpleNamespace(SparseTensor=FakeSparse),
        "trellis.renderers": types.SimpleNamespace(GaussianRenderer=FakeRenderer),
    }
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)
    # First set, so that what the decoder sets is taken back as well.
    monkeypatch.setenv("ATTN_BACKEND", "")
    monkeypatch.delenv("ATTN_BACKEND")
    monkeypatch.setenv("SPCONV_ALGO", "auto")
    monkeypatch.setattr(trellis_decoder, "_check_device", lambda device: None)
    FakeRenderer.made.clear()
    return network


def test_native_trellis_gets_what_it_reads(fake, grid):
    decoder = NativeTrellisDecoder("some/weights")
    assert fake.path == "some/weights"
    assert not fake.weight.requires_grad
    environment = trellis_decoder.os.environ
    assert (environment["ATTN_BACKEND"], environment["SPCONV_ALGO"]) == ("xformers", "auto")
    grid.requires_grad_()
    views = decoder.render(grid, Cameras.sphere(3), 5, background=0.5)
    sparse = fake.given[1]
    assert sparse.coords.dtype == torch.int32
    assert sparse.coords.shape == (30, 4)
    assert not sparse.coords[:, 0].any()
    assert sparse.feats.dtype == torch.float32
    expected = {"resolution": 5, "near": 0.8, "far": 1.6}
    assert FakeRenderer.made[:2] == [{**expected, "bg_color": (shade,) * 3} for shade in (0.0, 1.0)]
    # Opacity 0.5 times occupancy 0.8, over grey.
    torch.testing.assert_close(views.alpha, torch.full((2, 3, 5, 5), 0.4))
    color = torch.tensor([0.4 + 0.3, 0.2 + 0.3, 0.3])[:, None, None].expand(2, 3, 3, 5, 5)
    torch.testing.assert_close(views.rgb, color)
    views.rgb[:, :, 0].sum().backward()
    assert (grid.grad[:, 0][grid.detach()[:, 0] > 0] > 0).all()


def test_native_trellis_says_what_it_needs(grid, monkeypatch):
    monkeypatch.setattr(trellis_decoder, "find_spec", lambda name: None)
    monkeypatch.setenv("ATTN_BACKEND", "xformers")
    monkeypatch.setenv("SPCONV_ALGO", "native")
    with pytest.raises(
        ValueError, match=r"needs TRELLIS \(.*MIT.*non-commercial.*PYTHONPATH.*TrellisDecoder.*VoxelDecoder"
    ):
        NativeTrellisDecoder()
    monkeypatch.setattr(trellis_decoder, "find_spec", lambda name: "found")
    monkeypatch.setitem(sys.modules, "trellis", None)
    with pytest.raises(ValueError, match=r"trellis\.models of TRELLIS can't be imported: ModuleNotFoundError"):
        NativeTrellisDecoder()


def test_native_trellis_needs_cuda(grid):
    with pytest.raises(ValueError, match="on CUDA devices only, the grid is on cpu"):
        trellis_decoder._check_device(grid.device)
