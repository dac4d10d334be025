"""`kyvo bench generate`: writing with our decoder beside the official code's way and transformers' `generate`.

Letters: B batch.
"""

import time
from collections.abc import Sequence
from dataclasses import replace
from statistics import median
from typing import Any, Literal

import torch
from torch import Tensor

from kyvo.bench.generate_ways import WAYS, Way, Work, Writer
from kyvo.bench.machine import describe_machine
from kyvo.bench.train_step import Setting
from kyvo.generation.choices import Choices
from kyvo.models.language_model import KyvoForCausalLM
from kyvo.models.plain import to_plain
from kyvo.training.backbone import Backbone

TASKS = {"rendering": "3-I", "recognition": "I-3"}
"""What is written: an image of a scene, the scene of an image."""

_GRAMMAR_REPEATS = 5


def bench(
    hidden_size: int = 256,
    layers: int = 4,
    heads: int = 4,
    key_value_heads: int = 1,
    intermediate_size: int | None = None,
    batch_size: int = 16,
    objects: int = 10,
    image_codes: int | None = None,
    repeats: int = 3,
    official_samples: int = 1,
    ways: list[Way] | None = None,
    compile: bool = False,
    dtype: Literal["float32", "bfloat16"] = "float32",
    device: str | None = None,
) -> dict[str, Any]:
    """Measure greedy writing of images and of scenes with equal random weights, in one process.

    The vocabulary is the paper's, of 137,607 ids. Ours: batched, cached, the head at the ids that the grammar allows.
    official: one sample at a time, the whole sequence computed anew for each token, float32 logits at every position.
    hf: transformers' `generate` on a plain Llama with a LogitsProcessor that enforces the same grammar.

    Args:
        hidden_size: Size of the model's vectors.
        layers: Transformer blocks.
        heads: Attention heads.
        key_value_heads: Heads of keys and values; default is a quarter of the heads, as in Llama 3.2.
        intermediate_size: Width of the feed-forward; default is 8/3 of the hidden size.
        batch_size: Samples written at once.
        objects: Objects of every scene.
        image_codes: Codes of an image, a square number; default is 256.
        repeats: How often ours and hf are timed, in turns, after once that is not; the median counts.
        official_samples: How many samples are written in the official way, once; a sample takes about a minute.
        ways: Which to measure; default is all three.
        compile: Compile the blocks in our way.
        dtype: Type of weights and of all else.
        device: cpu or cuda; default is the GPU if there is one.

    Raises:
        ValueError: If nothing is to be measured, or what is written differs between the ways in float32.
    """
    if min(batch_size, objects, repeats, official_samples) < 1 or official_samples > batch_size:
        raise ValueError(
            "expected positive batch_size, objects, repeats, and official_samples up to batch_size, got "
            f"{batch_size}, {objects}, {repeats} and {official_samples}"
        )
    place = device or ("cuda" if torch.cuda.is_available() else "cpu")
    chosen = [way for way in WAYS if way in (ways or WAYS)]
    backbone = Backbone(hidden_size, layers, heads, key_value_heads, intermediate_size)
    model = Setting(backbone, batch_size, place, dtype).model().eval()
    writer = Writer(model, to_plain(model), compile)
    setting = {"vocabulary": model.config.vocab_size, "backbone": backbone.to_llama(), "batch_size": batch_size}
    setting |= {"objects": objects, "dtype": dtype, "compile": compile}
    report: dict[str, Any] = {"machine": describe_machine(place), "setting": setting}
    taken = []
    for name, spec in TASKS.items():
        work = Work.random(spec, batch_size, objects, image_codes).to(place)
        seconds, written = _take_turns(writer, work, chosen, repeats, official_samples)
        _check_tokens(written, dtype)
        report[name] = {"tokens": work.grammar.max_length} | _rates(seconds)
        if "ours" in seconds:
            share = _grammar_seconds(model, work) / (seconds["ours"] * batch_size)
            report[name]["grammar_share"] = round(share, 4)
        taken.append(seconds)
    return report | _rates({way: sum(one[way] for one in taken) / len(taken) for way in chosen})


def _take_turns(
    writer: Writer, work: Work, ways: Sequence[Way], repeats: int, official_samples: int
) -> tuple[dict[Way, float], dict[Way, Tensor]]:
    """Seconds a sample, and what was written, of each way."""
    seconds: dict[Way, float] = {}
    quick: list[Way] = [way for way in ways if way != "official"]
    written = {way: writer.write(way, work) for way in quick}
    rounds = [{way: _seconds(writer, way, work)[0] for way in quick} for _ in range(repeats)]
    for way in quick:
        seconds[way] = median(one[way] for one in rounds) / len(work.prompts)
    if "official" in ways:
        some = replace(work, prompts=work.prompts[:official_samples])
        taken, written["official"] = _seconds(writer, "official", some)
        seconds["official"] = taken / official_samples
    return seconds, written


def _seconds(writer: Writer, way: Way, work: Work) -> tuple[float, Tensor]:
    start = time.perf_counter()
    written = writer.write(way, work)
    _wait(written)
    return time.perf_counter() - start, written


def _wait(result: Tensor) -> None:
    if result.is_cuda:
        torch.cuda.synchronize(result.device)


def _check_tokens(written: dict[Way, Tensor], dtype: str) -> None:
    """Ways differ in the order of their sums, which in bfloat16 may decide between tokens."""
    if dtype != "float32":
        return
    for way, ids in written.items():
        ours = written.get("ours", ids)[: len(ids)]
        if not torch.equal(ours, ids):
            raise ValueError(
                f"expected equal tokens of ours and {way}, {int((ours != ids).sum())} of {ids.numel()} differ"
            )


@torch.inference_mode()
def _grammar_seconds(model: KyvoForCausalLM, work: Work) -> float:
    """Seconds that binding logits and following states take while a batch is written."""
    grammar, rows, device = work.grammar, len(work.prompts), work.prompts.device
    following, mask_of = grammar.next.to(device), grammar.mask_of.to(device)
    choices = {step.candidates: Choices(model, step.candidates) for step in grammar.steps}
    logits = {one: torch.randn(rows, len(one.ids), device=device) for one in choices}
    state = torch.full((rows,), grammar.start, device=device)
    chosen = torch.zeros_like(state)
    taken = []
    for _ in range(_GRAMMAR_REPEATS):
        start = time.perf_counter()
        for step in grammar.steps:
            choices[step.candidates].bind(logits[step.candidates], state, mask_of)
            if step.after is None:
                following[state, choices[step.candidates].classes[chosen]]
            else:
                torch.full_like(state, step.after)
        _wait(state)
        taken.append(time.perf_counter() - start)
    return median(taken)


def _rates(seconds: dict[Way, float]) -> dict[str, Any]:
    """Samples a second of each way, and how many times as many ours writes."""
    rates: dict[str, Any] = {way: {"samples_per_second": float(f"{1 / one:.4g}")} for way, one in seconds.items()}
    for other in ("official", "hf"):
        if {"ours", other} <= set(seconds):
            rates[f"speedup_vs_{other}"] = round(seconds[other] / seconds["ours"], 2)
    return rates
