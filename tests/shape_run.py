"""A tiny shape tokenizer for tests; as a script, trains it on as many processes as torchrun starts, and keeps it.

Usage: torchrun --nproc-per-node N -m tests.shape_run PREFIX    (writes PREFIX-RANK.pt)
"""

import os
import sys

import torch
from lightning import Trainer
from torch import Tensor
from torch.utils.data import DataLoader

from kyvo.models.shape_vq import ShapeNetwork
from kyvo.slat import Slat, densify
from kyvo.training.image_tokenizer import QuantizerConfig
from kyvo.training.optimizer import OptimizerConfig
from kyvo.training.shape_tokenizer import ShapeBatch, ShapeTokenizerModule

SIZE = 8
TINY = ShapeNetwork(
    resolution=SIZE, patch=2, channels=(8, 12), layers=1, middle_layers=0, codes=16, code_dim=4, upsample="nearest"
)
QUANTIZER = QuantizerConfig(warmup_steps=2, pool=64, revive_every=2)
OPTIMIZER = OptimizerConfig(lr=3e-3, weight_decay=0.0, beta2=0.999, warmup_steps=0, schedule="constant")


def boxes(count: int, size: int = SIZE, space: str = "voxel8") -> list[Slat]:
    """Hollow boxes of random sides, each in a colour of its own."""
    generator = torch.Generator().manual_seed(0)
    made = []
    for _ in range(count):
        low = torch.randint(size // 4, (3,), generator=generator)
        high = torch.randint(size // 2, size - 1, (3,), generator=generator)
        places = torch.cartesian_prod(*[torch.arange(a, b + 1) for a, b in zip(low, high, strict=True)])
        coords = places[((places == low) | (places == high)).any(1)]
        normals = torch.nn.functional.normalize((coords - (low + high) / 2).float(), dim=1)
        colour = (2 * torch.rand(3, generator=generator) - 1).expand(len(coords), 3)
        feats = torch.cat([colour, normals, torch.zeros(len(coords), 1), torch.ones(len(coords), 1)], 1)
        made.append(Slat(coords.int(), feats, size, space))
    return made


def loader(grids: Tensor, batch_size: int = 4) -> DataLoader[ShapeBatch]:
    """Batches in order."""
    return DataLoader(list(grids), batch_size, collate_fn=lambda rows: ShapeBatch(torch.stack(rows)))


def tiny_module(**options: object) -> ShapeTokenizerModule:
    """A module of the tiny network."""
    usual = {"network": TINY, "quantizer": QUANTIZER, "total_steps": 10, "optimizer": OPTIMIZER, "ema": 0.5}
    return ShapeTokenizerModule(**(usual | options))


def quiet_trainer(**options: object) -> Trainer:
    """A trainer on the CPU that writes nothing."""
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "devices": 1}
    return Trainer(
        accelerator="cpu", use_distributed_sampler=False, enable_model_summary=False, **(quiet | options)
    )  # fmt: skip


def fit(rank: int, ranks: int) -> tuple[dict[str, Tensor], dict[str, float]]:
    """State and scores of eight steps over batches of 4, shared out evenly, and of a validation."""
    # Processes that start from different weights, as without a seed.
    torch.manual_seed(rank)
    grids = densify(boxes(32))
    share = torch.cat([batch.chunk(ranks)[rank] for batch in grids.split(4)])
    module = tiny_module(statistics="data")
    trainer = quiet_trainer(
        max_steps=8, strategy="ddp" if ranks > 1 else "auto", devices=ranks, num_sanity_val_steps=0,
    )  # fmt: skip
    trainer.fit(module, loader(share, 4 // ranks), loader(grids[8:24].chunk(ranks)[rank]))
    scores = {name: float(value) for name, value in trainer.callback_metrics.items() if name.startswith("val/")}
    return {name: value.clone() for name, value in module.state_dict().items()}, scores


if __name__ == "__main__":
    process = int(os.environ["RANK"])
    torch.save(fit(process, int(os.environ["WORLD_SIZE"])), f"{sys.argv[1]}-{process}.pt")
