"""What an image tokenizer refuses: pixels of another range, pixels that are no numbers."""

import pytest
import torch

from tests.tiny_world import tiny_image_tokenizer


def images(value: float, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """Two images of noise with one pixel of a value."""
    found = torch.rand(2, 3, 32, 32) * 2 - 1
    found[1, 2, 5, 7] = value
    return found.to(dtype)


@pytest.mark.parametrize("value", [1.002, -1.002, 255.0, float("inf"), -float("inf"), float("nan")])
def test_pixels_out_of_range_are_refused(value: float):
    with pytest.raises(ValueError, match=r"must be finite and in \[-1, 1\], got \["):
        tiny_image_tokenizer().encode(images(value))


def test_the_error_says_what_was_found():
    with pytest.raises(ValueError, match=r"got \[0, 255\]"):
        tiny_image_tokenizer().encode(torch.arange(256.0).repeat(12).reshape(1, 3, 32, 32))
    with pytest.raises(ValueError, match=r"got \[nan, nan\]"):
        tiny_image_tokenizer().encode(images(float("nan")))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
def test_rounding_at_the_ends_of_the_range_is_allowed(dtype: torch.dtype):
    for value in (1.0, -1.0, 1.0009):
        assert tiny_image_tokenizer().encode(images(value, dtype)).shape == (2, 16)


def test_no_images_have_no_codes():
    assert tiny_image_tokenizer().encode(torch.zeros(0, 3, 32, 32)).shape == (0, 16)
