"""FID, the Frechet distance between the features that a network finds in generated and in true pictures.

B pictures, H and W their height and width, D features.
"""

from collections.abc import Iterable
from pathlib import Path

import torch
from torch import Tensor, nn
from torchmetrics.image.fid import FrechetInceptionDistance


class ScriptedFeatures(nn.Module):
    """A network from a TorchScript file, as `FrechetInceptionDistance` takes one.

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


def frechet_distance(features: ScriptedFeatures, predictions: Iterable[Tensor], truth: Iterable[Tensor]) -> float:
    """FID between two sets of pictures; it needs thousands of each to say much, and falls with their number.

    Args:
        features: The network, on the device to work on.
        predictions: Batches float [B, 3, H, W] in [0, 1]; sizes may differ between batches.
        truth: The true ones, likewise; not necessarily as many.

    Raises:
        ValueError: Fewer than two pictures of either.
    """
    metric = FrechetInceptionDistance(features)
    metric.to(next((one.device for one in features.network.parameters()), torch.device("cpu")))
    for batches, real in ((predictions, False), (truth, True)):
        for pictures in batches:
            metric.update((255 * pictures).round().byte().to(metric.device), real=real)
    counts = int(metric.fake_features_num_samples), int(metric.real_features_num_samples)
    if min(counts) < 2:
        raise ValueError(f"FID compares two or more pictures with two or more, got {counts[0]} and {counts[1]}")
    return float(metric.compute())
