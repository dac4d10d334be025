"""The command `kyvo data latents`: latents that a learned autoencoder makes of voxels, beside them."""

from pathlib import Path
from typing import Any

from rich.progress import track

from data_modules.shape_folder import find_shapes, write_shape
from data_modules.voxels import SPACE
from kyvo.models.learned_decoder import LearnedDecoder
from kyvo.slat import Slat


def encode(root: Path, decoder: str, model: str = SPACE) -> dict[str, Any]:
    """Encode the voxels of a folder to learned latents, of half the resolution: ROOT/latents/learned/NAME.npz.

    Latents that are there already are written anew: they may be another decoder's.

    Args:
        root: Folder in the layout of TRELLIS' data sets.
        decoder: Folder of a trained autoencoder (`kyvo fit -c shape_tokenizer/autoencoder`).
        model: Name of the voxels under ROOT/latents.

    Returns:
        The folder of the latents, and how many it got.

    Raises:
        ValueError: If there are no shapes, naming the folder, or one is not of voxels, naming the file.
    """
    encoder = LearnedDecoder.from_pretrained(decoder)
    shapes = find_shapes(root, model)
    target = Path(root) / "latents" / encoder.space
    for shape in track(shapes, f"encoding {len(shapes)} shapes"):
        try:
            [latents] = encoder.encode([Slat.load(shape.latents)])
        except ValueError as error:
            raise ValueError(f"{shape.latents}: {error}") from error
        write_shape(target / f"{shape.name}.npz", latents)
    return {"latents": str(target), "shapes": len(shapes)}
