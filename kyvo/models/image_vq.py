"""The network of the image tokenizer: diffusers' `VQModel`, built from sizes.

B batch, H and W size of an image in pixels, p patch, h and w size of the grid of codes, K codes, D their dimensions.
"""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch.nn.functional as F
from torch import Tensor

if TYPE_CHECKING:
    from diffusers import VQModel


@dataclass
class ImageNetwork:
    """Sizes of an image tokenizer's network.

    Each level after the first halves the resolution, so the grid is the image divided by patch * 2 ** (levels - 1).
    The paper's tokenizer (taming's f16 with 1,024 codes) is image_size (256, 256), patch 1, channels
    (128, 128, 256, 256, 512), layers 2, codes 1024, code_dim 256, latent_channels 256, groups 32, attention (16,).

    Attributes:
        image_size: Height and width of an image in pixels.
        patch: Side of the square of pixels that becomes one position of the first level. Above 1 the network reads
            3 * patch ** 2 channels, several times cheaper than convolutions at full resolution.
        channels: Channels of each level, finest first.
        layers: Residual blocks of a level in the encoder; the decoder has one more.
        codes: Size K of the codebook.
        code_dim: Dimensions D of a code.
        latent_channels: Channels between encoder and quantiser.
        groups: Groups of each group normalisation; divides all channels.
        attention: Heights of the levels, in positions, whose blocks attend.
        mid_attention: Whether the block between encoder levels and quantiser, and its twin in the decoder, attends.
    """

    image_size: tuple[int, int] = (256, 256)
    patch: int = 1
    channels: tuple[int, ...] = (128, 128, 256, 256, 512)
    layers: int = 2
    codes: int = 1024
    code_dim: int = 256
    latent_channels: int = 256
    groups: int = 32
    attention: tuple[int, ...] = (16,)
    mid_attention: bool = True

    def __post_init__(self) -> None:
        cell = self.patch * 2 ** (len(self.channels) - 1)
        if any(side % cell for side in self.image_size):
            raise ValueError(
                f"image_size should be a multiple of {cell} (patch * 2 ** (levels - 1)), got {self.image_size}"
            )
        if any(width % self.groups for width in self.channels):
            raise ValueError(f"channels should be multiples of the {self.groups} groups, got {self.channels}")


def build_vq_model(network: ImageNetwork) -> "VQModel":
    """A `VQModel` of these sizes with random weights."""
    from diffusers import VQModel

    height, width = (side // network.patch for side in network.image_size)
    attends = [height // 2**level in network.attention for level in range(len(network.channels))]
    return VQModel(
        in_channels=3 * network.patch**2,
        out_channels=3 * network.patch**2,
        down_block_types=tuple("AttnDownEncoderBlock2D" if attend else "DownEncoderBlock2D" for attend in attends),
        up_block_types=tuple("AttnUpDecoderBlock2D" if attend else "UpDecoderBlock2D" for attend in attends[::-1]),
        block_out_channels=tuple(network.channels),
        layers_per_block=network.layers,
        latent_channels=network.latent_channels,
        sample_size=height if height == width else (height, width),
        num_vq_embeddings=network.codes,
        norm_num_groups=network.groups,
        vq_embed_dim=network.code_dim,
        mid_block_add_attention=network.mid_attention,
    )


def patch_of(model: "VQModel") -> int:
    """Side p of the squares of pixels that the model reads as channels (3 * p ** 2 of them).

    Raises:
        ValueError: The model's input channels are not 3 times a square.
    """
    channels = model.config["in_channels"]
    patch = math.isqrt(channels // 3)
    if channels != 3 * patch**2:
        raise ValueError(f"expected a model of RGB images (3 * patch ** 2 input channels), got {channels} channels")
    return patch


def image_size_of(model: "VQModel") -> tuple[int, int]:
    """Height and width, in pixels, of the images that the model's config names."""
    size = model.config["sample_size"]
    height, width = (size, size) if isinstance(size, int) else size
    return height * patch_of(model), width * patch_of(model)


def grid_of(model: "VQModel") -> tuple[int, int]:
    """Height and width of the grid of codes of an image of the size in the model's config."""
    height, width = image_size_of(model)
    cell = patch_of(model) * 2 ** (len(model.config["block_out_channels"]) - 1)
    return height // cell, width // cell


def latents(model: "VQModel", images: Tensor) -> Tensor:
    """Features before quantisation.

    Args:
        model: The network.
        images: float [B, 3, H, W] in [-1, 1].

    Returns:
        [B, D, h, w].
    """
    return model.encode(F.pixel_unshuffle(images, patch_of(model))).latents


def pixels(model: "VQModel", quantized: Tensor) -> Tensor:
    """Images from code vectors.

    Args:
        model: The network.
        quantized: float [B, D, h, w].

    Returns:
        [B, 3, H, W], about in [-1, 1] (not clamped).
    """
    return F.pixel_shuffle(model.decode(quantized, force_not_quantize=True).sample, patch_of(model))


def plain_vq_model(model: "VQModel") -> "VQModel":
    """A copy with diffusers' own quantiser, whatever quantiser the model was trained with.

    Args:
        model: A `VQModel` whose `quantize` has at least `embedding.weight`.

    Returns:
        A new float32 `VQModel` on the CPU, in eval mode, that codes and decodes alike; `save_pretrained` writes a
        folder that diffusers reads by itself.
    """
    from diffusers import VQModel

    # Where a model was read from is nobody's business.
    copy = VQModel.from_config({name: value for name, value in model.config.items() if name != "_name_or_path"})
    state = {name: value.float().cpu() for name, value in model.state_dict().items()}
    copy.load_state_dict({name: state[name] for name in copy.state_dict()})
    return copy.eval()
