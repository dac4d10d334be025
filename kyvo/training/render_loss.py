"""How far pictures of shapes are from what they should be, from which cameras they are taken, and before what.

B objects, one picture of each, S side of a picture in pixels.
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from kyvo.cameras import Cameras
from kyvo.models.perceptual import NO_PERCEPTUAL, SMALLEST, PerceptualLoss, perceptual_loss
from kyvo.models.shape_decoder import ShapeDecoder

VIEWS = 150
"""How many views of an object there are to draw from: TRELLIS' number."""

SINGLE_VIEW = 91
"""The view of all that is always the same one: from the front, a little from the right and from 28 degrees above."""

ViewMode = Literal["none", "single-view", "multi-view"]
"""From where objects are seen in training: not at all, always from the same side, or from a random one."""

_WINDOW = 11
_DEVIATION = 1.5


@dataclass
class RenderWeights:
    """What counts how much in `RenderLoss`; the defaults are those of TRELLIS, and of Kyvo for the weight of all.

    Attributes:
        weight: Factor of the whole loss, beside the losses of latents; 0 for none.
        l1: Factor of the mean absolute error of pixels in [0, 1].
        ssim: Factor of 1 - SSIM.
        perceptual: Factor of the perceptual loss; see `kyvo.models.perceptual.perceptual_loss`.
        trunk: File of VGG16's weights; default is the one in torch hub's cache.
        heads: File of LPIPS' linear weights; default is the one of an installed package.
    """

    weight: float = 0.1
    l1: float = 1.0
    ssim: float = 0.2
    perceptual: float = 0.2
    trunk: str | None = None
    heads: str | None = None


class RenderTerms(NamedTuple):
    """The loss and what it is made of; scalars float32.

    Args:
        total: The weighted sum, times the weight of all.
        l1: Mean absolute error.
        ssim: 1 - SSIM; 0 where its factor is 0.
        perceptual: Mean perceptual distance; 0 where its factor is 0.
    """

    total: Tensor
    l1: Tensor
    ssim: Tensor
    perceptual: Tensor


class RenderLoss:
    """weight * (l1 * L1 + ssim * (1 - SSIM) + perceptual * perceptual distance), as TRELLIS' decoders are trained.

    On purpose not an `nn.Module`: the weights of the perceptual loss stay out of checkpoints. Making one loads them, so
    training modules do it in `setup`, for fitting alone.

    Args:
        weights: Factors.

    Raises:
        ValueError: A file of weights of the perceptual loss cannot be read.
    """

    def __init__(self, weights: RenderWeights) -> None:
        self.weights = weights
        self.perceptual: PerceptualLoss | None = None
        if weights.weight and weights.perceptual:
            self.perceptual = perceptual_loss(weights.trunk, weights.heads)

    @property
    def perceptual_name(self) -> str:
        """What the perceptual loss in use is called, for logs and checkpoints."""
        return NO_PERCEPTUAL if self.perceptual is None else self.perceptual.name

    def __call__(self, pictures: Tensor, targets: Tensor) -> RenderTerms:
        """How far pictures are from targets, in float32 whatever autocast says; gradients reach both.

        Args:
            pictures: float [B, 3, S, S] in [0, 1].
            targets: What they should be, of the same shape, over the same background.

        Raises:
            ValueError: Pictures of other shapes, or of less than 16 pixels along a side, which have no structure to
                compare.
        """
        if pictures.shape != targets.shape or pictures.ndim != 4 or min(pictures.shape[2:]) < SMALLEST:
            expected = f"pictures and targets [B, 3, S, S] alike, of at least {SMALLEST} pixels along a side"
            raise ValueError(f"expected {expected}, got {list(pictures.shape)} and {list(targets.shape)}")
        pictures, targets = pictures.float(), targets.float()
        l1, none = F.l1_loss(pictures, targets), pictures.new_zeros(())
        structure = 1 - structural_similarity(pictures, targets).mean() if self.weights.ssim else none
        looks = none if self.perceptual is None else self.perceptual(2 * pictures - 1, 2 * targets - 1).mean()
        total = self.weights.l1 * l1 + self.weights.ssim * structure + self.weights.perceptual * looks
        return RenderTerms(self.weights.weight * total, l1, structure, looks)


def structural_similarity(pictures: Tensor, targets: Tensor) -> Tensor:
    """SSIM with a Gaussian window of 11 pixels (deviation 1.5) and zeros beyond the edges, as TRELLIS has it.

    `kyvo.metrics.images.ssim`, which scores pictures, is torchmetrics': beyond the edges it mirrors pictures, or leaves
    out what is near them, by its version. What is trained should not depend on that.

    Args:
        pictures: float32 [B, 3, H, W] in [0, 1].
        targets: The same.

    Returns:
        float32 [B].
    """
    with torch.autocast(pictures.device.type, enabled=False):
        products = pictures * pictures, targets * targets, pictures * targets
        first, second, first2, second2, both = _blur(torch.cat([pictures, targets, *products])).chunk(5)
    means, mixed = first.square() + second.square(), first * second
    scores = (2 * mixed + 0.01**2) * (2 * (both - mixed) + 0.03**2)
    scores = scores / ((means + 0.01**2) * (first2 + second2 - means + 0.03**2))
    return scores.mean((1, 2, 3))


def _blur(images: Tensor) -> Tensor:
    """Means over the window, of the images' shape."""
    places = torch.arange(_WINDOW, device=images.device) - _WINDOW // 2
    weights = torch.exp(-places.to(images).square() / (2 * _DEVIATION**2))
    weights = (weights / weights.sum()).expand(images.shape[1], 1, 1, -1)
    rows = F.conv2d(images, weights, padding=(0, _WINDOW // 2), groups=images.shape[1])
    return F.conv2d(rows, weights.transpose(2, 3), padding=(_WINDOW // 2, 0), groups=images.shape[1])


# ---- cameras and targets ----------------------------------------------------------------------------------------


def draw_cameras(mode: ViewMode, count: int, generator: torch.Generator | None = None) -> Cameras:
    """A camera for each object, of the 150 that TRELLIS renders.

    Args:
        mode: `multi-view`: each its own, at random; `single-view`: all the same, always.
        count: How many.
        generator: Random numbers of the CPU; default is torch's own.

    Raises:
        ValueError: For the mode `none`, which needs no cameras.
    """
    if mode == "none":
        raise ValueError("expected the mode single-view or multi-view, got none: without views there are no cameras")
    if mode == "single-view":
        return Cameras.sphere(VIEWS)[torch.full((count,), SINGLE_VIEW)]
    return Cameras.sphere(VIEWS)[torch.randint(VIEWS, (count,), generator=generator)]


def draw_background(generator: torch.Generator | None = None) -> float:
    """Black or white, 0.0 or 1.0, each as likely: before both, a hole is told from the background.

    Args:
        generator: Random numbers of the CPU; default is torch's own.
    """
    return float(torch.randint(2, (), generator=generator))


def composite(images: Tensor, alphas: Tensor | None, background: float) -> Tensor:
    """Pictures before another background.

    Args:
        images: float [B, 3, S, S] in [0, 1].
        alphas: How opaque the object is, float [B, S, S] in [0, 1].
        background: Grey from 0, black, to 1, white.

    Returns:
        float [B, 3, S, S] in [0, 1].

    Raises:
        ValueError: No alphas: what is seen before one background does not say how it looks before another.
    """
    if alphas is None:
        raise ValueError("expected pictures with alphas (RGBA) to compare renderings with, got some without")
    opaque = alphas[:, None]
    return images * opaque + background * (1 - opaque)


@torch.no_grad()
def render_targets(decoder: ShapeDecoder, grid: Tensor, cameras: Cameras, size: int, background: float = 1.0) -> Tensor:
    """What a decoder shows of the true latents: targets where there are no pictures; no gradient goes through them.

    Args:
        decoder: Renders the space of the latents.
        grid: True latents, float [B, 1 + C, N, N, N].
        cameras: One for each object.
        size: S.
        background: Grey from 0, black, to 1, white.

    Returns:
        float [B, 3, S, S] in [0, 1].
    """
    return decoder.render_each(grid, cameras, size, background).rgb[:, 0]
