"""Spelling: ids as people read them."""

from collections.abc import Iterable
from itertools import groupby

from kyvo.tokenizers.tokenizer import UnifiedTokenizer
from kyvo.tokenizers.vocabulary import Vocabulary


def spell(tokenizer: UnifiedTokenizer, ids: Iterable[int]) -> str:
    """Ids as labels: text as it reads, markers and numbers by name, image codes as <n>, shape codes as {n}."""
    return "".join(
        tokenizer.text.decode(run) if is_text else "".join(_label(tokenizer.vocabulary, index) for index in run)
        for is_text, run in groupby(ids, key=lambda index: _is_text(tokenizer.vocabulary, index))
    )


def _is_text(vocabulary: Vocabulary, index: int) -> bool:
    return index in vocabulary.text_range and index not in (vocabulary.bos, vocabulary.eos)


def _label(vocabulary: Vocabulary, index: int) -> str:
    if index in vocabulary.number_range:
        return f" {vocabulary.numbers[index - vocabulary.number_range.start]}"
    if index in vocabulary.marker_range:
        return vocabulary.markers[index - vocabulary.marker_range.start]
    if index in vocabulary.image_range:
        return f"<{index - vocabulary.image_range.start}>"
    if index in vocabulary.shape_range:
        return f"{{{index - vocabulary.shape_range.start}}}"
    return {vocabulary.bos: "[BOS]", vocabulary.eos: "[EOS]"}.get(index, f"[{index}]")
