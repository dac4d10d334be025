"""The jobs of a grid: what prepares it, and its runs, each with a folder and a command line."""

import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml

from kyvo.cli import config_root, find_config
from kyvo.cookbook.grid import Grid, PlannedRun
from kyvo.cookbook.job import SETTINGS, Job, JobState, read_state
from kyvo.settings import nested

_WRITTEN = ("dirpath", "save_to", "folder")
"""Options that say where a run writes."""

PREPARED = "prepare"
"""Folder, beside those of the grids, of what several grids start from."""


@dataclass(frozen=True)
class Plan:
    """A grid and where it is run.

    Args:
        grid: The grid.
        out: Folder of the grids' folders.
    """

    grid: Grid
    out: Path

    @property
    def folder(self) -> Path:
        """The grid's folder."""
        return self.out / self.grid.name

    def folder_of(self, run: PlannedRun) -> Path:
        """The folder of one of its runs."""
        return self.folder / run.name

    def settings_of(self, run: PlannedRun) -> dict[str, Any]:
        """A run's settings, with the places that they name, and with what it is logged to."""
        folder = self.folder_of(run)
        placed: dict[str, Any] = _placed(dict(run.settings), self._places(folder) | {"{seed}": run.seed})
        return placed | _written_to(folder)

    def _places(self, folder: Path) -> dict[str, Any]:
        """What `{folder}` and `{prepare}` stand for."""
        return {"{folder}": str(folder), "{prepare}": str(self.out / PREPARED)}

    def steps(self) -> list[Job]:
        """What must have run before the runs, one after the other."""
        return [self._step(name, words) for name, words in self.grid.prepare.items()]

    def _step(self, name: str, text: str) -> Job:
        folder = self.out / PREPARED / name
        words: list[str] = _placed(shlex.split(text), self._places(folder))
        named = [after for word, after in pairwise(words) if word in ("-c", "--config")]
        configs = {f"config {one}": yaml.safe_load(Path(find_config(one)).read_text("utf-8")) for one in named}
        # What trains is logged where it is kept, so that it goes on where it was killed.
        trains = words[0] == "fit"
        own = ("-c", str(folder / SETTINGS)) if trains else ()
        settings = yaml.safe_dump(nested(_written_to(folder)), sort_keys=False) if trains else ""
        return Job(f"{PREPARED}/{name}", folder, (*words, *own), {"command": " ".join(words), **configs}, settings)

    def runs(self) -> list[Job]:
        """The runs as jobs.

        Raises:
            ValueError: If `kyvo fit` would refuse the options of one, or one would write outside its folder.
        """
        # It imports all that trains, and so takes seconds.
        from kyvo.cookbook.resolved import resolve

        planned = self.grid.runs()
        settings = {run.name: self.settings_of(run) for run in planned}
        resolved = resolve({run.name: (run.configs, settings[run.name]) for run in planned})
        for run in planned:
            _check_places(run.name, resolved[run.name], self.folder_of(run))
        return [
            Job(
                run.name,
                self.folder_of(run),
                self._words(run),
                resolved[run.name],
                yaml.safe_dump(nested(settings[run.name]), sort_keys=False),
            )
            for run in planned
        ]

    def _words(self, run: PlannedRun) -> tuple[str, ...]:
        configs = [word for config in run.configs for word in ("-c", config)]
        return ("fit", *configs, "-c", str(self.folder_of(run) / SETTINGS))

    def states(self) -> Mapping[str, JobState]:
        """How far each run is, by its name."""
        return {run.name: read_state(self.folder_of(run)) for run in self.grid.runs()}


def _written_to(folder: Path) -> dict[str, Any]:
    """The settings by which a run writes to a folder alone."""
    log = {"save_dir": str(folder.parent), "name": folder.name, "version": ""}
    logger = {"class_path": "kyvo.training.metrics_log.MetricsLog", "init_args": log}
    return {"trainer.logger": [logger], "trainer.default_root_dir": str(folder)}


def _check_places(name: str, config: Mapping[str, Any], folder: Path) -> None:
    """Refuse a config that writes where another run may write; what is inherited from a base is easily overlooked."""
    for option, value in config.items():
        written = option.rpartition(".")[2] in _WRITTEN and value is not None
        if written and not Path(value).is_relative_to(folder):
            raise ValueError(f"run {name} would write to {value} ({option}), expected a place in {{folder}}, or null")


def find_grid(name: str) -> Path:
    """A grid's file: one of the given path, else the one of that name that ships.

    Raises:
        ValueError: If there is neither, with the names that ship.
    """
    if Path(name).is_file():
        return Path(name)
    shipped = config_root() / "cookbook" / f"{name}.yaml"
    if not shipped.is_file():
        raise ValueError(f"no grid file {name!r}, and none of that name ships: {', '.join(grid_names())}")
    return shipped


def grid_names() -> list[str]:
    """Names of the grids that ship."""
    return sorted(path.stem for path in (config_root() / "cookbook").glob("*.yaml"))


def _placed(value: Any, places: Mapping[str, Any]) -> Any:
    """A value with what names in braces stand for, in all its texts; a text that is such a name alone becomes that."""
    if isinstance(value, str):
        for name, place in places.items():
            value = place if value == name else value.replace(name, str(place)) if isinstance(value, str) else value
        return value
    if isinstance(value, Mapping):
        return {key: _placed(inner, places) for key, inner in value.items()}
    return [_placed(inner, places) for inner in value] if isinstance(value, Iterable) else value
