"""The language model as a plain Llama, one row of an ordinary table for each id, and back.

Letters: V vocabulary, D hidden size.
"""

from typing import Any

import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from kyvo.models.language_model import KyvoConfig, KyvoForCausalLM
from kyvo.tokenizers.vocabulary import Vocabulary

_ROWS = 8192
"""Ids that are embedded at a time."""

_OWN = frozenset(KyvoConfig().to_dict()) - frozenset(LlamaConfig().to_dict()) | {"model_type", "architectures"}
"""Entries of a `KyvoConfig` that a `LlamaConfig` lacks, or has otherwise."""

_EMBEDDING = "model.embed_tokens."


def why_not_plain(model: KyvoForCausalLM) -> str | None:
    """What of a model no plain Llama computes; None if there is nothing."""
    if model.config.image_tokens:
        return "codes of images carry a vector for their place in the image (embeddings.image_positions)"
    if model.config.bidirectional_shapes:
        return "codes of shapes that are read see each other in both directions (bidirectional_shapes)"
    return None


def to_plain(model: KyvoForCausalLM) -> LlamaForCausalLM:
    """A Llama with equal logits; it shares blocks and head with the model, and has a table of its own.

    Args:
        model: Adapters in its blocks, if there are such, are left out: merge them first, or put them in again after.

    Raises:
        ValueError: If a plain Llama cannot compute the same.
    """
    reason = why_not_plain(model)
    if reason is not None:
        raise ValueError(f"the model is no plain Llama: {reason}")
    state = _without_adapters(model.state_dict()) | {f"{_EMBEDDING}weight": embedding_table(model)}
    settings = {name: value for name, value in model.config.to_dict().items() if name not in _OWN}
    # Without storage, and so without the minutes that filling it with random numbers takes.
    with torch.device("meta"):
        plain = LlamaForCausalLM(LlamaConfig(**settings))
    plain.load_state_dict(state, assign=True)
    plain.model.rotary_emb = model.model.rotary_emb
    return plain.train(model.training)


@torch.no_grad()
def embedding_table(model: KyvoForCausalLM) -> Tensor:
    """The vector of every id `[V, D]`: text rows, numbers, markers, projected codes of images and shapes."""
    ids = torch.arange(model.config.vocab_size, device=model.lm_head.weight.device)
    rows = [model.embedding(part[None])[0] for part in ids.split(_ROWS)]
    return torch.cat(rows).to(model.lm_head.weight.dtype)


def _without_adapters(state: dict[str, Tensor]) -> dict[str, Tensor]:
    kept = {name: value for name, value in state.items() if "lora_" not in name and not name.startswith(_EMBEDDING)}
    return {name.replace(".base_layer.", "."): value for name, value in kept.items()}


def from_plain(llama: LlamaForCausalLM, vocabulary: Vocabulary) -> KyvoForCausalLM:
    """The inverse of `to_plain`: each part of the embedding is learned freely, and nothing of how it was made is known.

    Args:
        llama: Its embedding and head have a row for each id; taken apart, not copied.
        vocabulary: The ids.

    Raises:
        ValueError: If the Llama has another number of rows.
    """
    table, head = llama.get_input_embeddings().weight, llama.get_output_embeddings().weight
    for name, rows in {"embedding": table, "head": head}.items():
        if len(rows) != vocabulary.size:
            raise ValueError(f"the vocabulary has {vocabulary.size} ids, the model's {name} {len(rows)} rows")
    settings: dict[str, Any] = llama.config.to_dict() | {
        "vocabulary": vocabulary.to_dict(),
        "number_encoding": "learned",
    }
    for name in ("model_type", "architectures", "dtype", "transformers_version"):
        settings.pop(name, None)
    with torch.device("meta"):
        model = KyvoForCausalLM(KyvoConfig(**settings))
    state = llama.state_dict() | {"lm_head.weight": head.detach()}
    del state[f"{_EMBEDDING}weight"]
    for name, (start, stop) in model.embedding.ranges.items():
        leaf = "learned.weight" if name == "numbers" else "weight"
        state[f"{_EMBEDDING}parts.{name}.{leaf}"] = table.detach()[start:stop]
    model.load_state_dict(state, assign=True)
    model.model.rotary_emb = llama.model.rotary_emb
    return model.train(llama.training)
