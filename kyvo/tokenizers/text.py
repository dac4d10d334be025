"""Text tokenizers: byte-level BPE read from the files of a Hugging Face folder."""

import json
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kyvo.assets import ROOT

if TYPE_CHECKING:
    import tokenizers

EMBEDDED = ROOT / "text_tokenizer"
"""Folder of the small tokenizer of the embedded world."""

_FILES = ("tokenizer.json", "tokenizer_config.json")
_SPECIALS = ("<|begin_of_text|>", "<|end_of_text|>", "<|pad|>")
# Llama 3 splits text so: with it " cube" is one word with its space, and digits come in groups of three.
_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


class TextTokenizer:
    """Text to ids and back, without special tokens; text that spells a special token stays text.

    Args:
        backend: the tokenizer of the ``tokenizers`` library.
        bos: id that opens a sequence.
        eos: id that closes a sequence.
        pad: id that fills up a batch.
    """

    def __init__(self, backend: "tokenizers.Tokenizer", bos: int, eos: int, pad: int) -> None:
        self.backend = backend
        self.bos, self.eos, self.pad = bos, eos, pad
        self.backend.encode_special_tokens = True
        self.backend.no_padding()
        self.backend.no_truncation()

    @classmethod
    def from_pretrained(cls, source: str | Path) -> "TextTokenizer":
        """Read ``tokenizer.json`` and ``tokenizer_config.json`` from a folder, or from the Hub for a repository id.

        Raises:
            ValueError: if a file is missing, or if the config names no beginning or end of text.
        """
        from tokenizers import Tokenizer

        folder = _folder(source)
        backend = Tokenizer.from_file(str(folder / _FILES[0]))
        config = json.loads((folder / _FILES[1]).read_text(encoding="utf-8"))
        bos, eos = (_special(backend, config, name, folder) for name in ("bos_token", "eos_token"))
        # Padding is never looked at, so a folder without a pad token may reuse the end of text.
        pad = _special(backend, config, "pad_token", folder) if config.get("pad_token") else eos
        return cls(backend, bos, eos, pad)

    @cached_property
    def size(self) -> int:
        """Number of ids, special and reserved ones among them."""
        return int(max(self.backend.get_vocab(with_added_tokens=True).values())) + 1

    @cached_property
    def special_ids(self) -> tuple[int, ...]:
        """Ids that no text has: beginning, end, padding and reserved tokens."""
        added = self.backend.get_added_tokens_decoder()
        named = {self.bos, self.eos, self.pad}
        return tuple(sorted(named | {index for index, token in added.items() if token.special}))

    def encode(self, text: str) -> list[int]:
        """Ids of a text; nothing is added around it."""
        ids: list[int] = self.backend.encode(text, add_special_tokens=False).ids
        return ids

    def decode(self, ids: Iterable[int]) -> str:
        """The text of ids; special tokens are left out, bytes that are no UTF-8 become U+FFFD."""
        text: str = self.backend.decode([int(index) for index in ids], skip_special_tokens=True)
        return text

    def save_pretrained(self, folder: str | Path) -> None:
        """Write the two files that ``from_pretrained`` reads."""
        target = Path(folder)
        target.mkdir(parents=True, exist_ok=True)
        self.backend.save(str(target / _FILES[0]), pretty=False)
        names = {"bos_token": self.bos, "eos_token": self.eos, "pad_token": self.pad}
        config = {name: self.backend.id_to_token(index) for name, index in names.items()}
        config["tokenizer_class"] = "PreTrainedTokenizerFast"
        (target / _FILES[1]).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def _folder(source: str | Path) -> Path:
    """The folder itself, or the snapshot of a Hub repository; ValueError names files that are missing."""
    folder = Path(source).expanduser()
    if not folder.is_dir():
        folder = _download(str(source))
    missing = [name for name in _FILES if not (folder / name).is_file()]
    if missing:
        raise ValueError(f"the text tokenizer in {folder} lacks {' and '.join(missing)}")
    return folder


def _download(source: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(source, allow_patterns=list(_FILES)))
    except (HFValidationError, HfHubHTTPError, LocalEntryNotFoundError) as error:
        raise ValueError(f"{source!r} is neither a folder nor a repository that the Hub gives out: {error}") from error


def _special(backend: "tokenizers.Tokenizer", config: dict[str, Any], name: str, folder: Path) -> int:
    entry = config.get(name)
    token = entry.get("content") if isinstance(entry, dict) else entry
    index = backend.token_to_id(token) if token else None
    if index is None:
        raise ValueError(f"{folder / _FILES[1]} names {token!r} as its {name}, which {_FILES[0]} does not have")
    return int(index)


def train_text_tokenizer(texts: Iterable[str], size: int = 512) -> TextTokenizer:
    """Train a byte-level BPE that splits words as Llama 3 does; any text round-trips.

    Args:
        texts: the corpus.
        size: number of ids: 256 bytes, three special tokens, merges for the rest.
    """
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

    backend = Tokenizer(models.BPE())
    split = pre_tokenizers.Split(Regex(_SPLIT), "isolated")
    bytes_only = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.pre_tokenizer = pre_tokenizers.Sequence([split, bytes_only])
    backend.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=size, special_tokens=list(_SPECIALS), initial_alphabet=alphabet, show_progress=False
    )
    # The trainer gives the special tokens the first ids, in their order.
    backend.train_from_iterator(texts, trainer)
    return TextTokenizer(backend, *range(len(_SPECIALS)))
