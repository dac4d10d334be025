"""A run's run.json: command, code, versions, machine, seed and end of each process that worked on the run."""

import json
import os
import platform
import resource
import subprocess
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

Status = Literal["running", "finished", "interrupted", "failed"]

PACKAGES = ("kyvo", "torch", "lightning", "torchmetrics", "transformers", "diffusers", "peft", "numpy", "webdataset")


@dataclass
class RunRecord:
    """One process of a run; a run that is stopped and resumed has several.

    Attributes:
        command: The command line.
        seed: Seed of everything.
        processes: Number of processes that train together.
        nodes: Number of machines.
        precision: Of the trainer, such as "bf16-mixed".
        config: Every setting, with defaults.
        status: `running` also stands in the record of a process that was killed.
        error: What it failed with.
        started: When, ISO 8601, UTC.
        ended: When; none while it runs, or if it was killed.
        checkpoint: The one that it went on from, or evaluated.
        first_step: Optimiser steps taken before.
        last_step: Optimiser steps taken in the end.
        parameters: Weights of the model.
        trained_parameters: Those that train.
        peak_memory_gb: Most memory that the first process held: of its GPU, else of the process.
        commit: Git's commit of the code, where it is a checkout; "-dirty" is added if its files were changed.
        versions: Of Python, of the packages that matter and of CUDA.
        machine: Its name, system, processor, cores, memory in GB, and accelerators.
    """

    command: str
    seed: int | None
    processes: int
    nodes: int
    precision: str
    config: dict[str, Any] = field(repr=False)
    status: Status = "running"
    error: str | None = None
    started: str = field(default_factory=lambda: _now())
    ended: str | None = None
    checkpoint: str | None = None
    first_step: int | None = None
    last_step: int | None = None
    parameters: int | None = None
    trained_parameters: int | None = None
    peak_memory_gb: float | None = None
    commit: str | None = field(default_factory=lambda: commit_of(Path(__file__).parents[1]))
    versions: dict[str, str] = field(default_factory=lambda: installed_versions())
    machine: dict[str, Any] = field(default_factory=lambda: this_machine())

    def end(self, status: Status, step: int, error: str | None = None) -> None:
        """Note how and where it ended, and what memory it took."""
        self.status, self.error, self.ended, self.last_step = status, error, _now(), step
        self.peak_memory_gb = peak_memory_gb()


@dataclass
class RunFile:
    """The run.json of a folder: its records in the order of their start, this process's the last.

    Args:
        path: The file.
        record: This process's.

    Raises:
        ValueError: If the file is there and is none of ours.
    """

    path: Path
    record: RunRecord

    def __post_init__(self) -> None:
        self._before = read_records(self.path) if self.path.is_file() else []

    def write(self) -> None:
        """Write the file; whoever reads it meanwhile finds the old or the new one whole."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps({"starts": [*self._before, asdict(self.record)]}, indent=1)
        draft = self.path.with_name(self.path.name + ".draft")
        draft.write_text(text + "\n", encoding="utf-8")
        os.replace(draft, self.path)


def read_records(path: Path) -> list[dict[str, Any]]:
    """The records of a run.json, in the order of their start.

    Raises:
        ValueError: If it is none.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not JSON: {error}") from error
    if not isinstance(found, Mapping) or not isinstance(found.get("starts"), list):
        raise ValueError(f'{path}: expected {{"starts": [...]}}, as a run writes it')
    return list(found["starts"])


# ---- surroundings ---------------------------------------------------------------------------------------------------


def commit_of(folder: Path) -> str | None:
    """Git's commit of a folder that is tracked, with "-dirty" where tracked files were changed; None otherwise."""
    # A package that is installed below some other checkout is not tracked by it.
    if not _git(folder, "ls-files", "."):
        return None
    commit = _git(folder, "rev-parse", "HEAD")
    return f"{commit}-dirty" if commit and _git(folder, "status", "--porcelain", "--untracked-files=no") else commit


def _git(folder: Path, *words: str) -> str | None:
    """What git says; None without git, without an answer, or if it refuses."""
    try:
        done = subprocess.run(["git", "-C", folder, *words], capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None


def installed_versions() -> dict[str, str]:
    """Of Python, of the packages that matter and are installed, and of CUDA where torch is built for it."""
    import torch

    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    # The metadata lacks what the module says of its build.
    found["torch"] = torch.__version__
    return found | ({"cuda": torch.version.cuda} if torch.version.cuda else {})


def this_machine() -> dict[str, Any]:
    """Name, system, processor, cores that may be used, memory in GB, accelerators and their memory in GB."""
    import torch

    gpus = [torch.cuda.get_device_properties(index) for index in range(torch.cuda.device_count())]
    return {
        "name": platform.node(),
        "system": platform.platform(),
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gb": _memory_gb(),
        "accelerators": [{"name": gpu.name, "memory_gb": round(gpu.total_memory / 1e9, 1)} for gpu in gpus],
    }


def peak_memory_gb() -> float:
    """Most memory that this process has held so far, in GB: of its GPU where it has used one, else its resident set."""
    import torch

    if torch.cuda.is_available() and torch.cuda.max_memory_allocated():
        return round(torch.cuda.max_memory_allocated() / 1e9, 3)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # Linux counts kB, macOS bytes.
    return round(peak / (1e9 if platform.system() == "Darwin" else 1e6), 3)


def _processor() -> str:
    path = Path("/proc/cpuinfo")
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _memory_gb() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1)
    except (ValueError, OSError, AttributeError):
        return None


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
