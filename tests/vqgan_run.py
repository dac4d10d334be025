"""A tiny VQGAN for tests; as a script, trains it on as many processes as torchrun starts and writes what came out.

Usage: torchrun --nproc-per-node N -m tests.vqgan_run PREFIX    (writes PREFIX-RANK.json)
"""

import json
import os
import sys
from pathlib import Path

import torch
from lightning import Trainer
from torch import Tensor
from torch.utils.data import DataLoader

from callbacks.codebook import Codebook
from kyvo.models.image_vq import ImageNetwork
from kyvo.training.vqgan import AdamConfig, Adversary, Perceptual, VQGANModule

TINY = ImageNetwork(
    image_size=(16, 24),
    patch=2,
    channels=(8, 16),
    layers=1,
    codes=32,
    code_dim=6,
    latent_channels=8,
    groups=4,
    attention=(),
    mid_attention=False,
)


def pictures(count: int) -> Tensor:
    """Coloured squares over a grey ground, float [count, 3, 16, 24] in [-1, 1]."""
    generator = torch.Generator().manual_seed(0)
    images = torch.full((count, 3, 16, 24), -0.2)
    for image in images:
        top, left = (int(torch.randint(high, (), generator=generator)) for high in (9, 17))
        image[:, top : top + 8, left : left + 8] = torch.rand(3, 1, 1, generator=generator) * 2 - 1
    return images


def tiny_vqgan(adversary: Adversary | None = None, **options: object) -> VQGANModule:
    """A module of the tiny network; no perceptual loss, and no discriminator for 1,000 steps, unless given."""
    adversary = adversary or Adversary(start=1000, channels=8, layers=2)
    usual = {"perceptual": Perceptual(weight=0), "optimizer": AdamConfig(lr_per_image=1e-3)}
    return VQGANModule(TINY, adversary=adversary, **(usual | options))


def quiet_trainer(**options) -> Trainer:
    """A trainer on the CPU that writes nothing."""
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "devices": 1}
    return Trainer(
        accelerator="cpu", use_distributed_sampler=False, enable_model_summary=False, **(quiet | options)
    )  # fmt: skip


def fit(module: VQGANModule, rank: int, ranks: int) -> Trainer:
    """Four steps over batches of 4, shared out evenly, and a validation on unequal shares."""
    images = pictures(16)
    share = torch.cat([batch.chunk(ranks)[rank] for batch in images.split(4)])
    held_out = images if ranks == 1 else (images[:4], images[4:])[rank]
    made = quiet_trainer(
        max_steps=4, strategy="ddp" if ranks > 1 else "auto", devices=ranks, callbacks=[Codebook(0)],
        num_sanity_val_steps=0,
    )  # fmt: skip
    made.fit(module, DataLoader(list(share), 4 // ranks), DataLoader(list(held_out), 4))
    return made


def norms(module: VQGANModule) -> list[float]:
    """Sizes of all parameters."""
    return [float(parameter.detach().double().norm()) for parameter in module.parameters()]


def results(rank: int, ranks: int) -> dict[str, object]:
    """What training makes without a discriminator, and with one."""
    # Processes that start from different weights, as without a seed.
    torch.manual_seed(rank)
    plain = tiny_vqgan()
    logged = fit(plain, rank, ranks).callback_metrics
    metrics = {name: float(value) for name, value in logged.items() if name.startswith("val/")}
    adversarial = tiny_vqgan(Adversary(start=1, channels=8, layers=2), perceptual=Perceptual(1.0))
    steps = fit(adversarial, rank, ranks).global_step
    return {"plain": norms(plain), "metrics": metrics, "adversarial": norms(adversarial), "steps": steps}


if __name__ == "__main__":
    process = int(os.environ["RANK"])
    found = results(process, int(os.environ["WORLD_SIZE"]))
    Path(f"{sys.argv[1]}-{process}.json").write_text(json.dumps(found))
