"""Says how much the first code of the pictures to be written tells them apart."""

from collections.abc import Sequence

import numpy as np
import torch
from lightning import Trainer

from callbacks.scoring import Scoring
from kyvo.metrics.codebook import FirstCodeUsage
from kyvo.sample import Sample
from kyvo.task import Task
from kyvo.tokenizers.image_order import order
from kyvo.tokenizers.sequence import Generation
from kyvo.training.language import LanguageModule
from kyvo.workload import Workload


class FirstCodes(Scoring):
    """Entropy (`first_code_entropy`, in bits) of the first code of true pictures, and the share of the commonest.

    A model that writes pictures starts well only if the first code says something (paper, figure 7a); which code is the
    first follows from the tokenizer's order of writing. `kyvo data first-codes` counts those of all training pictures.
    """

    def scores(self, task: Task) -> bool:
        """Tasks that write an image."""
        return "image" in task.outputs

    def make_metric(self, trainer: Trainer, module: LanguageModule, workload: Workload) -> FirstCodeUsage:
        """`FirstCodeUsage` over the tokenizer's codes."""
        return FirstCodeUsage(len(module.tokenizer.vocabulary.image_range))

    def update(
        self, metric: FirstCodeUsage, module: LanguageModule, samples: Sequence[Sample], written: Sequence[Generation]
    ) -> None:
        """Count the first codes of what samples ask for."""
        layout = module.tokenizer.layout
        first = int(order(layout.output_image_order, *layout.image_grid)[0])
        codes = [np.asarray(sample.write("image"))[first] for sample in samples]
        metric.update(torch.tensor(np.array(codes), device=module.device))
