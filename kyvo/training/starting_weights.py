"""Published weights of an image tokenizer as the start of a training."""

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from kyvo.assets import resolve
from kyvo.models.quantizer import EMAVectorQuantizer

if TYPE_CHECKING:
    from diffusers import VQModel

SIZES = (
    "in_channels", "out_channels", "down_block_types", "up_block_types", "block_out_channels", "layers_per_block",
    "latent_channels", "num_vq_embeddings", "vq_embed_dim", "norm_num_groups", "norm_type", "act_fn",
    "mid_block_add_attention",
)  # fmt: skip
"""Entries of a `VQModel`'s config that say what it computes; the size of images is not one of them."""


def load_weights(model: "VQModel", source: str) -> None:
    """Load a published tokenizer's weights.

    A codebook of another size is left to a quantiser of running means, which sets its own by k-means over what the
    loaded encoder makes of images.

    Args:
        model: Where they go; its quantiser may be of any kind.
        source: A `VQModel` folder, hub id, or the name of one that ships.

    Raises:
        ValueError: It has other sizes; names them with what was expected and found.
        OSError: There is none.
    """
    from diffusers import VQModel

    found = VQModel.from_pretrained(resolve(source), low_cpu_mem_usage=False)
    expected, given = _sizes(model), _sizes(found)
    learned = isinstance(model.quantize, EMAVectorQuantizer)
    fixed = [name for name in SIZES if not (learned and name == "num_vq_embeddings")]
    wrong = [f"{name} should be {expected[name]}, is {given[name]}" for name in fixed if expected[name] != given[name]]
    if wrong:
        raise ValueError(f"{source} has another network than `network` describes: {'; '.join(wrong)}")
    state = found.state_dict()
    codebook = state.pop("quantize.embedding.weight")
    # Not strict: a quantiser of running means has statistics that no published one has.
    model.load_state_dict(state, strict=False)
    if expected["num_vq_embeddings"] == given["num_vq_embeddings"]:
        _set_codebook(model.quantize, codebook)


def _sizes(model: "VQModel") -> dict[str, Any]:
    config = dict(model.config)
    config["vq_embed_dim"] = config["vq_embed_dim"] or config["latent_channels"]
    return {name: list(value) if isinstance(value, tuple | list) else value for name, value in config.items()}


@torch.no_grad()
def _set_codebook(quantizer: Any, codebook: Tensor) -> None:
    quantizer.embedding.weight.copy_(codebook)
    if isinstance(quantizer, EMAVectorQuantizer):
        quantizer.totals.copy_(codebook * quantizer.counts[:, None])
        quantizer.initialised.fill_(True)
