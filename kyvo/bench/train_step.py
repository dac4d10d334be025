"""Training steps that `kyvo bench train` compares: ours, the official code's way, and transformers' own.

Letters: B batch, S positions, D hidden size, V vocabulary.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

from kyvo.bench.train_batch import TrainingSamples
from kyvo.models.language_model import KyvoConfig, KyvoForCausalLM
from kyvo.tokenizers.rows import Rows
from kyvo.training.backbone import Backbone
from kyvo.training.loss import reference_loss, supervised, weighted_cross_entropy
from kyvo.training.optimizer import OptimizerConfig, build_optimizer

Way = Literal["ours", "official", "hf"]

WAYS: tuple[Way, ...] = ("ours", "official", "hf")
"""In the order in which they take turns."""

_IMAGE_CODE_DIM, _SHAPE_CODE_DIM = 256, 128


@dataclass(frozen=True)
class Setting:
    """What is trained, on what, where.

    Args:
        backbone: Shape of the model; its weights are random.
        batch_size: Sequences of a step.
        device: cpu or cuda.
        dtype: float32, or bfloat16 for weights and all else in bfloat16.
        pack: Tokens of a row in our way; 0 pads each sequence in a row of its own, as the other ways do.
        compile: Whether our way compiles the blocks.
        recompute: Whether blocks are computed again in the backward pass, in every way.
    """

    backbone: Backbone
    batch_size: int
    device: str = "cpu"
    dtype: Literal["float32", "bfloat16"] = "float32"
    pack: int = 0
    compile: bool = False
    recompute: bool = False

    def samples(self) -> TrainingSamples:
        """The sequences of every step, the same for all ways."""
        return TrainingSamples.random(self.batch_size)

    def model(self) -> KyvoForCausalLM:
        """The model, the same weights each time; its text embeddings are frozen, as in the paper."""
        torch.manual_seed(0)
        vocabulary = self.samples().vocabulary
        config = KyvoConfig(
            vocabulary=vocabulary.to_dict(),
            image_code_dim=_IMAGE_CODE_DIM,
            shape_code_dim=_SHAPE_CODE_DIM,
            **self.backbone.to_llama(),
        )
        model = KyvoForCausalLM.from_scratch(config)
        model.embedding.scale_projectors(config.initializer_range)
        model.embedding.set_codebook("image", torch.randn(vocabulary.image_codes, _IMAGE_CODE_DIM))
        model.embedding.set_codebook("shape", torch.randn(vocabulary.shape_codes, _SHAPE_CODE_DIM))
        model.embedding.parts["text"].requires_grad_(False)
        if self.recompute:
            model.recompute_blocks()
        return model.to(self.device, getattr(torch, self.dtype))

    def step(self, way: Way, model: KyvoForCausalLM) -> Callable[[], Tensor]:
        """A whole training step: forward, backward, optimiser. Calling it returns the loss.

        The learning rate is 0: an optimiser's work is the same, and all ways keep to the same weights.
        """
        loss = self._loss(way, model)
        optimizer = _optimizer(way, model)
        if way == "ours":
            model.compiled = self.compile

        def step() -> Tensor:
            optimizer.zero_grad()
            value = loss()
            value.backward()
            optimizer.step()
            return value.detach()

        return step

    def _loss(self, way: Way, model: KyvoForCausalLM) -> Callable[[], Tensor]:
        samples = self.samples()
        pad = samples.vocabulary.pad
        packed = self.pack and way == "ours"
        rows = Rows.packed(samples.sequences, pad, self.pack) if packed else Rows.padded(samples.sequences, pad)
        ids, weights = (torch.from_numpy(one).to(self.device) for one in (rows.ids, rows.weights))
        if way == "ours":
            positions = None if rows.positions is None else torch.from_numpy(rows.positions).to(self.device)
            return lambda: _ours(model, ids, weights, positions)
        if way == "official":
            return lambda: _official(model, ids, weights)
        lengths = torch.tensor([len(one) for one in samples.sequences], device=self.device)
        real = torch.arange(ids.shape[1], device=self.device) < lengths[:, None]
        return lambda: _hf(model, ids, weights, real.long())


def _optimizer(way: Way, model: KyvoForCausalLM) -> Optimizer:
    if way == "ours":
        return build_optimizer(model, OptimizerConfig(lr=0.0))
    return AdamW([p for p in model.parameters() if p.requires_grad], lr=0.0)


def _ours(model: KyvoForCausalLM, ids: Tensor, weights: Tensor, positions: Tensor | None) -> Tensor:
    """What `LanguageModule` does: the head at supervised positions only, in chunks."""
    hidden = model.hidden_states(ids, position_ids=positions)
    hidden, targets, kept = supervised(hidden, ids, weights)
    return weighted_cross_entropy(hidden, model.lm_head.weight, targets, kept) / kept.sum()


def _official(model: KyvoForCausalLM, ids: Tensor, weights: Tensor) -> Tensor:
    """Every table looked up for every token, float32 logits at all positions; padding on the right is not masked."""
    vectors = torch.zeros(*ids.shape, model.config.hidden_size, dtype=model.dtype, device=ids.device)
    for name, (start, stop) in model.embedding.ranges.items():
        here = (ids >= start) & (ids < stop)
        found: nn.Module = model.embedding.parts[name]
        vectors[here] = found(torch.where(here, ids - start, 0))[here]
    hidden = model.model(inputs_embeds=vectors, use_cache=False).last_hidden_state
    logits = model.lm_head(hidden).float()
    return reference_loss(logits, ids, weights) / weights[:, 1:].sum()


def _hf(model: KyvoForCausalLM, ids: Tensor, weights: Tensor, mask: Tensor) -> Tensor:
    """Labels given to transformers' model, -100 where nothing is supervised, and a mask of what is no padding."""
    labels = ids.masked_fill(weights == 0, -100)
    loss: Tensor = model(input_ids=ids, attention_mask=mask, labels=labels, use_cache=False).loss
    return loss
