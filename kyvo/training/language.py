"""The LightningModule of the language model: its steps, its recipe (full fine-tuning, LoRA, scratch), its optimiser.

Letters: B batch, S positions, D hidden size, N supervised positions.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, cast

import torch
from lightning import LightningModule
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn
from torch.optim import Optimizer
from torchmetrics import MeanMetric

from kyvo.generation.sampling import Sampling
from kyvo.generation.writing import write
from kyvo.sample import Sample
from kyvo.scene import SceneSchema
from kyvo.tokenizers.tokenizer import Generation, UnifiedTokenizer
from kyvo.tokenizers.vocabulary import Vocabulary
from kyvo.training.adapters import Lora, add_adapters
from kyvo.training.backbone import Backbone, NewEmbeddings, build_model, load_model
from kyvo.training.log_steps import LogSteps
from kyvo.training.loss import NumberTargets, supervised, weighted_cross_entropy
from kyvo.training.optimizer import OptimizerConfig, scheduled_optimizer
from kyvo.training.running_losses import RunningLosses
from kyvo.training.sharding import sharded_module, trained_names, whole_parameters
from kyvo.workload import Workload

Recipe = Literal["fft", "lora", "scratch"]

Written = dict[str, list[Generation]]
"""What an evaluation step returns under `written`: one entry for each of the batch's first samples."""


class TokenBatch(Protocol):
    """What a step needs of a batch: see `data_modules.batches.Batch`."""

    ids: Tensor
    weights: Tensor
    lengths: Tensor
    prompt_lengths: Tensor
    positions: Tensor | None
    workload: Workload
    samples: Sequence[Sample]

    def first(self, count: int) -> "TokenBatch":
        """The batch's first samples."""
        ...


@dataclass
class LossConfig:
    """What is minimised.

    Attributes:
        normalization: `weights`: sum of weighted losses over the sum of weights, both over all ranks and accumulation
            steps; `official`: over all positions, supervised or not, padding too, as the official code's mean does.
        number_smoothing: Standard deviation of the soft targets of numbers, in their own unit; 0 for hard targets.
        number_smoothing_end: What it falls to, linearly, at the end of the run; default is to stay.
    """

    normalization: Literal["weights", "official"] = "weights"
    number_smoothing: float = 0.0
    number_smoothing_end: float | None = None


# Lightning keeps a module's arguments in its checkpoints, which are read with weights_only.
torch.serialization.add_safe_globals([LossConfig, OptimizerConfig, Sampling])


class LanguageModule(LightningModule):
    """Trains Kyvo by next-token prediction and writes samples during validation, test and prediction.

    Args:
        tokenizer: The unified tokenizer; its vocabulary and the codebooks of images and shapes shape the model.
        backbone: A shape, for random weights, or the folder or hub id of a Llama checkpoint.
        init: Folder of an exported model, hub id, or the name of one that ships, whose weights training starts from, of
            the shape that the other arguments describe; default is to start from the backbone alone.
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
        compile: Compile the blocks with `torch.compile`, for the loss, and on a GPU for what is written.
        limit_generation: Look at no more than this many samples of each task in the validations during training,
            always the first ones, which the ranks share; -1 for all. `validate`, `test`, `predict` and the end of `fit`
            look at all.
        sampling: How tokens are chosen when samples are written.
        confidences: Say how sure the model was of each object that it wrote: the geometric mean of its tokens'
            probabilities.

    Raises:
        ValueError: If recipe and backbone do not fit together, or `init` is of another shape.
    """

    def __init__(
        self,
        tokenizer: UnifiedTokenizer,
        backbone: Backbone | str = Backbone(),  # noqa: B008
        init: str | None = None,
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
        confidences: bool = False,
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
        self.confidences = confidences
        self.model = build_model(tokenizer, backbone, embeddings, bidirectional_shapes)
        if init is not None:
            load_model(self.model, init)
        if recipe == "fft":
            self.model.embedding.parts["text"].requires_grad_(train_text_embeddings)
        if recipe == "lora":
            add_adapters(self.model, lora)
        if gradient_checkpointing:
            self.model.recompute_blocks()
        self.model.compiled = compile
        self.losses = nn.ModuleDict()
        self._running = RunningLosses(tokenizer.vocabulary)
        self._log_steps = LogSteps()
        self._cells = torch.zeros(())
        self._seen = 0

    # ---- loss -------------------------------------------------------------------------------------------------

    def loss_sum(self, ids: Tensor, weights: Tensor, positions: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Sum of weighted losses and what to divide it by.

        Args:
            ids: Ids `[B, S]`, padded on the right.
            weights: Weight of predicting each id `[B, S]`.
            positions: Place of each id in its own sequence `[B, S]`, where rows are packed.

        Returns:
            Two float32 scalars.
        """
        hidden = self.model.hidden_states(ids, position_ids=positions)
        hidden, targets, kept = supervised(hidden, ids, weights)
        each = torch.zeros_like(kept)
        total = weighted_cross_entropy(hidden, self.model.lm_head.weight, targets, kept, self._number_targets(), each)
        if self.training:
            self._running.add_tokens(targets, each, kept)
        if self.loss_config.normalization == "official":
            return total, total.new_tensor(weights[:, 1:].numel())
        return total, kept.sum()

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

    def setup(self, stage: str) -> None:
        """Keep Lightning's half precision and sharding from rounding batches: the loss counts in float32."""
        self.trainer.precision_plugin.convert_input = _unchanged  # type: ignore[method-assign]

    # ---- steps ------------------------------------------------------------------------------------------------

    def training_step(self, batch: TokenBatch, batch_idx: int) -> Tensor:
        """Return the loss summed, not averaged: `on_before_optimizer_step` divides the gradients once, exactly."""
        total, cells = self.loss_sum(batch.ids, batch.weights, batch.positions)
        self._cells = self._cells.to(cells.device) + cells.detach()
        self._running.add_batch(batch.workload.label, total, cells)
        return total

    def on_train_start(self) -> None:
        """Count the steps between logs from here."""
        self._log_steps.start(self.trainer)

    def on_train_batch_end(self, outputs: Any, batch: TokenBatch, batch_idx: int) -> None:
        """Log the mean losses of this process since the last log, by task and by kind of token."""
        if self._log_steps.due(self.trainer):
            self.log_dict({f"train/{name}": loss for name, loss in self._running.take().items()})

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Turn gradients of sums into gradients of one mean over all ranks and accumulation steps."""
        cells = self._cells
        self._cells = torch.zeros_like(cells)
        if self.trainer.world_size > 1:
            cells = self.trainer.strategy.reduce(cells, reduce_op="sum")
        # DDP has averaged over ranks and Lightning over accumulation steps: both averages are taken back.
        averaged = self.trainer.world_size * self.trainer.accumulate_grad_batches
        gradients = [p.grad for p in self.parameters() if p.grad is not None]
        # The guard takes the gradients of a step away that is not finite.
        if gradients:
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
        tokenizer = self.tokenizer.with_schema(workload.schema)
        return write(self.model, tokenizer, workload.task, samples, self.sampling, self.confidences)

    # ---- optimiser --------------------------------------------------------------------------------------------

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """The optimiser and a schedule that moves once per optimiser step.

        Raises:
            ValueError: If the optimiser needs whole matrices and there are none.
        """
        if self.optimizer_config.name == "muon" and sharded_module(self) is not None:
            raise ValueError("optimizer muon needs whole matrices, trainer.strategy fsdp shards them: take adamw")
        with whole_parameters(self):
            return scheduled_optimizer(self.model, self.optimizer_config, self.total_steps)

    def configure_gradient_clipping(
        self,
        optimizer: Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip gradients; the norm of sharded ones, of which no rank sees all, is left to what shards them."""
        sharded = sharded_module(self)
        if sharded is not None and gradient_clip_val and gradient_clip_algorithm != "value":
            sharded.clip_grad_norm_(gradient_clip_val)
        else:
            self.clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm)

    # ---- checkpoints ------------------------------------------------------------------------------------------

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the vocabulary beside the weights, and of an adapter run only what trains."""
        checkpoint["vocabulary"] = self.tokenizer.vocabulary.to_dict()
        if self.recipe == "lora":
            trained = trained_names(self)
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


def _unchanged(data: Any) -> Any:
    return data


def _differences(first: Vocabulary, second: Vocabulary) -> str:
    left, right = first.to_dict(), second.to_dict()
    return ", ".join(name for name in left if left[name] != right[name])
