"""The products of a transformer block with its weights, around attention.

Letters: R rows and positions, D hidden size, N what queries, keys and values have side by side, C dimensions of a head.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import LlamaModel
from transformers.models.llama.modeling_llama import LlamaDecoderLayer, LlamaRMSNorm

from kyvo.generation.huge_pages import gathered

_MOST_COPIED = 2**26
"""Weights that are copied for speed: of more, memory is worth more."""


class BlockProducts:
    """A block's products as its own modules make them, adapters among them.

    Args:
        block: The block.

    Attributes:
        index: Which block it is.
        groups: Heads of queries for each of keys and values.
        scaling: Factor of the products of queries and keys.
    """

    def __init__(self, block: LlamaDecoderLayer) -> None:
        attention = block.self_attn
        self.block, self.index = block, attention.layer_idx
        self.groups, self.scaling = attention.num_key_value_groups, attention.scaling

    def project(self, hidden: Tensor) -> Tensor:
        """Queries, keys and values side by side `[R, N]` of the stream `[R, D]`."""
        attention, normed = self.block.self_attn, normalise(self.block.input_layernorm, hidden)
        return torch.cat([attention.q_proj(normed), attention.k_proj(normed), attention.v_proj(normed)], dim=-1)

    def join(self, hidden: Tensor, seen: Tensor) -> Tensor:
        """The stream `[R, D]` after what attention saw `[R, heads C]`."""
        added: Tensor = self.block.self_attn.o_proj(seen)
        return hidden + added

    def feed(self, hidden: Tensor) -> Tensor:
        """The stream `[R, D]` after the feed-forward."""
        added: Tensor = self.block.mlp(normalise(self.block.post_attention_layernorm, hidden))
        return hidden + added


class CopiedProducts(BlockProducts):
    """The same from copies of the weights, for few rows on CPUs.

    There a product with few rows takes a third less time if its weights lie input by input rather than output by
    output, and small operations cost as much as they do: fewer are made, with the norms' weights multiplied in.

    Args:
        block: A plain one, without adapters or biases, whose gate is SiLU.
    """

    def __init__(self, block: LlamaDecoderLayer) -> None:
        super().__init__(block)
        attention, mlp = block.self_attn, block.mlp
        before, between = block.input_layernorm, block.post_attention_layernorm
        looking = (attention.q_proj, attention.k_proj, attention.v_proj)
        projecting = torch.cat([one.weight for one in looking]) * before.weight
        gate, up = (one.weight * between.weight for one in (mlp.gate_proj, mlp.up_proj))
        weights = (projecting, attention.o_proj.weight, gate, up, mlp.down_proj.weight)
        self.projecting, self.joining, self.gate, self.up, self.down = gathered([one.t() for one in weights])
        self.before, self.between = (self.joining.new_tensor([one.variance_epsilon]) for one in (before, between))

    def project(self, hidden: Tensor) -> Tensor:
        """As the modules give it."""
        return torch.mm(_unit(hidden, self.before), self.projecting)

    def join(self, hidden: Tensor, seen: Tensor) -> Tensor:
        """As the modules give it."""
        return torch.addmm(hidden, seen, self.joining)

    def feed(self, hidden: Tensor) -> Tensor:
        """As the modules give it."""
        unit = _unit(hidden, self.between)
        inner = F.silu(torch.mm(unit, self.gate), inplace=True).mul_(torch.mm(unit, self.up))
        return torch.addmm(hidden, inner, self.down)


def _unit(hidden: Tensor, least: Tensor) -> Tensor:
    """Rows `[R, D]` of mean square 1, which `least` `[1]` is added to first."""
    sizes = torch.linalg.vector_norm(hidden, dim=-1, keepdim=True)
    return hidden * torch.addcmul(least, sizes, sizes, value=1 / hidden.shape[-1]).rsqrt_()


def normalise(norm: LlamaRMSNorm, hidden: Tensor) -> Tensor:
    """A norm of `[..., D]` in one operation where there is one."""
    if type(norm) is not LlamaRMSNorm:
        normed: Tensor = norm(hidden)
        return normed
    return F.rms_norm(hidden, (hidden.shape[-1],), norm.weight, norm.variance_epsilon)


@torch.no_grad()
def copied(blocks: LlamaModel) -> list[CopiedProducts] | None:
    """Products from copies, if all blocks are plain ones in float32 on a CPU, and small."""
    weights = list(blocks.layers.parameters())
    small = sum(one.numel() for one in weights) <= _MOST_COPIED
    precise = all(one.dtype == torch.float32 and one.device.type == "cpu" for one in weights)
    plain = blocks.config.hidden_act == "silu" and all(map(_is_plain, blocks.layers))
    if not (small and precise and plain) or torch.is_autocast_enabled("cpu"):
        return None
    return [CopiedProducts(block) for block in blocks.layers]


def _is_plain(block: nn.Module) -> bool:
    return type(block) is LlamaDecoderLayer and _is_bare(block)


def _is_bare(block: LlamaDecoderLayer) -> bool:
    """Whether there are no adapters, biases or other norms."""
    attention, mlp = block.self_attn, block.mlp
    linear = [attention.q_proj, attention.k_proj, attention.v_proj, attention.o_proj]
    linear += [mlp.gate_proj, mlp.up_proj, mlp.down_proj]
    norms = (block.input_layernorm, block.post_attention_layernorm)
    plain = all(type(one) is nn.Linear and one.bias is None for one in linear)
    return plain and all(type(one) is LlamaRMSNorm for one in norms)
