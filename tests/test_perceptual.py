"""Perceptual distances: LPIPS against a reference and the package, its weights' files, the stand-in, and the choice."""

import copy
import pickle
import re
import socket
import sys
import warnings
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch
from lightning import LightningModule
from safetensors.torch import save_file
from torch import Tensor, nn

from kyvo.models import perceptual
from kyvo.models.perceptual import (
    LPIPS,
    TRUNK_FILE,
    GradientPyramid,
    PerceptualLoss,
    installed_heads,
    perceptual_loss,
    read_heads,
    read_trunk,
)

BLOCKS = {0: (0, 2), 1: (5, 7), 2: (10, 12, 14), 3: (17, 19, 21), 4: (24, 26, 28)}
WIDTHS = {0: 64, 1: 128, 2: 256, 3: 512, 4: 512}


def random_trunk() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    trunk, channels = {}, 3
    for block, layers in BLOCKS.items():
        for layer in layers:
            size = (WIDTHS[block], channels, 3, 3)
            deviation = (2 / (9 * channels)) ** 0.5
            trunk[f"features.{layer}.weight"] = torch.randn(size, generator=generator) * deviation
            trunk[f"features.{layer}.bias"] = torch.randn(size[0], generator=generator) * 0.1
            channels = WIDTHS[block]
    return trunk


@pytest.fixture(scope="module")
def trunk() -> dict[str, Tensor]:
    return random_trunk()


@pytest.fixture(scope="module")
def trunk_file(trunk, tmp_path_factory) -> Path:
    """A file as torchvision's, with a classifier (cut small)."""
    path = tmp_path_factory.mktemp("weights") / TRUNK_FILE
    torch.save({**trunk, "classifier.0.weight": torch.zeros(8, 4), "classifier.0.bias": torch.zeros(8)}, path)
    return path


@pytest.fixture(scope="module")
def heads() -> dict[str, Tensor]:
    file = installed_heads()
    assert file is not None, "torchmetrics brings the linear weights"
    return read_heads(file)


@pytest.fixture(scope="module")
def twin(trunk, heads) -> PerceptualLoss:
    return PerceptualLoss("lpips-twin", LPIPS(trunk, heads))


@pytest.fixture(params=["lpips-twin", "gradient-pyramid"])
def loss(request, twin) -> PerceptualLoss:
    return twin if request.param == "lpips-twin" else PerceptualLoss("gradient-pyramid", GradientPyramid())


@pytest.fixture
def without_package(monkeypatch) -> None:
    """Whether or not `lpips` is installed, it is not found."""
    monkeypatch.setattr(perceptual, "find_spec", lambda name: None if name == "lpips" else find_spec(name))


def images(count: int, height: int = 32, width: int = 32, seed: int = 0) -> Tensor:
    return torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(seed)) * 2 - 1


# ---- LPIPS ----------------------------------------------------------------------------------------------------------


def convolved(maps: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
    windows = np.lib.stride_tricks.sliding_window_view(np.pad(maps, ((0, 0), (1, 1), (1, 1))), (3, 3), (1, 2))
    return np.tensordot(weight, windows, ([1, 2, 3], [0, 3, 4])) + bias[:, None, None]


def halved(maps: np.ndarray) -> np.ndarray:
    height, width = (side // 2 * 2 for side in maps.shape[1:])
    return maps[:, :height, :width].reshape(len(maps), height // 2, 2, width // 2, 2).max((2, 4))


def reference_lpips(first: np.ndarray, second: np.ndarray, trunk: dict, heads: dict) -> float:
    """Equation 1 of Zhang et al. (2018) for one pair [3, H, W], in float64."""
    shift, scale = np.array([[-0.030, -0.088, -0.188], [0.458, 0.448, 0.450]])[:, :, None, None]
    pair = [(image.astype(np.float64) - shift) / scale for image in (first, second)]
    distance = 0.0
    for block, layers in BLOCKS.items():
        if block:
            pair = [halved(maps) for maps in pair]
        for layer in layers:
            weight, bias = (trunk[f"features.{layer}.{kind}"].double().numpy() for kind in ("weight", "bias"))
            pair = [np.maximum(convolved(maps, weight, bias), 0) for maps in pair]
        one, other = (maps / (np.sqrt((maps**2).sum(0)) + 1e-10) for maps in pair)
        head = heads[f"lin{block}.model.1.weight"].double().numpy().reshape(-1, 1, 1)
        distance += (head * (one - other) ** 2).sum(0).mean()
    return distance


@pytest.mark.parametrize("size", [(16, 16), (33, 22)])
def test_lpips_equals_the_published_formula(twin, trunk, heads, size):
    first, second = images(2, *size), images(2, *size, seed=1)
    second[1] = first[1] + 0.1 * second[1]
    expected = [reference_lpips(a.numpy(), b.numpy(), trunk, heads) for a, b in zip(first, second, strict=True)]
    assert expected[0] > 2 * expected[1] > 0.001
    np.testing.assert_allclose(twin(first, second).numpy(), expected, rtol=1e-5)


@pytest.fixture
def package(monkeypatch):
    """The `lpips` package, over a stub of the one function of torchvision that it calls for VGG16."""
    if find_spec("lpips") is None:
        pytest.skip("lpips is not installed")
    torchvision = ModuleType("torchvision")
    torchvision.models = SimpleNamespace(vgg16=lambda pretrained: SimpleNamespace(features=perceptual.vgg16_features()))
    monkeypatch.setitem(sys.modules, "torchvision", torchvision)
    before = {name for name in sys.modules if name.partition(".")[0] == "lpips"}
    yield
    for name in {name for name in sys.modules if name.partition(".")[0] == "lpips"} - before:
        del sys.modules[name]


def test_lpips_equals_the_package(package, twin, trunk_file):
    packaged = perceptual_loss(trunk_file)
    assert packaged.name == "lpips"
    first, second = images(3, 48, 40), images(3, 48, 40, seed=1)
    second[1] = first[1] + 0.1 * second[1]
    second[2] = first[2]
    torch.testing.assert_close(packaged(first, second), twin(first, second), atol=1e-5, rtol=0)
    slopes = [torch.autograd.grad(loss(first.requires_grad_(), second).sum(), first)[0] for loss in (packaged, twin)]
    torch.testing.assert_close(*slopes, atol=1e-5, rtol=0)


def test_features_that_are_all_zero_have_a_gradient(trunk, heads):
    dead = {name: -torch.ones_like(value) if name.endswith("bias") else value * 0 for name, value in trunk.items()}
    first = images(1).requires_grad_()
    distance = PerceptualLoss("lpips-twin", LPIPS(dead, heads))(first, images(1, seed=1))
    distance.sum().backward()
    assert distance.item() == 0
    assert first.grad.abs().max() == 0


# ---- the stand-in ---------------------------------------------------------------------------------------------------


def test_pyramid_of_a_shift_and_of_a_ramp():
    loss = PerceptualLoss("gradient-pyramid", GradientPyramid())
    first = images(2, 16, 16)
    ramp = torch.stack([torch.full((16, 16), 0.25), torch.arange(16).expand(16, 16) / 100])[:, None]
    # The ramp's steps double at each scale, and its mean is 7.5 steps.
    torch.testing.assert_close(loss(first, first + ramp), torch.tensor([0.25, (1 + 2 + 4 + 8 + 7.5) / 100]) / 5)


def test_pyramid_holds_blur_for_worse_than_brightness():
    loss = PerceptualLoss("gradient-pyramid", GradientPyramid())
    stripes = (torch.arange(32) // 4 % 2 * 2.0 - 1).expand(1, 3, 32, 32) * 0.5
    blurred = torch.nn.functional.avg_pool2d(stripes, 5, 1, 2, count_include_pad=False)
    brighter = stripes + (blurred - stripes).abs().mean()
    assert loss(stripes, blurred) > 2 * loss(stripes, brighter)


# ---- every distance -------------------------------------------------------------------------------------------------


def test_a_distance(loss):
    first, second = images(3), images(3, seed=1)
    distances = loss(first, second)
    assert distances.shape == (3,)
    assert distances.dtype == torch.float32
    assert (distances > 0.01).all()
    assert loss(first, first).abs().max() == 0
    torch.testing.assert_close(loss(second, first), distances)
    torch.testing.assert_close(loss(first[1:2], second[1:2]), distances[1:2])
    assert (loss(first, first + 0.05 * second) < distances).all()


def test_gradients_reach_images_and_nothing_else(loss):
    target, output = images(2), images(2, seed=1).requires_grad_()
    loss(output, target).mean().backward()
    assert output.grad.isfinite().all()
    assert (output.grad.flatten(1).abs().amax(1) > 0).all()
    assert not any(weight.requires_grad for weight in loss._network.parameters())


def test_descent_brings_an_image_near(loss):
    target, output = images(1, 16, 16), images(1, 16, 16, seed=1).requires_grad_()
    optimizer = torch.optim.Adam([output], lr=0.05)
    distances = []
    for _ in range(8):
        optimizer.zero_grad()
        distance = loss(output, target).sum()
        distance.backward()
        optimizer.step()
        distances.append(distance.item())
    assert distances[-1] < 0.9 * distances[0]


def test_float32_under_autocast_and_for_half_images(loss):
    first, second = images(2).bfloat16(), images(2, seed=1).bfloat16()
    expected = loss(first.float(), second.float())
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(loss(first, second), expected)
    assert torch.equal(loss(first, second), expected)


def test_weights_moved_in_inference_mode_can_train(trunk, heads):
    loss = PerceptualLoss("lpips-twin", LPIPS(trunk, heads))
    with torch.inference_mode():
        network = loss._network_on(torch.device("meta"))
    assert {weight.device.type for weight in network.parameters()} == {"meta"}
    assert not any(weight.is_inference() for weight in [*network.parameters(), *network.buffers()])


def test_leaves_no_trace_in_the_module_that_holds_it(twin):
    class Holder(LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(2, 2)
            self.perceptual = twin

    before = twin(images(1), images(1, seed=1))
    holder = Holder().bfloat16().train()
    assert set(holder.state_dict()) == {"layer.weight", "layer.bias"}
    assert len(list(holder.parameters())) == 2
    assert torch.equal(holder.perceptual(images(1), images(1, seed=1)), before)


def test_copies_and_pickles(loss):
    expected = loss(images(1), images(1, seed=1))
    for other in (copy.deepcopy(loss), pickle.loads(pickle.dumps(loss))):
        assert other.name == loss.name
        assert torch.equal(other(images(1), images(1, seed=1)), expected)


# ---- the choice -----------------------------------------------------------------------------------------------------


def test_a_given_trunk(without_package, twin, trunk_file):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loss = perceptual_loss(str(trunk_file))
    assert loss.name == "lpips-twin"
    assert torch.equal(loss(images(1), images(1, seed=1)), twin(images(1), images(1, seed=1)))


def test_the_trunk_of_the_cache(without_package, trunk_file, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    cache = tmp_path / "hub" / "checkpoints"
    cache.mkdir(parents=True)
    (cache / TRUNK_FILE).symlink_to(trunk_file)
    assert perceptual_loss().name == "lpips-twin"


def test_without_a_trunk_one_warning_and_no_download(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(socket, "socket", lambda *_: pytest.fail("opened a connection"))
    with pytest.warns(UserWarning, match=re.escape(str(tmp_path / "hub" / "checkpoints"))) as seen:
        loss = perceptual_loss()
    assert len(seen) == 1
    assert TRUNK_FILE in str(seen[0].message)
    assert loss.name == "gradient-pyramid"
    assert list(tmp_path.iterdir()) == []


def test_without_heads_a_warning(trunk_file, monkeypatch):
    monkeypatch.setattr(perceptual, "find_spec", lambda name: None)
    with pytest.warns(UserWarning, match="linear weights of LPIPS"):
        assert perceptual_loss(trunk_file).name == "gradient-pyramid"


def test_other_heads(without_package, twin, trunk_file, heads, tmp_path):
    save_file({name: value * 3 for name, value in heads.items()}, tmp_path / "heads.safetensors")
    tripled = perceptual_loss(trunk_file, tmp_path / "heads.safetensors")(images(1), images(1, seed=1))
    torch.testing.assert_close(tripled, 3 * twin(images(1), images(1, seed=1)))


class PackagedLPIPS(nn.Module):
    """The package's names of weights and shape of the result, over the twin."""

    def __init__(self, **options: object) -> None:
        super().__init__()
        assert options == {"pretrained": False, "net": "vgg", "pnet_rand": True, "verbose": False}
        layers = perceptual.vgg16_features()
        starts = (0, 4, 9, 16, 23, 30)
        self.net = nn.Module()
        for index in range(5):
            numbers = range(starts[index], starts[index + 1])
            part = nn.Sequential()
            for number in numbers:
                part.add_module(str(number), layers[number])
            self.net.add_module(f"slice{index + 1}", part)
            head = nn.Module()
            head.model = nn.Sequential(nn.Dropout(), nn.Conv2d(WIDTHS[index], 1, 1, bias=False))
            self.add_module(f"lin{index}", head)

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        state = self.state_dict()
        trunk = {f"features.{name.split('.', 2)[2]}": value for name, value in state.items() if name.startswith("net.")}
        heads = {name: value for name, value in state.items() if name.startswith("lin")}
        return LPIPS(trunk, heads)(first, second)[:, None, None, None]


def test_the_package_where_it_imports(twin, trunk_file, monkeypatch):
    module = ModuleType("lpips")
    module.__spec__ = ModuleSpec("lpips", None)
    module.LPIPS = PackagedLPIPS
    monkeypatch.setitem(sys.modules, "lpips", module)
    loss = perceptual_loss(trunk_file)
    assert loss.name == "lpips"
    torch.testing.assert_close(loss(images(2), images(2, seed=1)), twin(images(2), images(2, seed=1)))


@pytest.mark.parametrize("failure", ["RuntimeError('operator torchvision::nms does not exist')", "ImportError()"])
def test_a_package_that_does_not_import(trunk_file, tmp_path, monkeypatch, failure):
    (tmp_path / "lpips").mkdir()
    (tmp_path / "lpips" / "__init__.py").write_text(f"raise {failure}\n")
    monkeypatch.delitem(sys.modules, "lpips", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    assert find_spec("lpips").origin == str(tmp_path / "lpips" / "__init__.py")
    assert perceptual_loss(trunk_file).name == "lpips-twin"


# ---- bad input ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("batch", "got"),
    [
        (torch.zeros(3, 32, 32), r"shape \[3, 32, 32\]"),
        (torch.zeros(1, 32, 32, 3), r"shape \[1, 32, 32, 3\]"),
        (torch.zeros(1, 3, 32, 15), r"shape \[1, 3, 32, 15\]"),
        (torch.zeros(1, 3, 32, 32, dtype=torch.uint8), r"torch\.uint8"),
        (torch.zeros(1, 3, 32, 33), r"one shape, got \[1, 3, 32, 32\] and \[1, 3, 32, 33\]"),
    ],
)
def test_wrong_images(loss, batch, got):
    with pytest.raises(ValueError, match=rf"expected images .*{got}"):
        loss(torch.zeros(1, 3, 32, 32), batch)


def test_half_a_trunk_in_safetensors(trunk, tmp_path):
    save_file({name: value.half() for name, value in trunk.items()}, tmp_path / "trunk.safetensors")
    read = read_trunk(tmp_path / "trunk.safetensors")
    assert sorted(read) == sorted(trunk)
    assert all(torch.equal(read[name], trunk[name].half().float()) for name in trunk)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"features.17.weight": None, "features.19.bias": None}, r"features\.17\.weight is missing"),
        ({"features.28.bias": torch.zeros(4)}, r"expected features\.28\.bias of shape \[512\], got \[4\]"),
        ({"features.30.weight": torch.zeros(1)}, r"features\.30\.weight has no place"),
    ],
)
def test_weights_of_another_architecture(trunk, tmp_path, change, message):
    state = {name: value for name, value in {**trunk, **change}.items() if value is not None}
    torch.save(state, tmp_path / "other.pth")
    with pytest.raises(ValueError, match=rf"other\.pth is not of torchvision's vgg16: {message}"):
        perceptual_loss(tmp_path / "other.pth")


def test_heads_of_another_architecture(heads, tmp_path):
    file = tmp_path / "heads.pth"
    torch.save({**heads, "lin1.model.1.weight": torch.zeros(1, 192, 1, 1)}, file)
    with pytest.raises(ValueError, match=r"lin1\.model\.1\.weight of shape \[1, 128, 1, 1\], got \[1, 192, 1, 1\]"):
        read_heads(file)
    torch.save({**heads, "lin4.model.1.weight": heads["lin4.model.1.weight"] - 1}, file)
    with pytest.raises(ValueError, match=r"at least 0, lin4\.model\.1\.weight goes down to -"):
        read_heads(file)


@pytest.mark.parametrize("name", ["trunk.pth", "trunk.safetensors"])
@pytest.mark.parametrize("content", [b"", b"<html>404 Not Found</html>"])
def test_files_of_something_else(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=rf"{name} should hold the state dict of torchvision's vgg16, it cannot"):
        read_trunk(tmp_path / name)


def test_a_checkpoint_that_nests_its_state_dict(trunk, tmp_path):
    torch.save({"state_dict": {}}, tmp_path / "nested.pth")
    with pytest.raises(ValueError, match="a table of tensors, got"):
        read_trunk(tmp_path / "nested.pth")


def test_a_missing_file(tmp_path):
    with pytest.raises(ValueError, match="there is none"):
        perceptual_loss(tmp_path / "nowhere.pth")
