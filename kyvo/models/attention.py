"""Scaled dot-product attention that stays in float32 on CPUs, registered with transformers by name."""

import torch
from torch import Tensor, nn
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, AttentionMaskInterface

NAME = "sdpa_float32_on_cpu"
"""What to give `set_attn_implementation`; it is the default of `KyvoConfig`."""


def attention(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **kwargs: object
) -> tuple[Tensor, None]:
    """Attend as transformers' `sdpa` does, in float32 whenever on a CPU.

    Torch's CPU flash attention runs its bfloat16 backward about five times slower than its float32 one, which
    would take back what bfloat16 matrix products gain.

    Args:
        module: The attention layer, as transformers passes it.
        query: Queries `[B, heads, S, head_dim]`.
        key: Keys `[B, key_value_heads, T, head_dim]`.
        value: Values `[B, key_value_heads, T, head_dim]`.
        attention_mask: `None` (causal) or a mask that broadcasts to `[B, heads, S, T]`.
        **kwargs: What else transformers passes (`scaling`, `dropout`, `is_causal`, ...).

    Returns:
        The attended values `[B, S, heads, head_dim]` in the type of `value`, and no weights.
    """
    if query.device.type != "cpu":
        return sdpa_attention_forward(module, query, key, value, attention_mask, **kwargs)
    # Under autocast the rotated queries and keys come in float32, and would go out in bfloat16 but for this.
    with torch.autocast("cpu", enabled=False):
        output, _ = sdpa_attention_forward(module, query.float(), key.float(), value.float(), attention_mask, **kwargs)
    return output.to(value.dtype), None


AttentionInterface.register(NAME, attention)
AttentionMaskInterface.register(NAME, ALL_MASK_ATTENTION_FUNCTIONS["sdpa"])
