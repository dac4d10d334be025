"""`kyvo bench train`: a training step of ours beside the official code's way and transformers' own.

Letters: L layers, D hidden size, V vocabulary.
"""

import multiprocessing
import os
import platform
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any, Literal

import torch
from torch import Tensor

from kyvo.bench.train_step import WAYS, Setting, Way
from kyvo.training.backbone import Backbone

_PEAK_TFLOPS = {"H100": 989.0, "H200": 989.0, "A100": 312.0}
"""Dense bfloat16 of GPUs whose name holds the key."""


def bench(
    hidden_size: int = 256,
    layers: int = 4,
    heads: int = 4,
    key_value_heads: int | None = None,
    intermediate_size: int | None = None,
    batch_size: int = 16,
    steps: int = 3,
    ways: list[Way] | None = None,
    pack: int = 0,
    compile: bool = False,
    recompute: bool = False,
    dtype: Literal["float32", "bfloat16"] = "float32",
    device: str | None = None,
    memory: bool = True,
    peak_tflops: float | None = None,
) -> dict[str, Any]:
    """Measure training steps of equal samples and weights, in one process, and the memory of each in one of its own.

    The vocabulary is the paper's, of 137,607 ids; half of the samples are recognition, half questions. A step is
    forward, backward and AdamW. Ours: the head at supervised positions only, in chunks, and a fused optimiser.
    official: right-padded batch, every embedding table looked up for each token, full float32 logits. hf: labels given
    to transformers' own model.

    Args:
        hidden_size: Size of the model's vectors.
        layers: Transformer blocks.
        heads: Attention heads.
        key_value_heads: Heads of keys and values; default is as many.
        intermediate_size: Width of the feed-forward; default is 8/3 of the hidden size.
        batch_size: Samples of a step.
        steps: Steps that are timed, after one that is not; the ways take turns, and the median counts.
        ways: Which to measure; default is all three.
        pack: Tokens of a row into which ours packs sequences; 0 pads them as the other ways do.
        compile: Compile the blocks in our way.
        recompute: Recompute the blocks in the backward pass of every way, which saves memory.
        dtype: Type of weights and of all else.
        device: cpu or cuda; default is the GPU if there is one.
        memory: Whether to measure memory too, by two more steps of each way.
        peak_tflops: What the device could do, in 10^12 operations a second, for the share of it that is used (MFU);
            known for some GPUs.

    Raises:
        ValueError: If nothing is to be measured, or the ways' losses differ in float32.
    """
    if batch_size < 2 or steps < 1:
        raise ValueError(f"expected batch_size >= 2 and steps >= 1, got {batch_size} and {steps}")
    chosen = [way for way in WAYS if way in (ways or WAYS)]
    backbone = Backbone(hidden_size, layers, heads, key_value_heads, intermediate_size)
    place = device or ("cuda" if torch.cuda.is_available() else "cpu")
    setting = Setting(backbone, batch_size, place, dtype, pack, compile, recompute)
    peaks = {way: _peak_in_a_process_of_its_own(setting, way) for way in chosen} if memory else {}
    seconds, losses = _time(setting, chosen, steps)
    _check_losses(losses, dtype)
    tokens = sum(len(one) for one in setting.samples().sequences)
    report: dict[str, Any] = {"machine": _machine(place), "setting": _described(setting, tokens)}
    for way in chosen:
        report[way] = {
            "tokens_per_second": round(tokens / seconds[way], 1),
            "step_seconds": round(seconds[way], 4),
            "peak_memory_bytes": peaks.get(way),
            "loss": losses[way],
        }
    return report | _compared(seconds, peaks) | _utilisation(setting, seconds, peak_tflops)


# ---- time -----------------------------------------------------------------------------------------------------------


def _time(setting: Setting, ways: Sequence[Way], steps: int) -> tuple[dict[Way, float], dict[Way, float]]:
    """Median seconds of a step and the loss of each way, which take turns on one model."""
    model = setting.model()
    run = {way: setting.step(way, model) for way in ways}
    losses = {way: float(_turn(run[way])[1]) for way in ways}
    rounds = [{way: _turn(run[way])[0] for way in ways} for _ in range(steps)]
    return {way: median(one[way] for one in rounds) for way in ways}, losses


def _turn(step: Callable[[], Tensor]) -> tuple[float, Tensor]:
    """Seconds of one step, and its loss."""
    start = time.perf_counter()
    loss = step()
    if loss.is_cuda:
        torch.cuda.synchronize()
    return time.perf_counter() - start, loss


def _check_losses(losses: dict[Way, float], dtype: str) -> None:
    lowest, highest = min(losses.values()), max(losses.values())
    if dtype == "float32" and highest - lowest > 1e-5 * highest:
        raise ValueError(f"expected the same loss within 1e-5 of all ways, got {losses}")


# ---- memory ---------------------------------------------------------------------------------------------------------


def _peak_in_a_process_of_its_own(setting: Setting, way: Way) -> int:
    # Started anew, not forked: memory that this process ever had would count.
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_peak, (setting, way))


def _peak(setting: Setting, way: Way) -> int:
    """Bytes of this process, or of its GPU, at their highest over two steps: the second has the optimiser's state."""
    step = setting.step(way, setting.model())
    for _ in range(2):
        _turn(step)
    if setting.device.startswith("cuda"):
        return torch.cuda.max_memory_allocated()
    return resident_peak()


def resident_peak() -> int:
    """Bytes that this process held in memory at its highest: interpreter and libraries included.

    Raises:
        ValueError: Where the system does not say (other than Linux).
    """
    status = Path("/proc/self/status")
    if not status.is_file():
        raise ValueError("peak memory is read from /proc, which this system lacks: use --memory false")
    # Not getrusage: its peak outlives exec, and so is that of whoever started this process.
    line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024


# ---- report ---------------------------------------------------------------------------------------------------------


def _machine(device: str) -> dict[str, Any]:
    on_gpu = device.startswith("cuda")
    return {
        "processor": torch.cuda.get_device_name(device) if on_gpu else platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load": round(os.getloadavg()[0], 1),
        "torch": torch.__version__,
    }


def _described(setting: Setting, tokens: int) -> dict[str, Any]:
    samples, backbone = setting.samples(), setting.backbone
    return {
        "vocabulary": samples.vocabulary.size,
        "hidden_size": backbone.hidden_size,
        "layers": backbone.layers,
        "batch_size": setting.batch_size,
        "tokens": tokens,
        "supervised_tokens": _supervised(setting),
        "dtype": setting.dtype,
        "pack": setting.pack,
        "compile": setting.compile,
        "recompute": setting.recompute,
    }


def _supervised(setting: Setting) -> int:
    return sum(int((one.weights > 0).sum()) for one in setting.samples().sequences)


def _compared(seconds: dict[Way, float], peaks: dict[Way, int]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for other in ("official", "hf"):
        if {"ours", other} <= set(seconds):
            found[f"speedup_vs_{other}"] = round(seconds[other] / seconds["ours"], 2)
        if {"ours", other} <= set(peaks):
            found[f"memory_vs_{other}"] = round(peaks["ours"] / peaks[other], 4)
    return found


def _utilisation(setting: Setting, seconds: dict[Way, float], peak_tflops: float | None) -> dict[str, Any]:
    """Share of what the device could do that goes into supervised work, where its peak is known."""
    if setting.device.startswith("cuda") and peak_tflops is None:
        name = torch.cuda.get_device_name(setting.device)
        peak_tflops = next((peak for key, peak in _PEAK_TFLOPS.items() if key in name), None)
    if peak_tflops is None:
        return {}
    work = supervised_work(setting)
    return {"mfu": {way: round(work / taken / (peak_tflops * 1e12), 4) for way, taken in seconds.items()}}


def supervised_work(setting: Setting) -> float:
    """Floating-point operations that a step cannot do without, forward and backward.

    Blocks at real tokens, attention to what is before in the same sequence, the head at supervised positions; neither
    padding nor anything computed twice counts.
    """
    shape = setting.backbone.to_llama()
    hidden, wide, depth = shape["hidden_size"], shape["intermediate_size"], shape["num_hidden_layers"]
    keys = hidden * shape["num_key_value_heads"] // shape["num_attention_heads"]
    weights = depth * (2 * hidden * hidden + 2 * hidden * keys + 3 * hidden * wide)
    samples = setting.samples()
    lengths = [len(one) for one in samples.sequences]
    # Queries with keys, and scores with values: two products, each over half of the square.
    attention = depth * hidden * 2 * sum(length * length / 2 for length in lengths)
    head = hidden * samples.vocabulary.size * _supervised(setting)
    return 6.0 * (weights * sum(lengths) + attention + head)
