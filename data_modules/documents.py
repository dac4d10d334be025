"""What a made world says of its scenes, as text: the training data of text backbones.

Letters: B batch, S ids of a row, R rows.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from lightning import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from data_modules.index import Index
from data_modules.loading import distributed_loader
from data_modules.make import make_unless_packed
from data_modules.recipes.recipe import WorldRecipe
from data_modules.records import Record, decode_record
from data_modules.shards import read_shard
from data_modules.storage import locate
from kyvo.scene import Scene, SceneObject, SceneSchema
from kyvo.tokenizers.text import TextTokenizer
from kyvo.tokenizers.tokenizer import UnifiedTokenizer


def describe(scene: Scene, schema: SceneSchema) -> str:
    """A scene in words, numbers to two decimals.

    >>> from kyvo.scene import SCHEMAS
    >>> one = {"size": "small", "color": "red", "material": "metal", "shape": "cube", "3d_coords": [0.5, -1, 0.35]}
    >>> describe(SCHEMAS["clevr"].read({"objects": [one]}), SCHEMAS["clevr"])
    'small red metal cube 0.50 -1.00 0.35.'
    """
    return " ".join(f"{' '.join(_words(item, schema))}." for item in scene)


def _words(item: SceneObject, schema: SceneSchema) -> Iterator[str]:
    for attribute in schema.attributes:
        value = item[attribute.name]
        if isinstance(value, str):
            yield value
        elif attribute.kind == "numbers":
            yield from (f"{number:.2f}" for number in value)


def document(record: Record, schema: SceneSchema) -> str:
    """A scene with its questions and their answers; of an edit, both scenes with the instruction between them.

    Raises:
        ValueError: If the record has no scene.
    """
    sample = record.sample
    if sample.scene is None:
        raise ValueError(f"sample {sample.key!r} has no scene to speak of")
    parts = [describe(sample.scene, schema)]
    parts += [f"{question.text} {question.answer}." for question in record.questions]
    if sample.text is not None and sample.target_scene is not None:
        parts += [f"{sample.text}:", describe(sample.target_scene, schema)]
    return " ".join(parts)


def documents(root: str, split: str) -> Iterator[str]:
    """What is said of the scenes of a split and of its edits, in the order of the shards.

    Args:
        root: Folder of the shards.
        split: The split.

    Raises:
        ValueError: If the folder has no such split.
    """
    index = Index.read(root)
    families = [split, *(name for name in (f"{split}-edits",) if name in index.families)]
    members = {"scene.json", "question.json", "instruction.json", "target.scene.json"}
    for family in families:
        for shard in index.shards(family):
            for raw in read_shard(locate(root, shard.name), members):
                yield document(decode_record(raw, index.scene_schema), index.scene_schema)


def rows_of(texts: Sequence[str], text: TextTokenizer, length: int) -> Tensor:
    """Texts one after the other, each between BOS and EOS, cut into rows; what does not fill the last is left out.

    Args:
        texts: The texts, in the order in which they are laid.
        text: Its ids.
        length: S.

    Returns:
        int64 [R, S].

    Raises:
        ValueError: If they do not fill a row.
    """
    ids = [token for one in texts for token in (text.bos, *text.encode(one), text.eos)]
    if len(ids) < length:
        raise ValueError(f"{len(texts)} texts of {len(ids)} ids do not fill a row of {length}")
    return torch.tensor(ids[: len(ids) // length * length]).reshape(-1, length)


class DocumentDataModule(LightningDataModule):
    """Batches of text, int64 [B, S]: scenes in words, questions with answers, instructions with what they lead to.

    Each process reads its own share; the order of an epoch follows from `seed` and the epoch.

    Args:
        root: Folder of the shards.
        tokenizer: Its text tokenizer makes the ids.
        make: The world to make in `root`, as far as it isn't there yet; None to take what is there.
        length: S; documents run on from row to row.
        batch_size: B of one process.
        val_split: The split that validation reads.
        seed: Seed of the orders.
        workers: Processes that make the world.
    """

    def __init__(
        self,
        root: str,
        tokenizer: UnifiedTokenizer,
        make: WorldRecipe | None = None,
        length: int = 256,
        batch_size: int = 32,
        val_split: str = "val",
        seed: int = 0,
        workers: int = 2,
    ) -> None:
        super().__init__()
        self.root = root
        self.text = tokenizer.text
        self.make = make
        self.length = length
        self.batch_size = batch_size
        self.val_split = val_split
        self.seed = seed
        self.workers = workers

    def prepare_data(self) -> None:
        """Make what is missing of the world; ValueError if the folder holds another one."""
        make_unless_packed(Path(self.root), self.make, self.workers)

    def setup(self, stage: str) -> None:
        """Read the texts."""
        if stage == "fit":
            self.train_rows = self._rows("train")
        self.val_rows = self._rows(self.val_split)

    def train_dataloader(self) -> DataLoader[tuple[Tensor, ...]]:
        """Shuffled batches; an incomplete last one is dropped."""
        return self._loader(self.train_rows, shuffle=True)

    def val_dataloader(self) -> DataLoader[tuple[Tensor, ...]]:
        """Validation batches in order."""
        return self._loader(self.val_rows, shuffle=False)

    def _rows(self, split: str) -> Tensor:
        texts = list(documents(self.root, split))
        # Scenes and edits mixed, so that a row holds both.
        order = torch.randperm(len(texts), generator=torch.Generator().manual_seed(self.seed)).tolist()
        return rows_of([texts[place] for place in order], self.text, self.length)

    def _loader(self, rows: Tensor, shuffle: bool) -> DataLoader[tuple[Tensor, ...]]:
        return distributed_loader(self, TensorDataset(rows), self.batch_size, shuffle, self.seed, 0, _stack)


def _stack(rows: Sequence[tuple[Tensor, ...]]) -> Tensor:
    return torch.stack([row for (row,) in rows])
