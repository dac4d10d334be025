"""`kyvo export`: a trained model as a Hugging Face folder."""

from pathlib import Path
from typing import Any, Literal

import torch
from transformers import GenerationConfig, PreTrainedModel

from kyvo.generation.folder import write_extras
from kyvo.model_card import ModelCard
from kyvo.models.language_model import KyvoForCausalLM
from kyvo.models.plain import to_plain, why_not_plain
from kyvo.task import Task
from kyvo.tokenizers.plain import save_plain_tokenizer
from kyvo.tokenizers.tokenizer import UnifiedTokenizer
from kyvo.training.adapters import Lora, merge_adapters
from kyvo.training.language import LanguageModule
from kyvo.training.stored_run import StoredRun

Dtype = Literal["float32", "bfloat16", "float16"]

WHOLE = ["embed_tokens", "lm_head"]
"""What of a plain Llama the unified vocabulary changes: an adapter's folder holds both."""


def export(
    *source: str, out: Path, adapter: Literal["merge", "keep"] = "merge", dtype: Dtype = "float32"
) -> dict[str, Any]:
    """Write a trained language model as a Hugging Face folder that Kyvo.from_pretrained reads.

    Where a plain Llama computes the same, the folder holds one, with a row for each id, which transformers reads
    without this package: weights (safetensors), tokenizer, config, generation config and model card.

    Args:
        source: The folder of a run, or a checkpoint.
        out: Folder to write, new or empty.
        adapter: What becomes of LoRA's adapters: added to the weights, or kept as a folder of peft, with the embedding
            and the head, which the new ids change, over the backbone.
        dtype: Type of the weights in the file.

    Returns:
        The folder, what it holds (llama, kyvo or adapter), the steps of its training and its size.

    Raises:
        ValueError: If there is no such run, out holds something, or there is no adapter to keep.
    """
    if len(source) != 1:
        raise ValueError(f"expected one run or checkpoint, got {len(source)}")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ValueError(f"--out takes a new or an empty folder, {out} holds something")
    run = StoredRun.find(source[0])
    module, keep = run.module, adapter == "keep"
    if keep:
        _save_adapter(module, out, getattr(torch, dtype))
    else:
        _save_merged(module.model, out, getattr(torch, dtype))
    _generation_config(run.tokenizer, run.tasks).save_pretrained(out)
    save_plain_tokenizer(run.tokenizer.text, run.tokenizer.vocabulary, out)
    write_extras(out, run.tokenizer, run.tasks or None)
    card = model_card(run, keep)
    (out / "README.md").write_text(card.markdown(), encoding="utf-8")
    kind = "adapter" if keep else "llama" if card.not_plain is None else "kyvo"
    return {"folder": str(out), "kind": kind, "steps": run.steps, "bytes": _size(out)}


def model_card(run: StoredRun, adapter: bool = False) -> ModelCard:
    """What is known of a run's model.

    Args:
        run: The run.
        adapter: Whether the adapter is kept.
    """
    given = run.module.hparams
    backbone = given["backbone"] if isinstance(given["backbone"], str) else None
    return ModelCard(
        run.tokenizer.vocabulary,
        run.module.recipe,
        run.steps,
        run.tasks,
        run.roots,
        given.get("init") or backbone,
        adapter,
        why_not_plain(run.module.model),
    )


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


# ---- weights --------------------------------------------------------------------------------------------------------


def _save_merged(model: KyvoForCausalLM, out: Path, dtype: torch.dtype) -> None:
    merge_adapters(model)
    whole: PreTrainedModel = model if why_not_plain(model) else to_plain(model)
    whole.to(dtype).save_pretrained(out)


def _save_adapter(module: LanguageModule, out: Path, dtype: torch.dtype) -> None:
    """Write adapters in peft's format, as those of a plain Llama.

    Raises:
        ValueError: If there are none, or the model is no plain Llama.
    """
    if module.recipe != "lora":
        raise ValueError(f"recipe {module.recipe!r} leaves no adapter to keep: export it without --adapter keep")
    reason = why_not_plain(module.model)
    if reason is not None:
        raise ValueError(f"an adapter is kept over a plain Llama, which this is not: {reason}; merge it")
    adapted = _as_peft(module.model, module.hparams["lora"])
    adapted.peft_config["default"].base_model_name_or_path = str(module.hparams["backbone"])
    # Both matrices that a larger vocabulary changes are saved whole; peft would ask the Hub about it.
    adapted.to(dtype).save_pretrained(str(out), save_embedding_layers=False)


def _as_peft(model: KyvoForCausalLM, lora: Lora) -> Any:
    """A plain Llama with the same adapters, as peft saves it."""
    from peft import get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict

    plain = to_plain(model)
    state = get_peft_model_state_dict(model, adapter_name="default")
    # The wrappers of what is saved whole expect it here too.
    state |= {name: value for name, value in plain.state_dict().items() if name.split(".")[-2] in WHOLE}
    adapted = get_peft_model(plain, lora.to_peft(WHOLE))
    set_peft_model_state_dict(adapted, {f"base_model.model.{name}": value for name, value in state.items()})
    return adapted


# ---- generation -----------------------------------------------------------------------------------------------------


def _generation_config(tokenizer: UnifiedTokenizer, tasks: tuple[str, ...]) -> GenerationConfig:
    """Greedy, as long as the longest output of the model's tasks."""
    words = tokenizer.vocabulary
    longest = max((tokenizer.grammar(Task.parse(spec)).max_length for spec in tasks), default=None)
    return GenerationConfig(
        bos_token_id=words.bos, eos_token_id=words.eos, pad_token_id=words.pad, do_sample=False, max_new_tokens=longest
    )
