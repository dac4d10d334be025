"""Attention on CPUs runs in float32, under autocast too."""

import torch
from torch import nn
from torch.nn import functional

from kyvo.models.attention import attention


class _Layer(nn.Module):
    num_key_value_groups = 2
    is_causal = True


def test_bfloat16_inputs_are_attended_in_float32():
    torch.manual_seed(0)
    query, key, value = (torch.randn(2, heads, 6, 8).bfloat16() for heads in (4, 2, 2))
    seen = []
    original = functional.scaled_dot_product_attention
    torch.nn.functional.scaled_dot_product_attention = lambda *a, **k: seen.append(a[0].dtype) or original(*a, **k)
    try:
        with torch.autocast("cpu", torch.bfloat16):
            # As after the rotary embedding: queries and keys float32, values bfloat16.
            output, weights = attention(_Layer(), query.float(), key.float(), value, None, scaling=8**-0.5)
    finally:
        torch.nn.functional.scaled_dot_product_attention = original
    expected = original(
        query.float(), *(x.float().repeat_interleave(2, 1) for x in (key, value)), is_causal=True
    ).transpose(1, 2)
    assert seen == [torch.float32]
    assert weights is None
    assert output.dtype == torch.bfloat16
    torch.testing.assert_close(output, expected.bfloat16())
