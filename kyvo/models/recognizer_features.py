"""How far apart two pictures look to a recogniser of their world: the perceptual loss of a small world.

B pictures, H and W their size in pixels.
"""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kyvo.models.recognizer import Recognizer


class RecognizerFeatures:
    """Mean squared difference of a recogniser's features, each level's over its mean square.

    What LPIPS is to photographs. A recogniser sees objects in crops that it enlarges; here whole pictures are enlarged,
    and pass its convolutions. What it tells things apart by, few pixels of an edge say, counts as much as large areas.

    On purpose not an `nn.Module`: held by a training module, the recogniser stays out of checkpoints and optimisers,
    and sees by the running means of its own training. It follows the pictures' device.

    Args:
        recognizer: Trained on true pictures of the world, as `Recognizer.from_pretrained` gives it.
        scales: How many times as large the pictures are made: about as much as the recogniser's crops of its objects.
    """

    def __init__(self, recognizer: Recognizer, scales: tuple[float, ...] = (1.0, 2.0)) -> None:
        trunk = recognizer.trunk.eval().requires_grad_(False)
        self._trunk = trunk.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._scales = scales

    def __call__(self, images: Tensor, others: Tensor) -> Tensor:
        """The distance, a scalar of at least 0; gradients reach `others` alone.

        Args:
            images: What is to be shown, float [B, 3, H, W] in [-1, 1].
            others: What is shown, of the same size.
        """
        self._trunk.to(images.device)
        distances = []
        for scale in self._scales:
            with torch.no_grad():
                expected = [*self._levels(images, scale)]
            for wanted, found in zip(expected, self._levels(others, scale), strict=True):
                distances.append(F.mse_loss(found, wanted) / wanted.square().mean().clamp(min=1e-6))
        return torch.stack(distances).mean()

    def _levels(self, images: Tensor, scale: float) -> Iterator[Tensor]:
        """Features float32 before each halving of the resolution."""
        maps = images.contiguous(memory_format=torch.channels_last)
        if scale != 1:
            maps = F.interpolate(maps, scale_factor=scale, mode="bilinear", align_corners=False)
        for layer in self._trunk:
            if isinstance(layer, nn.MaxPool2d):
                yield maps.float()
            if isinstance(layer, nn.Flatten):
                return
            maps = layer(maps)
