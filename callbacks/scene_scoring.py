"""The common part of callbacks that score scenes: thresholds and how objects are matched."""

from abc import ABC

from callbacks.scoring import Scoring
from kyvo.metrics.jaccard import Rule
from kyvo.sample import Content
from kyvo.scene import Scene

EMPTY = Scene()
"""What stands for a scene that could not be read."""


def scene_of(content: Content) -> Scene:
    """What a sample has under `scene`."""
    assert isinstance(content, Scene)
    return content


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

    @property
    def state_key(self) -> str:
        """One entry in a checkpoint for each choice of settings, so that two callbacks of a kind do not collide."""
        return self._generate_state_key(taus=self.taus, rule=self.rule)
