"""`kyvo doctor`: what works on this machine, under which licences, and what to install for the rest."""

import importlib
import platform
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from itertools import groupby
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from kyvo.assets import ROOT
from kyvo.models.perceptual import cached_trunk, installed_heads


@dataclass(frozen=True)
class Backend:
    """Something that this package uses, or could use.

    Args:
        part: What it belongs to.
        name: What it is called.
        works: Whether it works here.
        found: What was found: a version, a device, a file, or why it does not work.
        licence: Its licence.
        hint: What it is for, or what to do to get it.
    """

    part: str
    name: str
    works: bool
    found: str
    licence: str
    hint: str


def doctor() -> None:
    """Print what works here, under which licences, and what to install for the rest."""
    console = Console()
    for part, rows in groupby(probe(), key=lambda row: row.part):
        console.print(_table(part, list(rows)))


def _table(part: str, rows: Sequence[Backend]) -> Table:
    # Widths of its own, so that the tables of all parts stand in line; it fits a terminal of 80 columns.
    table = Table(
        Column(width=3),
        Column(width=27, overflow="fold"),
        Column(overflow="fold", ratio=1),
        Column(width=14, overflow="fold", style="dim"),
        title=Text(part, style="bold"),
        title_justify="left",
        show_header=False,
        box=None,
        expand=True,
    )
    for row in rows:
        mark = Text("yes", style="green") if row.works else Text("no", style="red")
        found = Text.assemble(row.found, ("\n" + row.hint, "dim"))
        table.add_row(mark, Text(row.name), found, Text(row.licence))
    return table


def probe() -> list[Backend]:
    """What works here; nothing is downloaded, and but for torch and what may be broken nothing large is imported."""
    return [*_machine(), *_shapes(), *_perceptual(), *_extras(), *_shipped()]


# ---- parts ----------------------------------------------------------------------------------------------------------


def _machine() -> Iterator[Backend]:
    part, device = "base", _device()
    yield Backend(part, "python", True, platform.python_version(), "PSF-2.0", sys.executable)
    yield Backend(part, "torch", True, torch.__version__, "BSD-3-Clause", f"built for {_torch_build()}")
    names = {"cuda": "CUDA", "mps": "Apple MPS"}
    if device.type in names:
        name = torch.cuda.get_device_name() if device.type == "cuda" else platform.processor()
        yield Backend(part, names[device.type], True, name, "", "training and rendering on it")
    else:
        hint = "the CPU is used: small configs only. A GPU needs its driver and the torch built for it (pytorch.org)"
        yield Backend(part, "GPU", False, "neither CUDA nor MPS", "", hint)
    wrong = _bf16_error(device)
    yield Backend(part, "bf16", not wrong, wrong or f"works on {device}", "", "half the memory: precision bf16-mixed")
    for name, licence in (("lightning", "Apache-2.0"), ("transformers", "Apache-2.0"), ("diffusers", "Apache-2.0")):
        yield _package(part, name, licence, "needed; comes with kyvo")


def _shapes() -> Iterator[Backend]:
    part, cuda = "shape decoders", torch.cuda.is_available()
    yield Backend(part, "voxel", True, "in plain torch", "Apache-2.0", "renders latents of the space voxel8 everywhere")
    hint = "your copy of its weights (MIT), microsoft/TRELLIS-image-large; encodes, decodes and exports .ply everywhere"
    yield Backend(part, "trellis", True, "twin in plain torch", "Apache-2.0", hint)
    missing = ([] if find_spec("gsplat") else ["no gsplat"]) + ([] if cuda else ["no CUDA"])
    found = ", ".join(missing) or f"gsplat {_version('gsplat')}, compiles at its first use"
    hint = "pictures of its Gaussians: pip install gsplat, on a machine with CUDA"
    yield Backend(part, "trellis rendering", not missing, found, "Apache-2.0", hint)
    missing = _missing_for_native() + ([] if cuda else ["no CUDA"])
    found = ", ".join(missing) or "TRELLIS, spconv and attention"
    licence = "MIT; its rasteriser non-commercial"
    hint = "the original code: github.com/microsoft/TRELLIS on PYTHONPATH, set up as it says there"
    yield Backend(part, "trellis-native", not missing, found, licence, hint)


def _perceptual() -> Iterator[Backend]:
    part, trunk, heads = "perceptual distance (the first that works is used)", cached_trunk(), installed_heads()
    weights = [] if trunk else ["no weights of VGG16 in torch hub's cache"]
    weights += [] if heads else ["no linear weights of LPIPS"]
    wrong = _import_error("lpips")
    found = ", ".join([wrong, *weights] if wrong else weights) or f"lpips {_version('lpips')}"
    hint = "pip install 'kyvo[lpips]', with the torchvision that fits your torch"
    yield Backend(part, "lpips", not (wrong or weights), found, "BSD-2-Clause", hint)
    hint = "equal numbers without torchvision; put torchvision's vgg16 file where torch hub caches it"
    yield Backend(part, "lpips-twin", not weights, ", ".join(weights) or str(trunk), "BSD (weights)", hint)
    hint = "needs no weights; its numbers are not to be compared with LPIPS"
    yield Backend(part, "gradient-pyramid", True, "in plain torch", "Apache-2.0", hint)


def _extras() -> Iterator[Backend]:
    part = "optional packages"
    yield _package(part, "trimesh", "MIT", "reads meshes: pip install 'kyvo[meshes]'")
    yield _blender(part)
    hint = "other quantisers of shapes: pip install vector-quantize-pytorch"
    yield _package(part, "vector-quantize-pytorch", "MIT", hint, "vector_quantize_pytorch")
    yield _package(part, "gradio", "Apache-2.0", "the page of kyvo demo: pip install 'kyvo[demo]'")
    yield _package(part, "bitsandbytes", "MIT", "8-bit optimisers, CUDA: pip install 'kyvo[bitsandbytes]'")
    hint = "also logs to Weights & Biases (-c loggers/wandb): pip install 'kyvo[wandb]'"
    yield _package(part, "wandb", "MIT", hint)
    yield _package(
        part, "matplotlib", "PSF-based", "draws metrics over time (their plot method): pip install matplotlib"
    )


def _blender(part: str) -> Backend:
    row = _package(
        part, "bpy", "GPL-3.0 (a process of its own)", "renders worlds as CLEVR did: pip install 'kyvo[blender]'"
    )
    if row.works or sys.version_info[:2] == (3, 11):
        return row
    found = f"no wheels for Python {platform.python_version()}"
    return Backend(part, row.name, False, found, row.licence, "needs Python 3.11; then pip install 'kyvo[blender]'")


def _shipped() -> Iterator[Backend]:
    for folder in sorted(path for path in ROOT.iterdir() if path.is_dir() and not path.name.startswith("_")):
        files = [path for path in folder.rglob("*") if path.suffix in (".safetensors", ".json")]
        size = sum(path.stat().st_size for path in files) / 1e3
        yield Backend("shipped", folder.name, bool(files), f"{size:,.0f} kB", "Apache-2.0", "load it by this name")


# ---- checks ---------------------------------------------------------------------------------------------------------


def _device() -> torch.device:
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def _torch_build() -> str:
    if torch.version.cuda:
        return f"CUDA {torch.version.cuda}"
    return "ROCm" if torch.version.hip else "the CPU"


def _bf16_error(device: torch.device) -> str:
    """Why bfloat16 does not work on a device; nothing if it does."""
    try:
        ones = torch.ones(8, 8, device=device, dtype=torch.bfloat16)
        right = float((ones @ ones).float().sum()) == 8**3
    except (RuntimeError, TypeError) as error:
        return f"{device}: {_line(error)}"
    return "" if right else f"{device}: wrong results"


def _import_error(module: str) -> str:
    """Why a package does not import; nothing if it does."""
    if find_spec(module) is None:
        return f"no {module}"
    try:
        importlib.import_module(module)
    except (ImportError, RuntimeError, AttributeError, OSError) as error:
        # A torchvision built for another torch fails in any of these ways.
        return f"{module} {_version(module)} does not import: {_line(error)}"
    return ""


def _missing_for_native() -> list[str]:
    # Another package of that name is on PyPI.
    spec = find_spec("trellis")
    folders = [Path(folder) for folder in (spec and spec.submodule_search_locations) or ()]
    missing = [] if any((folder / "representations").is_dir() for folder in folders) else ["no TRELLIS"]
    missing += [] if find_spec("spconv") else ["no spconv"]
    return missing + ([] if find_spec("xformers") or find_spec("flash_attn") else ["no xformers or flash-attn"])


def _package(part: str, name: str, licence: str, hint: str, module: str = "") -> Backend:
    works = find_spec(module or name) is not None
    return Backend(part, name, works, _version(name) if works else "not installed", licence, hint)


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "of unknown version"


def _line(error: Exception) -> str:
    """The first line of an error."""
    return f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
