"""Looking at shards: a check of every member, and samples printed as coloured segments."""

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from data_modules.families import task_shards
from data_modules.index import Index, Shard
from data_modules.records import decode_record
from data_modules.shards import read_shard
from kyvo.scene import SceneSchema, get_schema
from kyvo.task import Task

if TYPE_CHECKING:
    from rich.text import Text

    from kyvo.tokenizers.sequence import TokenSequence
    from kyvo.tokenizers.tokenizer import UnifiedTokenizer

COLORS = {"image": "cyan", "scene": "green", "text": "yellow"}


def check(root: Path) -> dict[str, int]:
    """Read every member of every shard and compare with the index.

    Args:
        root: Folder of the shards.

    Returns:
        Number of samples of each family of shards.

    Raises:
        ValueError: At the first fault, naming shard, key and member, and saying what is wrong.
        FileNotFoundError: If the index, or a shard it names, is missing.
    """
    root = Path(root)
    index = Index.read(root)
    schema = get_schema(index.schema)
    keys: set[str] = set()
    for shards in index.families.values():
        for shard in shards:
            _check_shard(root, shard, schema, keys)
    if len(index.image_tokenizers()) > 1:
        raise ValueError(f"{root}: shards are coded by different image tokenizers: {index.image_tokenizers()}")
    return {family: sum(shard.samples for shard in shards) for family, shards in index.families.items()}


def _check_shard(root: Path, shard: Shard, schema: SceneSchema, keys: set[str]) -> None:
    path, samples, members = root / shard.name, 0, Counter[str]()
    for raw in read_shard(path):
        if raw.key in keys:
            raise ValueError(f"{path}: key {raw.key!r} occurs twice")
        raw.require(shard.complete_members)
        for member in raw.members:
            raw.decode(member)
        decode_record(raw, schema, pixels=True)
        keys.add(raw.key)
        samples += 1
        members.update(raw.members.keys())
    if (samples, dict(members)) != (shard.samples, dict(shard.members)):
        raise ValueError(
            f"{path} holds {samples} samples with {dict(members)} where index.json says {shard.samples} with "
            f"{dict(shard.members)}"
        )


def show(root: Path, task: str = "3-I", n: int = 3, split: str = "train", tokenizer: Path | None = None) -> None:
    """Print samples as the model meets them: coloured by modality, what is written in bold.

    Args:
        root: Folder of the shards.
        task: What is read and written.
        n: How many samples.
        split: From which split.
        tokenizer: Folder of the tokenizer that makes the sequences; by default the preset "quickstart".
    """
    from rich.console import Console

    from data_modules.evaluation import EvaluationStream
    from kyvo.tokenizers.tokenizer import UnifiedTokenizer

    maker = UnifiedTokenizer.from_pretrained(tokenizer) if tokenizer else UnifiedTokenizer.from_preset("quickstart")
    parsed, console = Task.parse(task), Console()
    shards = task_shards(Index.read(root), parsed, split, n)
    for batch in EvaluationStream(Path(root), shards, maker, parsed, batch_size=1):
        sequence = maker.encode(parsed, batch.samples[0])
        console.print(f"{batch.keys[0]}  {task}  {len(sequence)} tokens  {batch.samples[0].kind}", style="dim")
        console.print(colored(sequence, maker))


def colored(sequence: "TokenSequence", tokenizer: "UnifiedTokenizer") -> "Text":
    """A sequence as text, coloured by modality; what is written is bold."""
    from rich.text import Text

    text = Text()
    for segment in sequence.segments:
        style = " ".join(filter(None, ("bold" if segment.written else "", COLORS.get(segment.name, "magenta"))))
        text.append(_spell(tokenizer, sequence.ids[segment.start : segment.stop].tolist()), style or None)
    return text


def _spell(tokenizer: "UnifiedTokenizer", ids: list[int]) -> str:
    """Ids as labels: text as it reads, numbers and markers by name, image codes as <n>."""
    vocabulary = tokenizer.vocabulary
    ends = {vocabulary.bos: "[BOS]", vocabulary.eos: "[EOS]"}
    pieces = []
    for index in ids:
        if index in ends:
            pieces.append(ends[index])
        elif index in vocabulary.text_range:
            pieces.append(tokenizer.text.decode([index]))
        elif index in vocabulary.number_range:
            pieces.append(f" {vocabulary.numbers[index - vocabulary.number_range.start]}")
        elif index in vocabulary.marker_range:
            pieces.append(vocabulary.markers[index - vocabulary.marker_range.start])
        else:
            pieces.append(f"<{index - vocabulary.image_range.start}>")
    return "".join(pieces)
