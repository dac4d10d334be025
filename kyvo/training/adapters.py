"""Low-rank adapters of the language model: put into its blocks, taken out of them again."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import nn

from kyvo.models.parts import NEW_PARTS, part_of

if TYPE_CHECKING:
    from peft import LoraConfig


@dataclass
class Lora:
    """Low-rank adapters (peft), used by `recipe: lora`.

    Attributes:
        rank: Rank of the update.
        alpha: Its scale is alpha / rank.
        dropout: Dropout before the adapter.
        targets: Linear layers of a block that get one.
        dora: Learn the length of each row of an updated matrix apart from its direction (DoRA).
        rslora: Scale by alpha / sqrt(rank) instead, which keeps large ranks from learning less (rsLoRA).
    """

    rank: int = 8
    alpha: float = 16
    dropout: float = 0.0
    targets: list[str] = field(
        default_factory=lambda: ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    )
    dora: bool = False
    rslora: bool = False

    def to_peft(self, modules_to_save: list[str] | None = None) -> "LoraConfig":
        """The same in peft's words, with what is to be trained whole beside the adapters."""
        from peft import LoraConfig

        return LoraConfig(
            r=self.rank,
            lora_alpha=self.alpha,
            lora_dropout=self.dropout,
            target_modules=list(self.targets),
            use_dora=self.dora,
            use_rslora=self.rslora,
            modules_to_save=modules_to_save,
            task_type="CAUSAL_LM",
        )


# Lightning keeps a module's arguments in its checkpoints, which are read with weights_only.
torch.serialization.add_safe_globals([Lora])


def add_adapters(model: nn.Module, lora: Lora) -> None:
    """Freeze a model but for the parts that are new to its backbone, and put adapters that train into its blocks."""
    from peft import inject_adapter_in_model

    inject_adapter_in_model(lora.to_peft(), model)
    for name, parameter in model.named_parameters():
        # Not by peft's modules_to_save, which would keep a frozen copy of the whole head beside it.
        if part_of(name) in NEW_PARTS:
            parameter.requires_grad_(True)


def merge_adapters(model: nn.Module) -> None:
    """Add each adapter to the matrix that it adapts and leave that in its place; nothing happens without adapters.

    Raises:
        ValueError: If a merged matrix would hold values that are not finite.
    """
    from peft.tuners.tuners_utils import BaseTunerLayer

    for name, layer in list(model.named_modules()):
        if isinstance(layer, BaseTunerLayer):
            layer.merge(safe_merge=True)
            parent, _, leaf = name.rpartition(".")
            setattr(model.get_submodule(parent), leaf, layer.get_base_layer())
