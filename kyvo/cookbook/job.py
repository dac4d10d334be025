"""Jobs: command lines of `kyvo` with a folder of their own, which says how far they are."""

import fcntl
import hashlib
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

Status = Literal["planned", "running", "broken", "finished", "failed"]
"""`broken`: begun, and ended without a word, as a job does that is killed."""

STATE, LOG, LOCK, SETTINGS = "cookbook.json", "output.log", ".running", "run.yaml"
"""Files of a job's folder; the lock is held while its process lives."""

_ERROR = re.compile(r"^(kyvo: error: .*|[\w.]*(?:Error|Exception)\b.*)$", re.MULTILINE)


@dataclass(frozen=True)
class JobState:
    """What a job's folder says of it.

    Args:
        status: How far it is.
        config: What it is of, by dotted names.
        error: What it failed with.
        started: When it was last begun, ISO 8601, UTC.
        ended: When it ended.
    """

    status: Status
    config: Mapping[str, Any]
    error: str = ""
    started: str = ""
    ended: str = ""


@dataclass(frozen=True)
class Job:
    """A command line with a folder of its own.

    Args:
        name: What it is called.
        folder: Where it writes.
        words: The command line, without `kyvo`.
        config: What must not change under it, by dotted names.
        settings: A config of its own, YAML, which the command reads from `run.yaml`; "" for none.
    """

    name: str
    folder: Path
    words: tuple[str, ...]
    config: Mapping[str, Any] = field(repr=False)
    settings: str = field(default="", repr=False)

    def state(self) -> JobState:
        """How far it is.

        Raises:
            ValueError: If it was begun with another config, with what differs and the ways out.
        """
        found = read_state(self.folder)
        if found.status == "planned":
            return found
        then, now = found.config, self.config
        # An option that was not there then is new to the code, and has its default.
        names = [name for name, value in then.items() if name not in now or now[name] != value]
        if names:
            changes = [f"{name}: {_short(then[name])} then, {_short(now.get(name))} now" for name in names[:3]]
            more = [f"and {len(names) - 3} more"] if len(names) > 3 else []
            raise ValueError(
                f"{self.name} was {found.status} with another config ({'; '.join([*changes, *more])}): remove "
                f"{self.folder} to run it anew, or keep it and give --out another folder"
            )
        return found

    def run(self, threads: int | None = None) -> JobState:
        """Run it to its end in a process of its own; one that runs elsewhere is left alone.

        Args:
            threads: Of the process, unless OMP_NUM_THREADS says otherwise; default is torch's choice.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / LOCK).open("w") as lock:
            # The child has the lock too: it stays locked where this process is killed and the child is not.
            if not _lock(lock.fileno()):
                return read_state(self.folder)
            (self.folder / SETTINGS).write_text(self.settings, encoding="utf-8")
            started = _now()
            self._write(JobState("running", self.config, started=started))
            code = self._call(lock.fileno(), threads)
            status: Status = "failed" if code else "finished"
            error = reason(self.folder / LOG, code) if code else ""
            ended = JobState(status, self.config, error, started, _now())
            self._write(ended)
            return ended

    def _call(self, lock: int, threads: int | None) -> int:
        environment = dict(os.environ)
        if threads is not None:
            environment.setdefault("OMP_NUM_THREADS", str(threads))
        with (self.folder / LOG).open("w", encoding="utf-8") as log:
            command = [sys.executable, "-m", "kyvo", *self.words]
            return subprocess.run(
                command, stdout=log, stderr=subprocess.STDOUT, env=environment, pass_fds=[lock], check=False
            ).returncode

    def _write(self, state: JobState) -> None:
        text = json.dumps({"job": self.name, "digest": digest(self.config), **asdict(state)}, indent=1)
        draft = self.folder / f"{STATE}.draft"
        draft.write_text(text + "\n", encoding="utf-8")
        os.replace(draft, self.folder / STATE)


def read_state(folder: Path) -> JobState:
    """What a job's folder says of it.

    Raises:
        ValueError: If its file is none of ours.
    """
    path = folder / STATE
    if not path.is_file():
        return JobState("planned", {})
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        state = JobState(*(raw[name] for name in ("status", "config", "error", "started", "ended")))
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: not the state of a cookbook's run: {error}") from error
    if state.status == "running" and not _is_locked(folder):
        return JobState("broken", state.config, started=state.started)
    return state


def digest(config: Mapping[str, Any]) -> str:
    """Twelve hexadecimal digits that tell configs apart."""
    return hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()[:12]


def reason(log: Path, code: int) -> str:
    """Why a process failed: its error, else the last line that it wrote.

    Args:
        log: What it wrote.
        code: Its exit status; negative for the signal that ended it.
    """
    if code < 0:
        name = signal.Signals(-code).name
        return f"killed by {name}{', as where memory runs out' if name == 'SIGKILL' else ''}"
    text = log.read_text(encoding="utf-8", errors="replace")
    found = _ERROR.findall(text)
    last = next((line for line in reversed(text.splitlines()) if line.strip()), f"exit status {code}")
    return (found[-1] if found else last).removeprefix("kyvo: error: ").strip()


def _lock(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_locked(folder: Path) -> bool:
    path = folder / LOCK
    if not path.is_file():
        return False
    with path.open() as lock:
        return not _lock(lock.fileno())


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
