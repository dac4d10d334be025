"""Trains and validates a tiny model on as many processes as torchrun starts, and writes what came out as JSON.

Usage: torchrun --nproc-per-node N -m tests.distributed_run WORLD_FOLDER OUTPUT_FILE
"""

import json
import os
import sys
from pathlib import Path

import torch
from lightning import Trainer
from torch.utils.data import DataLoader

from callbacks.ceilings import Ceilings
from callbacks.editing import Editing
from callbacks.jaccard import Jaccard
from callbacks.likelihood import Likelihood
from callbacks.predictions import Predictions
from callbacks.question_answering import QuestionAnswering
from callbacks.rendering import Rendering
from callbacks.rerecognition import Rerecognition
from callbacks.well_formed import WellFormed
from data_modules.clevr import ClevrDataModule
from kyvo.task import Task
from kyvo.tokenizers.tokenizer import UnifiedTokenizer
from kyvo.training.backbone import NewEmbeddings
from kyvo.training.language import LanguageModule
from tests.worlds import TINY, batch_of, random_sample, tiny_module

TASKS = {"I-3": 1.0, "I+3+Q-A": 1.0, "3+T-3": 1.0, "3-I": 1.0}


def trainer(**options) -> Trainer:
    """A quiet trainer over the processes of torchrun."""
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    return Trainer(
        accelerator="cpu", strategy="ddp", devices=int(os.environ["LOCAL_WORLD_SIZE"]),
        num_nodes=int(os.environ["GROUP_WORLD_SIZE"]), use_distributed_sampler=False,
        enable_model_summary=False, **(quiet | options),
    )  # fmt: skip


def train() -> list[float]:
    """Two steps over batches that the ranks share out unevenly; returns the norms of the parameters."""
    rank, ranks = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    torch.manual_seed(0)
    module = tiny_module()
    module.configure_optimizers = lambda: torch.optim.SGD(module.parameters(), lr=0.1)
    cut = [range(0, 2), range(2, 6)] if ranks == 2 else [range(0, 6)]
    task = Task.parse("I+3+T-I+3")
    batches = [
        batch_of(module.tokenizer, task, [random_sample(10 * step + seed) for seed in cut[rank]]) for step in range(2)
    ]
    trainer(max_steps=2, gradient_clip_val=1.0).fit(module, DataLoader(batches, batch_size=None))
    return [float(parameter.double().norm()) for parameter in module.parameters()]


def validate(world: Path, written: Path) -> dict[str, float]:
    """Metrics of random weights on the world's validation split; writes predictions into a folder."""
    torch.manual_seed(0)
    tokenizer = UnifiedTokenizer.from_preset("quickstart", image=world.parent / "images")
    module = LanguageModule(tokenizer, backbone=TINY, embeddings=NewEmbeddings(image_positions=True), total_steps=10)
    for parameter in module.parameters():
        parameter.data.mul_(4)
    data = ClevrDataModule(world, module.tokenizer, TASKS, eval_batch_size=2)
    # A pair of a scene and an earlier picture lies on one rank where 2 is a multiple of their number.
    pictures = [Rendering(), Rerecognition("recognizer_quickstart", apart=2)]
    scored = [Jaccard(), Ceilings(), QuestionAnswering(), Editing(), WellFormed(), Likelihood(), *pictures]
    made = trainer(callbacks=[*scored, Predictions(str(written))])
    made.validate(module, datamodule=data, verbose=False)
    return {name: float(value) for name, value in made.callback_metrics.items()}


if __name__ == "__main__":
    result = {"norms": train(), "metrics": validate(Path(sys.argv[1]), Path(sys.argv[2]).with_suffix(""))}
    if os.environ["RANK"] == "0":
        Path(sys.argv[2]).write_text(json.dumps(result))
