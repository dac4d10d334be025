"""Coding of shapes: the codes that a shape tokenizer gives to the assets that scenes name, and where these are kept.

N codes of a shape.
"""

import os
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from lightning import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from rich.progress import track
from torch.utils.data import DataLoader

from data_modules.coding import hash_of, lone_trainer
from data_modules.coding_bar import CodingBar
from data_modules.index import Index, Shard
from data_modules.records import shape_codes_of, shape_names
from data_modules.shape_folder import ShapeFile, find_shapes
from data_modules.shards import RawSample, encode_npy, read_shard, rewrite_shard
from data_modules.storage import Root, locate
from data_modules.voxels import voxelize_asset
from data_modules.worlds.assets.library import ASSETS, SHAPES
from kyvo.scene import Attribute
from kyvo.slat import Slat

if TYPE_CHECKING:
    from kyvo.tokenizers.shapes import ShapeTokenizer

SCENES = ("scene.json", "target.scene.json")
"""Members whose objects have shapes."""


@dataclass(frozen=True)
class ShapeLibrary:
    """Voxels of the shapes that scenes name.

    Args:
        latents: Folder in the layout of TRELLIS' data sets, LATENTS/latents/MODEL/NAME.npz, as `kyvo data code
            --meshes` writes it; None for the embedded assets, in the space `voxel8`.
    """

    latents: Path | None = None

    @cached_property
    def _files(self) -> dict[str, Path]:
        return {} if self.latents is None else {shape.name: shape.latents for shape in find_shapes(self.latents)}

    def load(self, name: str, resolution: int) -> Slat:
        """The voxels of a shape.

        Args:
            name: What scenes call it.
            resolution: Voxels along each side of the cube; files have the one they were made with.

        Raises:
            ValueError: There is no such shape, or its file is none.
        """
        if self.latents is None:
            return _embedded(name, resolution)
        if name not in self._files:
            raise ValueError(f"a scene has the shape {name!r}, of which there are no latents in {self.latents}")
        return Slat.load(self._files[name])

    def check(self, root: Root, index: Index) -> None:
        """Raise ValueError if a world was made with meshes of its own and no latents of them are given."""
        worlds = [world for settings in index.settings.values() for world in settings.get("worlds", ())]
        folders = [world["assets"] for world in worlds if world.get("assets")]
        if folders and self.latents is None:
            raise ValueError(
                f"{root} was made with the meshes in {folders[0]}: make latents of them with `kyvo data code --meshes "
                f"{folders[0]} --out LATENTS` and name that folder too"
            )


@cache
def _embedded(name: str, resolution: int) -> Slat:
    if name not in ASSETS:
        raise ValueError(
            f"no embedded asset is called {name!r}, only {', '.join(SHAPES)}; of shapes of your own make latents with "
            "`kyvo data code --meshes FOLDER --out LATENTS` and name that folder too"
        )
    return voxelize_asset(ASSETS[name], resolution)


def fingerprint(tokenizer: "ShapeTokenizer") -> str:
    """Hash of the weights that decide a shape's codes: 16 hexadecimal digits of SHA-256."""
    model = tokenizer.model
    # The codebook by itself: it has another name in each kind of quantiser.
    others = ("decoder.", "quantize.embedding.")
    weights = {name: tensor for name, tensor in model.named_parameters() if not name.startswith(others)}
    return hash_of({**weights, "mean": model.mean, "std": model.std, "codebook": tokenizer.codebook})


def names_in(root: Root, shards: Collection[Shard], attribute: Attribute) -> tuple[str, ...]:
    """The names of all shapes in the scenes of some shards, sorted.

    Raises:
        BadInputError: A scene is corrupt.
    """
    found: set[str] = set()
    for shard in shards:
        for raw in read_shard(locate(root, shard.name), SCENES):
            for member in SCENES:
                found.update(shape_names(raw, member, attribute) or ())
    return tuple(sorted(found))


def add_shape_codes(root: Path, tokenizer: "ShapeTokenizer", library: ShapeLibrary) -> None:
    """Add a tokenizer's codes of shapes to the scenes of a folder of shards, in place of older codes.

    Each asset is coded once, however often it stands in a scene. Shards that the tokenizer has coded already are left
    alone. Each shard is replaced in one step and then entered in the index, so an interrupted run can be repeated.

    Args:
        root: Folder of the shards.
        tokenizer: Codes the shapes, on the device where it is.
        library: Where the shapes' voxels come from.

    Raises:
        ValueError: If the scenes have no shapes to be coded, or one of them is not in the library, or is of another
            space or resolution than the tokenizer's.
    """
    device = tokenizer.device
    with lone_trainer() as trainer:
        code_shapes(root, tokenizer, library, trainer)
    tokenizer.to(device)


def code_shapes(root: Path, tokenizer: "ShapeTokenizer", library: ShapeLibrary, trainer: Trainer) -> None:
    """As `add_shape_codes`, on every device of a trainer, each of which codes its share of the shards.

    Raises:
        ValueError: See `add_shape_codes`.
    """
    index = Index.read(root)
    if index.scene_schema.shape is None:
        raise ValueError(f"{root} holds scenes of schema {index.schema!r}, whose objects have no shapes to be coded")
    library.check(root, index)
    mark = fingerprint(tokenizer)
    jobs = tuple(
        (family, shard)
        for family, shards in index.families.items()
        for shard in shards
        if shard.has_scenes and shard.shape_tokenizer != mark
    )
    coder = _Coder(tokenizer, library, index.scene_schema.shape)
    if jobs:
        samples = [shard.samples for _, shard in jobs]
        callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
        callbacks.append(CodingBar("coding shapes of samples", samples, samples.__getitem__))
        trainer.predict(ShapeCoder(root, jobs, mark, coder), JobDataModule(len(jobs)), return_predictions=False)
        trainer.strategy.barrier()


class JobDataModule(LightningDataModule):
    """The numbers of the shards to code, shared out over the ranks.

    Args:
        count: Number of shards.
    """

    def __init__(self, count: int) -> None:
        super().__init__()
        self.count = count

    def predict_dataloader(self) -> DataLoader[int]:
        """The numbers of this rank: known only now, when the processes have been started."""
        assert self.trainer is not None  # Lightning sets it before it asks
        mine = range(self.trainer.global_rank, self.count, self.trainer.world_size)
        return DataLoader([*mine], batch_size=None)  # type: ignore[arg-type]


@dataclass(frozen=True)
class _Coder:
    """Codes the scenes of shards, and keeps the codes of each asset."""

    tokenizer: "ShapeTokenizer"
    library: ShapeLibrary
    attribute: Attribute
    known: dict[str, np.ndarray] = field(default_factory=dict)

    def code(self, root: Path, shard: Shard) -> Shard:
        """Write a shard anew with codes of its shapes."""
        raws = list(read_shard(root / shard.name))
        members = [{**raw.members, **dict(self._members(raw))} for raw in raws]
        return rewrite_shard(root, shard, raws, members)

    def _members(self, raw: RawSample) -> Iterator[tuple[str, bytes]]:
        for member in SCENES:
            if member in raw.members:
                names = shape_names(raw, member, self.attribute)
                if names is None:
                    key = self.attribute.name
                    raise raw.fault(member, f"not every object has the name of its shape under {key!r}")
                yield shape_codes_of(member), encode_npy(self._rows(names))

    def _rows(self, names: Sequence[str]) -> np.ndarray:
        """Codes of shapes, uint16 [objects, N]."""
        rows = [self._codes(name) for name in names]
        return np.array(rows, dtype=np.uint16).reshape(len(rows), self.tokenizer.codes_per_shape)

    def _codes(self, name: str) -> np.ndarray:
        if name not in self.known:
            slat = self.library.load(name, self.tokenizer.resolution)
            self.known[name] = _encode(self.tokenizer, slat, f"shape {name!r}")
        return self.known[name]


class ShapeCoder(LightningModule):
    """A shape tokenizer as a trainer runs it: a batch is the number of a shard, which is written anew.

    Args:
        root: Folder of the shards.
        jobs: The shards to code, each with its family.
        mark: Fingerprint of the tokenizer.
        coder: Codes a shard.
    """

    def __init__(self, root: Path, jobs: Sequence[tuple[str, Shard]], mark: str, coder: _Coder) -> None:
        super().__init__()
        self.root, self.jobs, self.mark, self.coder = root, jobs, mark, coder
        self.network = coder.tokenizer.model

    def predict_step(self, batch: int, batch_idx: int) -> int:
        """Code a shard, and enter it in the index; how many samples it has."""
        family, shard = self.jobs[batch]
        Index.enter(self.root, family, replace(self.coder.code(self.root, shard), shape_tokenizer=self.mark))
        return shard.samples


# ---- codes of a folder of shapes ------------------------------------------------------------------------------------


def code_folder(root: Path, tokenizer: "ShapeTokenizer") -> int:
    """Write the codes of every shape of a folder of latents: ROOT/codes/NAME.npz.

    A file holds `tokens` uint16 [N], `grid` int64 [3] (codes along x, y, z; tokens are x-major) and `tokenizer`, the
    `fingerprint` of what made them. Files that the tokenizer has made of the same latents already are left alone.

    Args:
        root: Folder in the layout of TRELLIS' data sets.
        tokenizer: Codes the shapes, on the device where it is.

    Returns:
        Number of files written.

    Raises:
        ValueError: Naming the file, if it holds no latents, or latents that the tokenizer does not read.
    """
    mark, written = fingerprint(tokenizer), 0
    (root / "codes").mkdir(exist_ok=True)
    side = round(tokenizer.codes_per_shape ** (1 / 3))
    for shape in track(find_shapes(root), "coding shapes"):
        file = root / "codes" / f"{shape.name}.npz"
        if not _is_coded(file, shape, mark):
            partial = file.with_name(f".{file.name}")
            tokens = _encode(tokenizer, Slat.load(shape.latents), str(shape.latents))
            np.savez(partial, tokens=tokens.astype(np.uint16), grid=np.array([side] * 3), tokenizer=np.array(mark))
            os.replace(partial, file)
            written += 1
    return written


def _is_coded(file: Path, shape: ShapeFile, mark: str) -> bool:
    """Whether a file holds the codes of a shape's latents as they are now."""
    if not file.is_file() or file.stat().st_mtime_ns < shape.latents.stat().st_mtime_ns:
        return False
    with np.load(file, allow_pickle=False) as arrays:
        return str(arrays["tokenizer"]) == mark


def _encode(tokenizer: "ShapeTokenizer", slat: Slat, what: str) -> np.ndarray:
    """Codes int64 [N] of one shape; ValueError says which one the tokenizer does not read."""
    try:
        codes: np.ndarray = tokenizer.encode([slat])[0].cpu().numpy()
    except ValueError as error:
        raise ValueError(f"{what}: {error}") from error
    return codes
