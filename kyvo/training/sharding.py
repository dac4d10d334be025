"""What is different where weights are sharded over ranks (FSDP): shapes, norms and names."""

from contextlib import AbstractContextManager, nullcontext

from lightning import LightningModule
from torch.distributed.fsdp import FullyShardedDataParallel
from torch.nn import Module


def sharded_module(module: LightningModule) -> FullyShardedDataParallel | None:
    """A module in the shell that shards it; None where each rank has all of it, or nothing trains it."""
    shell = None if module._trainer is None else module.trainer.strategy.model
    return shell if isinstance(shell, FullyShardedDataParallel) else None


def whole_parameters(module: LightningModule) -> AbstractContextManager[None]:
    """Within it, parameters have the shapes that they were made with: else each rank sees a flat piece, or nothing.

    What is done to their values is forgotten.
    """
    shell = sharded_module(module)
    if shell is None:
        return nullcontext()
    whole: AbstractContextManager[None] = FullyShardedDataParallel.summon_full_params(shell, writeback=False)
    return whole


def trained_names(module: Module) -> set[str]:
    """Names of the parameters that train, as they are in a state dict."""
    # Shells are in the names of parameters, and not in those of a state dict.
    return {name.replace("_fsdp_wrapped_module.", "") for name, p in module.named_parameters() if p.requires_grad}
