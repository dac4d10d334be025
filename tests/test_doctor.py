"""`kyvo doctor`: it says the truth about what is here, quickly, and how to get the rest."""

import subprocess
import sys
import types
from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest
import torch

from kyvo import doctor
from kyvo.assets import ROOT
from kyvo.doctor import Backend, probe

LIGHT = """
import sys
from kyvo.doctor import probe
probe()
heavy = ("lightning", "transformers", "diffusers", "gsplat", "bpy", "matplotlib")
sys.exit(str([name for name in heavy if name in sys.modules]) if any(name in sys.modules for name in heavy) else 0)
"""


def rows() -> dict[str, Backend]:
    return {row.name: row for row in probe()}


@pytest.fixture
def packages(monkeypatch) -> set[str]:
    """The packages that are found besides those that are there."""
    more: set[str] = set()
    real = doctor.find_spec
    monkeypatch.setattr(doctor, "find_spec", lambda name: ModuleSpec(name, None) if name in more else real(name))
    return more


def test_it_says_what_is_here():
    found = rows()
    assert found["torch"].found == torch.__version__
    assert found["python"].found.startswith(f"{sys.version_info.major}.{sys.version_info.minor}.")
    assert ("CUDA" in found) == torch.cuda.is_available()
    always = ("voxel", "trellis", "gradient-pyramid", "lightning", "transformers", "bf16")
    assert all(found[name].works for name in always)
    for path in ROOT.iterdir():
        if path.is_dir() and not path.name.startswith("_"):
            assert found[path.name].works


def test_every_row_has_a_licence_and_says_what_to_do():
    for row in probe():
        assert row.found
        assert row.hint
        assert row.licence or row.name in ("CUDA", "Apple MPS", "GPU", "bf16")
        assert "\n" not in row.found + row.hint


def test_extras_that_are_named_exist():
    pyproject = (Path(doctor.__file__).parents[1] / "pyproject.toml").read_text()
    for row in probe():
        if "kyvo[" in row.hint:
            extra = row.hint.partition("kyvo[")[2].partition("]")[0]
            assert f"\n{extra} = [" in pyproject


def test_nothing_heavy_is_imported():
    done = subprocess.run([sys.executable, "-c", LIGHT], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_package_that_does_not_import_is_reported_as_such(packages, monkeypatch):
    def broken(name):
        raise RuntimeError("operator torchvision::nms does not exist\nmore")

    packages.add("lpips")
    monkeypatch.setattr(doctor, "importlib", types.SimpleNamespace(import_module=broken))
    row = rows()["lpips"]
    assert not row.works
    assert "does not import: RuntimeError: operator torchvision::nms does not exist" in row.found


def test_lpips_works_with_package_and_weights_and_its_twin_without(packages, monkeypatch):
    monkeypatch.setattr(doctor, "cached_trunk", lambda: Path("vgg.pth"))
    monkeypatch.setattr(doctor, "installed_heads", lambda: Path("heads.pth"))
    found = rows()
    assert not found["lpips"].works
    assert found["lpips"].found == "no lpips"
    assert found["lpips-twin"].works
    packages.add("lpips")
    monkeypatch.setitem(sys.modules, "lpips", types.ModuleType("lpips"))
    assert rows()["lpips"].works
    monkeypatch.setattr(doctor, "cached_trunk", lambda: None)
    found = rows()
    assert not found["lpips"].works
    assert not found["lpips-twin"].works
    assert "no weights of VGG16" in found["lpips"].found


def test_gsplat_needs_the_package_and_cuda(packages, monkeypatch):
    monkeypatch.setattr(doctor.torch.cuda, "is_available", lambda: False)
    assert rows()["trellis rendering"].found == "no gsplat, no CUDA"
    packages.add("gsplat")
    assert rows()["trellis rendering"].found == "no CUDA"
    monkeypatch.setattr(doctor, "_device", lambda: torch.device("cpu"))
    monkeypatch.setattr(doctor.torch.cuda, "is_available", lambda: True)
    assert rows()["trellis rendering"].works


def test_another_package_of_that_name_is_not_trellis(packages, monkeypatch, tmp_path):
    packages.update({"spconv", "xformers"})
    monkeypatch.setattr(doctor, "_device", lambda: torch.device("cpu"))
    monkeypatch.setattr(doctor.torch.cuda, "is_available", lambda: True)
    (tmp_path / "trellis").mkdir()
    (tmp_path / "trellis" / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    assert rows()["trellis-native"].found == "no TRELLIS"
    (tmp_path / "trellis" / "representations").mkdir()
    assert rows()["trellis-native"].works
    assert "trellis" not in sys.modules


def test_blender_is_for_one_python(monkeypatch):
    monkeypatch.setattr(doctor, "find_spec", lambda name: None)
    monkeypatch.setattr(doctor.sys, "version_info", (3, 12, 0))
    assert "needs Python 3.11" in rows()["bpy"].hint
    monkeypatch.setattr(doctor.sys, "version_info", (3, 11, 0))
    assert rows()["bpy"].hint.endswith("pip install 'kyvo[blender]'")


def test_bf16_that_fails_is_said(monkeypatch):
    def refuse(*_, **__):
        raise RuntimeError("not implemented for BFloat16")

    monkeypatch.setattr(doctor.torch, "ones", refuse)
    row = rows()["bf16"]
    assert not row.works
    assert row.found.endswith("RuntimeError: not implemented for BFloat16")


def test_it_is_printed_part_by_part(capsys):
    doctor.doctor()
    printed = capsys.readouterr().out
    for part in ("base", "shape decoders", "optional packages", "shipped"):
        assert f"\n{part} " in f"\n{printed}"
    assert "trellis-native" in printed
