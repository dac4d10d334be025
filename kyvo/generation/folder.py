"""The folder of an exported model: weights that plain transformers reads, and in a folder of its own what Kyvo adds."""

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import LlamaForCausalLM

from kyvo.assets import resolve
from kyvo.models.language_model import KyvoForCausalLM
from kyvo.models.plain import from_plain
from kyvo.tokenizers.tokenizer import UnifiedTokenizer
from kyvo.tokenizers.vocabulary import Vocabulary

KYVO = "kyvo"
"""Folder, in that of a model, of the unified tokenizer and the list of tasks."""

TASKS = "tasks.json"
ADAPTER = "adapter_config.json"
"""What peft's folders have; its presence says that the weights are an adapter's."""


@dataclass(frozen=True)
class ModelFolder:
    """What a folder holds.

    Args:
        model: The language model; adapters are merged into it.
        tokenizer: The unified tokenizer.
        tasks: Specs of the tasks that the model was trained for; None where that is not known.
    """

    model: KyvoForCausalLM
    tokenizer: UnifiedTokenizer
    tasks: tuple[str, ...] | None


def write_extras(folder: Path, tokenizer: UnifiedTokenizer, tasks: tuple[str, ...] | None) -> None:
    """Write what `read_folder` wants beside the weights."""
    tokenizer.save_pretrained(folder / KYVO)
    if tasks is not None:
        (folder / KYVO / TASKS).write_text(json.dumps(list(tasks)) + "\n", encoding="utf-8")


def read_folder(source: str | Path, dtype: torch.dtype | None = None) -> ModelFolder:
    """Read a folder that `kyvo export` wrote.

    Args:
        source: The folder, the name of a model that ships, or the id of such a repository on the Hub.
        dtype: Type of the weights; by default that of the file, but float32 for float16, which is for storing.

    Raises:
        ValueError: If it is another folder, or no such repository can be had.
    """
    folder = _local(source)
    if not (folder / KYVO).is_dir():
        raise ValueError(f"{source} is no model that `kyvo export` wrote: it lacks the folder {KYVO}/")
    tokenizer = UnifiedTokenizer.from_pretrained(folder / KYVO)
    tasks = folder / KYVO / TASKS
    specs = tuple(json.loads(tasks.read_text(encoding="utf-8"))) if tasks.is_file() else None
    return ModelFolder(_model(folder, tokenizer.vocabulary, dtype), tokenizer, specs)


def _local(source: str | Path) -> Path:
    folder = Path(resolve(source))
    if folder.is_dir():
        return folder
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(str(source)))
    except (HFValidationError, HfHubHTTPError, LocalEntryNotFoundError) as error:
        raise ValueError(f"{source!r} is neither a folder nor a repository that the Hub gives out: {error}") from error


def _model(folder: Path, vocabulary: Vocabulary, dtype: torch.dtype | None) -> KyvoForCausalLM:
    if (folder / ADAPTER).is_file():
        # Adapters are trained over float32, whatever the type of the backbone's file.
        return from_plain(_adapted(folder, vocabulary.size, dtype or torch.float32), vocabulary)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    stored = torch.float32 if config.get("dtype") == "float16" else "auto"
    if config.get("model_type") == "kyvo":
        return KyvoForCausalLM.from_pretrained(folder, dtype=dtype or stored)
    return from_plain(LlamaForCausalLM.from_pretrained(folder, dtype=dtype or stored), vocabulary)


def _adapted(folder: Path, size: int, dtype: torch.dtype) -> LlamaForCausalLM:
    """The backbone that the adapter names, with a row for each id and the adapter merged into it."""
    from peft import PeftConfig, PeftModel

    backbone = PeftConfig.from_pretrained(str(folder)).base_model_name_or_path
    try:
        base = LlamaForCausalLM.from_pretrained(backbone, dtype=dtype)
    except OSError as error:
        raise ValueError(f"{folder} is an adapter of {backbone!r}, which cannot be read: {error}") from error
    # Rows that the adapter brings are of no interest before.
    base.resize_token_embeddings(size, mean_resizing=False)
    # The adapter brings an embedding and a head of its own.
    base.config.tie_word_embeddings = False
    merged: LlamaForCausalLM = PeftModel.from_pretrained(base, str(folder)).merge_and_unload(safe_merge=True)
    return merged
