"""Coding: the image codes that an image tokenizer adds to shards of pixels, on every device of a trainer.

B pictures of a batch, H and W their size in pixels, N codes of a picture.
"""

import hashlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning import Callback, LightningDataModule, LightningModule, Trainer
from lightning.pytorch.plugins.environments import LightningEnvironment
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from data_modules.coding_bar import CodingBar
from data_modules.index import Index, Shard
from data_modules.records import CODES
from data_modules.shards import RawSample, encode_npy, read_shard, rewrite_shard
from kyvo.tokenizers.images import ImageTokenizer
from kyvo.tokenizers.pixels import image_batch
from kyvo.training.quiet import quiet


def code(
    root: Path,
    image_tokenizer: str,
    batch_size: int = 64,
    num_workers: int = 0,
    accelerator: str = "auto",
    devices: int | str = "auto",
    num_nodes: int = 1,
    precision: str = "32-true",
) -> None:
    """Add image codes to all shards of a folder, in place of older codes, on as many devices as there are.

    Args:
        root: Folder of the shards, on a disk that all nodes see.
        image_tokenizer: Folder or hub id of a trained image tokenizer, or the name of one that ships.
        batch_size: Images encoded together on each device.
        num_workers: Processes for each device that decode pictures; 0 decodes between batches.
        accelerator: cpu, gpu, or auto.
        devices: Number of devices on each node, or auto.
        num_nodes: Number of nodes.
        precision: As Lightning's trainer takes it; the quantisation itself is always in float32.
    """
    tokenizer = ImageTokenizer.from_pretrained(image_tokenizer)
    coding = _Coding.of(Path(root), tokenizer, batch_size, num_workers)
    with coding_trainer(accelerator, devices, num_nodes, precision, *coding.callbacks()) as trainer:
        trainer.predict(ImageCoder(tokenizer), PictureDataModule(coding), return_predictions=False)
        # Whoever touches the shards next finds them all written.
        trainer.strategy.barrier()


def add_codes(root: Path, tokenizer: ImageTokenizer, batch_size: int = 64) -> None:
    """Add a tokenizer's codes to the shards that hold pixels, in this process, on a GPU if there is one.

    Shards that the tokenizer has coded already are left alone. Each shard is replaced in one step and then entered in
    the index, so an interrupted run can be repeated.

    Raises:
        ValueError: If the images don't have the tokenizer's size (named by shard and key).
    """
    coding, device = _Coding.of(root, tokenizer, batch_size, num_workers=0), tokenizer.device
    if not coding.jobs:
        return
    with lone_trainer(*coding.callbacks()) as trainer:
        trainer.predict(ImageCoder(tokenizer), PictureDataModule(coding), return_predictions=False)
    tokenizer.to(device)


@contextmanager
def coding_trainer(
    accelerator: str, devices: int | str, num_nodes: int, precision: str, *callbacks: Callback
) -> Iterator[Trainer]:
    """A trainer for coding on as many devices as there are; arguments as Lightning's trainer takes them."""
    with quiet():
        yield Trainer(
            accelerator=accelerator,
            devices=devices,
            num_nodes=num_nodes,
            precision=precision,  # type: ignore[arg-type]
            callbacks=[*callbacks],
            **_PLAIN,
        )


@contextmanager
def lone_trainer(*callbacks: Callback) -> Iterator[Trainer]:
    """A trainer for coding in this process, on a GPU if there is one.

    Used inside of another trainer's run: whatever cluster that one belongs to, this one is alone, and what it would say
    of the machine has been said.
    """
    talk, level = logging.getLogger("lightning.pytorch"), logging.getLogger("lightning.pytorch").level
    talk.setLevel(logging.WARNING)
    try:
        with quiet():
            yield Trainer(devices=1, plugins=[LightningEnvironment()], callbacks=[*callbacks], **_PLAIN)
    finally:
        talk.setLevel(level)


def fingerprint(tokenizer: ImageTokenizer) -> str:
    """Hash of the weights that decide an image's codes: 16 hexadecimal digits of SHA-256."""
    deciding = ("encoder.", "quant_conv.", "quantize.embedding.")
    weights = tokenizer.model.state_dict().items()
    return hash_of({name: tensor for name, tensor in weights if name.startswith(deciding)})


def hash_of(weights: Mapping[str, Tensor]) -> str:
    """16 hexadecimal digits of SHA-256 of tensors and their names."""
    digest = hashlib.sha256()
    for name, tensor in sorted(weights.items()):
        digest.update(name.encode())
        digest.update(tensor.detach().float().cpu().numpy().tobytes())
    return digest.hexdigest()[:16]


_PLAIN: dict[str, Any] = {
    "logger": False,
    "enable_checkpointing": False,
    "enable_model_summary": False,
    "enable_progress_bar": False,
    "use_distributed_sampler": False,
}


@dataclass(frozen=True)
class _Job:
    """One shard to code, and the family it belongs to."""

    family: str
    shard: Shard


@dataclass(frozen=True)
class _Coding:
    """What is to be coded, and how.

    Args:
        root: Folder of the shards.
        jobs: The shards that hold pictures and no codes of the tokenizer.
        mark: Fingerprint of the tokenizer.
        size: Height and width that it reads.
        batch_size: Pictures of a batch, at most.
        num_workers: Processes that decode on each rank.
    """

    root: Path
    jobs: Sequence[_Job]
    mark: str
    size: tuple[int, int]
    batch_size: int
    num_workers: int

    @classmethod
    def of(cls, root: Path, tokenizer: ImageTokenizer, batch_size: int, num_workers: int) -> "_Coding":
        """What a tokenizer has to do in a folder."""
        mark = fingerprint(tokenizer)
        jobs = [
            _Job(family, shard)
            for family, shards in Index.read(root).families.items()
            for shard in shards
            if shard.has_images and shard.image_tokenizer != mark
        ]
        height, width = tokenizer.size
        return cls(root, jobs, mark, (height, width), batch_size, num_workers)

    def callbacks(self) -> list[Callback]:
        """What writes the codes, and a bar."""
        pictures = [
            sum(count for member, count in job.shard.members.items() if _target(member) is not None)
            for job in self.jobs
        ]
        return [_Recoder(self), CodingBar("coding pictures", pictures, _size)]


@dataclass(frozen=True)
class PictureBatch:
    """Pictures of one shard.

    Args:
        job: Number of the shard among those to code.
        places: For each picture, the number of its sample in the shard and the member that takes its codes.
        images: float32 [B, 3, H, W] in [-1, 1].
        last: Whether it is the shard's last batch.
    """

    job: int
    places: tuple[tuple[int, str], ...]
    images: Tensor
    last: bool

    def to(self, device: torch.device | str, **kwargs: Any) -> "PictureBatch":
        """The batch with its pictures on a device."""
        return replace(self, images=self.images.to(device, **kwargs))


class PictureStream(IterableDataset[PictureBatch]):
    """The pictures of the shards that fall to one rank.

    Args:
        coding: What is to be coded.
        rank: This process.
        ranks: Number of processes.
    """

    def __init__(self, coding: _Coding, rank: int = 0, ranks: int = 1) -> None:
        self.coding = coding
        self.mine = range(rank, len(coding.jobs), ranks)

    def __iter__(self) -> Iterator[PictureBatch]:
        info = torch.utils.data.get_worker_info()
        first, step = (info.id, info.num_workers) if info else (0, 1)
        for job in self.mine[first::step]:
            yield from self._batches(job)

    def _batches(self, job: int) -> Iterator[PictureBatch]:
        places: list[tuple[int, str]] = []
        pictures: list[np.ndarray] = []
        for number, raw in enumerate(read_shard(self.coding.root / self.coding.jobs[job].shard.name)):
            for member, target in _pictures(raw):
                # One picture is held back, so that the last batch is known to be the last.
                if len(places) == self.coding.batch_size:
                    yield PictureBatch(job, tuple(places), image_batch(pictures), last=False)
                    places, pictures = [], []
                places.append((number, target))
                pictures.append(self._decode(raw, member))
        if places:
            yield PictureBatch(job, tuple(places), image_batch(pictures), last=True)

    def _decode(self, raw: RawSample, member: str) -> np.ndarray:
        picture: np.ndarray = raw.decode(member)
        if picture.shape[:2] != self.coding.size:
            where = f"{raw.shard}: key {raw.key!r}: member {member!r}"
            raise ValueError(f"{where} is {picture.shape[:2]} pixels, the image tokenizer codes {self.coding.size}")
        return picture


class PictureDataModule(LightningDataModule):
    """The pictures to code, shared out by shards over the ranks.

    Args:
        coding: What is to be coded.
    """

    def __init__(self, coding: _Coding) -> None:
        super().__init__()
        self.coding = coding

    def predict_dataloader(self) -> DataLoader[PictureBatch]:
        """The pictures of this rank: known only now, when the processes have been started."""
        assert self.trainer is not None  # Lightning sets it before it asks
        rank, ranks = self.trainer.global_rank, self.trainer.world_size
        stream = PictureStream(self.coding, rank, ranks)
        return DataLoader(stream, batch_size=None, num_workers=self.coding.num_workers)


def _pictures(raw: RawSample) -> Iterator[tuple[str, str]]:
    """Members of a sample that are pictures, and where their codes go."""
    for member in raw.members:
        target = _target(member)
        if target is not None:
            yield member, target


def _target(member: str) -> str | None:
    """Where the codes of a member go; None if it is no picture."""
    stem, _, suffix = member.rpartition(".")
    return CODES.get(stem) if suffix in ("png", "jpg") else None


def _size(batch: PictureBatch) -> int:
    return len(batch.images)


class ImageCoder(LightningModule):
    """An image tokenizer as a trainer runs it.

    Args:
        tokenizer: Codes the pictures.
    """

    def __init__(self, tokenizer: ImageTokenizer) -> None:
        super().__init__()
        self.tokenizer = tokenizer
        self.network = tokenizer.model

    def predict_step(self, batch: PictureBatch, batch_idx: int) -> Tensor:
        """Codes int64 [B, N] of a batch."""
        return self.tokenizer.encode(batch.images)


@dataclass
class _Recoder(Callback):
    """Gathers the codes of each shard and writes it anew when they are complete."""

    coding: _Coding
    codes: dict[int, dict[tuple[int, str], np.ndarray]] = field(default_factory=dict)

    def on_predict_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: PictureBatch, *_: int
    ) -> None:
        """Keep the codes of a batch; after a shard's last one write the shard, and enter it in the index."""
        rows = outputs.cpu().numpy().astype(np.uint16)
        held = self.codes.setdefault(batch.job, {})
        held.update(zip(batch.places, rows, strict=True))
        if batch.last:
            self._write(self.coding.jobs[batch.job], self.codes.pop(batch.job))

    def _write(self, job: _Job, codes: dict[tuple[int, str], np.ndarray]) -> None:
        raws = list(read_shard(self.coding.root / job.shard.name))
        members = [dict(raw.members) for raw in raws]
        for (number, member), row in codes.items():
            members[number][member] = encode_npy(row)
        shard = rewrite_shard(self.coding.root, job.shard, raws, members)
        Index.enter(self.coding.root, job.family, replace(shard, image_tokenizer=self.coding.mark))
