"""What all tests share: where golden data lies, one thread a process, and no test that is timed."""

import os
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")

import pytest
import torch
from hypothesis import HealthCheck, settings

# Two threads on two busy cores spin against each other and cost more than they give.
torch.set_num_threads(1)

# How long examples take to draw says how busy the machine is, not whether the code is right.
settings.register_profile("kyvo", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("kyvo")


@pytest.fixture(scope="session")
def golden() -> Path:
    """The folder of reference numbers beside the repository; the test is skipped where it is absent."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "golden"
    if not folder.is_dir():
        pytest.skip(f"no golden data in {folder}")
    return folder
