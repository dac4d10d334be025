"""Room in huge pages is room like any other."""

import gc
import mmap

import pytest
import torch

from kyvo.generation import huge_pages
from kyvo.generation.huge_pages import gathered, roomy_zeros


@pytest.mark.parametrize("shape", [(3, 5), (2**19,), (7, 2, 100_003)])
def test_zeros_that_can_be_written_and_outlive_what_made_them(shape):
    found, other = roomy_zeros(shape, torch.float32), roomy_zeros(shape, torch.float32)
    gc.collect()
    assert found.shape == shape
    assert found.dtype == torch.float32
    assert not found.any()
    found += 1
    assert (found == 1).all()
    assert not other.any()


@pytest.mark.skipif(not hasattr(mmap, "MADV_HUGEPAGE"), reason="the system has no huge pages")
def test_large_rooms_begin_with_a_page():
    assert roomy_zeros([2**20], torch.float32).data_ptr() % 2**21 == 0


def test_systems_without_huge_pages(monkeypatch):
    class Refusing(mmap.mmap):
        def madvise(self, *_):
            raise OSError(22, "Invalid argument")

    monkeypatch.setattr(huge_pages.mmap, "mmap", Refusing)
    assert roomy_zeros([2**20], torch.float32).sum() == 0
    monkeypatch.delattr(huge_pages.mmap, "MADV_HUGEPAGE", raising=False)
    assert roomy_zeros([2**20], torch.float32).sum() == 0


@pytest.mark.parametrize("size", [3, 1000])
def test_gathered_tensors_are_contiguous_copies(size):
    torch.manual_seed(0)
    tensors = [torch.randn(size, 700).t(), torch.randn(5, size)]
    found = gathered(tensors)
    assert all(one.is_contiguous() and torch.equal(one, other) for one, other in zip(found, tensors, strict=True))
    assert found[1].data_ptr() - found[0].data_ptr() == 4 * tensors[0].numel()
    tensors[1].zero_()
    assert found[1].all()
