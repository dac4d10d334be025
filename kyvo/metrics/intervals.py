"""Confidence intervals of scores that are means over samples, wherever the samples were scored.

N samples.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from kyvo.metrics.bootstrap import gathered, interval


class Intervals(Metric):
    """Bootstrap intervals of the means of named scores.

    ``compute`` returns scalars ``<name>_low`` and ``<name>_high``, NaN for a score that no sample has. They do not
    depend on the order in which samples came, nor on how they were shared out over processes.

    The samples' scores are kept, 4 bytes each: an interval cannot be had from sums.

    Args:
        names: the scores.
        level: share of resampled means that lie inside, between 0 and 1.
        draws: resamplings.
        kwargs: options of ``torchmetrics.Metric``.

    Example:
        >>> metric = Intervals(["accuracy"])
        >>> metric.update([{"accuracy": float(number < 40)} for number in range(100)])
        >>> {name: round(value.item(), 1) for name, value in metric.compute().items()}
        {'accuracy_low': 0.3, 'accuracy_high': 0.5}
    """

    is_differentiable = False
    full_state_update = False

    def __init__(self, names: Sequence[str], level: float = 0.95, draws: int = 1000, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.names = tuple(names)
        self.level = level
        self.draws = draws
        for name in self.names:
            self.add_state(f"{name}_values", [], dist_reduce_fx="cat")

    def update(self, samples: Sequence[Mapping[str, float]]) -> None:
        """Add samples, each with the scores that it has; others are ignored."""
        for name in self.names:
            values = [float(one.get(name, torch.nan)) for one in samples]
            getattr(self, f"{name}_values").append(torch.tensor(values, device=self.device))

    def compute(self) -> dict[str, Tensor]:
        """Return the scalars listed in the class's description."""
        found: dict[str, Tensor] = {}
        for name in self.names:
            values = gathered(getattr(self, f"{name}_values"), self.device)
            low, high = interval(values.cpu().numpy(), self.level, self.draws)
            found |= {f"{name}_low": torch.tensor(low), f"{name}_high": torch.tensor(high)}
        return found

    def plot(self, val: Any = None, ax: Any = None) -> Any:
        """Draw given or current values with matplotlib; return the figure and axes."""
        return self._plot(val, ax)
