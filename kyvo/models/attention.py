"""Who sees whom, and attention that stays in float32 on CPUs, registered with transformers by name.

Letters: B batch, S positions.
"""

import torch
from torch import Tensor, nn
from torch.nn.attention.flex_attention import BlockMask, create_block_mask
from transformers import AttentionInterface
from transformers.integrations.flex_attention import flex_attention_forward
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, AttentionMaskInterface

NAME = "sdpa_float32_on_cpu"
"""What to give `set_attn_implementation`; it is the default of `KyvoConfig`."""


def attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | BlockMask | None,
    **kwargs: object,
) -> tuple[Tensor, None]:
    """Attend as transformers' `sdpa` does, in float32 whenever on a CPU; with flex attention where a mask is of blocks.

    Torch's CPU flash attention runs its bfloat16 backward about five times slower than its float32 one, which
    would take back what bfloat16 matrix products gain.

    Args:
        module: The attention layer, as transformers passes it.
        query: Queries `[B, heads, S, head_dim]`.
        key: Keys `[B, key_value_heads, T, head_dim]`.
        value: Values `[B, key_value_heads, T, head_dim]`.
        attention_mask: `None` (causal), a mask that broadcasts to `[B, heads, S, T]`, or one of blocks.
        **kwargs: What else transformers passes (`scaling`, `dropout`, `is_causal`, ...).

    Returns:
        The attended values `[B, S, heads, head_dim]` in the type of `value`, and no weights.
    """
    if isinstance(attention_mask, BlockMask):
        return flex_attention_forward(module, query, key, value, attention_mask, **kwargs)[0], None
    if query.device.type != "cpu":
        return sdpa_attention_forward(module, query, key, value, attention_mask, **kwargs)
    # Under autocast the rotated queries and keys come in float32, and would go out in bfloat16 but for this.
    with torch.autocast("cpu", enabled=False):
        output, _ = sdpa_attention_forward(module, query.float(), key.float(), value.float(), attention_mask, **kwargs)
    return output.to(value.dtype), None


def input_shape_spans(ids: Tensor, shapes: range, bos: int, output: int) -> Tensor:
    """Number the runs of shape codes that are read, one run for each object.

    What is written is left out: if a code saw the codes after it, it would see what is to be predicted.

    Args:
        ids: Ids `[B, S]`; a row may hold several sequences, each from its `bos` on.
        shapes: Ids of shape codes.
        bos: Id that opens a sequence.
        output: Id of [OUTPUT-START]: a sequence writes from there on.

    Returns:
        The number of its run for each shape code that is read, -1 everywhere else, int64 `[B, S]`.
    """
    reads = (ids == bos).cumsum(dim=-1) > (ids == output).cumsum(dim=-1)
    inside = reads & (ids >= shapes.start) & (ids < shapes.stop)
    starts = inside & ~inside.roll(1, dims=-1)
    starts[:, 0] = inside[:, 0]
    return torch.where(inside, starts.cumsum(dim=-1), -1)


def within_spans(spans: Tensor) -> Tensor:
    """Whether two positions are of one span, bool `[B, 1, S, S]`, from the numbers of spans `[B, S]` (-1: of none)."""
    return ((spans[:, :, None] == spans[:, None, :]) & (spans[:, :, None] >= 0))[:, None]


def within_sequences(positions: Tensor, spans: Tensor | None = None, blocks: bool | None = None) -> Tensor | BlockMask:
    """Who sees whom in rows of several sequences: each position sees its own sequence up to itself.

    Args:
        positions: Place of each position in its own sequence `[B, S]`, 0 at the first; padding counts on.
        spans: Numbers of spans that see themselves in both directions `[B, S]` (-1: of none), or none.
        blocks: Whether the mask is one of blocks, which flex attention takes; default is on CUDA.

    Returns:
        Bool `[B, 1, S, S]`, or the same in blocks: those that hold nothing to see are left out of the computation.
    """
    owner = (positions == 0).cumsum(dim=-1)
    if not (positions.is_cuda if blocks is None else blocks):
        ahead = torch.ones(positions.shape[-1], positions.shape[-1], dtype=torch.bool, device=positions.device).tril()
        mask = (owner[:, None, :, None] == owner[:, None, None, :]) & ahead
        return mask if spans is None else mask | within_spans(spans)

    def sees(row: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        seen = (query >= key) & (owner[row, query] == owner[row, key])
        return seen if spans is None else seen | ((spans[row, query] == spans[row, key]) & (spans[row, query] >= 0))

    rows, width = positions.shape
    return create_block_mask(sees, rows, None, width, width, device=positions.device)


AttentionInterface.register(NAME, attention)
AttentionMaskInterface.register(NAME, ALL_MASK_ATTENTION_FUNCTIONS["sdpa"])
