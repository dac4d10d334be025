"""A run as it lies on disk, read back: its checkpoint, its config, its tokenizer, its module."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
import yaml
from jsonargparse import ArgumentParser

from kyvo.settings import nested
from kyvo.tokenizers.tokenizer import UnifiedTokenizer
from kyvo.training.continuation import CONFIG_KEY
from kyvo.training.language import LanguageModule


@dataclass(frozen=True)
class StoredRun:
    """A checkpoint of `kyvo fit`, and the config of its run.

    Args:
        checkpoint: The file.
        config: What was trained on what, nested as in a config file.
    """

    checkpoint: Path
    config: Mapping[str, Any]

    @classmethod
    def find(cls, place: str | Path) -> "StoredRun":
        """A run by its folder, or by one of its checkpoints.

        Raises:
            ValueError: If there is no checkpoint, no config, or the model is no language model.
        """
        checkpoint = _checkpoint(Path(place))
        config = _config(checkpoint)
        found = (config.get("model") or {}).get("class_path", "")
        if not found.endswith("LanguageModule"):
            raise ValueError(f"{checkpoint} holds a {found or 'model without a class'}, expected a LanguageModule")
        return cls(checkpoint, config)

    @cached_property
    def tokenizer(self) -> UnifiedTokenizer:
        """The tokenizer of the run; ValueError if what it is made from has moved."""
        from kyvo.training.command import Tokenizer

        parser = ArgumentParser(exit_on_error=False)
        parser.add_class_arguments(Tokenizer, "tokenizer")
        parsed = parser.parse_object({"tokenizer": self.config.get("tokenizer") or {}})
        try:
            built: UnifiedTokenizer = parser.instantiate_classes(parsed).tokenizer
        except OSError as error:
            first, _, _ = str(error).partition("\n")
            raise ValueError(f"the tokenizer of {self.checkpoint} cannot be built again: {first}") from error
        return built

    @cached_property
    def module(self) -> LanguageModule:
        """The module with its weights, on the CPU, in evaluation mode."""
        parser = ArgumentParser(exit_on_error=False)
        parser.add_class_arguments(LanguageModule, "model", skip={"tokenizer"}, instantiate=False)
        parsed = parser.parse_object({"model": self.config["model"].get("init_args") or {}})
        module = LanguageModule(self.tokenizer, **parser.instantiate_classes(parsed).model)
        # Not by load_from_checkpoint, which would read the optimiser's state too: twice the size of the weights.
        module.on_load_checkpoint(self._contents)
        module.load_state_dict(self._contents["state_dict"], strict=module.strict_loading)
        return module.eval()

    @property
    def steps(self) -> int:
        """Optimiser steps taken."""
        steps: int = self._contents["global_step"]
        return steps

    @cached_property
    def _contents(self) -> dict[str, Any]:
        return _read(self.checkpoint)

    @property
    def tasks(self) -> tuple[str, ...]:
        """Specs of the tasks that it was trained for."""
        return tuple(dict.fromkeys(spec for one in self._data_sets for spec in one.get("tasks") or ()))

    @property
    def roots(self) -> tuple[str, ...]:
        """Folders of the data that it was trained on."""
        return tuple(str(one["root"]) for one in self._data_sets if "root" in one)

    @property
    def _data_sets(self) -> list[Mapping[str, Any]]:
        options = (self.config.get("data") or {}).get("init_args") or {}
        return list(options["datasets"].values()) if "datasets" in options else [options]


def _checkpoint(place: Path) -> Path:
    if place.is_file():
        return place
    if (place / "meta.pt").is_file():
        raise ValueError(
            f"{place} is sharded: make one file of it, `python -m lightning.pytorch.utilities.consolidate_checkpoint`"
        )
    found = [*place.glob("checkpoints/*.ckpt"), *place.glob("*.ckpt")]
    last = [path for path in found if path.name.startswith("last")] or found
    if not last:
        raise ValueError(f"{place} holds no checkpoint, neither *.ckpt nor checkpoints/*.ckpt")
    return max(last, key=lambda path: path.stat().st_mtime)


def _read(checkpoint: Path) -> dict[str, Any]:
    # Mapped, not read: of gigabytes only the few bytes that are looked at.
    found: dict[str, Any] = torch.load(checkpoint, map_location="cpu", weights_only=True, mmap=True)
    return found


def _config(checkpoint: Path) -> dict[str, Any]:
    """The config in a checkpoint of `kyvo fit`, else the config.yaml in a folder above it."""
    flat = json.loads(_read(checkpoint).get(CONFIG_KEY, "{}"))
    if flat:
        return nested(flat)
    for folder in list(checkpoint.resolve().parents)[:2]:
        if (folder / "config.yaml").is_file():
            read: dict[str, Any] = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))
            return read
    raise ValueError(f"{checkpoint} holds no config of a run, and there is no config.yaml beside or above it")
