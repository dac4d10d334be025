"""Grids: a YAML file that says what is compared, expanded into rows of a table and the runs that they need."""

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import yaml

Settings = Mapping[str, Any]
"""Options of a run by dotted names, as they stand on a command line: `model.init_args.recipe`."""

_KEYS = {"title", "configs", "settings", "seeds", "prepare", "axes", "parts", "columns"}
_PLAIN = re.compile(r"[^\w.+-]+")


@dataclass(frozen=True)
class Choice:
    """What is laid over the grid's base.

    Args:
        configs: Configs, as after `-c`, in their order.
        settings: Options, over the configs.
        parts: Models of which the row consists, in the place of the grid's.
    """

    configs: tuple[str, ...] = ()
    settings: Settings = field(default_factory=dict)
    parts: Mapping[str, "Choice"] = field(default_factory=dict)

    @classmethod
    def read(cls, raw: Any, where: str) -> Self:
        """Read `{configs: [...], parts: {...}, OPTION: value, ...}`, of which each may be absent; ValueError if not."""
        rest = dict(_mapping(raw, where))
        configs = _configs(rest.pop("configs", ()), where)
        parts = _mapping(rest.pop("parts", None), f"{where}, parts")
        return cls(configs, rest, {name: cls.read(one, f"{where}, part {name}") for name, one in parts.items()})


@dataclass(frozen=True)
class Column:
    """A column of the table.

    Args:
        metric: What was logged, such as `recognition/jaccard`, or `cost/...` (see `kyvo.cookbook.costs`).
        published: What the paper has, by the names of rows.
        source: Where in the paper, such as "table 5b".
        of: What the paper's numbers are, where they are not of this metric.
    """

    metric: str
    published: Mapping[str, float] = field(default_factory=dict)
    source: str = ""
    of: str = ""

    @classmethod
    def read(cls, metric: str, raw: Any, where: str) -> Self:
        """Read `{published: {ROW: number}, source: ..., of: ...}`, of which each may be absent; ValueError if not."""
        found = _mapping(raw, where)
        _check_keys(found, {"published", "source", "of"}, where)
        published = _mapping(found.get("published"), f"{where}, published")
        numbers = {str(row): float(value) for row, value in published.items()}
        return cls(metric, numbers, str(found.get("source", "")), str(found.get("of", "")))


@dataclass(frozen=True)
class PlannedRun:
    """A run of a grid.

    Args:
        name: Name of its folder.
        row: Row of the table that it belongs to.
        seed: Its seed.
        configs: Configs, as after `-c`, in their order.
        settings: Options, over the configs.
    """

    name: str
    row: str
    seed: int
    configs: tuple[str, ...]
    settings: Settings


@dataclass(frozen=True)
class Grid:
    """What is compared.

    Args:
        name: Name of the grid's folder: that of its file.
        title: What the table is called.
        base: What every run starts from.
        seeds: Every row is trained with each.
        prepare: Commands that must have run before, by the name of their folder.
        axes: What varies, by name: choices by name. Each combination is a row.
        parts: Models of which each row consists, each with tasks of its own, whose metrics make one row together; by
            default one.
        columns: Columns of the table.
    """

    name: str
    title: str
    base: Choice
    seeds: tuple[int, ...]
    prepare: Mapping[str, str]
    axes: Mapping[str, Mapping[str, Choice]]
    parts: Mapping[str, Choice]
    columns: tuple[Column, ...]

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a grid's file.

        Raises:
            ValueError: Naming the file and what is expected of it.
        """
        try:
            raw = yaml.safe_load(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise ValueError(f"{path}: cannot be read: {error}") from error
        try:
            return cls._of(path.stem, _mapping(raw, "the file"))
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error

    @classmethod
    def _of(cls, name: str, raw: Mapping[str, Any]) -> Self:
        _check_keys(raw, _KEYS, "the file")
        axes = _mapping(raw.get("axes"), "axes")
        if not axes or not raw.get("columns"):
            raise ValueError("expected axes, with choices each, and columns")
        return cls(
            name,
            str(raw.get("title", name)),
            Choice(_configs(raw.get("configs"), "configs"), _mapping(raw.get("settings"), "settings")),
            _seeds(raw.get("seeds", [0])),
            {str(step): str(words) for step, words in _mapping(raw.get("prepare"), "prepare").items()},
            {str(axis): _choices(choices, f"axis {axis}") for axis, choices in axes.items()},
            _choices(raw["parts"], "parts") if raw.get("parts") else {"": Choice()},
            tuple(Column.read(str(metric), one, f"column {metric}") for metric, one in raw["columns"].items()),
        )

    @property
    def rows(self) -> tuple[str, ...]:
        """Names of the table's rows: of the choices of each combination."""
        return tuple(", ".join(names) for names in itertools.product(*self.axes.values()))

    def runs(self) -> list[PlannedRun]:
        """Every run, a seed's after the other's, so that a grid that is stopped has whole seeds.

        Raises:
            ValueError: Two choices of one run set the same option, or two runs would share a folder.
        """
        found = [run for seed in self.seeds for run in self._runs_of(seed)]
        names = [run.name.lower() for run in found]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"grid {self.name}: runs would share the folders {', '.join(twice)}: call them otherwise")
        return found

    def _runs_of(self, seed: int) -> Iterator[PlannedRun]:
        for combination in itertools.product(*(choices.items() for choices in self.axes.values())):
            row = ", ".join(name for name, _ in combination)
            chosen = [choice for _, choice in combination]
            own = [choice.parts for choice in chosen if choice.parts]
            for part, more in (own[-1] if own else self.parts).items():
                layers = [*chosen, more]
                name = "-".join(_plain(word) for word in [*(name for name, _ in combination), part] if word)
                configs = [*self.base.configs, *(config for layer in layers for config in layer.configs)]
                settings = {**self.base.settings, **_joined(layers, row), "seed_everything": seed}
                yield PlannedRun(f"{name}-seed{seed}", row, seed, tuple(configs), settings)


def _joined(layers: Sequence[Choice], row: str) -> dict[str, Any]:
    """The settings of all layers; ValueError if two set the same option, of which one would be lost."""
    joined: dict[str, Any] = {}
    for layer in layers:
        for name, value in layer.settings.items():
            if name in joined and joined[name] != value:
                raise ValueError(f"row {row!r}: {name} is set to {joined[name]!r} and to {value!r}")
            joined[name] = value
    return joined


def _plain(name: str) -> str:
    """A name as part of a folder's.

    >>> _plain("1/16 of the data"), _plain("FFT")
    ('1_16_of_the_data', 'FFT')
    """
    return _PLAIN.sub("_", name).strip("_")


def _mapping(raw: Any, where: str) -> Mapping[str, Any]:
    if raw is None:
        return {}
    if not isinstance(raw, Mapping):
        raise ValueError(f"{where}: expected a mapping, got {raw!r}")
    return {str(key): value for key, value in raw.items()}


def _check_keys(raw: Mapping[str, Any], allowed: set[str], where: str) -> None:
    unknown = sorted(set(raw) - allowed)
    if unknown:
        raise ValueError(f"{where}: {', '.join(unknown)} is none of {', '.join(sorted(allowed))}")


def _configs(raw: Any, where: str) -> tuple[str, ...]:
    if not isinstance(raw, list | tuple) or not all(isinstance(one, str) for one in raw):
        raise ValueError(f"{where}: expected a list of names of configs, got {raw!r}")
    return tuple(raw)


def _choices(raw: Any, where: str) -> Mapping[str, Choice]:
    choices = _mapping(raw, where)
    if not choices:
        raise ValueError(f"{where}: expected choices by name")
    return {name: Choice.read(one, f"{where}, choice {name}") for name, one in choices.items()}


def _seeds(raw: Any) -> tuple[int, ...]:
    whole = isinstance(raw, list) and all(type(seed) is int for seed in raw)
    if not whole or not raw or len(set(raw)) != len(raw):
        raise ValueError(f"seeds: expected different whole numbers, got {raw!r}")
    return tuple(raw)
