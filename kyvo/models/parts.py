"""The parts of the language model by name: what is counted, frozen and stepped together."""

from typing import Literal, get_args

Part = Literal["text", "numbers", "markers", "image", "shape", "image_positions", "blocks", "adapters", "head"]
"""Embeddings of each range of ids, places within an image, transformer blocks, adapters in them, head."""

PARTS: tuple[Part, ...] = get_args(Part)
"""All parts, from the input to the output."""

NEW_PARTS: frozenset[Part] = frozenset({"numbers", "markers", "image", "shape", "image_positions", "head"})
"""What the unified vocabulary adds to Llama; the head scores the new ids, so it is among them."""


def part_of(name: str) -> Part:
    """The part that a parameter belongs to.

    >>> part_of("model.embed_tokens.parts.numbers.learned.weight"), part_of("model.layers.0.mlp.up_proj.weight")
    ('numbers', 'blocks')

    Args:
        name: Its name in the model, or in a module that holds the model.
    """
    words = name.split(".")
    if any(word.startswith("lora_") for word in words):
        return "adapters"
    if "lm_head" in words:
        return "head"
    if "embed_tokens" not in words:
        return "blocks"
    # A plain Llama's table has no parts.
    return next((part for part in PARTS if part in words), "text")
