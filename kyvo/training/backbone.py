"""What a language model is built from: a backbone, made here or read, and the embeddings of the ids that are new to it.

Letters: D hidden size.
"""

from dataclasses import dataclass
from typing import Any, Literal

import torch

from kyvo.generation.folder import read_folder
from kyvo.models.language_model import KyvoConfig, KyvoForCausalLM
from kyvo.tokenizers.tokenizer import UnifiedTokenizer
from kyvo.tokenizers.vocabulary import Vocabulary


@dataclass
class Backbone:
    """A Llama made here, with random weights.

    Attributes:
        hidden_size: D.
        layers: Transformer blocks.
        heads: Attention heads.
        key_value_heads: Heads of keys and values; default is `heads`.
        intermediate_size: Width of the feed-forward; default is 8/3 D rounded down to a multiple of 32.
        rope_theta: Base of the rotary position encoding.
        max_positions: Longest sequence.
    """

    hidden_size: int = 128
    layers: int = 4
    heads: int = 4
    key_value_heads: int | None = None
    intermediate_size: int | None = None
    rope_theta: float = 10_000.0
    max_positions: int = 4096

    def to_llama(self) -> dict[str, Any]:
        """The same in the words of transformers' `LlamaConfig`."""
        return {
            "hidden_size": self.hidden_size,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.key_value_heads or self.heads,
            "intermediate_size": self.intermediate_size or self.hidden_size * 8 // 3 // 32 * 32,
            "rope_parameters": {"rope_type": "default", "rope_theta": self.rope_theta},
            "max_position_embeddings": self.max_positions,
            "rms_norm_eps": 1e-5,
        }


@dataclass
class NewEmbeddings:
    """How the ids that Llama does not know are embedded (paper, section 3.2.2 and appendix E).

    Attributes:
        numbers: `hybrid` (learned + sine-cosine), `learned` or `sinusoid`.
        number_scale: Factor of the sine-cosine table; default is the size of the backbone's rows, 1 is the paper's.
        number_positions: `rank` of a number in its range, as in the paper, or its `value` in steps of the finest grid.
        image_positions: Add a learned vector for the place of an image code within its image.
        head: `backbone`: the head's text rows start as Llama's, new rows at their mean; `random`: as the official code.
    """

    numbers: Literal["hybrid", "learned", "sinusoid"] = "hybrid"
    number_scale: float | None = None
    number_positions: Literal["rank", "value"] = "rank"
    image_positions: bool = False
    head: Literal["backbone", "random"] = "backbone"


# Lightning keeps a module's arguments in its checkpoints, which are read with weights_only.
torch.serialization.add_safe_globals([Backbone, NewEmbeddings])


def build_model(
    tokenizer: UnifiedTokenizer, backbone: Backbone | str, embeddings: NewEmbeddings, bidirectional_shapes: bool
) -> KyvoForCausalLM:
    """A model over a tokenizer's vocabulary, with the codebooks of its images and shapes.

    Args:
        tokenizer: Its vocabulary sizes the model.
        backbone: A shape, for random weights, or the folder or hub id of a Llama checkpoint.
        embeddings: How the new ids are embedded.
        bidirectional_shapes: See `KyvoConfig`.
    """
    codebooks = {"image": tokenizer.image_codebook, "shape": tokenizer.shape_codebook}
    sizes = {f"{name}_code_dim": 0 if book is None else book.shape[1] for name, book in codebooks.items()}
    config: dict[str, Any] = {
        "vocabulary": tokenizer.vocabulary.to_dict(),
        "number_encoding": embeddings.numbers,
        "number_positions": _number_positions(tokenizer) if embeddings.number_positions == "value" else None,
        "image_tokens": tokenizer.image_grid[0] * tokenizer.image_grid[1] if embeddings.image_positions else 0,
        "bidirectional_shapes": bidirectional_shapes,
        **sizes,
    }
    if embeddings.number_scale is not None:
        config["number_scale"] = embeddings.number_scale
    if isinstance(backbone, Backbone):
        model = KyvoForCausalLM.from_scratch(KyvoConfig(**(backbone.to_llama() | config)))
    else:
        # Checkpoints come in bfloat16, in which small steps are lost; trainer.precision narrows what may be narrow.
        model = KyvoForCausalLM.from_llama(backbone, config, embeddings.head).float()
    model.embedding.scale_projectors(model.config.initializer_range)
    for name, book in codebooks.items():
        if book is not None:
            model.embedding.set_codebook(name, book)
    return model


def load_model(model: KyvoForCausalLM, source: str) -> None:
    """Load the weights of an exported model of the same shape; codebooks stay those of the model's own tokenizers.

    Args:
        model: Where they go.
        source: A folder that `kyvo export` wrote, hub id, or the name of a model that ships.

    Raises:
        ValueError: It has another vocabulary, or other parts; names them with what was expected and found.
    """
    found = read_folder(source, torch.float32).model
    _check_vocabulary(model.vocabulary, found.vocabulary, source)
    expected, given = model.state_dict(), found.state_dict()
    if set(expected) != set(given):
        names = ", ".join(sorted(set(expected) ^ set(given))[:4])
        raise ValueError(f"{source} has other parts than this model, which has {len(expected)} tensors: {names}, ...")
    for name, value in given.items():
        if value.shape != expected[name].shape:
            sizes = f"{name} should be {list(expected[name].shape)}, is {list(value.shape)}"
            raise ValueError(f"{source} has another shape than `backbone` and `embeddings` describe: {sizes}")
    codebooks = {name for name in given if name.endswith(".codebook")}
    model.load_state_dict({name: expected[name] if name in codebooks else given[name] for name in given})


def _check_vocabulary(expected: Vocabulary, found: Vocabulary, source: str) -> None:
    wanted, given = expected.to_dict(), found.to_dict()
    wrong = [name for name in wanted if wanted[name] != given.get(name)]
    if wrong:
        raise ValueError(f"{source} has another vocabulary than the tokenizer: {', '.join(wrong)} differ")


def _number_positions(tokenizer: UnifiedTokenizer) -> list[float]:
    values = torch.as_tensor(tokenizer.numbers.values, dtype=torch.float64)
    steps = [values[first:last].diff() for first, last in tokenizer.numbers.families]
    finest = min(float(step.min()) for step in steps if len(step))
    return ((values - values.min()) / finest).tolist()
