"""ObjaWorld's published layout: a folder for each setup, with a JSON file and a picture for each scene."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from data_modules.shards import decode_json, encode_json

FOLDERS: Mapping[str, str] = {
    "park": "output-park-large-10K-6",
    "living_room": "output-livingroom-large-10K-6",
    "shapes": "output-shapes-large-10K-6",
}
"""Folder of each setup; the first two are those that the official evaluation opens."""


def write(out: Path, split: str, samples: Iterable[tuple[str, Mapping[str, bytes]]], name: str = "OBJAWORLD") -> None:
    """Write a split as `out/SPLIT/output-SETUP-large-10K-6/{scenes,images}/NAME_SPLIT_%06d.{json,png}`.

    Each scene is written with three more keys, as CLEVR's generator does: `split`, `image_index` (the scene's place in
    the split, over all setups) and `image_filename`. The official evaluation reads the folder of one split.

    Args:
        out: Folder of all splits; created if need be.
        split: The split's name.
        samples: Keys and members `scene.json` (whose `setup` says in which folder it goes) and `image.png`.
        name: What the names of files start with.

    Raises:
        ValueError: If a scene names no setup of `FOLDERS`.
    """
    for number, (key, members) in enumerate(samples):
        scene = decode_json(members["scene.json"])
        setup = scene.get("setup")
        if setup not in FOLDERS:
            raise ValueError(f"{key}: the scene's setup should be one of {', '.join(FOLDERS)}, got {setup!r}")
        stem = f"{name}_{split}_{number:06d}"
        names = {"split": split, "image_index": number, "image_filename": f"{stem}.png"}
        folder = out / split / FOLDERS[setup]
        _write(folder / "scenes" / f"{stem}.json", encode_json(names | scene | names))
        _write(folder / "images" / f"{stem}.png", members["image.png"])


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
