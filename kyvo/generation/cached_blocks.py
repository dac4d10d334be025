"""The transformer's blocks over the next positions of each row, in few operations.

Letters: B rows, M new positions, D hidden size, P prompt positions, W positions in all, H heads of keys and values, G
heads of queries for each of them, C dimensions of a head.
"""

from collections.abc import Callable
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import LlamaModel
from transformers.cache_utils import Cache
from transformers.models.llama.modeling_llama import LlamaDecoderLayer, LlamaRMSNorm, rotate_half

from kyvo.generation.key_values import KeyValues

_GRAPH_WIDTH = 256
"""Widths of compiled steps are multiples of this, so that few programs are made."""


class CachedBlocks:
    """Turns the vectors of each row's newest positions into the hidden state of the last of them.

    Transformers' own forward makes masks and rotary tables anew at each step, which costs more than the products of a
    small model.

    Args:
        blocks: The transformer.
        read: Keys and values of the prompts.
        real: Which positions of the prompts are no padding, bool [B, P].
        length: Most positions to come.
        copies: How many rows go on from each prompt, next to each other.
        compiled: Run a compiled program (CUDA graphs on a GPU), whose shapes do not grow: every step looks at all W
            columns, so that this pays on GPUs alone.
    """

    def __init__(
        self, blocks: LlamaModel, read: Cache, real: Tensor, length: int, copies: int = 1, compiled: bool = False
    ) -> None:
        self.filled = real.shape[1]
        width = self.filled + length
        if compiled:
            width = -(-width // _GRAPH_WIDTH) * _GRAPH_WIDTH
        self.blocks, self.compiled = blocks, compiled
        self.cache = KeyValues(read, width, copies)
        self.columns = torch.arange(width, device=real.device)
        # In the type of the vectors that blocks read: under autocast keys and values have another one.
        self.turns = torch.cat(blocks.rotary_emb(blocks.norm.weight, self.columns[None]), dim=-1)[0]
        self.padding = (~real).sum(dim=-1).repeat_interleave(copies)
        self.padded = not bool(real.all())
        if compiled:
            self.cache.fix_addresses()

    def __call__(self, vectors: Tensor) -> Tensor:
        """The last hidden state `[B, D]`, normalised, of positions whose vectors `[B, M, D]` are given."""
        start, self.filled = self.filled, self.filled + vectors.shape[1]
        places = self.columns[start : self.filled]
        self.cache.places = places
        self.cache.stop = len(self.columns) if self.compiled else self.filled
        cos, sin = self.turns[places - self.padding[:, None]].chunk(2, dim=-1)
        run = _compiled_run() if self.compiled else _run
        return run(self.blocks, vectors, cos, sin, self._visible(places), self.cache)

    def _visible(self, places: Tensor) -> Tensor | None:
        """Which columns each new position sees, bool `[B, 1, M, stop]`."""
        # One position that sees all there is needs no mask, and attention is faster without one.
        if len(places) == 1 and not self.padded and not self.compiled:
            return None
        columns = self.columns[: self.cache.stop]
        past = columns <= places[:, None]
        return (past & (columns >= self.padding[:, None, None]))[:, None]

    def keep(self, rows: Tensor) -> None:
        """Go on with some of the rows, int64 [rows]."""
        self.cache.keep(rows)
        self.padding = self.padding[rows]


def _run(
    blocks: LlamaModel, hidden: Tensor, cos: Tensor, sin: Tensor, visible: Tensor | None, cache: KeyValues
) -> Tensor:
    for block in blocks.layers:
        if type(block) is LlamaDecoderLayer:
            hidden = _block(block, hidden, cos, sin, visible, cache)
        else:
            # In a shell, such as that which gathers sharded weights: only its own call may look inside.
            hidden = block(hidden, attention_mask=visible, position_embeddings=(cos, sin), past_key_values=cache)
    return _norm(blocks.norm, hidden[:, -1])


@cache
def _compiled_run() -> Callable[..., Tensor]:
    # Made when it is first wanted: the compiler takes a second to import.
    mode = "reduce-overhead" if torch.cuda.is_available() else "default"
    return torch.compile(_run, fullgraph=True, dynamic=False, mode=mode)


def _block(
    block: LlamaDecoderLayer, hidden: Tensor, cos: Tensor, sin: Tensor, visible: Tensor | None, cache: KeyValues
) -> Tensor:
    """One block on `[B, M, D]`; `cos` and `sin` are `[B, M, C]`, `visible` `[B, 1, M, stop]`."""
    attention, (rows, count, _) = block.self_attn, hidden.shape
    normed = _norm(block.input_layernorm, hidden)
    query, key, value = attention.q_proj(normed), attention.k_proj(normed), attention.v_proj(normed)
    # Queries and keys are turned together: one operation instead of two, each time.
    both = torch.cat([query, key], dim=-1).view(rows, count, -1, attention.head_dim)
    turned = torch.addcmul(both * cos[:, :, None], rotate_half(both), sin[:, :, None]).transpose(1, 2)
    heads = query.shape[-1] // attention.head_dim
    value = value.view(rows, count, -1, attention.head_dim).transpose(1, 2)
    keys, values = cache.update(turned[:, heads:], value, attention.layer_idx)
    seen = _attend(turned[:, :heads], keys, values, visible, attention.scaling)
    mixed = seen.transpose(1, 2).reshape(rows, count, -1)
    hidden = hidden + attention.o_proj(mixed.to(value.dtype))
    return hidden + block.mlp(_norm(block.post_attention_layernorm, hidden))


def _attend(queries: Tensor, keys: Tensor, values: Tensor, visible: Tensor | None, scaling: float) -> Tensor:
    """Attention `[B, H G, M, C]` of new positions."""
    kind, groups = queries.device.type, queries.shape[1] // keys.shape[1]
    # The queries that share a head of keys stand where positions would: nothing is copied for each of them.
    folded = queries.reshape(len(queries), keys.shape[1], -1, queries.shape[-1])
    if visible is not None and groups > 1:
        visible = visible.repeat(1, 1, groups, 1)
    if kind != "cpu":
        seen = F.scaled_dot_product_attention(folded.to(keys.dtype), keys, values, visible, scale=scaling)
    elif torch.is_autocast_enabled(kind):
        with torch.autocast(kind, enabled=False):
            seen = _attend_plainly(folded, keys, values, visible, scaling)
    else:
        seen = _attend_plainly(folded, keys, values, visible, scaling)
    return seen.view(queries.shape)


def _attend_plainly(queries: Tensor, keys: Tensor, values: Tensor, visible: Tensor | None, scaling: float) -> Tensor:
    # For few positions torch's fused attention on CPUs takes half as long again as these two products.
    scores = (queries.float() * scaling) @ keys.transpose(-1, -2)
    if visible is not None:
        scores = scores.masked_fill(~visible, -torch.inf)
    return scores.softmax(dim=-1) @ values


def _norm(norm: LlamaRMSNorm, hidden: Tensor) -> Tensor:
    if type(norm) is not LlamaRMSNorm:
        normed: Tensor = norm(hidden)
        return normed
    return F.rms_norm(hidden, (hidden.shape[-1],), norm.weight, norm.variance_epsilon)
