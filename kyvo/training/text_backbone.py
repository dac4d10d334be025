"""The LightningModule of a text backbone: a Llama of text alone, from which language models are fine-tuned.

Letters: B batch, S positions.
"""

from pathlib import Path

import torch
from lightning import LightningModule
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from kyvo.tokenizers.text import TextTokenizer
from kyvo.tokenizers.tokenizer import UnifiedTokenizer
from kyvo.training.backbone import Backbone
from kyvo.training.optimizer import OptimizerConfig, scheduled_optimizer


class TextBackboneModule(LightningModule):
    """Trains a Llama on text by next-token prediction, for `LanguageModule` to start from.

    Logs `train/loss` and, of the whole validation set, `val/loss`, in nats a token. The head is tied to the embedding,
    as that of Llama 3.2 1B is.

    Args:
        tokenizer: Its text tokenizer's ids are the model's: as many as the text ids of the models that start from it.
        backbone: The model's shape.
        total_steps: Optimiser steps of the whole run, which set the schedule (linked to `trainer.max_steps`).
        optimizer: Optimiser and schedule.
        save_to: Folder that receives the model and its text tokenizer at the end of `fit`, for `backbone` of
            `LanguageModule`; default is not to write one.

    Raises:
        ValueError: If there are no steps.
    """

    def __init__(
        self,
        tokenizer: UnifiedTokenizer,
        backbone: Backbone = Backbone(),  # noqa: B008 (never changed)
        total_steps: int = 1000,
        optimizer: OptimizerConfig = OptimizerConfig(),  # noqa: B008 (never changed)
        save_to: str | None = None,
    ) -> None:
        super().__init__()
        self.save_hyperparameters(ignore=["tokenizer"])
        if total_steps <= 0:
            raise ValueError(f"total_steps should be positive, not {total_steps}: set trainer.max_steps")
        self.text = tokenizer.text
        self.total_steps = total_steps
        self.optimizer_config = optimizer
        self.save_to = save_to
        self.model = LlamaForCausalLM(llama_config(self.text, backbone))

    def loss(self, ids: Tensor) -> Tensor:
        """Mean cross-entropy of each id but the first of a row, given those before it; ids int64 [B, S]."""
        logits: Tensor = self.model(input_ids=ids[:, :-1], use_cache=False).logits
        return torch.nn.functional.cross_entropy(logits.flatten(0, 1).float(), ids[:, 1:].flatten())

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        """The loss of a batch of ids int64 [B, S]."""
        loss = self.loss(batch)
        self.log("train/loss", loss, batch_size=len(batch), prog_bar=True)
        return loss

    def validation_step(self, batch: Tensor, batch_idx: int) -> None:
        """Log the loss."""
        self.log("val/loss", self.loss(batch), batch_size=len(batch), sync_dist=True, prog_bar=True)

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """The optimiser and a schedule that moves once per optimiser step."""
        return scheduled_optimizer(self.model, self.optimizer_config, self.total_steps)

    def on_train_end(self) -> None:
        """Write the model where `save_to` says."""
        if self.save_to is not None and self.trainer.is_global_zero:
            self.save_pretrained(Path(self.save_to))

    def save_pretrained(self, folder: Path) -> None:
        """Write a folder that transformers reads, and our own text tokenizer beside it."""
        self.model.save_pretrained(folder)
        self.text.save_pretrained(folder)


def llama_config(text: TextTokenizer, backbone: Backbone) -> LlamaConfig:
    """The configuration of a Llama of a shape over the ids of a text tokenizer."""
    ids = {"bos_token_id": text.bos, "eos_token_id": text.eos, "pad_token_id": text.pad}
    return LlamaConfig(vocab_size=text.size, tie_word_embeddings=True, **ids, **backbone.to_llama())
