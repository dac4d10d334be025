"""FID, the Frechet distance between the features that a network finds in generated and in true pictures.

B pictures, H and W their height and width, D features.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torchmetrics import Metric


class ScriptedFeatures(nn.Module):
    """A network from a TorchScript file, as FID takes one.

    The usual file is `inception-2015-12-05.pt`, which StyleGAN's authors publish: it scales pictures itself, and gives
    features instead of classes where it is called with `return_features=True`, as is any network that has this option.

    Args:
        file: The file. It is a program: take it from where you trust.

    Raises:
        ValueError: There is no such file, or it holds no network that makes features [B, D] of pictures.
    """

    def __init__(self, file: str | Path) -> None:
        super().__init__()
        path = Path(file)
        if not path.is_file():
            raise ValueError(
                f"{path}: no such file; FID needs a network in TorchScript, such as inception-2015-12-05.pt, which "
                "does not come with this package"
            )
        try:
            self.network = torch.jit.load(str(path), map_location="cpu").eval()
        except RuntimeError as error:
            raise ValueError(f"{path}: not a TorchScript file: {str(error).splitlines()[0]}") from error
        options = {one.name for one in self.network.forward.schema.arguments}
        self.options = {"return_features": True} if "return_features" in options else {}
        self.num_features = self._count(path)

    @torch.no_grad()
    def forward(self, pictures: Tensor) -> Tensor:
        """Features float [B, D] of pictures uint8 [B, 3, H, W]."""
        # The usual file's own code begins by making them float32.
        return self.network(pictures.float(), **self.options).flatten(1)

    def _count(self, path: Path) -> int:
        try:
            found = self(torch.zeros(2, 3, 299, 299, dtype=torch.uint8))
        except RuntimeError as error:
            reason = str(error).strip().splitlines()[-1]
            raise ValueError(f"{path}: expected a network for pictures [B, 3, H, W]: {reason}") from error
        return found.shape[1]


class FrechetMetrics(Metric):
    """FID of generated pictures, and of what an image tokenizer makes of the true ones; it takes thousands to say much.

    ``compute`` returns ``fid``, of generated against true pictures, and ``fid_ceiling``, of reconstructions against
    true pictures: what writing the true codes would reach. Both are NaN for fewer than two pictures.

    Args:
        features: The network.
        kwargs: options of ``torchmetrics.Metric``.
    """

    is_differentiable = False
    higher_is_better = False
    full_state_update = False

    counts: Tensor
    sums: Tensor
    products: Tensor

    def __init__(self, features: ScriptedFeatures, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.features = features
        size = features.num_features
        # Generated, true and reconstructed pictures.
        self.add_state("counts", torch.zeros(3, dtype=torch.long), dist_reduce_fx="sum")
        self.add_state("sums", torch.zeros(3, size, dtype=torch.double), dist_reduce_fx="sum")
        self.add_state("products", torch.zeros(3, size, size, dtype=torch.double), dist_reduce_fx="sum")

    def update(self, predictions: Tensor, targets: Tensor, reconstructions: Tensor) -> None:
        """Add pictures: generated, true and reconstructed ones, each float [B, 3, H, W] in [0, 1]."""
        for row, pictures in enumerate((predictions, targets, reconstructions)):
            self._add(row, pictures)

    def _add(self, row: int, pictures: Tensor) -> None:
        found = self.features((255 * pictures).round().byte()).double()
        self.counts[row] += len(found)
        self.sums[row] += found.sum(0)
        self.products[row] += found.T @ found

    def compute(self) -> dict[str, Tensor]:
        """Return the scalars listed in the class's description."""
        return {"fid": self._distance(0), "fid_ceiling": self._distance(2)}

    def _distance(self, row: int) -> Tensor:
        """Between pictures of a kind and the true ones."""
        if self.counts[[row, 1]].min() < 2:
            return self.sums.new_tensor(torch.nan)
        (mean, spread), (true_mean, true_spread) = (self._gaussian(one) for one in (row, 1))
        # The trace of the root of a product is the sum of the roots of its eigenvalues.
        shared = torch.linalg.eigvals(spread @ true_spread).sqrt().real.sum()
        return (mean - true_mean).square().sum() + spread.trace() + true_spread.trace() - 2 * shared

    def _gaussian(self, row: int) -> tuple[Tensor, Tensor]:
        """Mean [D] and covariance [D, D] of the features of pictures of a kind."""
        count, mean = self.counts[row], self.sums[row] / self.counts[row]
        return mean, (self.products[row] - count * torch.outer(mean, mean)) / (count - 1)


def frechet_distance(features: ScriptedFeatures, predictions: Iterable[Tensor], truth: Iterable[Tensor]) -> float:
    """FID between two sets of pictures; it needs thousands of each to say much, and falls with their number.

    Args:
        features: The network, on the device to work on.
        predictions: Batches float [B, 3, H, W] in [0, 1]; sizes may differ between batches.
        truth: The true ones, likewise; not necessarily as many.

    Raises:
        ValueError: Fewer than two pictures of either.
    """
    metric = FrechetMetrics(features)
    metric.to(next((one.device for one in features.network.parameters()), torch.device("cpu")))
    for row, batches in enumerate((predictions, truth)):
        for pictures in batches:
            metric._add(row, pictures.to(metric.device))
    made, true = metric.counts[:2].tolist()
    if min(made, true) < 2:
        raise ValueError(f"FID compares two or more pictures with two or more, got {made} and {true}")
    return float(metric._distance(0))
