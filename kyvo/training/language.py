"""The LightningModule of the language model: its steps, its recipe (full fine-tuning, LoRA, scratch), its optimiser.

Letters: B batch, S positions, D hidden size, N supervised positions.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol, cast

import torch
from lightning import LightningModule
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn
from torchmetrics import MeanMetric

from kyvo.generation.decode import Sampling, generate
from kyvo.models.language_model import KyvoConfig, KyvoForCausalLM
from kyvo.sample import Sample
from kyvo.scene import SceneSchema
from kyvo.tokenizers.tokenizer import Generation, UnifiedTokenizer
from kyvo.tokenizers.vocabulary import Vocabulary
from kyvo.training.loss import NumberTargets, weighted_cross_entropy
from kyvo.training.optimizer import OptimizerConfig, scheduled_optimizer
from kyvo.workload import Workload

Recipe = Literal["fft", "lora", "scratch"]

Written = dict[str, list[Generation]]
"""What an evaluation step returns under `written`: one entry for each of the batch's first samples."""

NEW_PARTS = ("numbers", "markers", "image", "shape", "image_positions", "lm_head")
"""What the unified vocabulary adds to Llama: LoRA trains and saves all of it."""


class TokenBatch(Protocol):
    """What a step needs of a batch: see `data_modules.batches.Batch`."""

    ids: Tensor
    weights: Tensor
    workload: Workload
    samples: Sequence[Sample]

    def first(self, count: int) -> "TokenBatch":
        """The batch's first samples."""
        ...


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


@dataclass
class Lora:
    """Low-rank adapters (peft), used by `recipe: lora`.

    Attributes:
        rank: Rank of the update.
        alpha: Its scale is alpha / rank.
        dropout: Dropout before the adapter.
        targets: Linear layers of a block that get one.
    """

    rank: int = 8
    alpha: float = 16
    dropout: float = 0.0
    targets: list[str] = field(
        default_factory=lambda: ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    )


@dataclass
class LossConfig:
    """What is minimised.

    Attributes:
        normalization: `weights`: sum of weighted losses over the sum of weights, both over all ranks and accumulation
            steps; `official`: over all positions, supervised or not, as the official code's mean does.
        number_smoothing: Standard deviation of the soft targets of numbers, in their own unit; 0 for hard targets.
        number_smoothing_end: What it falls to, linearly, at the end of the run; default is to stay.
    """

    normalization: Literal["weights", "official"] = "weights"
    number_smoothing: float = 0.0
    number_smoothing_end: float | None = None


# Lightning keeps a module's arguments in its checkpoints, which are read with weights_only.
torch.serialization.add_safe_globals([Backbone, NewEmbeddings, Lora, LossConfig, OptimizerConfig, Sampling])


class LanguageModule(LightningModule):
    """Trains Kyvo by next-token prediction and writes samples during validation, test and prediction.

    Args:
        tokenizer: The unified tokenizer; its vocabulary and the codebooks of images and shapes shape the model.
        backbone: A shape, for random weights, or the folder or hub id of a Llama checkpoint.
        recipe: `fft` trains everything but the text embeddings, `lora` adapters and the new parts, `scratch`
            everything from random weights.
        total_steps: Optimiser steps of the whole run, which set the schedule (linked to `trainer.max_steps`).
        optimizer: Optimiser and schedule.
        loss: Normalisation and number smoothing.
        embeddings: How new ids are embedded.
        lora: Adapters, for `recipe: lora`.
        bidirectional_shapes: Whether the codes of a shape that is read see each other in both directions, as the paper
            says (section D.2); those of shapes that are written never do. It costs flash attention: the mask is dense.
        train_text_embeddings: Whether fine-tuning moves the text embeddings (frozen in the paper).
        gradient_checkpointing: Recompute blocks in the backward pass to save memory.
        compile: Compile the blocks with `torch.compile`.
        limit_generation: Look at no more than this many samples of each task in the validations during training,
            always the first ones, which the ranks share; -1 for all. `validate`, `test`, `predict` and the end of `fit`
            look at all.
        sampling: How tokens are chosen when samples are written.

    Raises:
        ValueError: If recipe and backbone do not fit together.
    """

    def __init__(
        self,
        tokenizer: UnifiedTokenizer,
        backbone: Backbone | str = Backbone(),  # noqa: B008
        recipe: Recipe = "scratch",
        total_steps: int = 1000,
        optimizer: OptimizerConfig = OptimizerConfig(),  # noqa: B008
        loss: LossConfig = LossConfig(),  # noqa: B008
        embeddings: NewEmbeddings = NewEmbeddings(),  # noqa: B008
        lora: Lora = Lora(),  # noqa: B008
        bidirectional_shapes: bool = False,
        train_text_embeddings: bool = False,
        gradient_checkpointing: bool = False,
        compile: bool = False,
        limit_generation: int = -1,
        sampling: Sampling = Sampling(),  # noqa: B008
    ) -> None:
        super().__init__()
        self.save_hyperparameters(ignore=["tokenizer"])
        if (recipe == "scratch") != isinstance(backbone, Backbone):
            needed = "a shape" if recipe == "scratch" else "a checkpoint"
            raise ValueError(f"recipe {recipe!r} needs {needed} as backbone")
        if total_steps <= 0:
            raise ValueError(f"total_steps should be positive, not {total_steps}: set trainer.max_steps")
        self.tokenizer = tokenizer
        self.recipe = recipe
        # Frozen weights are not in an adapter's checkpoint.
        self.strict_loading = recipe != "lora"
        self.total_steps = total_steps
        self.optimizer_config = optimizer
        self.loss_config = loss
        self.limit_generation = limit_generation
        self.sampling = sampling
        self.model = _build_model(tokenizer, backbone, embeddings, bidirectional_shapes)
        if recipe == "fft":
            self.model.embedding.parts["text"].requires_grad_(train_text_embeddings)
        if recipe == "lora":
            _add_adapters(self.model, lora)
        if gradient_checkpointing:
            self.model.gradient_checkpointing_enable()
        if compile:
            self.model.model.compile()
        self.losses = nn.ModuleDict()
        self._cells = torch.zeros(())
        self._seen = 0

    # ---- loss -------------------------------------------------------------------------------------------------

    def loss_sum(self, ids: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        """Sum of weighted losses and what to divide it by.

        Args:
            ids: Ids `[B, S]`, padded on the right.
            weights: Weight of predicting each id `[B, S]`.

        Returns:
            Two float32 scalars.
        """
        weights = weights[:, 1:]
        supervised = weights > 0
        hidden = self.model.hidden_states(ids)[:, :-1][supervised]
        total = weighted_cross_entropy(
            hidden, self.model.lm_head.weight, ids[:, 1:][supervised], weights[supervised], self._number_targets()
        )
        if self.loss_config.normalization == "official":
            return total, total.new_tensor(weights.numel())
        return total, weights.sum()

    def _number_targets(self) -> NumberTargets | None:
        sigma = self.loss_config.number_smoothing
        if not (self.training and sigma):
            return None
        end = self.loss_config.number_smoothing_end
        if end is not None:
            sigma += (end - sigma) * min(1.0, self.global_step / self.total_steps)
        numbers = self.tokenizer.numbers
        values = torch.as_tensor(numbers.values, dtype=torch.float32, device=self.device)
        return NumberTargets.smooth(self.tokenizer.vocabulary.number_range.start, values, numbers.families, sigma)

    # ---- steps ------------------------------------------------------------------------------------------------

    def training_step(self, batch: TokenBatch, batch_idx: int) -> Tensor:
        """Return the loss summed, not averaged: `on_before_optimizer_step` divides the gradients once, exactly."""
        total, cells = self.loss_sum(batch.ids, batch.weights)
        self._cells = self._cells.to(cells.device) + cells.detach()
        self.log(f"train/{batch.workload.label}/loss", total.detach() / cells, batch_size=len(batch.ids))
        return total

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Turn gradients of sums into gradients of one mean over all ranks and accumulation steps."""
        cells = self._cells
        self._cells = torch.zeros_like(cells)
        if self.trainer.world_size > 1:
            cells = self.trainer.strategy.reduce(cells, reduce_op="sum")
        # DDP has averaged over ranks and Lightning over accumulation steps: both averages are taken back.
        averaged = self.trainer.world_size * self.trainer.accumulate_grad_batches
        gradients = [p.grad for p in self.parameters() if p.grad is not None]
        torch._foreach_mul_(gradients, averaged / max(float(cells), 1e-8))

    def validation_step(self, batch: TokenBatch, batch_idx: int, dataloader_idx: int = 0) -> Written:
        """Log the loss of a batch and write its outputs, which the callbacks score."""
        return self._evaluate(batch, batch_idx, "val")

    def test_step(self, batch: TokenBatch, batch_idx: int, dataloader_idx: int = 0) -> Written:
        """As `validation_step`, for test data."""
        return self._evaluate(batch, batch_idx, "test")

    def predict_step(self, batch: TokenBatch, batch_idx: int, dataloader_idx: int = 0) -> Written:
        """Write the outputs of a batch."""
        return {"written": self.generate(batch.workload, batch.samples)}

    def _evaluate(self, batch: TokenBatch, batch_idx: int, stage: str) -> Written:
        self._seen = len(batch.ids) + (self._seen if batch_idx else 0)
        share = self._share_of_generation() if self.trainer.state.fn == "fit" else -1
        if 0 <= share < self._seen:
            kept = share - (self._seen - len(batch.ids))
            if kept <= 0:
                return {"written": []}
            batch = batch.first(kept)
        total, cells = self.loss_sum(batch.ids, batch.weights)
        # A mean over supervised tokens, whatever the batches; Lightning's own mean would round their number over ranks.
        name = batch.workload.label
        if name not in self.losses:
            self.losses[name] = MeanMetric().to(self.device)
        metric = cast(MeanMetric, self.losses[name])
        metric.update(total / cells, weight=cells)
        self.log(
            f"{stage}/{name}/loss",
            metric,
            on_step=False,
            on_epoch=True,
            add_dataloader_idx=False,
            metric_attribute=f"losses.{name}",
        )
        return {"written": self.generate(batch.workload, batch.samples)}

    def _share_of_generation(self) -> int:
        """How many of the first `limit_generation` samples are this rank's; -1 for all.

        Raises:
            ValueError: If there is none for some rank, which the others would wait for.
        """
        limit, ranks = self.limit_generation, self.trainer.world_size
        if 0 < limit < ranks:
            raise ValueError(
                f"limit_generation should be 0, -1, or at least one for each of {ranks} ranks, got {limit}"
            )
        # Rank r reads the samples r, r + ranks, r + 2 ranks, ...
        return (limit - self.trainer.global_rank + ranks - 1) // ranks if limit > 0 else limit

    def schema_of(self, workload: Workload) -> SceneSchema:
        """How the scenes of a workload are read."""
        return self.tokenizer.with_schema(workload.schema).schema

    def generate(self, workload: Workload, samples: Sequence[Sample]) -> list[Generation]:
        """Write the outputs of a task on a data set for samples, in one batch."""
        task, tokenizer = workload.task, self.tokenizer.with_schema(workload.schema)
        prompts = [torch.as_tensor(tokenizer.prompt(task, sample)) for sample in samples]
        ids = generate(self.model, tokenizer.grammar(task), prompts, self.sampling)
        return [tokenizer.decode(task, row) for row in ids.cpu().numpy()]

    # ---- optimiser --------------------------------------------------------------------------------------------

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """The optimiser and a schedule that moves once per optimiser step."""
        return scheduled_optimizer(self.model, self.optimizer_config, self.total_steps)

    # ---- checkpoints ------------------------------------------------------------------------------------------

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the vocabulary beside the weights, and of an adapter run only what trains."""
        checkpoint["vocabulary"] = self.tokenizer.vocabulary.to_dict()
        if self.recipe == "lora":
            trained = {name for name, p in self.named_parameters() if p.requires_grad}
            checkpoint["state_dict"] = {k: v for k, v in checkpoint["state_dict"].items() if k in trained}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse a checkpoint of another vocabulary, with both sizes.

        Raises:
            ValueError: If the vocabularies differ.
        """
        found = Vocabulary.from_dict(checkpoint["vocabulary"])
        if found != self.tokenizer.vocabulary:
            raise ValueError(
                f"the checkpoint's vocabulary has {found.size} ids, the tokenizer's {self.tokenizer.vocabulary.size}; "
                f"they differ in {_differences(found, self.tokenizer.vocabulary)}"
            )

    def save_pretrained(self, folder: Path) -> None:
        """Write the model and the tokenizer as a folder that `from_pretrained` of either reads."""
        self.model.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)


def _differences(first: Vocabulary, second: Vocabulary) -> str:
    left, right = first.to_dict(), second.to_dict()
    return ", ".join(name for name in left if left[name] != right[name])


def _build_model(
    tokenizer: UnifiedTokenizer, backbone: Backbone | str, embeddings: NewEmbeddings, bidirectional_shapes: bool
) -> KyvoForCausalLM:
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
        model = KyvoForCausalLM.from_llama(backbone, config, embeddings.head)
    model.embedding.scale_projectors(model.config.initializer_range)
    for name, book in codebooks.items():
        if book is not None:
            model.embedding.set_codebook(name, book)
    return model


def _number_positions(tokenizer: UnifiedTokenizer) -> list[float]:
    values = torch.as_tensor(tokenizer.numbers.values, dtype=torch.float64)
    steps = [values[first:last].diff() for first, last in tokenizer.numbers.families]
    finest = min(float(step.min()) for step in steps if len(step))
    return ((values - values.min()) / finest).tolist()


def _add_adapters(model: nn.Module, lora: Lora) -> None:
    from peft import LoraConfig, inject_adapter_in_model

    present = {name.rsplit(".", 1)[-1] for name, _ in model.named_modules()}
    config = LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=lora.targets,
        modules_to_save=[part for part in NEW_PARTS if part in present],
    )
    inject_adapter_in_model(config, model)
