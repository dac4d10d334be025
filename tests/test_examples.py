"""The examples in the docstrings of the package."""

import doctest
import importlib
from pathlib import Path

import pytest

import kyvo

ROOT = Path(kyvo.__file__).parent
FILES = sorted(file.relative_to(ROOT.parent) for file in ROOT.rglob("*.py") if ">>> " in file.read_text())


@pytest.mark.parametrize("name", [".".join(file.with_suffix("").parts) for file in FILES])
def test_examples_run(name):
    result = doctest.testmod(importlib.import_module(name))
    assert result.attempted
    assert result.failed == 0


def test_scores_and_metrics_have_examples():
    folders = {file.parent.name for file in FILES}
    assert {"metrics", "score", "report", "tokenizers"} <= folders
