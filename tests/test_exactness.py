"""Gradients of samples that ranks, accumulated batches, padding and packing share out unevenly: those of one batch."""

import subprocess
import sys

import torch

from tests.gradient_run import SAMPLES, batch
from tests.worlds import tiny_module


def test_two_ranks_that_pad_pack_and_accumulate_have_the_gradients_of_one_batch(tmp_path):
    output = tmp_path / "gradients.pt"
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [*command, "-m", "tests.gradient_run", str(output)], capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr[-3000:]
    torch.manual_seed(0)
    module = tiny_module()
    whole = batch(0, SAMPLES)
    total, cells = module.loss_sum(whole.ids, whole.weights)
    (total / cells).backward()
    expected = {name: p.grad for name, p in module.named_parameters() if p.grad is not None}
    found = torch.load(output, weights_only=True)
    assert set(found) == set(expected)
    for name, gradient in expected.items():
        torch.testing.assert_close(
            found[name], gradient, rtol=1e-5, atol=1e-5 * float(gradient.abs().max()), msg=lambda m, n=name: f"{n}: {m}"
        )
