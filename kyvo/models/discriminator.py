"""The PatchGAN discriminator: which patches of a picture look real.

B batch, H and W size of an image in pixels, h and w the grid of patches.
"""

from torch import Tensor, nn

KERNEL = 4


class PatchDiscriminator(nn.Module):
    """Judges overlapping patches of a picture (Isola et al., 2017), as taming-transformers does for its VQGAN.

    The first `layers` convolutions halve the resolution and double the channels, to at most 8 times the first; one more
    doubles the channels and one judges, both at stride 1. With 3 layers a patch is 70 pixels wide.

    In training mode, batch normalisation makes a judgement depend on the other pictures of the batch: real and false
    ones are judged in batches of their own. Each process normalises by its own batch, unless
    `trainer.sync_batchnorm` is set.

    Args:
        channels: Channels of the first convolution.
        layers: Convolutions of stride 2, at least 1.

    Raises:
        ValueError: A size below 1.
    """

    def __init__(self, channels: int = 64, layers: int = 3) -> None:
        super().__init__()
        if channels < 1 or layers < 1:
            raise ValueError(
                f"channels and layers of the discriminator should be positive, got {channels} and {layers}"
            )
        widths = [channels * min(2**level, 8) for level in range(layers + 1)]
        blocks: list[nn.Module] = [nn.Conv2d(3, channels, KERNEL, stride=2, padding=1), nn.LeakyReLU(0.2)]
        for level in range(1, layers + 1):
            stride = 2 if level < layers else 1
            # The normalisation that follows has a bias of its own.
            blocks.append(nn.Conv2d(widths[level - 1], widths[level], KERNEL, stride, padding=1, bias=False))
            blocks += [nn.BatchNorm2d(widths[level]), nn.LeakyReLU(0.2)]
        blocks.append(nn.Conv2d(widths[-1], 1, KERNEL, padding=1))
        self.blocks = nn.Sequential(*blocks)
        self.apply(_initialise)

    def forward(self, images: Tensor) -> Tensor:
        """Judge pictures.

        Args:
            images: float [B, 3, H, W] in [-1, 1]; H and W at least 3 * 2 ** layers.

        Returns:
            [B, 1, h, w], the higher the more real, with h = H / 2 ** layers - 2 where that divides H.
        """
        judged: Tensor = self.blocks(images)
        return judged


def _initialise(module: nn.Module) -> None:
    """DCGAN's initial weights (Radford et al., 2016)."""
    if isinstance(module, nn.Conv2d):
        nn.init.normal_(module.weight, 0.0, 0.02)
    elif isinstance(module, nn.BatchNorm2d):
        nn.init.normal_(module.weight, 1.0, 0.02)
