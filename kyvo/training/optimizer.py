"""Optimisers of the language model: AdamW, Muon on block matrices, 8-bit paged AdamW; and their schedule."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR

from kyvo.models.parts import PARTS, part_of


@dataclass
class OptimizerConfig:
    """How parameters are stepped.

    Attributes:
        name: `adamw`; `muon`: Muon on the matrices of the transformer blocks (torch >= 2.9) and AdamW on the rest;
            `paged_adamw_8bit`: the paper's, where bitsandbytes is installed.
        lr: Peak learning rate of AdamW.
        muon_lr: Peak learning rate of Muon, scaled to the update size of AdamW.
        weight_decay: Decoupled decay of matrices; norms and embeddings never decay.
        beta1: First moment's decay of AdamW.
        beta2: Second moment's decay of AdamW.
        warmup_steps: Steps of linear rise to the peak.
        schedule: `cosine` to zero over the whole run, `trapezoid`: constant, then a linear fall to zero, or `constant`.
        decay: Part of the run, (0, 1], over which the trapezoid falls.
        lr_factors: Factors of the learning rate for parts of the language model: text, numbers, markers, image, shape,
            image_positions (embeddings), blocks, adapters, head; 1 where none is given.
    """

    name: Literal["adamw", "muon", "paged_adamw_8bit"] = "adamw"
    lr: float = 1e-4
    muon_lr: float = 3e-3
    weight_decay: float = 0.01
    beta1: float = 0.9
    beta2: float = 0.95
    warmup_steps: int = 100
    schedule: Literal["cosine", "trapezoid", "constant"] = "cosine"
    decay: float = 0.5
    lr_factors: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not 0 < self.decay <= 1:
            raise ValueError(f"decay should be in (0, 1], not {self.decay}")
        for part, factor in self.lr_factors.items():
            if part not in PARTS or factor < 0:
                raise ValueError(f"lr_factors should be factors >= 0 of {', '.join(PARTS)}; got {part}: {factor}")


class JointOptimizer(Optimizer):
    """Several optimisers that step as one, each over its own parameters.

    Lightning's automatic optimisation and its learning rate schedules see a single optimiser with all groups.

    Args:
        optimizers: The optimisers, over disjoint parameters.
    """

    def __init__(self, optimizers: Iterable[Optimizer]) -> None:
        self.optimizers = list(optimizers)
        super().__init__([group for optimizer in self.optimizers for group in optimizer.param_groups], {})
        self._share_groups()

    def _share_groups(self) -> None:
        # The very same dictionaries, so that a schedule that writes `lr` here writes it there.
        self.param_groups = [group for optimizer in self.optimizers for group in optimizer.param_groups]

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Run the closure once, then step every optimiser."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for optimizer in self.optimizers:
            optimizer.step()
        return loss

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Clear the gradients of every optimiser."""
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none)

    def state_dict(self) -> dict[str, Any]:
        """The states of the optimisers, in order."""
        return {"optimizers": [optimizer.state_dict() for optimizer in self.optimizers]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Give each optimiser its state back."""
        for optimizer, state in zip(self.optimizers, state_dict["optimizers"], strict=True):
            optimizer.load_state_dict(state)
        self._share_groups()


def _decays(name: str, parameter: Tensor) -> bool:
    return parameter.ndim >= 2 and "embed_tokens" not in name and "norm" not in name


def _is_block_matrix(name: str, parameter: Tensor) -> bool:
    return parameter.ndim == 2 and ".layers." in name


def _groups(named: Iterable[tuple[str, nn.Parameter]], config: OptimizerConfig, lr: float) -> list[dict[str, Any]]:
    """Parameter groups: one for each learning rate, with decay and without."""
    groups: dict[tuple[bool, float], list[nn.Parameter]] = {}
    for name, parameter in named:
        key = not _decays(name, parameter), lr * config.lr_factors.get(part_of(name), 1.0)
        groups.setdefault(key, []).append(parameter)
    # Sorted, since a checkpoint knows parameters by their place alone.
    return [
        {"params": groups[spared, rate], "lr": rate, "weight_decay": 0.0 if spared else config.weight_decay}
        for spared, rate in sorted(groups)
    ]


def build_optimizer(model: nn.Module, config: OptimizerConfig) -> Optimizer:
    """The optimiser over the parameters of `model` that train; frozen ones are left out.

    Raises:
        ValueError: If nothing trains, or torch or bitsandbytes lacks what `config.name` needs.
    """
    named = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
    if not named:
        raise ValueError("no parameter of the model requires a gradient")
    betas = (config.beta1, config.beta2)
    if config.name == "paged_adamw_8bit":
        return _paged_adamw(_groups(named, config, config.lr), betas)
    if config.name == "adamw":
        return _fused_adamw(_groups(named, config, config.lr), betas)
    if not hasattr(torch.optim, "Muon"):
        raise ValueError(f"optimizer muon needs torch >= 2.9, this is {torch.__version__}")
    matrices = [(n, p) for n, p in named if _is_block_matrix(n, p)]
    rest = [(n, p) for n, p in named if not _is_block_matrix(n, p)]
    muon = torch.optim.Muon(_groups(matrices, config, config.muon_lr), adjust_lr_fn="match_rms_adamw")
    return JointOptimizer([muon, _fused_adamw(_groups(rest, config, config.lr), betas)])


def _fused_adamw(groups: list[dict[str, Any]], betas: tuple[float, float]) -> Optimizer:
    """AdamW that reads and writes each parameter once a step, and is otherwise as any other optimiser."""
    optimizer = AdamW(groups, betas=betas, fused=True)
    # It offers to undo a loss scale by itself, inside its step; Lightning then refuses to clip gradients under
    # autocast, scale or not. Declined, a scaler undoes the scale before, as for every optimiser that isn't fused.
    optimizer._step_supports_amp_scaling = False
    return optimizer


def _paged_adamw(groups: list[dict[str, Any]], betas: tuple[float, float]) -> Optimizer:
    try:
        from bitsandbytes.optim import PagedAdamW8bit
    except ImportError as error:
        raise ValueError("optimizer paged_adamw_8bit needs `pip install kyvo[bitsandbytes]`") from error
    return PagedAdamW8bit(groups, betas=betas)


def scheduled_optimizer(model: nn.Module, config: OptimizerConfig, total_steps: int) -> OptimizerLRSchedulerConfig:
    """The optimiser over the parameters of `model` that train, and a schedule that moves once per optimiser step.

    Args:
        model: What trains.
        config: Optimiser, warm-up and shape.
        total_steps: Steps of the whole run.

    Raises:
        ValueError: See `build_optimizer`.
    """
    optimizer = build_optimizer(model, config)
    schedule = LambdaLR(optimizer, lambda step: learning_rate_factor(step, total_steps, config))
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def learning_rate_factor(step: int, total_steps: int, config: OptimizerConfig) -> float:
    """Factor in [0, 1] of the peak learning rate at an optimiser step.

    Args:
        step: Steps taken, from 0.
        total_steps: Steps of the whole run.
        config: Warm-up and shape.
    """
    warmup = min(1.0, (step + 1) / max(1, config.warmup_steps))
    if config.schedule == "constant":
        return warmup
    progress = min(1.0, step / max(1, total_steps))
    if config.schedule == "cosine":
        return warmup * 0.5 * (1 + math.cos(math.pi * progress))
    return warmup * min(1.0, (1 - progress) / config.decay)
