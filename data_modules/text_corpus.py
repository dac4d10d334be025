"""What the made worlds say: the corpus of the small text tokenizer in ``kyvo/assets/text_tokenizer``.

``python -m data_modules.text_corpus kyvo/assets/text_tokenizer`` wrote the one in the repository. Models depend on its
ids, so it is made anew only together with them.
"""

import random
import sys
from collections.abc import Iterator
from pathlib import Path

from data_modules.worlds.clevr import ClevrWorld
from data_modules.worlds.instructions import instruction
from data_modules.worlds.questions import QuestionEngine
from kyvo.scene import SCHEMAS
from kyvo.tokenizers.text import TextTokenizer, train_text_tokenizer

SIZE = 700
"""Most ids of the tokenizer; training stops earlier, where every word of the corpus is one id."""

_QUESTIONS = 12
# Instructions check what can be seen in the edited picture; of so small a picture that costs little.
_WORLD = ClevrWorld(image_size=(16, 16), objects=(2, 5), min_visible_pixels=0)
_WORDS = sorted({word for schema in SCHEMAS.values() for attribute in schema.attributes for word in attribute.values})


def corpus(scenes: int = 300, seed: int = 0) -> Iterator[str]:
    """Questions, answers, instructions and, in every scene's turn, each word that a schema knows.

    Args:
        scenes: Number of scenes spoken of.
        seed: Draws the scenes and what is said.
    """
    rng, engine = random.Random(seed), QuestionEngine(per_scene=_QUESTIONS)
    for _ in range(scenes):
        scene = _WORLD.sample_scene(rng)
        for record in engine.ask([scene], rng)[0]:
            question: str = record["question"]
            yield question
            if not question.endswith("?"):
                # As CLEVR v1.0 writes it.
                yield f"{question[0].upper()}{question[1:]}?"
            yield record["answer"]
        edit = instruction(scene, _WORLD, rng, synonyms=True)
        if edit is not None:
            yield edit["instruction"]["text"]
        for word in _WORDS:
            # After a space as in a scene, and without as in an answer.
            yield f" {word}"
            yield word
        yield from map(str, range(11))


def train() -> TextTokenizer:
    """The tokenizer of ``kyvo/assets/text_tokenizer``."""
    return train_text_tokenizer(corpus(), SIZE)


if __name__ == "__main__":
    train().save_pretrained(Path(sys.argv[1]))
