"""Quantisers of vector-quantize-pytorch behind the interface of those here; skipped where it is not installed."""

from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from kyvo.models.library_quantizer import LibraryQuantizer, LibraryQuantizerConfig

INSTALLED = find_spec("vector_quantize_pytorch") is not None
needs_package = pytest.mark.skipif(not INSTALLED, reason="vector-quantize-pytorch is not installed")


@needs_package
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("VectorQuantize", {}),
        ("VectorQuantize", {"codebook_dim": 4, "use_cosine_sim": True}),
        ("SimVQ", {}),
        ("LFQ", {}),
        ("FSQ", {"levels": [4, 4, 4]}),
    ],
)
def test_answers_as_the_quantisers_here_do(name: str, options: dict[str, object]):
    torch.manual_seed(0)
    quantizer = LibraryQuantizerConfig(name, options).build(SimpleNamespace(codes=64, code_dim=8))
    z = torch.randn(2, 8, 2, 3, 4, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        quantized, loss, _ = quantizer(z)
    (quantized.sum() + loss).backward()
    assert (quantized.dtype, quantized.shape, loss.shape) == (torch.float32, z.shape, ())
    assert z.grad.abs().sum() > 0
    quantized, _, (_, _, codes) = quantizer.eval()(z)
    assert (codes.dtype, codes.shape) == (torch.int64, (48,))
    assert quantizer.vectors.shape == (64, 8)
    torch.testing.assert_close(quantized.movedim(1, -1).flatten(0, -2), quantizer.vectors[codes])


@needs_package
@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("NoSuch", {}, "no class 'NoSuch'"),
        ("VectorQuantize", {"decays": 1}, "refuses {'decays': 1}"),
        ("FSQ", {"levels": [4, 4]}, "has 16 codes, the network 64"),
    ],
)
def test_what_the_package_does_not_have(name: str, options: dict[str, object], message: str):
    with pytest.raises(ValueError, match=message):
        LibraryQuantizer(name, 64, 8, options)


@needs_package
def test_several_codes_for_a_vector_are_refused():
    quantizer = LibraryQuantizer("ResidualVQ", 64, 8, {"num_quantizers": 2})
    with pytest.raises(ValueError, match="one code for a vector"):
        quantizer(torch.randn(1, 8, 2, 2, 2))


@pytest.mark.skipif(INSTALLED, reason="vector-quantize-pytorch is installed")
def test_the_extra_is_named():
    with pytest.raises(ValueError, match=r"pip install kyvo\[vq\]"):
        LibraryQuantizer("SimVQ", 64, 8, {})


def _rank(rank: int, world: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=world)
    torch.manual_seed(0)
    quantizer = LibraryQuantizer("VectorQuantize", 16, 4, {})
    torch.manual_seed(rank)
    for _ in range(5):
        quantizer(torch.randn(2, 4, 3, 3, 3))
    torch.save(quantizer.vectors, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


@needs_package
def test_built_among_processes_it_learns_the_same_in_all(tmp_path: Path):
    # Asked before there are processes, the package remembers that there are none.
    LibraryQuantizer("VectorQuantize", 16, 4, {})
    mp.spawn(_rank, (2, str(tmp_path)), nprocs=2)
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in range(2))
    torch.testing.assert_close(first, second)
