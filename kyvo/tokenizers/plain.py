"""The unified vocabulary as a plain Hugging Face tokenizer: scenes, markers and codes as tokens that text can spell."""

import json
from collections.abc import Iterator
from pathlib import Path

from kyvo.tokenizers.text import TextTokenizer
from kyvo.tokenizers.vocabulary import Vocabulary


def added_tokens(vocabulary: Vocabulary) -> Iterator[str]:
    """How the ids after the text ids are spelt, in order: `-0.55`, `[SIZE]`, `<image-17>`, `<shape-17>`."""
    yield from vocabulary.numbers
    yield from vocabulary.markers
    spans = {
        "reserved": vocabulary.reserved_range,
        "image": vocabulary.image_range,
        "shape": vocabulary.shape_range,
    }
    for name, ids in spans.items():
        yield from (f"<{name}-{index}>" for index in range(len(ids)))


def save_plain_tokenizer(text: TextTokenizer, vocabulary: Vocabulary, folder: str | Path) -> None:
    """Write `tokenizer.json` and `tokenizer_config.json` for transformers' `AutoTokenizer`.

    `[LOCATION]-0.55 0.05 0.70` becomes a marker and three numbers only without the spaces: in a scene's sequence
    nothing stands between its tokens, and words have a space before them.

    Args:
        text: The text tokenizer; it keeps its ids.
        vocabulary: All ids.
        folder: Where to write; created if absent.

    Raises:
        ValueError: If a token has an id already, or would get another one than the vocabulary's.
    """
    from tokenizers import AddedToken, Tokenizer

    text.save_pretrained(folder)
    backend = Tokenizer.from_str(text.backend.to_str())
    tokens = list(added_tokens(vocabulary))
    backend.add_tokens([AddedToken(token, normalized=False, special=False) for token in tokens])
    for index, token in enumerate(tokens, start=vocabulary.text):
        if backend.token_to_id(token) != index:
            raise ValueError(f"token {token!r} should have id {index}, the text tokenizer gives it another")
    backend.save(str(Path(folder) / "tokenizer.json"), pretty=False)
    file = Path(folder) / "tokenizer_config.json"
    # Clean-up would take out spaces before punctuation, and with them the ids that they belong to.
    config = json.loads(file.read_text(encoding="utf-8")) | {"clean_up_tokenization_spaces": False}
    file.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
