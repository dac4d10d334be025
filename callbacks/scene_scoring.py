"""The common part of callbacks that score scenes: thresholds and how objects are matched."""

from abc import ABC

from callbacks.scoring import Scoring
from kyvo.metrics.jaccard import Rule
from kyvo.scene import Scene

EMPTY = Scene()
"""What stands for a scene that could not be read."""


class SceneScoring(Scoring, ABC):
    """Scoring of scenes.

    Args:
        taus: Distances below which positions agree; default is those published for the schema.
        rule: `optimal` matching, or `official`, the published script bug for bug.
    """

    def __init__(self, taus: list[float] | None = None, rule: Rule = "optimal") -> None:
        super().__init__()
        self.taus = taus
        self.rule = rule
