"""Runs of a few steps by `kyvo fit`, from a small Llama checkpoint, for what reads runs."""

from pathlib import Path

import pytest
import torch
import yaml
from transformers import LlamaConfig, LlamaForCausalLM

from kyvo import cli
from kyvo.tokenizers.text import EMBEDDED, TextTokenizer
from tests.resume_run import save_images
from tests.worlds import TINY


def save_llama(folder: Path) -> Path:
    """A Llama of random weights over the ids of the embedded text tokenizer, tied like Llama 3.2."""
    torch.manual_seed(1)
    size = TextTokenizer.from_pretrained(EMBEDDED).size
    config = LlamaConfig(vocab_size=size, tie_word_embeddings=True, initializer_range=0.05, **TINY.to_llama())
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def fit(folder: Path, **model) -> Path:
    """Train three steps on a world of eight scenes; returns the folder of the run.

    Args:
        folder: Where everything goes.
        **model: Arguments of the language module, over fine-tuning from the small Llama.
    """
    checkpoints = {"dirpath": "runs/tiny/checkpoints", "save_last": True, "save_top_k": 0, "every_n_train_steps": 1}
    logger = {"save_dir": "runs", "name": "tiny", "version": ""}
    options = {
        "backbone": str(save_llama(folder / "llama")),
        "recipe": "fft",
        "embeddings": {"image_positions": False},
        "optimizer": {"name": "adamw", "lr": 0.02, "warmup_steps": 1},
    }
    make = {"scenes": {"train": 8, "val": 4}, "scenes_per_shard": 4, "edits": 1, "questions": 2}
    changes = {
        "tokenizer": {"image": str(save_images(folder / "images"))},
        "model": {"init_args": options | model},
        "data": {"init_args": {"batch_size": 2, "make": make, "workers": 1}},
        "trainer": {
            "max_steps": 3,
            "limit_val_batches": 0,
            "logger": [{"class_path": "kyvo.training.metrics_log.MetricsLog", "init_args": logger}],
            "callbacks": [
                {"class_path": "lightning.pytorch.callbacks.ModelCheckpoint", "init_args": checkpoints},
            ],
            "enable_progress_bar": False,
        },
    }
    (folder / "tiny.yaml").write_text(yaml.safe_dump(changes))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        cli.run_trainer(["fit", "-c", "quickstart", "-c", str(folder / "tiny.yaml")])
    return folder / "runs" / "tiny"
