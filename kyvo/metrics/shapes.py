"""How near decoded shapes come to the true ones: their voxels, and the surfaces that the voxels stand for.

B objects, L voxels of one, C channels of a latent, N voxels along each side of the cube.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchmetrics import Metric

from kyvo.slat import Slat, densify

TAUS = (1 / 64, 0.02, 0.05)
"""Distances up to which a point counts as right, in sides of the cube; the first is a voxel of TRELLIS' grid."""

_NORMAL, _OFFSET = slice(3, 6), 6
"""Channels of `voxel8` that hold the surface's normal and its offset from the voxel's middle."""


class VoxelOverlap(Metric):
    """Overlap of occupied voxels; each object is scored, then the scores are averaged.

    ``compute`` returns scalars: ``voxel_iou`` (voxels of both over voxels of either) and ``voxel_f1`` (twice those of
    both over the sum of each). Two objects without a voxel agree: 1.

    Args:
        kwargs: Options of ``torchmetrics.Metric``.

    Example:
        >>> import torch
        >>> from kyvo.slat import Slat
        >>> bar = Slat(torch.tensor([[0, 0, 0], [0, 0, 1]]), torch.zeros(2, 8), resolution=2)
        >>> cube = Slat(torch.tensor([[0, 0, 0]]), torch.zeros(1, 8), resolution=2)
        >>> metric = VoxelOverlap()
        >>> metric.update([cube], [bar])
        >>> metric.compute()["voxel_iou"].item()
        0.5
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False
    plot_lower_bound = 0.0
    plot_upper_bound = 1.0

    iou_sum: Tensor
    f1_sum: Tensor
    objects: Tensor

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        for name in ("iou_sum", "f1_sum"):
            self.add_state(name, torch.tensor(0.0), dist_reduce_fx="sum")
        self.add_state("objects", torch.tensor(0), dist_reduce_fx="sum")

    def update(self, predictions: Tensor | Sequence[Slat], targets: Tensor | Sequence[Slat]) -> None:
        """Add objects.

        Args:
            predictions: B objects, or a grid [B, 1 + C, N, N, N] whose channel 0 is the occupancy: above 0.5 is there.
            targets: The true ones, likewise.

        Raises:
            ValueError: Not the same number of objects or voxels along a side.
        """
        first, second = occupied(predictions), occupied(targets)
        if first.shape != second.shape:
            raise ValueError(f"objects should be alike, got {list(first.shape)} against {list(second.shape)} voxels")
        both = (first & second.to(first.device)).flatten(1).sum(1)
        total = first.flatten(1).sum(1) + second.to(first.device).flatten(1).sum(1)
        nothing = (total == 0).float()
        self.iou_sum += (both / (total - both).clamp(min=1) + nothing).sum().to(self.iou_sum)
        self.f1_sum += (2 * both / total.clamp(min=1) + nothing).sum().to(self.f1_sum)
        self.objects += len(total)

    def compute(self) -> dict[str, Tensor]:
        """Return the scalars listed in the class's description."""
        return {"voxel_iou": self.iou_sum / self.objects, "voxel_f1": self.f1_sum / self.objects}

    def plot(self, val: Any = None, ax: Any = None) -> Any:
        """Draw given or current values with matplotlib; return the figure and axes."""
        return self._plot(val, ax)


def occupied(objects: Tensor | Sequence[Slat]) -> Tensor:
    """Which voxels are there, bool [B, N, N, N], of objects or of a grid [B, 1 + C, N, N, N] (above 0.5)."""
    if isinstance(objects, Tensor):
        return objects[:, 0] > 0.5
    # Latents of different spaces may have the same voxels: none goes into the grid.
    return densify([Slat(one.coords, one.feats[:, :0], one.resolution) for one in objects])[:, 0] > 0.5


# ---- surfaces -------------------------------------------------------------------------------------------------------


class SurfaceDistance(Metric):
    """Distances between surfaces, given as a point for each voxel; each object is scored, then scores are averaged.

    For each point the nearest one of the other object is taken. ``compute`` returns scalars:

    - ``chamfer_l1``: Euclidean distance to it in sides of the cube, averaged over the points of an object, then over
      both directions (Occupancy Networks, arXiv 1812.03828; others add the directions up: twice this number);
    - ``f_score_T`` for each distance T (``f_score_0_05``): harmonic mean of the share of predicted points with a true
      one at T or nearer and of the share of true points with such a predicted one;
    - ``normal_consistency``: absolute cosine between the two normals, averaged in the same way, as a thin sheet's
      normal may point to either side; over objects whose latents hold normals (``voxel8``), NaN without such.

    Args:
        taus: Distances T in sides of the cube.
        kwargs: Options of ``torchmetrics.Metric``.

    Raises:
        ValueError: No distance, or one that is not positive.

    Example:
        >>> import torch
        >>> from kyvo.slat import Slat
        >>> one, next_to_it = (Slat(torch.tensor([[x, 0, 0]]), torch.zeros(1, 8)) for x in (0, 1))
        >>> metric = SurfaceDistance()
        >>> metric.update([one], [next_to_it])
        >>> metric.compute()["chamfer_l1"].item() == 1 / 64
        True
    """

    is_differentiable = False
    full_state_update = False

    sums: Tensor
    counts: Tensor

    def __init__(self, taus: Sequence[float] = TAUS, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if not taus or min(taus) <= 0:
            raise ValueError(f"distances should be positive numbers, got {list(taus)}")
        self.taus = tuple(taus)
        self.names = ("chamfer_l1", *(f_score_name(tau) for tau in self.taus), "normal_consistency")
        for name in ("sums", "counts"):
            self.add_state(name, torch.zeros(len(self.names)), dist_reduce_fx="sum")

    def update(self, predictions: Sequence[Slat], targets: Sequence[Slat]) -> None:
        """Add objects.

        Raises:
            ValueError: Not as many predictions as targets.
        """
        if len(predictions) != len(targets):
            raise ValueError(f"expected a prediction for each of {len(targets)} objects, got {len(predictions)}")
        for prediction, target in zip(predictions, targets, strict=True):
            scores = torch.tensor(surface_scores(prediction, target, self.taus))
            self.sums += scores.nan_to_num().to(self.sums)
            self.counts += (~scores.isnan()).to(self.counts)

    def compute(self) -> dict[str, Tensor]:
        """Return the scalars listed in the class's description."""
        return dict(zip(self.names, self.sums / self.counts, strict=True))

    def plot(self, val: Any = None, ax: Any = None) -> Any:
        """Draw given or current values with matplotlib; return the figure and axes."""
        return self._plot(val, ax)


def f_score_name(tau: float) -> str:
    """Name the score at a distance; a metric's name may not hold a dot.

    >>> f_score_name(0.05), f_score_name(1 / 64)
    ('f_score_0_05', 'f_score_0_016')
    """
    return f"f_score_{tau:.2g}".replace(".", "_")


def surface_scores(prediction: Slat, target: Slat, taus: Sequence[float] = TAUS) -> list[float]:
    """Chamfer-L1, an F-score for each distance and the normals' consistency (NaN without normals) of one object."""
    first, second = surface_points(prediction), surface_points(target)
    (to_second, found_second), (to_first, found_first) = _nearest(first, second), _nearest(second, first)
    scores = [(to_second.mean() + to_first.mean()) / 2]
    for tau in taus:
        precision, recall = (to_second <= tau).mean(), (to_first <= tau).mean()
        scores.append(2 * precision * recall / max(precision + recall, 1e-12))
    normals = surface_normals(prediction), surface_normals(target)
    if normals[0] is None or normals[1] is None:
        return [*scores, float("nan")]
    there = np.abs((normals[0] * normals[1][found_second]).sum(1)).mean()
    back = np.abs((normals[1] * normals[0][found_first]).sum(1)).mean()
    return [*scores, (there + back) / 2]


def chamfer_l1(first: NDArray[Any], second: NDArray[Any]) -> float:
    """Chamfer-L1 between points [L, 3] and [M, 3]: mean distance to the nearest one of the other, over both directions.

    >>> chamfer_l1(np.zeros((1, 3)), np.array([[3.0, 4.0, 0.0], [0.0, 0.0, 1.0]]))
    2.0
    """
    return float((_nearest(first, second)[0].mean() + _nearest(second, first)[0].mean()) / 2)


def _nearest(points: NDArray[Any], others: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Distance of each point to the nearest of the others, and which that is."""
    from scipy.spatial import cKDTree

    distances, places = cKDTree(others).query(points)
    return distances, places


def surface_points(slat: Slat) -> NDArray[np.float64]:
    """The surface's point of each voxel, [L, 3] in the cube [-0.5, 0.5]^3.

    Where latents say how far the surface passes from the voxel's middle (``voxel8``) it is taken along the normal;
    of other latents the middle itself.
    """
    middles = (slat.coords.cpu().double().numpy() + 0.5) / slat.resolution - 0.5
    normals = surface_normals(slat)
    if normals is None:
        return middles
    offsets = slat.feats[:, _OFFSET].detach().cpu().double().numpy()
    return middles + offsets[:, None] * normals / slat.resolution


def surface_normals(slat: Slat) -> NDArray[np.float64] | None:
    """Unit normals [L, 3] of ``voxel8`` latents, 0 where a latent has none; None for other latents."""
    if slat.space != "voxel8":
        return None
    normals = slat.feats[:, _NORMAL].detach().cpu().double().numpy()
    return normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)
