"""Evaluates a model of random weights with its page, on one process or on as many as torchrun starts.

Usage: torchrun --nproc-per-node N -m tests.report_run WORLD_FOLDER OUTPUT_FOLDER
"""

import os
import sys
from pathlib import Path

import torch
from lightning import Trainer
from lightning.pytorch.loggers import CSVLogger

from callbacks.jaccard import Jaccard
from callbacks.predictions import Predictions
from callbacks.question_answering import QuestionAnswering
from callbacks.rendering import Rendering
from callbacks.report import Report
from data_modules.clevr import ClevrDataModule
from kyvo.training.language import LanguageModule
from tests.tiny_world import tiny_tokenizer
from tests.worlds import TINY

TASKS = {"3-I": 1.0, "I-3": 1.0, "I+3+Q-A": 1.0}


def evaluate(world: Path, folder: Path, **options) -> Path:
    """Test random weights on a world's validation split; returns where the page should be."""
    tokenizer = tiny_tokenizer()
    # After the tokenizer, which draws its weights when it is first asked for.
    torch.manual_seed(0)
    module = LanguageModule(tokenizer, backbone=TINY, total_steps=1)
    data = ClevrDataModule(world, tokenizer, TASKS, eval_batch_size=2, test_split="val")
    trainer = Trainer(
        accelerator="cpu", logger=CSVLogger(folder, name="run", version="test"), enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, use_distributed_sampler=False,
        callbacks=[Report(rows=1), Predictions(), Jaccard(), QuestionAnswering(), Rendering()], **options,
    )  # fmt: skip
    trainer.test(module, datamodule=data, verbose=False)
    return folder / "run" / "test" / "report.html"


if __name__ == "__main__":
    evaluate(Path(sys.argv[1]), Path(sys.argv[2]), strategy="ddp", devices=int(os.environ["WORLD_SIZE"]))
