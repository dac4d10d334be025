"""Failures that are explained: what is said of them, and what is left as it is."""

import pytest
import torch

from kyvo.training.failures import BUILDING, LOST, MEMORY, explaining

ALLOCATION = RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory\nand more")


def _said(error, *kinds):
    with pytest.raises(ValueError) as caught, explaining(*kinds):
        raise error
    assert caught.value.__cause__ is error
    return str(caught.value)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nmore"), "batch_size lower"),
        (ALLOCATION, "DefaultCPUAllocator: can't allocate memory). What needs less"),
        (MemoryError(), "out of memory (MemoryError)"),
        (MemoryError("Unable to allocate 3 GiB"), "out of memory (MemoryError: Unable to allocate 3 GiB)"),
        (RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed. "), "num_workers"),
        (RuntimeError("[gloo/transport/tcp/pair.cc:547] Connection closed by peer [127.0.0.1]:2"), "another process"),
        (RuntimeError("Timed out waiting 20000ms for recv operation to complete"), "another process"),
    ],
)
def test_failures_with_a_plain_explanation_have_one(error, words):
    said = _said(error, MEMORY, LOST)
    assert words in said
    assert "\n" not in said


def test_what_a_constructor_lacked_is_found_behind_the_parsers_words():
    wrapped = ValueError("Does not validate against any of the Union subtypes: can't allocate memory")
    wrapped.__cause__ = ALLOCATION
    said = _said(wrapped, BUILDING)
    assert "while the run was built (RuntimeError: [enforce" in said
    assert "batch_size" not in said


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("mat1 and mat2 shapes cannot be multiplied (2x3 and 4x5)"),
        ValueError("the word 'out of memory' is not in the vocabulary"),
        # From a server of shards, not from another process of the run.
        ConnectionResetError("Connection reset by peer"),
    ],
)
def test_other_failures_speak_for_themselves(error):
    with pytest.raises(type(error)) as caught, explaining(MEMORY, LOST):
        raise error
    assert caught.value is error
