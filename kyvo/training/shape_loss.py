"""What reconstructed voxels cost: their vectors, and whether they are there.

B objects, C channels of a vector, N voxels along each side of the cube.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


class ShapeTerms(NamedTuple):
    """The loss and what it is made of; scalars float32.

    Args:
        total: The weighted sum.
        latent: Squared error of vectors.
        occupancy: Cross-entropy of occupancy; 0 in the dense loss.
        dice: 1 - Dice coefficient of occupancy; 0 in the dense loss.
    """

    total: Tensor
    latent: Tensor
    occupancy: Tensor
    dice: Tensor


@dataclass
class ShapeLoss:
    """latent * squared error of normalised vectors + occupancy * cross-entropy + dice * (1 - Dice coefficient).

    Attributes:
        latent: Factor of the squared error, a mean over the voxels that are there.
        empty: What the mean over those that are not there, whose vectors should be 0, counts beside it.
        occupancy: Factor of the cross-entropy of occupancy, a mean over all voxels.
        positive: What a voxel that is there counts in it; most are not.
        dice: Factor of 1 - Dice coefficient, a mean over objects.
    """

    latent: float = 1.0
    empty: float = 0.01
    occupancy: float = 1.0
    positive: float = 3.0
    dice: float = 1.0

    def __call__(self, output: Tensor, target: Tensor) -> ShapeTerms:
        """The loss of decoded grids, in float32 whatever autocast says.

        Args:
            output: Logit of occupancy, and normalised vectors, float [B, 1 + C, N, N, N].
            target: Occupancy 0 or 1, and normalised vectors, 0 where there is no voxel, of the same shape.
        """
        with torch.autocast(output.device.type, enabled=False):
            output, target = output.float(), target.float()
            logits, there = output[:, 0], target[:, 0]
            squared = (output[:, 1:] - target[:, 1:]).square().mean(1)
            latent = weighted_mean(squared, there) + self.empty * weighted_mean(squared, 1 - there)
            weight = logits.new_tensor(self.positive)
            occupancy = F.binary_cross_entropy_with_logits(logits, there, pos_weight=weight)
            dice = dice_loss(logits.sigmoid(), there)
            total = self.latent * latent + self.occupancy * occupancy + self.dice * dice
            return ShapeTerms(total, latent, occupancy, dice)

    def dense(self, output: Tensor, target: Tensor) -> ShapeTerms:
        """The loss where there is no occupancy channel: latent * squared error, a mean over all voxels alike.

        Arguments as in `__call__`; channel 0 is not looked at.
        """
        with torch.autocast(output.device.type, enabled=False):
            latent = F.mse_loss(output[:, 1:].float(), target[:, 1:].float())
            none = latent.new_zeros(())
            return ShapeTerms(self.latent * latent, latent, none, none)


def weighted_mean(values: Tensor, weights: Tensor) -> Tensor:
    """The mean of values by weights of the same shape, a scalar; 0 if all weights are 0."""
    return (values * weights).sum() / weights.sum().clamp(min=1)


def dice_loss(probabilities: Tensor, there: Tensor) -> Tensor:
    """1 - Dice coefficient, twice the overlap over the sum of both, with 1 added to each; the mean over objects.

    Args:
        probabilities: float [B, N, N, N] in [0, 1].
        there: 0 or 1, of the same shape.
    """
    probabilities, there = probabilities.flatten(1), there.flatten(1)
    overlap = (probabilities * there).sum(1)
    return (1 - (2 * overlap + 1) / (probabilities.sum(1) + there.sum(1) + 1)).mean()


def divergence(mean: Tensor, log_variance: Tensor) -> Tensor:
    """Kullback-Leibler divergence of normal distributions from the standard one, a mean over all dimensions."""
    mean, log_variance = mean.float(), log_variance.float()
    return 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).mean()
