"""The CLEVR data module: batches of a mixture of tasks from a folder of shards, made first if need be."""

import warnings
from functools import cached_property
from pathlib import Path

import torch
from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader

from data_modules.batches import Batch
from data_modules.coding import add_codes, fingerprint
from data_modules.evaluation import EvaluationStream
from data_modules.families import task_shards
from data_modules.index import Index, Shard
from data_modules.make import WorldRecipe, make
from data_modules.mixture import TaskMixture
from data_modules.statistics import answer_counts, instruction_kinds
from data_modules.stream import BatchStream, ResumableLoader
from kyvo.tokenizers.tokenizer import UnifiedTokenizer


class ClevrDataModule(LightningDataModule):
    """Training and evaluation batches of CLEVR-like worlds.

    Training batches are endless, each of one task (`TaskMixture`), and resume exactly (`ResumableLoader`). Evaluation
    has one loader for each task, in the order of `tasks`, whose batches carry the samples with their pixels.

    Args:
        root: Folder of the shards.
        tokenizer: Makes the sequences; its image tokenizer, if it has one, codes the pictures.
        tasks: How often each task is trained, relative to the others, by its spec; all of them are evaluated.
        batch_size: Samples of a training batch on each rank.
        eval_batch_size: Samples of an evaluation batch on each rank.
        bucket: Batches of a task whose samples are sorted by length together, so that less is padding; 1 does not sort.
        num_workers: Processes that make batches; 0 makes them in the training process.
        train_limit: Train on the first so many scenes and edits only.
        val_limit: Validate on the first so many scenes or edits of each task only.
        test_limit: Test, and predict, on the first so many scenes or edits of each task only.
        test_split: The split that test and prediction read; `val` where no test split was made.
        eval_questions: Questions asked of each scene in evaluation, the first ones.
        epoch_batches: Batches of a training epoch; by default as many as hold the number of training samples.
        seed: Seed of the mixture and of all shuffles.
        cache_samples: Decoded samples each worker keeps in memory, about 4 kB each; a world that fits is read once.
        make: The world to make and code in `root`, as far as it isn't there yet; None to take what is there.
        workers: Processes that make and code the world.
    """

    def __init__(
        self,
        root: Path,
        tokenizer: UnifiedTokenizer,
        tasks: dict[str, float],
        batch_size: int = 16,
        eval_batch_size: int = 64,
        bucket: int = 1,
        num_workers: int = 0,
        train_limit: int | None = None,
        val_limit: int | None = None,
        test_limit: int | None = None,
        test_split: str = "test",
        eval_questions: int = 1,
        epoch_batches: int | None = None,
        seed: int = 0,
        cache_samples: int = 100_000,
        make: WorldRecipe | None = None,
        workers: int = 2,
    ) -> None:
        super().__init__()
        self.root = Path(root)
        self.tokenizer = tokenizer
        self.mixture = TaskMixture(tasks, seed)
        self.batch_size = batch_size
        self.eval_batch_size = eval_batch_size
        self.bucket = bucket
        self.num_workers = num_workers
        self.limits = {"train": train_limit, "val": val_limit, "test": test_limit}
        self.test_split = test_split
        self.eval_questions = eval_questions
        self.epoch_batches = epoch_batches
        self.cache_samples = cache_samples
        self.make = make
        self.workers = workers
        self.tasks = self.mixture.tasks
        self._train_loader: ResumableLoader | None = None

    def prepare_data(self) -> None:
        """Make what is missing of the world, and code the pictures that have no codes.

        Raises:
            ValueError: If `root` holds another world.
        """
        if self.make is not None:
            make(self.root, self.make, self.workers)
        index = Index.read(self.root)
        image = self.tokenizer.image
        # Codes of another tokenizer are never replaced unasked: `setup` refuses them.
        if image is not None and index.image_tokenizers() <= {None, fingerprint(image)}:
            add_codes(self.root, image, workers=self.workers)

    def setup(self, stage: str) -> None:
        """Read the index.

        Raises:
            ValueError: If its schema or the codes of its pictures don't fit the tokenizer.
        """
        # Lightning doubts the length of every iterable data set; these share out the work among workers and ranks.
        warnings.filterwarnings("ignore", message="Your `IterableDataset` has `__len__` defined")
        self.index = Index.read(self.root)
        if self.index.schema != self.tokenizer.schema.name:
            found, wanted = self.index.schema, self.tokenizer.schema.name
            raise ValueError(f"{self.root} holds scenes of schema {found!r}, the tokenizer has {wanted!r}")
        if self.tokenizer.image is not None:
            coded, mine = self.index.image_tokenizers(), fingerprint(self.tokenizer.image)
            if not coded <= {mine}:
                raise ValueError(
                    f"{self.root} has image codes of tokenizer {coded}, this one is {mine}: code it again with "
                    "`kyvo data code`, or use the tokenizer it was coded with"
                )

    def train_dataloader(self) -> ResumableLoader:
        """Endless batches of the mixture, cut into epochs."""
        shards = {task.spec: task_shards(self.index, task, "train", self.limits["train"]) for task in self.tasks}
        rank, ranks = self._rank
        stream = BatchStream(
            self.root,
            shards,
            self.tokenizer,
            self.mixture,
            self.batch_size,
            rank,
            ranks,
            bucket=self.bucket,
            cache_samples=self.cache_samples,
        )
        counts = {shard.name: shard.samples for group in shards.values() for shard in group}
        length = self.epoch_batches or max(1, sum(counts.values()) // (self.batch_size * ranks))
        self._train_loader = ResumableLoader(stream, length, self.num_workers, torch.cuda.is_available())
        return self._train_loader

    def val_dataloader(self) -> list[DataLoader[Batch]]:
        """For each task, each validation sample once over all ranks."""
        return self._evaluation("val", "val")

    def test_dataloader(self) -> list[DataLoader[Batch]]:
        """For each task, each test sample once over all ranks."""
        return self._evaluation(self.test_split, "test")

    def predict_dataloader(self) -> list[DataLoader[Batch]]:
        """The test batches."""
        return self._evaluation(self.test_split, "test")

    def teardown(self, stage: str) -> None:
        """End the workers of training."""
        if self._train_loader is not None and stage == "fit":
            self._train_loader.close()

    def _evaluation(self, split: str, stage: str) -> list[DataLoader[Batch]]:
        rank, ranks = self._rank
        loaders = []
        for task in self.tasks:
            shards = task_shards(self.index, task, split, self.limits[stage])
            stream = EvaluationStream(
                self.root, shards, self.tokenizer, task, self.eval_batch_size, self.eval_questions, rank, ranks
            )
            loaders.append(DataLoader(stream, batch_size=None, num_workers=self.num_workers))
        return loaders

    @property
    def training_answers(self) -> dict[str, dict[str, int]]:
        """For each type of question in the training data, how often each answer occurs."""
        return self._answers["train"]

    @property
    def question_types(self) -> tuple[str, ...]:
        """The types of question in all splits."""
        return tuple(sorted({kind for counts in self._answers.values() for kind in counts}))

    @cached_property
    def instruction_kinds(self) -> tuple[str, ...]:
        """The kinds of instruction in all splits."""
        edits = self._families(edits=True).values()
        return instruction_kinds(self.root, [shard for shards in edits for shard in shards])

    @cached_property
    def _answers(self) -> dict[str, dict[str, dict[str, int]]]:
        """`answer_counts` of each split."""
        return {split: answer_counts(self.root, shards) for split, shards in self._families(edits=False).items()}

    def _families(self, edits: bool) -> dict[str, tuple[Shard, ...]]:
        return {name: shards for name, shards in self.index.families.items() if name.endswith("-edits") == edits}

    @property
    def _rank(self) -> tuple[int, int]:
        """This process's rank and their number; (0, 1) outside a trainer."""
        return (0, 1) if self.trainer is None else (self.trainer.global_rank, self.trainer.world_size)
