"""Small samples and models that several tests share."""

import random
from collections.abc import Sequence

import numpy as np
import torch

from data_modules.batches import Batch, collate, encode
from kyvo import Kyvo
from kyvo.sample import Sample
from kyvo.scene import SCHEMAS
from kyvo.task import Task
from kyvo.tokenizers.tokenizer import UnifiedTokenizer
from kyvo.training.backbone import Backbone, NewEmbeddings, build_model
from kyvo.training.language import LanguageModule
from kyvo.workload import Workload
from tests.tiny_world import tiny_tokenizer

TINY = Backbone(hidden_size=32, layers=2, heads=2)
CODES = 64


def random_object(rng: random.Random) -> dict:
    """One CLEVR object as JSON."""
    words = {a.name: rng.choice(a.values) for a in SCHEMAS["clevr"].attributes if a.kind == "word"}
    return words | {"3d_coords": [round(rng.uniform(-3, 3), 3) for _ in range(2)] + [0.7]}


def random_sample(seed: int, codes: int = 512) -> Sample:
    """A sample with everything: image codes, scene, question, targets."""
    rng = random.Random(seed)
    scenes = [
        SCHEMAS["clevr"].read({"objects": [random_object(rng) for _ in range(rng.randint(1, 4))]}) for _ in range(2)
    ]
    noise = np.random.default_rng(seed)
    return Sample(
        key=str(seed),
        image=noise.integers(0, codes, CODES),
        scene=scenes[0],
        text="what color is the " + " ".join(["small"] * rng.randint(0, 3)) + " cube",
        target_image=noise.integers(0, codes, CODES),
        target_scene=scenes[1],
        target_text=rng.choice(["red", "True", "3"]),
        kind="query_color",
    )


def tiny_kyvo(tasks: Sequence[str] | None = None, tokenizer: UnifiedTokenizer | None = None, **options) -> Kyvo:
    """A model of random weights, by default over pictures of 32 x 32 pixels.

    Args:
        tasks: What it is said to be trained for.
        tokenizer: Its tokenizer.
        **options: Of Kyvo, and `backbone`.
    """
    tokenizer = tokenizer or tiny_tokenizer()
    torch.manual_seed(2)
    model = build_model(tokenizer, options.pop("backbone", TINY), NewEmbeddings(), bidirectional_shapes=False)
    return Kyvo(model, tokenizer, tasks, **options)


def workload(task: Task | str) -> Workload:
    """A task on CLEVR scenes."""
    parsed = Task.parse(task) if isinstance(task, str) else task
    return Workload(parsed, "clevr", label=parsed.name)


def batch_of(tokenizer: UnifiedTokenizer, task: Task | str, samples: Sequence[Sample], keep: bool = False) -> Batch:
    """A batch of CLEVR samples of one task."""
    kind = workload(task)
    return collate(tokenizer, kind, [encode(tokenizer, kind.task, sample) for sample in samples], keep)


def tiny_module(**options) -> LanguageModule:
    """A language module with random weights and 2 blocks of 32 dimensions over the quickstart vocabulary."""
    tokenizer = UnifiedTokenizer.from_preset("quickstart", image_codes=512)
    defaults = {"backbone": TINY, "embeddings": NewEmbeddings(image_positions=True), "total_steps": 10}
    return LanguageModule(tokenizer, **(defaults | options))
