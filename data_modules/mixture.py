"""The mixture data module: batches of several tasks on several data sets, made first if need be."""

import logging
import warnings
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock
from lightning.pytorch import LightningDataModule
from lightning.pytorch.trainer.states import TrainerFn
from torch.utils.data import DataLoader

from data_modules import shape_coding
from data_modules.batches import Batch
from data_modules.coding import add_codes, fingerprint
from data_modules.evaluation import EvaluationStream
from data_modules.families import needs_coding, task_shards
from data_modules.faults import FaultCount
from data_modules.index import Index, Shard
from data_modules.make import make_unless_packed
from data_modules.mixing import Mixture, tempered
from data_modules.recipes.recipe import WorldRecipe
from data_modules.statistics import answer_counts, instruction_kinds
from data_modules.storage import is_remote
from data_modules.stream import BatchStream, ResumableLoader, Supply
from kyvo.slat import Slat
from kyvo.task import Task
from kyvo.tokenizers.tokenizer import UnifiedTokenizer
from kyvo.workload import Workload, labelled

log = logging.getLogger(__name__)

_ENOUGH_TO_JUDGE = 1000
"""Samples after which a share of bad ones means something."""


_STAGES = {
    TrainerFn.FITTING: ("train", "val"),
    TrainerFn.VALIDATING: ("val",),
    TrainerFn.TESTING: ("test",),
    TrainerFn.PREDICTING: ("test",),
}
"""The stages whose samples a command reads."""


@dataclass
class DataSet:
    """One folder of shards, and what is trained on it.

    Args:
        root: Folder of the shards, or its http(s) URL.
        tasks: How often each task is trained, relative to the data set's others, by its spec; all are evaluated.
        weight: Size of the data set in the mixture; by default its number of training samples.
        train_limit: Train on the first so many scenes and edits only.
        val_limit: Validate on the first so many scenes or edits of each task only.
        test_limit: Test, and predict, on the first so many scenes or edits of each task only.
        val_split: The split that validation reads.
        test_split: The split that test and prediction read; `val` where no test split was made.
        make: The world to make in `root`, as far as it isn't there yet and nothing was packed there; None to take what
            is there.
        latents: Folder with latents of the shapes that scenes name, as `kyvo data code --meshes` makes it; by default
            they are the embedded assets.
    """

    root: str
    tasks: dict[str, float]
    weight: float | None = None
    train_limit: int | None = None
    val_limit: int | None = None
    test_limit: int | None = None
    val_split: str = "val"
    test_split: str = "test"
    make: WorldRecipe | None = None
    latents: str | None = None

    def __post_init__(self) -> None:
        self.root = str(self.root)

    @property
    def library(self) -> shape_coding.ShapeLibrary:
        """Where the voxels of shapes come from."""
        return shape_coding.ShapeLibrary(None if self.latents is None else Path(self.latents))

    def limit(self, stage: str) -> int | None:
        """Number of samples that a stage may use; None: all."""
        return {"train": self.train_limit, "val": self.val_limit, "test": self.test_limit}[stage]

    def split(self, stage: str) -> str:
        """The split that a stage reads."""
        return {"train": "train", "val": self.val_split, "test": self.test_split}[stage]


def _alone(data: DataSet) -> AbstractContextManager[Any]:
    """Lets one process at a time make and code a world; what is packed may lie where nothing can be written."""
    makes = data.make is not None and not Index.is_packed(data.root)
    return FileLock(Path(data.root) / ".making.lock") if makes else nullcontext()


def _check_coder(root: str, kind: str, coded: set[str | None], mine: str) -> None:
    """Raise ValueError if codes in shards are not a tokenizer's own."""
    if not coded <= {mine, None}:
        raise ValueError(
            f"{root} has {kind} codes of tokenizer {coded}, this one is {mine}: code it again with `kyvo data code`, "
            "or use the tokenizer it was coded with"
        )


class MixtureDataModule(LightningDataModule):
    """Several data sets, each with its own schema, tasks and weight, for one model.

    Metrics are named by data set and task (`val/clevr/recognition/jaccard`). The tokenizer has to know the markers and
    numbers of all schemas, as the preset `unified` does.

    Training batches are endless, each of one workload (`Mixture`), and resume exactly (`ResumableLoader`). Evaluation
    has one loader for each workload, in the order of `workloads`, whose batches carry the samples with their pixels.
    Pictures without codes are encoded on the model's device as they are read.

    Args:
        datasets: The data sets of the mixture by name.
        tokenizer: Makes the sequences; its image tokenizer, if it has one, codes the pictures, its shape tokenizer the
            shapes that scenes name.
        temperature: Data sets are drawn by `weight ** (1 / temperature)`; larger ones favour small data sets.
        batch_size: Samples of a training batch on each rank.
        eval_batch_size: Samples of an evaluation batch on each rank.
        bucket: Batches of a task whose samples are sorted by length together, so that less is padding; 1 does not sort.
        pack: Tokens of a row into which the sequences of a training batch are packed, each seeing only itself, so that
            less is padding still; the samples of a batch stay the same. 0 gives each a row of its own.
        num_workers: Processes that make batches; 0 makes them in the training process.
        eval_questions: Questions asked of each scene in evaluation, the first ones.
        epoch_batches: Batches of a training epoch; by default as many as hold the number of training samples.
        seed: Seed of the mixture and of all shuffles.
        cache_samples: Decoded samples each worker keeps in memory, about 4 kB each; a world that fits is read once.
        window: Shards of each task whose samples are shuffled together, and so are held in memory.
        max_bad_fraction: Largest share of unreadable samples that is left out; 0 makes the first one fatal.
        store_codes: Whether to add codes to shards of pictures that have none before the run; else they are encoded
            whenever they are read.
        workers: Processes that make worlds.
    """

    def __init__(
        self,
        datasets: Mapping[str, DataSet],
        tokenizer: UnifiedTokenizer,
        temperature: float = 1.0,
        batch_size: int = 16,
        eval_batch_size: int = 64,
        bucket: int = 1,
        pack: int = 0,
        num_workers: int = 0,
        eval_questions: int = 1,
        epoch_batches: int | None = None,
        seed: int = 0,
        cache_samples: int = 0,
        window: int = 8,
        max_bad_fraction: float = 0.0,
        store_codes: bool = True,
        workers: int = 2,
    ) -> None:
        super().__init__()
        self.datasets = dict(datasets)
        self.tokenizer = tokenizer
        self.temperature = temperature
        self.batch_size = batch_size
        self.eval_batch_size = eval_batch_size
        self.bucket = bucket
        self.pack = pack
        self.num_workers = num_workers
        self.eval_questions = eval_questions
        self.epoch_batches = epoch_batches
        self.seed = seed
        self.cache_samples = cache_samples
        self.window = window
        self.store_codes = store_codes
        self.workers = workers
        self.faults = FaultCount(max_bad_fraction)
        self.indices: dict[str, Index] = {}
        self._train_loader: ResumableLoader | None = None
        for name, data in self.datasets.items():
            if not data.tasks or any(not weight > 0 for weight in data.tasks.values()):
                raise ValueError(
                    f"data set {name!r} needs tasks of a positive weight each, such as {{'3-I': 1.5, 'I-3': 4}}, got "
                    f"{data.tasks}"
                )
            for spec in data.tasks:
                Task.parse(spec)

    # ---- preparation ------------------------------------------------------------------------------------------------

    def prepare_data(self) -> None:
        """Make what the command reads and is missing of the worlds, and code the pictures that have no codes.

        A folder that holds a packed data set is taken as it is, so that one config serves the real data and the made.

        Raises:
            ValueError: If a root holds another world.
        """
        for data in self.datasets.values():
            if is_remote(data.root):
                continue
            with _alone(data):
                make_unless_packed(data.root, data.make, self.workers, self._splits_read(data))
                if self.store_codes:
                    self._code(data)

    def _splits_read(self, data: DataSet) -> set[str] | None:
        """The splits that the trainer's command reads, so that `validate` makes no scenes to train on; None: all."""
        command = None if self.trainer is None else self.trainer.state.fn
        return None if command is None else {data.split(stage) for stage in _STAGES[command]}

    def _code(self, data: DataSet) -> None:
        """Add codes that are lacking; those of another tokenizer are never replaced unasked: `setup` refuses them."""
        root, index, image, shape = Path(data.root), Index.read(data.root), self.tokenizer.image, self.tokenizer.shape
        if image is not None and index.image_tokenizers() <= {None, fingerprint(image)}:
            add_codes(root, image)
        if shape is not None and {None} <= index.shape_tokenizers() <= {None, shape_coding.fingerprint(shape)}:
            shape_coding.add_shape_codes(root, shape, data.library)

    def setup(self, stage: str) -> None:
        """Read the indices.

        Raises:
            ValueError: If a schema or the codes of pictures don't fit the tokenizer.
        """
        # Lightning doubts the length of every iterable data set; these share out the work among workers and ranks.
        warnings.filterwarnings("ignore", message="Your `IterableDataset` has `__len__` defined")
        self.indices = {name: Index.read(data.root) for name, data in self.datasets.items()}
        for name, index in self.indices.items():
            self._check(self.datasets[name].root, index)

    def _check(self, root: str, index: Index) -> None:
        """Raise ValueError if shards don't fit the tokenizer."""
        try:
            self.tokenizer.with_schema(index.schema)
        except ValueError as error:
            raise ValueError(f"{root} holds scenes of schema {index.schema!r}: {error}") from error
        image, shape = self.tokenizer.image, self.tokenizer.shape
        if image is not None:
            _check_coder(root, "image", index.image_tokenizers(), fingerprint(image))
        if shape is not None:
            _check_coder(root, "shape", index.shape_tokenizers(), shape_coding.fingerprint(shape))

    def teardown(self, stage: str) -> None:
        """End the workers of training, and say what was bad."""
        if self._train_loader is not None and stage == "fit":
            self._train_loader.close()
        if self.faults.bad:
            log.warning("bad samples left out: %s", dict(self.faults.summary))

    # ---- workloads --------------------------------------------------------------------------------------------------

    @property
    def workloads(self) -> tuple[Workload, ...]:
        """All tasks of all data sets."""
        several = len(self.datasets) > 1
        return labelled(
            [
                Workload(Task.parse(spec), self.indices[name].schema, name if several else "")
                for name, data in self.datasets.items()
                for spec in data.tasks
            ]
        )

    def _supplies(self, stage: str) -> list[Supply]:
        """Where the samples of each workload come from."""
        owners = [name for name, data in self.datasets.items() for _ in data.tasks]
        return [self._supply(name, workload, stage) for name, workload in zip(owners, self.workloads, strict=True)]

    def _supply(self, name: str, workload: Workload, stage: str) -> Supply:
        data, coder = self.datasets[name], self.tokenizer.image is not None
        shards = task_shards(self.indices[name], workload.task, data.split(stage), data.limit(stage), pixels=coder)
        return Supply(workload, data.root, shards, pixels=needs_coding(workload.task, shards))

    def _weights(self, supplies: list[Supply]) -> list[float]:
        """How often each workload is drawn: the share of its data set times its own share of that."""
        sizes = [data.weight or self._size(data.root, supplies) for data in self.datasets.values()]
        return [
            share * weight / sum(data.tasks.values())
            for share, data in zip(tempered(sizes, self.temperature), self.datasets.values(), strict=True)
            for weight in data.tasks.values()
        ]

    @staticmethod
    def _size(root: str, supplies: list[Supply]) -> int:
        """Number of different training samples that lie in a folder."""
        counts = {shard.name: shard.samples for one in supplies if one.root == root for shard in one.shards}
        return sum(counts.values())

    # ---- loaders ----------------------------------------------------------------------------------------------------

    def train_dataloader(self) -> ResumableLoader:
        """Endless batches of the mixture, cut into epochs."""
        supplies, (rank, ranks) = self._supplies("train"), self._rank
        stream = BatchStream(
            supplies,
            self.tokenizer,
            Mixture(self._weights(supplies), self.seed),
            self.batch_size,
            rank,
            ranks,
            bucket=self.bucket,
            window=self.window,
            cache_samples=self.cache_samples,
            pack=self.pack,
        )
        samples = sum(self._size(data.root, supplies) for data in self.datasets.values())
        length = self.epoch_batches or max(1, samples // (self.batch_size * ranks))
        self._train_loader = ResumableLoader(stream, length, self.num_workers, torch.cuda.is_available())
        return self._train_loader

    def val_dataloader(self) -> list[DataLoader[Batch]]:
        """For each workload, each validation sample once over all ranks."""
        return self._evaluation("val")

    def test_dataloader(self) -> list[DataLoader[Batch]]:
        """For each workload, each test sample once over all ranks."""
        return self._evaluation("test")

    def predict_dataloader(self) -> list[DataLoader[Batch]]:
        """The test batches."""
        return self._evaluation("test")

    def _evaluation(self, stage: str) -> list[DataLoader[Batch]]:
        rank, ranks = self._rank
        loaders = []
        for supply in self._supplies(stage):
            tokenizer = self.tokenizer.with_schema(supply.workload.schema)
            stream = EvaluationStream(supply, tokenizer, self.eval_batch_size, self.eval_questions, rank, ranks)
            loaders.append(DataLoader(stream, batch_size=None, num_workers=self.num_workers))
        return loaders

    @property
    def _rank(self) -> tuple[int, int]:
        """This process's rank and their number; (0, 1) outside a trainer."""
        return (0, 1) if self.trainer is None else (self.trainer.global_rank, self.trainer.world_size)

    # ---- batches ----------------------------------------------------------------------------------------------------

    def on_before_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """Count what is bad.

        Raises:
            BadInputError: If more is bad than `max_bad_fraction`, naming shard, key, member and reason.
        """
        self.faults.good += len(batch)
        for fault in batch.faults:
            log.warning("left out: %s", fault)
            self.faults.add(fault)
        if batch.faults and self.faults.good + self.faults.bad >= _ENOUGH_TO_JUDGE:
            self.faults.check()
        return batch

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """Encode the pictures that have no codes, on the device they were moved to."""
        if batch.uncoded is None or self.tokenizer.image is None:
            return batch
        image = self.tokenizer.image.to(batch.uncoded.pixels.device)
        codes = image.encode(batch.uncoded.pixels.movedim(-1, 1) / 127.5 - 1)
        return batch.filled(codes, self.tokenizer.vocabulary.image_range.start)

    # ---- what the data holds ----------------------------------------------------------------------------------------

    def shape_references(self, dataset: str, resolution: int) -> dict[str, Slat]:
        """The shapes that the scenes of a data set name, by name, with so many voxels along each side.

        Raises:
            ValueError: If a shape is not to be found.
        """
        name = self._name(dataset)
        library = self.datasets[name].library
        return {shape: library.load(shape, resolution) for shape in self._shapes[name]}

    @cached_property
    def _shapes(self) -> dict[str, tuple[str, ...]]:
        """For each data set whose objects have shapes, the names of these in all splits."""
        return {
            name: shape_coding.names_in(
                data.root, [shard for shards in self.indices[name].families.values() for shard in shards], attribute
            )
            for name, data in self.datasets.items()
            if (attribute := self.indices[name].scene_schema.shape) is not None
        }

    def training_answers(self, dataset: str) -> dict[str, dict[str, int]]:
        """For each type of question in the training data of a data set, how often each answer occurs."""
        answers = self._answers[self._name(dataset)]
        return answers.get("train-questions") or answers.get("train", {})

    def question_types(self, dataset: str) -> tuple[str, ...]:
        """The types of question in all splits of a data set."""
        answers = self._answers[self._name(dataset)].values()
        return tuple(sorted({kind for counts in answers for kind in counts}))

    def instruction_kinds(self, dataset: str) -> tuple[str, ...]:
        """The kinds of instruction in all splits of a data set."""
        return self._kinds[self._name(dataset)]

    @cached_property
    def _answers(self) -> dict[str, dict[str, dict[str, dict[str, int]]]]:
        """For each data set, `answer_counts` of each split."""
        return {
            name: {split: answer_counts(data.root, shards) for split, shards in self._families(name, False).items()}
            for name, data in self.datasets.items()
        }

    @cached_property
    def _kinds(self) -> dict[str, tuple[str, ...]]:
        """For each data set, the kinds of instruction in all splits."""
        return {
            name: instruction_kinds(
                data.root, [shard for shards in self._families(name, True).values() for shard in shards]
            )
            for name, data in self.datasets.items()
        }

    def _families(self, name: str, edits: bool) -> dict[str, tuple[Shard, ...]]:
        families = self.indices[name].families
        return {family: shards for family, shards in families.items() if family.endswith("-edits") == edits}

    def _name(self, dataset: str) -> str:
        """The name of a workload's data set; one that is alone goes without in workloads."""
        return dataset or next(iter(self.datasets))
