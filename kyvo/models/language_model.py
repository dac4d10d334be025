"""Kyvo's language model: transformers' Llama over the unified vocabulary, with its own embedding and head.

Letters: B batch, S positions, D hidden size, V vocabulary.
"""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask
from transformers import AutoConfig, AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, LlamaModel
from transformers.cache_utils import Cache
from transformers.masking_utils import create_causal_mask
from transformers.modeling_outputs import CausalLMOutputWithPast

from kyvo.models import attention
from kyvo.models.attention import input_shape_spans, within_sequences, within_spans
from kyvo.models.embedding import NumberEncoding, UnifiedEmbedding
from kyvo.tokenizers.vocabulary import Vocabulary


class KyvoConfig(LlamaConfig):
    """Llama's configuration and what the unified vocabulary adds to it.

    Args:
        vocabulary: The vocabulary as `Vocabulary.to_dict()` gives it; it sets `vocab_size` and the special ids.
        number_positions: Position of each number on the sine-cosine scale; default is its rank, as in the paper.
        number_encoding: `hybrid`, `learned` or `sinusoid` vectors for numbers.
        number_scale: Factor of the sine-cosine table; default is the size of the backbone's rows
            (`initializer_range`), 1 is the paper's.
        image_code_dim: Dimensions of the frozen image codebook; 0 learns a vector for each code.
        shape_code_dim: Dimensions of the frozen shape codebook; 0 learns a vector for each code.
        image_tokens: Codes in an image, if codes carry a learned vector for their place in it; 0 for none (paper).
        bidirectional_shapes: Whether each code of a shape that is read sees all codes of that shape (paper, section
            D.2); shapes that are written stay causal, for their codes would see what they are to predict.
        **kwargs: Llama's own.
    """

    model_type = "kyvo"

    def __init__(
        self,
        vocabulary: dict[str, Any] | None = None,
        number_positions: list[float] | None = None,
        number_encoding: NumberEncoding = "hybrid",
        number_scale: float | None = None,
        image_code_dim: int = 0,
        shape_code_dim: int = 0,
        image_tokens: int = 0,
        bidirectional_shapes: bool = False,
        **kwargs: Any,
    ) -> None:
        kwargs.setdefault("attn_implementation", attention.NAME)
        if vocabulary is not None:
            words = Vocabulary.from_dict(vocabulary)
            kwargs |= {"vocab_size": words.size, "pad_token_id": words.pad}
            kwargs |= {"bos_token_id": words.bos, "eos_token_id": words.eos, "tie_word_embeddings": False}
            number_positions = number_positions or [float(i) for i in range(len(words.number_range))]
        super().__init__(**kwargs)
        self.vocabulary = vocabulary
        self.number_positions = number_positions or []
        self.number_encoding = number_encoding
        self.number_scale = self.initializer_range if number_scale is None else number_scale
        self.image_code_dim = image_code_dim
        self.shape_code_dim = shape_code_dim
        self.image_tokens = image_tokens
        self.bidirectional_shapes = bidirectional_shapes


def _vocabulary(config: KyvoConfig) -> Vocabulary:
    if config.vocabulary is None:
        raise ValueError("KyvoConfig.vocabulary is not set: give it tokenizer.vocabulary.to_dict()")
    return Vocabulary.from_dict(config.vocabulary)


def _ranges(vocabulary: Vocabulary) -> dict[str, tuple[int, int]]:
    names = ("text", "numbers", "markers", "image", "shape")
    spans = (
        vocabulary.text_range,
        vocabulary.number_range,
        # Ids that are reserved after the markers are embedded with them, so that the parts tile the vocabulary.
        range(vocabulary.marker_range.start, vocabulary.image_range.start),
        vocabulary.image_range,
        vocabulary.shape_range,
    )
    return {name: (span.start, span.stop) for name, span in zip(names, spans, strict=True)}


class KyvoForCausalLM(LlamaForCausalLM):
    """Llama whose input embedding is a `UnifiedEmbedding` and whose head, untied, scores the whole vocabulary.

    `save_pretrained` writes `config.json` (vocabulary included) and safetensors; `from_pretrained` reads them back.

    Args:
        config: With a vocabulary.

    Attributes:
        compiled: Whether `hidden_states` runs the blocks compiled; decoding, whose cache grows, does not.

    Raises:
        ValueError: If the configuration has no vocabulary.
    """

    config_class = KyvoConfig
    config: KyvoConfig
    # The head is untied by construction, but transformers reads this table when it loads a checkpoint.
    _tied_weights_keys: dict[str, str] = {}  # noqa: RUF012

    def __init__(self, config: KyvoConfig) -> None:
        vocabulary = _vocabulary(config)
        super().__init__(config)
        self.compiled = False
        self._shapes, self._output = vocabulary.shape_range, vocabulary.marker("[OUTPUT-START]")
        self.model.embed_tokens = UnifiedEmbedding(
            _ranges(vocabulary),
            config.hidden_size,
            number_positions=config.number_positions,
            number_encoding=config.number_encoding,
            number_scale=config.number_scale,
            image_code_dim=config.image_code_dim,
            shape_code_dim=config.shape_code_dim,
            image_tokens=config.image_tokens,
        )
        self.post_init()

    @property
    def vocabulary(self) -> Vocabulary:
        """The vocabulary that the checkpoint was made for."""
        return _vocabulary(self.config)

    @property
    def embedding(self) -> UnifiedEmbedding:
        """The input embedding."""
        return self.model.embed_tokens

    @classmethod
    def from_scratch(cls, config: KyvoConfig) -> Self:
        """Random weights, with the projections that write to the residual stream scaled by `1 / sqrt(2 layers)`.

        GPT-2's scaling: it keeps the stream at the size of one layer's output at any depth.
        """
        model = cls(config)
        for layer in model.model.layers:
            for projection in (layer.self_attn.o_proj, layer.mlp.down_proj):
                projection.weight.data.div_((2 * config.num_hidden_layers) ** 0.5)
        return model

    def hidden_states(
        self, ids: Tensor, attention_mask: Tensor | None = None, position_ids: Tensor | None = None
    ) -> Tensor:
        """Last hidden states `[B, S, D]` of whole sequences, normalised: what the head reads.

        Args:
            ids: Ids `[B, S]`; padding on the right needs no mask, since no real token sees it.
            attention_mask: Optional mask: `[B, S]` of real tokens, or bool `[B, 1, S, S]` of who sees whom.
            position_ids: Optional positions `[B, S]`. Without a mask, a row holds as many sequences as it has positions
                0, of which none sees another.

        Raises:
            ValueError: Positions without a mask, where attention is flash attention, which would not keep them apart.
        """
        vectors = self.embedding(ids)
        mask: Tensor | BlockMask | None
        if attention_mask is None and position_ids is not None and self.config._attn_implementation == attention.NAME:
            mask = self._packed_mask(ids, position_ids)
        elif attention_mask is None and position_ids is not None and self._without_masks:
            raise ValueError("packed rows need attention that takes a mask, which flash attention does not")
        else:
            mask = self._mask(ids, vectors, attention_mask, position_ids)
        run = _compiled_run() if self.compiled else _run
        return run(self.model, vectors, mask, position_ids)

    def recompute_blocks(self) -> None:
        """Keep the inputs of the blocks alone for the backward pass, which computes each block again."""
        # transformers 5.17 lacks the new name, 5.23 warns of the old one.
        if hasattr(self, "activation_checkpointing_enable"):
            self.activation_checkpointing_enable()
        else:
            self.gradient_checkpointing_enable()

    @property
    def _without_masks(self) -> bool:
        return "flash" in str(self.config._attn_implementation)

    def _packed_mask(self, ids: Tensor, positions: Tensor) -> Tensor | BlockMask:
        """The mask of rows of several sequences; transformers makes it itself for its own kinds of attention."""
        if not self.config.bidirectional_shapes:
            return within_sequences(positions)
        return within_sequences(positions, input_shape_spans(ids, self._shapes, self.config.bos_token_id, self._output))

    def _mask(
        self,
        ids: Tensor,
        vectors: Tensor,
        attention_mask: Tensor | None,
        position_ids: Tensor | None,
        cache: Cache | None = None,
    ) -> Tensor | None:
        """The mask that was given, or with it all that codes of shapes see, in the form that attention takes."""
        # What follows a prompt is written, and causal: it sees all that the cache holds.
        if not self.config.bidirectional_shapes or (cache is not None and cache.get_seq_length()):
            return attention_mask
        if self._without_masks:
            raise ValueError("bidirectional_shapes needs attention that takes a mask, which flash attention does not")
        spans = input_shape_spans(ids, self._shapes, self.config.bos_token_id, self._output)
        if attention_mask is not None and attention_mask.ndim == 4:
            return attention_mask | within_spans(spans)
        mask: Tensor | None = create_causal_mask(
            config=self.config,
            inputs_embeds=vectors,
            attention_mask=attention_mask,
            past_key_values=cache,
            position_ids=position_ids,
            block_sequence_ids=spans,
        )
        return mask

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: Tensor | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int | Tensor = 0,
        **kwargs: Any,
    ) -> CausalLMOutputWithPast:
        """Llama's forward; where codes carry a vector for their place in an image, for whole sequences only.

        Raises:
            ValueError: With `bidirectional_shapes`: vectors without the ids that say which of them are codes of shapes,
                or flash attention.
        """
        if input_ids is None and self.config.bidirectional_shapes:
            raise ValueError("bidirectional_shapes needs input_ids, which say what is the code of a shape")
        if inputs_embeds is None:
            inputs_embeds = self.embedding(input_ids)
        if input_ids is not None:
            attention_mask = self._mask(input_ids, inputs_embeds, attention_mask, position_ids, past_key_values)
        return super().forward(
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
            inputs_embeds=inputs_embeds,
            use_cache=use_cache,
            logits_to_keep=logits_to_keep,
            **kwargs,
        )

    @classmethod
    def from_llama(cls, llama: str | Path, config: dict[str, Any], head: str = "backbone") -> Self:
        """Start from a pretrained Llama: its blocks, its text rows, and a head that already knows text.

        Args:
            llama: Folder or hub id of a transformers Llama checkpoint.
            config: The arguments that `KyvoConfig` adds to Llama's (`vocabulary` at least).
            head: `backbone`: text rows of the head are Llama's, new rows their mean plus small noise; `random`: the
                whole head is random, as in the official code.

        Raises:
            ValueError: If the text part of the vocabulary is not the size of Llama's.
        """
        backbone = LlamaForCausalLM.from_pretrained(llama)
        rows = backbone.get_input_embeddings().weight.data
        vocabulary = Vocabulary.from_dict(config["vocabulary"])
        if len(vocabulary.text_range) != len(rows):
            raise ValueError(f"the tokenizer has {len(vocabulary.text_range)} text ids, {llama} has {len(rows)}")
        shape = {k: v for k, v in backbone.config.to_dict().items() if k not in _FROM_VOCABULARY}
        scale = rows.float().std().item()
        model = cls(KyvoConfig(**(shape | {"initializer_range": scale} | config))).to(rows.dtype)
        blocks = {k: v for k, v in backbone.model.state_dict().items() if not k.startswith("embed_tokens")}
        model.model.load_state_dict(blocks, strict=False)
        model.embedding.parts["text"].weight.data.copy_(rows)
        if head == "backbone":
            _start_head(model.lm_head.weight.data, backbone.get_output_embeddings().weight.data, scale)
        return model


def _run(blocks: LlamaModel, vectors: Tensor, mask: Tensor | BlockMask | None, positions: Tensor | None) -> Tensor:
    output = blocks(inputs_embeds=vectors, attention_mask=mask, position_ids=positions, use_cache=False)
    states: Tensor = output.last_hidden_state
    return states


@cache
def _compiled_run() -> Callable[[LlamaModel, Tensor, Tensor | BlockMask | None, Tensor | None], Tensor]:
    # Made when it is first wanted: the compiler takes a second to import.
    return torch.compile(_run)


_FROM_VOCABULARY = {"vocab_size", "bos_token_id", "eos_token_id", "pad_token_id", "tie_word_embeddings"} | {
    "model_type",
    "architectures",
    "transformers_version",
    "dtype",
    "torch_dtype",
}


def _start_head(head: Tensor, text_rows: Tensor, scale: float) -> None:
    """Fill a head `[V, D]`: Llama's rows for text, their mean and a little noise for every new id."""
    text = len(text_rows)
    head[:text] = text_rows
    noise = torch.randn(len(head) - text, head.shape[1]) * (0.1 * scale)
    head[text:] = text_rows.float().mean(0) + noise


AutoConfig.register(KyvoConfig.model_type, KyvoConfig)
AutoModelForCausalLM.register(KyvoConfig, KyvoForCausalLM)
