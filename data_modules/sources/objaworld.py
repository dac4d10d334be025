"""ObjaWorld as its official evaluation lays it out: `output-SETUP-large-10K-6/scenes/*.json`, pictures beside."""

import math
import re
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from data_modules.faults import BadInputError, Fault
from data_modules.shards import decode_json, encode_json
from data_modules.sources.source import Picture, Source, SourceSample
from kyvo.scene import SCHEMAS, SceneSchema

_FOLDER = re.compile(r"output-(\w+)-large.*")
_SUFFIXES = (".png", ".jpg", ".jpeg")
_EXPLICIT = "shapes"
"""The setup whose objects are told apart by shape codes, not by words."""


class ObjaWorldSource(Source):
    """Folders `output-SETUP-large-*`, each with `scenes/NAME.json` and `images/NAME.png`.

    Scenes are CLEVR's records; of an object only `shape` ("bench" or "bench-01"), `3d_coords` and `rotation` (radians)
    are needed, not size, colour or material. Rotations are brought into -pi..pi, and a yaw that is the fourth of
    `3d_coords` into `rotation`. A setup without a folder of pictures gives scenes alone, as the ground truth of the
    official evaluation does. Setup `shapes` has the schema `objaworld-shapes`; its scenes may lack `shape_codes`,
    which a shape tokenizer adds.

    Args:
        root: A folder of folders by split (`root/train/output-park-large-10K-6`), or of one split's folders, which is
            then `test`.
    """

    def __init__(self, root: Path) -> None:
        self.root = Path(root)

    @cached_property
    def _folders(self) -> Mapping[str, Mapping[str, Path]]:
        """Folder of each setup of each split."""
        found = {"test": _setups(self.root)} if self.root.is_dir() else {}
        if self.root.is_dir():
            found |= {path.name: _setups(path) for path in sorted(self.root.iterdir()) if path.is_dir()}
        found = {split: setups for split, setups in found.items() if setups}
        if not found:
            reason = "expected folders output-SETUP-large-10K-6, or folders of splits that hold them; found none"
            raise BadInputError(Fault(str(self.root), "", "", reason))
        return found

    @property
    def schema(self) -> SceneSchema:
        """`objaworld-shapes` for setup `shapes`, else `objaworld`; BadInputError where both are there."""
        explicit = {setup == _EXPLICIT for setups in self._folders.values() for setup in setups}
        if len(explicit) > 1:
            reason = f"setup {_EXPLICIT!r} has another schema than the others: keep it in a folder of its own"
            raise BadInputError(Fault(str(self.root), "", "", reason))
        return SCHEMAS["objaworld-shapes" if explicit.pop() else "objaworld"]

    def splits(self) -> tuple[str, ...]:
        """The splits that are there."""
        return tuple(self._folders)

    def samples(self, split: str) -> Iterator[SourceSample | Fault]:
        """Samples by setup and name; keys are NAME_SETUP."""
        if split not in self._folders:
            raise ValueError(f"{self.root} has the splits {', '.join(self._folders)}, not {split!r}")
        schema = self.schema
        for setup, folder in self._folders[split].items():
            for path in sorted((folder / "scenes").glob("*.json")):
                yield _sample(path, setup, schema)


def _setups(folder: Path) -> dict[str, Path]:
    """Folders of scenes by setup."""
    matches = ((_FOLDER.fullmatch(path.name), path) for path in sorted(folder.iterdir()))
    return {match[1]: path for match, path in matches if match and (path / "scenes").is_dir()}


def _sample(path: Path, setup: str, schema: SceneSchema) -> SourceSample | Fault:
    """The sample of one scene's file."""
    key = f"{path.stem}_{setup}".replace(".", "_")
    try:
        scene = _checked(decode_json(path.read_bytes()), schema)
    except (ValueError, OSError) as error:
        return Fault(str(path), key, "scene.json", str(error))
    pictures = {}
    images = path.parent.parent / "images"
    if images.is_dir():
        picture = next(
            (images / f"{path.stem}{end}" for end in _SUFFIXES if (images / f"{path.stem}{end}").is_file()), None
        )
        if picture is None:
            return Fault(str(images / f"{path.stem}.png"), key, "image", "the picture is not there")
        pictures["image"] = Picture(picture)
    return SourceSample(key, {"scene.json": encode_json(scene)}, pictures)


def _checked(scene: Any, schema: SceneSchema) -> dict[str, Any]:
    """The scene with poses in one form; ValueError if the schema cannot read it."""
    if not isinstance(scene, Mapping):
        raise ValueError(f"expected a scene with 'objects', got {type(scene).__name__}")
    objects = scene.get("objects")
    if isinstance(objects, list) and not any(isinstance(o, Mapping) and "shape_codes" in o for o in objects):
        schema = SceneSchema(schema.name, tuple(a for a in schema.attributes if a.kind != "shape"))
    poses = [item["location"] for item in schema.read(scene)]
    return {**scene, "objects": [_posed(o, pose) for o, pose in zip(scene["objects"], poses, strict=True)]}


def _posed(record: Mapping[str, Any], pose: Any) -> dict[str, Any]:
    x, y, z, yaw = pose
    if not isinstance(record.get("shape"), str):
        raise ValueError(f"expected a shape's name, got {record.get('shape')!r}")
    return {**record, "3d_coords": [x, y, z], "rotation": _wrapped(yaw)}


def _wrapped(yaw: float) -> float:
    """The same yaw in -pi..pi; untouched if it is there already, so that numbers come back as they were written."""
    return yaw if -math.pi < yaw <= math.pi else math.pi - (math.pi - yaw) % (2 * math.pi)
