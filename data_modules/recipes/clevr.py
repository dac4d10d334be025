"""The recipe of CLEVR worlds: scenes, questions and edits."""

import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from data_modules.raw.clevr import write
from data_modules.recipes.recipe import WorldRecipe
from data_modules.shards import Files, decode_json, encode_json, encode_png
from data_modules.worlds.blender import BlenderRenderer
from data_modules.worlds.clevr import ClevrWorld
from data_modules.worlds.instructions import KINDS, instruction
from data_modules.worlds.programs import FILTERED
from data_modules.worlds.questions import QuestionEngine


@dataclass(frozen=True)
class ClevrRecipe(WorldRecipe):
    """A CLEVR world with questions and edits.

    Args:
        world: The scenes and their pictures.
        questions: Questions about each scene, balanced over the scenes of a shard.
        families: Families of questions, by the names of the template files; default is all.
        longest: Most attributes by which questions describe an object.
        templates: Folder of question templates in CLEVR's format, instead of our own.
        edits: Edits of each scene, each an instruction and the scene it leads to; fewer where none can be done.
        kinds: Kinds of instruction.
        move_step: How far instructions move an object along each direction; None draws it.
        synonyms: Whether words and wordings of questions and instructions vary.
        edit_images: Whether edits have pictures, before and after; else scenes alone.
        blender: Draws the pictures, instead of the ray tracer; what can be seen is decided by the ray tracer still.
    """

    world: ClevrWorld = field(default_factory=ClevrWorld)
    questions: int = 6
    families: tuple[str, ...] | None = None
    longest: int = len(FILTERED)
    templates: Path | None = None
    edits: int = 3
    kinds: tuple[str, ...] = KINDS
    move_step: float | None = None
    synonyms: bool = False
    edit_images: bool = False
    blender: BlenderRenderer | None = None

    @property
    def schema(self) -> str:
        """CLEVR's."""
        return "clevr"

    def shard_families(self, split: str) -> tuple[str, ...]:
        """The scenes, and their edits."""
        return (split, f"{split}-edits") if self.edits else (split,)

    @property
    def engine(self) -> QuestionEngine | None:
        """The question engine, if questions are asked."""
        if not self.questions:
            return None
        return QuestionEngine(self.templates, self.families, self.longest, self.synonyms, self.questions)

    def settings(self, split: str) -> dict[str, Any]:
        """As of every recipe, without what differs between machines and not between pictures."""
        settings = super().settings(split)
        if settings["blender"]:
            settings["blender"] = {"samples": settings["blender"]["samples"], "assets": settings["blender"]["assets"]}
        return settings

    def samples(self, split: str, scenes: range) -> dict[str, list[Files]]:
        """The scenes with their pictures, and their edits."""
        made: dict[str, list[Files]] = {family: [] for family in self.shard_families(split)}
        for number in scenes:
            rng, key = self.generator(split, number), f"{split}-{number:06d}"
            scene, image, _ = self.world.make(rng)
            members = {"image.png": encode_png(image), "scene.json": encode_json(scene)}
            made[split].append((key, members))
            if self.edits:
                made[f"{split}-edits"] += self._edits(rng, key, scene, members)
        return made if self.blender is None else {family: self._repaint(files) for family, files in made.items()}

    def write_raw(self, out: Path, split: str, families: Mapping[str, Iterable[Files]]) -> None:
        """CLEVR v1.0's layout."""
        write(out, split, families[split], families.get(f"{split}-edits", ()))

    def _repaint(self, files: list[Files]) -> list[Files]:
        """The samples with Blender's pictures in the place of the ray tracer's, drawn in one run of Blender."""
        places = [
            (number, f"{prefix}image.png", f"{prefix}scene.json")
            for number, (_, members) in enumerate(files)
            for prefix in ("", "target.")
            if f"{prefix}image.png" in members
        ]
        scenes = [decode_json(files[number][1][scene]) for number, _, scene in places]
        pictures = self.blender.render(scenes, self.world.image_size) if self.blender else []
        painted = [(key, dict(members)) for key, members in files]
        for (number, image, _), pixels in zip(places, pictures, strict=True):
            painted[number][1][image] = encode_png(pixels)
        return painted

    def _edits(self, rng: random.Random, key: str, scene: dict[str, Any], members: dict[str, bytes]) -> list[Files]:
        kept = members if self.edit_images else {"scene.json": members["scene.json"]}
        made = []
        for number in range(self.edits):
            edit = instruction(scene, self.world, rng, self.kinds, self.synonyms, self.move_step)
            if edit is not None:
                target = edit["target"]
                files = {"instruction.json": encode_json(edit["instruction"]), "target.scene.json": encode_json(target)}
                if self.edit_images:
                    files["target.image.png"] = encode_png(self.world.render(target)[0])
                made.append((f"{key}-{number}", {**kept, **files}))
        return made
