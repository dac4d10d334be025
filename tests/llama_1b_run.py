"""A step of the paper's recipe from a Llama of the true 1B shape, random weights, on a CPU.

Usage: python -m tests.llama_1b_run make FOLDER, then fit, then export; the last two print their peak memory as JSON.
"""

import json
import resource
import sys
from pathlib import Path

import torch
import yaml
from tokenizers import AddedToken
from transformers import LlamaConfig, LlamaForCausalLM

from data_modules.make import make
from data_modules.recipes.clevr import ClevrRecipe
from kyvo import cli
from kyvo.models.image_vq import ImageNetwork, build_vq_model
from kyvo.tokenizers.images import ImageTokenizer
from kyvo.tokenizers.text import EMBEDDED, TextTokenizer

SHAPE = {
    "vocab_size": 128_256, "hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 16,
    "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 64, "max_position_embeddings": 131_072,
    "rms_norm_eps": 1e-5, "tie_word_embeddings": True, "rope_parameters": {
        "rope_type": "llama3", "rope_theta": 500_000.0, "factor": 32.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    },
}  # fmt: skip


def prepare(folder: Path) -> None:
    """Llama, its tokenizer, an image tokenizer of the paper's sizes, four scenes, the config."""
    _save_llama(folder / "llama")
    network = ImageNetwork(
        (256, 256), channels=(8, 8, 8, 8, 16), layers=1, codes=1024, code_dim=256, latent_channels=256, groups=4,
        attention=(), mid_attention=False,
    )  # fmt: skip
    ImageTokenizer(build_vq_model(network)).save_pretrained(folder / "images")
    make(folder / "world", ClevrRecipe(scenes={"train": 3, "val": 1}, questions=0, edits=0), workers=1)
    # No GPU and no bitsandbytes here, and nothing to evaluate; all else is the recipe's.
    changes = {
        "tokenizer": {"text": str(folder / "llama"), "image": str(folder / "images")},
        "model": {"init_args": {"backbone": str(folder / "llama"), "optimizer": {"name": "adamw"}}},
        "data": {
            "init_args": {"root": str(folder / "world"), "batch_size": 1, "num_workers": 0, "workers": 1, "make": None}
        },
        "trainer": {
            "accelerator": "cpu", "precision": "bf16-true", "max_steps": 1, "limit_val_batches": 0,
            "num_sanity_val_steps": 0, "enable_progress_bar": False, "callbacks": [{
                "class_path": "lightning.pytorch.callbacks.ModelCheckpoint",
                "init_args": {"save_last": True, "save_top_k": 0, "every_n_train_steps": 1},
            }],
        },
    }  # fmt: skip
    (folder / "cpu.yaml").write_text(yaml.safe_dump(changes))


def _save_llama(folder: Path) -> None:
    torch.manual_seed(0)
    torch.set_default_dtype(torch.bfloat16)
    model = LlamaForCausalLM(LlamaConfig(**SHAPE))
    torch.set_default_dtype(torch.float32)
    model.save_pretrained(folder)
    text = TextTokenizer.from_pretrained(EMBEDDED)
    spare = range(SHAPE["vocab_size"] - text.size)
    text.backend.add_tokens([AddedToken(f"<|reserved_{index}|>", special=True) for index in spare])
    text.save_pretrained(folder)


def main(action: str, folder: Path) -> None:
    """Run one of the actions."""
    if action == "make":
        prepare(folder)
        return
    words = {
        "fit": [
            word for name in ("llama3_2_1b/base", "llama3_2_1b/clevr_recognition", "cpu.yaml") for word in ("-c", name)
        ],
        "export": ["runs/llama3_2_1b/clevr_recognition", "--out", "exported", "--dtype", "bfloat16"],
    }
    cli.main([action, *words[action]])
    # Linux counts in kilobytes.
    sys.stdout.write(json.dumps({"peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}) + "\n")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
