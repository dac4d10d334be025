"""What a run's configs and settings come to: every option with its value, as `kyvo fit` would read them."""

import json
from argparse import ArgumentError
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from jsonargparse import Namespace

from kyvo.cli import find_config
from kyvo.settings import nested
from kyvo.training.command import KyvoCLI
from kyvo.training.continuation import FREE

_ELSEWHERE = ("config", "subcommand", "ckpt_path", "trainer.logger", "trainer.default_root_dir")
"""Options that say where things are read and written, not what is run."""


class _Reading(KyvoCLI):
    """Parses a command line and builds nothing."""

    def _set_seed(self) -> None:
        return

    def instantiate_classes(self) -> None:
        return

    def _run_subcommand(self, subcommand: str) -> None:
        return


def resolve(runs: Mapping[str, tuple[Sequence[str], Mapping[str, Any]]]) -> dict[str, dict[str, Any]]:
    """Every option of runs, by dotted names, without those that only say where things lie or suit the machine.

    Args:
        runs: For each name the configs and the settings over them.

    Raises:
        ValueError: Naming the run whose options `kyvo fit` refuses, and why.
    """
    found: dict[str, dict[str, Any]] = {}
    parser = None
    for name, (configs, settings) in runs.items():
        files = [word for config in configs for word in ("--config", find_config(config))]
        words = ["fit", *files, "--config", json.dumps(nested(settings))]
        try:
            # The parser takes seconds to make.
            parser = _Reading.run(words).parser if parser is None else parser
            parsed = parser.parse_args(words)
        except (ArgumentError, ValueError, TypeError) as error:
            raise ValueError(f"run {name}: {error}") from error
        found[name] = _plain(parsed.fit)
    return found


def _plain(config: Namespace) -> dict[str, Any]:
    flat = {name: value for name, value in _flat(config) if not _is_elsewhere(name)}
    # What JSON makes of it, so that it equals what comes back from a file.
    plain: dict[str, Any] = json.loads(json.dumps(flat, default=_jsonable))
    return plain


def _flat(config: Namespace, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Options by dotted names; those of a list's items by their number, beside the classes of all.

    Mappings that are values, such as tasks with their weights, stay whole: their keys are no options.
    """
    for name, value in config.items():
        if isinstance(value, list) and value and all(isinstance(item, Namespace) for item in value):
            yield f"{prefix}{name}", [item.get("class_path") for item in value]
            for place, item in enumerate(value):
                yield from _flat(item, f"{prefix}{name}.{place}.")
        else:
            yield f"{prefix}{name}", value


def _jsonable(value: Any) -> Any:
    return value.as_dict() if isinstance(value, Namespace) else str(value)


def _is_elsewhere(name: str) -> bool:
    return name in FREE or any(name == other or name.startswith(f"{other}.") for other in _ELSEWHERE)
