"""A world of a few scenes of 32 x 32 pixels, with an image tokenizer of random weights to code it."""

from functools import cache
from pathlib import Path

import torch

from data_modules.coding import add_codes
from data_modules.make import make
from data_modules.recipes.clevr import ClevrRecipe
from data_modules.worlds.clevr import ClevrWorld
from kyvo.models.image_vq import ImageNetwork, build_vq_model
from kyvo.tokenizers.images import ImageTokenizer
from kyvo.tokenizers.tokenizer import UnifiedTokenizer

VIEW = ClevrWorld(image_size=(32, 32), objects=(1, 3), extent=1.5, focal=1.8, min_visible_pixels=20.0)


def tiny_recipe(**changes) -> ClevrRecipe:
    """8 scenes for training in 4 shards, 5 for validation in 3, 3 questions and 2 edits each."""
    defaults = {"world": VIEW, "scenes": {"train": 8, "val": 5}, "questions": 3, "edits": 2, "scenes_per_shard": 2}
    return ClevrRecipe(**(defaults | changes))


@cache
def tiny_image_tokenizer(seed: int = 0) -> ImageTokenizer:
    """Random weights: 32 x 32 pixels to 4 x 4 codes of 16."""
    torch.manual_seed(seed)
    sizes = {"channels": (8, 8, 8, 8), "layers": 1, "codes": 16, "code_dim": 4, "latent_channels": 4, "groups": 4}
    model = build_vq_model(ImageNetwork((32, 32), **sizes, attention=(), mid_attention=False))
    model.quantize.embedding.weight.data.normal_()
    return ImageTokenizer(model)


@cache
def tiny_tokenizer() -> UnifiedTokenizer:
    """The quickstart preset over the tiny image tokenizer."""
    return UnifiedTokenizer.from_preset("quickstart", image=tiny_image_tokenizer())


def make_coded_world(root: Path, **changes) -> Path:
    """The tiny world in a folder, made and coded."""
    make(root, tiny_recipe(**changes), workers=1)
    add_codes(root, tiny_image_tokenizer())
    return root


def files_of(root: Path) -> dict[str, bytes]:
    """Contents of the files of a folder by name."""
    return {path.name: path.read_bytes() for path in sorted(root.glob("*.*")) if path.name[0] != "."}
