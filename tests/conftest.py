"""Fixtures shared by the tests: where golden data lies, and one thread a process."""

import os
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import pytest
import torch

# Two threads on two busy cores spin against each other and cost more than they give.
torch.set_num_threads(1)


@pytest.fixture(scope="session")
def golden() -> Path:
    """The folder of reference numbers beside the repository; the test is skipped where it is absent."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "golden"
    if not folder.is_dir():
        pytest.skip(f"no golden data in {folder}")
    return folder
