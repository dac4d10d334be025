"""What `kyvo bench train` trains on: recognition and question-answering samples over the paper's vocabulary."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from kyvo.sample import Sample
from kyvo.scene import SCHEMAS
from kyvo.task import Task
from kyvo.tokenizers.sequence import TokenSequence
from kyvo.tokenizers.tokenizer import UnifiedTokenizer
from kyvo.tokenizers.vocabulary import Vocabulary

LLAMA_TEXT_IDS = 128_256
"""Text ids of Llama 3.2."""


@dataclass(frozen=True)
class TrainingSamples:
    """Sequences and what their ids mean.

    Args:
        vocabulary: The paper's, of 137,607 ids.
        sequences: Half of them recognition, half questions with their answers.
    """

    vocabulary: Vocabulary
    sequences: Sequence[TokenSequence]

    @classmethod
    def random(cls, count: int, seed: int = 0) -> "TrainingSamples":
        """Scenes of 3-10 objects, 256 image codes each, in the layout of preset `paper`.

        Llama's text tokenizer is nobody's to ship: the small one writes the text, and every other id moves up behind
        Llama's, so that lengths and sizes are the paper's.
        """
        tokenizer = UnifiedTokenizer.from_preset("paper")
        rng = random.Random(seed)
        tasks = Task.parse("I-3"), Task.parse("I+3+Q-A")
        made = [tokenizer.encode(tasks[number % 2], _sample(rng, number)) for number in range(count)]
        text = tokenizer.vocabulary.text
        moved = [replace(one, ids=np.where(one.ids < text, one.ids, one.ids + LLAMA_TEXT_IDS - text)) for one in made]
        return cls(replace(tokenizer.vocabulary, text=LLAMA_TEXT_IDS), moved)


def _sample(rng: random.Random, number: int) -> Sample:
    schema = SCHEMAS["clevr"]
    words = [attribute for attribute in schema.attributes if attribute.kind == "word"]
    objects = [
        {one.name: rng.choice(one.values) for one in words}
        | {"3d_coords": [round(rng.uniform(-3, 3), 2) for _ in range(2)] + [0.7]}
        for _ in range(rng.randint(3, 10))
    ]
    first, second = (" ".join(str(value) for value in list(one.values())[:4]) for one in rng.sample(objects, 2))
    return Sample(
        key=str(number),
        image=np.array([rng.randrange(1024) for _ in range(256)]),
        scene=schema.read({"objects": objects}),
        text=f"Are there more {first} things left of the {second} than behind it?",
        target_text=rng.choice(["True", "False", "red", "3"]),
    )
