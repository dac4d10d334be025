"""Scores how like the true pictures generated ones are as a whole, by FID."""

from collections.abc import Sequence
from typing import Any

from lightning import Trainer

from callbacks.picture_scoring import PictureScoring
from kyvo.metrics.frechet import FrechetMetrics, ScriptedFeatures
from kyvo.sample import Sample
from kyvo.tokenizers.sequence import Generation
from kyvo.training.language import LanguageModule
from kyvo.workload import Workload


class FrechetDistance(PictureScoring):
    """FID of generated pictures (`fid`) beside that of the image tokenizer's (`fid_ceiling`), with a given network.

    It says whether pictures as a whole look true, nothing of where things are, and needs thousands of them.

    Args:
        inception: The network in TorchScript, such as inception-2015-12-05.pt; it does not come with this package.

    Raises:
        ValueError: No such network in the file.
    """

    def __init__(self, inception: str) -> None:
        super().__init__()
        self.features = ScriptedFeatures(inception)

    def make_metric(self, trainer: Trainer, module: LanguageModule, workload: Workload) -> FrechetMetrics:
        """`FrechetMetrics`."""
        return FrechetMetrics(self.features)

    def update(
        self, metric: Any, module: LanguageModule, samples: Sequence[Sample], written: Sequence[Generation]
    ) -> None:
        """Compare as a whole; a picture that could not be read is a black one."""
        shown = self.pictures(module, samples, written)
        columns = (shown.generated, shown.true, shown.reconstructed)
        metric.update(*(column.to(module.device) for column in columns))
