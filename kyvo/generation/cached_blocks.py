"""The transformer's blocks over the next positions of each row, in few operations.

Letters: B rows, M new positions, D hidden size, W positions in all, H heads of keys and values, G heads of queries for
each of them, C dimensions of a head.
"""

from collections.abc import Callable, Sequence
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import LlamaModel
from transformers.models.llama.modeling_llama import LlamaDecoderLayer

from kyvo.generation.block_products import BlockProducts, copied, normalise
from kyvo.generation.key_values import KeyValues

_GRAPH_WIDTH = 256
"""Widths of compiled steps are multiples of this, so that few programs are made."""

_FEW = 4
"""So few new positions are attended to with the queries that share a head of keys side by side."""

_WORTH_COPYING = 32
"""So many steps to come save several times what copying the weights takes."""


class CachedBlocks:
    """Turns the vectors of each row's newest positions into the hidden state of the last of them.

    First of a whole prompt, then step by step. Transformers' own forward makes masks and rotary tables anew at each
    step, which costs more than the products of a small model.

    Args:
        blocks: The transformer.
        padding: How many positions on the left of each row are none, int64 [B].
        prompt: Positions of the prompts.
        length: Most positions to come.
        compiled: Run a compiled program step by step (CUDA graphs on a GPU), whose shapes do not grow: every step looks
            at all W columns, so that this pays on GPUs alone.
    """

    def __init__(self, blocks: LlamaModel, padding: Tensor, prompt: int, length: int, compiled: bool = False) -> None:
        width = prompt + length
        if compiled:
            width = -(-width // _GRAPH_WIDTH) * _GRAPH_WIDTH
        self.blocks, self.compiled, self.filled = blocks, compiled, 0
        self.products = copied(blocks) if length >= _WORTH_COPYING and not compiled else None
        self.cache = KeyValues(width, padding.device)
        self.columns = torch.arange(width, device=padding.device)
        self.turns, self.turn_of = _turns(blocks, self.columns)
        self.padding, self.padded = padding, bool(padding.any())
        # A compiled program has the same shapes with and without padding.
        self.alike = not (self.padded or compiled)

    def read(self, vectors: Tensor, together: Tensor | None = None) -> Tensor:
        """The last hidden state `[B, D]`, normalised, of prompts whose vectors `[B, M, D]` are given.

        Args:
            vectors: Of all positions, padding on the left among them.
            together: Which positions see each other in both directions, bool `[B, 1, M, M]`, if any do.
        """
        seen = self._visible(vectors.shape[1], vectors.shape[1]) if self.padded or together is not None else None
        if seen is not None and together is not None:
            seen = seen | together
        hidden = self._go_on(_run, vectors, seen, vectors.shape[1])
        if self.compiled:
            self.cache.fix_addresses()
        return hidden

    def step(self, vectors: Tensor) -> Tensor:
        """The last hidden state `[B, D]`, normalised, of the next positions, whose vectors `[B, M, D]` are given."""
        count = vectors.shape[1]
        stop = self.cache.width if self.compiled else self.filled + count
        # One position that sees all there is needs no mask, and attention is faster without one.
        visible = None if count == 1 and self.alike else self._visible(count, stop)
        return self._go_on(_compiled_run() if self.compiled else _run, vectors, visible, stop)

    def _go_on(self, run: Callable[..., Tensor], vectors: Tensor, visible: Tensor | None, stop: int) -> Tensor:
        start, self.filled = self.filled, self.filled + vectors.shape[1]
        self.cache.places, self.cache.stop = self.columns[start : self.filled], stop
        places = self.cache.places[None] if self.alike else (self.cache.places - self.padding[:, None]).clamp(min=0)
        cos, sin = self.turns[places][:, :, self.turn_of].unbind(dim=-2)
        return run(self.blocks, self.products, vectors, cos, sin, visible, self.cache)

    def _visible(self, count: int, stop: int) -> Tensor:
        """Which columns each of so many next positions sees, bool `[B, 1, M, stop]`, of all rows alike `[1, ...]`."""
        columns, places = self.columns[:stop], self.columns[self.filled : self.filled + count, None]
        past = (columns <= places)[None, None]
        if self.alike:
            return past
        # Padding sees itself: of nothing at all attention would make NaN, which masks do not stop.
        return past & ((columns >= self.padding[:, None, None, None]) | (columns == places))

    def keep(self, rows: Tensor) -> None:
        """Go on with some of the rows, int64 [rows], each as often as it is named."""
        self.cache.keep(rows)
        self.padding = self.padding[rows]
        if self.compiled:
            self.cache.fix_addresses()


def _turns(blocks: LlamaModel, columns: Tensor) -> tuple[Tensor, Tensor]:
    """Cosines and signed sines `[W, 2, 2, C]` of what is turned and of what is not, and which each head is.

    Queries, keys and values lie side by side and are turned together, values by nothing: that is fewer operations.
    """
    # In the type of the vectors that blocks read: under autocast keys and values have another one.
    cos, sin = (one[0] for one in blocks.rotary_emb(blocks.norm.weight, columns[None]))
    lower, upper = sin.chunk(2, dim=-1)
    turned = torch.stack([cos, torch.cat([-lower, upper], dim=-1)], dim=1)
    left = torch.stack([torch.ones_like(cos), torch.zeros_like(sin)], dim=1)
    shared = blocks.config.num_key_value_heads
    kinds = [0] * (blocks.config.num_attention_heads + shared) + [1] * shared
    return torch.stack([turned, left], dim=1), torch.tensor(kinds, device=columns.device)


def _run(
    blocks: LlamaModel,
    products: Sequence[BlockProducts] | None,
    vectors: Tensor,
    cos: Tensor,
    sin: Tensor,
    visible: Tensor | None,
    cache: KeyValues,
) -> Tensor:
    rows, count, size = vectors.shape
    hidden, last = vectors.reshape(-1, size), len(blocks.layers) - 1
    for index, block in enumerate(blocks.layers):
        if type(block) is LlamaDecoderLayer:
            # The last block's result matters at the last position alone; of the others it gives keys and values.
            first = count - 1 if index == last else 0
            own = BlockProducts(block) if products is None else products[index]
            hidden = _block(own, hidden, first, cos, sin, visible, cache)
        else:
            # In a shell, such as that which gathers sharded weights: only its own call may look inside.
            lower, upper = sin[:, :, 0].chunk(2, dim=-1)
            turns, whole = (cos[:, :, 0], torch.cat([-lower, upper], dim=-1)), hidden.view(vectors.shape)
            whole = block(whole, attention_mask=visible, position_embeddings=turns, past_key_values=cache)
            hidden = whole.view(-1, size)
    return normalise(blocks.norm, hidden.view(rows, -1, size)[:, -1])


@cache
def _compiled_run() -> Callable[..., Tensor]:
    # Made when it is first wanted: the compiler takes a second to import.
    mode = "reduce-overhead" if torch.cuda.is_available() else "default"
    return torch.compile(_run, fullgraph=True, dynamic=False, mode=mode)


def _block(
    products: BlockProducts,
    hidden: Tensor,
    first: int,
    cos: Tensor,
    sin: Tensor,
    visible: Tensor | None,
    cache: KeyValues,
) -> Tensor:
    """One block on `[B M, D]`, its results from position `first` on; `cos` and `sin` are `[B, M, heads, C]`."""
    _, count, all_heads, size = cos.shape
    sharing = all_heads // (products.groups + 2)
    heads = products.project(hidden).view(-1, count, all_heads, size)
    turned = torch.addcmul(heads * cos, heads.roll(size // 2, -1), sin)
    if turned.device.type != "cpu":
        turned = turned.to(heads.dtype)
    new = turned[:, :, -2 * sharing :].view(-1, count, 2, sharing, size).permute(2, 0, 3, 1, 4)
    keys, values = cache.write(new, products.index)
    queries, causal = turned[:, :, : -2 * sharing], visible is None
    if first:
        hidden, queries = hidden.view(len(heads), count, -1)[:, -1], queries[:, first:]
        # One position sees all there is, unless there is padding.
        visible, causal = None if visible is None else visible[:, :, first:], False
    seen = _attend(queries.to(keys.dtype), keys, values, visible, causal, products.scaling)
    return products.feed(products.join(hidden, seen.to(hidden.dtype)))


def _attend(
    queries: Tensor, keys: Tensor, values: Tensor, visible: Tensor | None, causal: bool, scaling: float
) -> Tensor:
    """What new positions see `[B M, heads C]` from queries `[B, M, heads, C]`, in float32 on CPUs as in training."""
    kind, (rows, count, heads, size) = queries.device.type, queries.shape
    groups = heads // keys.shape[1]
    if count > _FEW or (causal and count > 1):
        keys, values = (one.repeat_interleave(groups, dim=1) if groups > 1 else one for one in (keys, values))
        queries = queries.transpose(1, 2)
        with torch.autocast(kind, enabled=torch.is_autocast_enabled(kind) and kind != "cpu"):
            seen = F.scaled_dot_product_attention(queries, keys, values, visible, is_causal=causal, scale=scaling)
        return seen.transpose(1, 2).reshape(rows * count, -1)
    # The queries that share a head of keys stand where positions would: nothing is copied for each of them.
    folded = queries.reshape(rows, count, -1, groups, size).transpose(1, 2).flatten(2, 3)
    if visible is not None and groups > 1:
        visible = visible.repeat_interleave(groups, dim=2)
    if kind != "cpu":
        seen = F.scaled_dot_product_attention(folded, keys, values, visible, scale=scaling)
    elif torch.is_autocast_enabled(kind):
        with torch.autocast(kind, enabled=False):
            seen = _attend_plainly(folded, keys, values, visible, scaling)
    else:
        seen = _attend_plainly(folded, keys, values, visible, scaling)
    return seen.view(rows, -1, count, groups, size).transpose(1, 2).reshape(rows * count, -1)


def _attend_plainly(queries: Tensor, keys: Tensor, values: Tensor, visible: Tensor | None, scaling: float) -> Tensor:
    # For few positions torch's fused attention on CPUs takes longer than these two products.
    heads, added = queries.shape[1], queries.new_zeros(1, 1, 1)
    if visible is not None:
        added = torch.where(visible[:, 0], 0.0, -torch.inf)
        added = added.repeat_interleave(heads, dim=0) if len(added) > 1 and heads > 1 else added
    scores = torch.baddbmm(added, queries.flatten(0, 1), keys.flatten(0, 1).transpose(1, 2), alpha=scaling)
    return torch.bmm(scores.softmax(dim=-1), values.flatten(0, 1))
