"""The paper's recipe at its true size, once, on a CPU: it loads, resizes, takes a step, saves and is exported."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

LIMIT = 24e9


def _run(action, folder):
    root = Path(__file__).resolve().parents[1]
    done = subprocess.run(
        [sys.executable, "-m", "tests.llama_1b_run", action, str(folder)],
        cwd=folder, env=os.environ | {"PYTHONPATH": str(root), "HF_HUB_OFFLINE": "1"}, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.mark.slow
def test_a_step_from_a_llama_of_the_true_shape_fits_in_24_gigabytes(tmp_path):
    _run("make", tmp_path)
    printed = {action: _run(action, tmp_path) for action in ("fit", "export")}
    peaks = {action: json.loads(text.strip().splitlines()[-1])["peak_bytes"] for action, text in printed.items()}
    assert "1,535,211,520" in printed["fit"]
    assert max(peaks.values()) < LIMIT, peaks
    plain = AutoModelForCausalLM.from_pretrained(tmp_path / "exported", dtype="auto")
    assert plain.get_input_embeddings().weight.shape == (137_607, 2048)
    backbone = AutoModelForCausalLM.from_pretrained(tmp_path / "llama", dtype="auto")
    text = backbone.get_input_embeddings().weight
    assert torch.equal(plain.get_input_embeddings().weight[: len(text)], text)
    assert not torch.equal(plain.get_output_embeddings().weight[: len(text)], text)
