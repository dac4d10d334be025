"""`kyvo import`: published checkpoints into folders that this package reads."""

from pathlib import Path
from typing import Any

import torch

from kyvo.models.taming import read_network, read_weights, to_vq_model
from kyvo.tokenizers.codebook import ImageCodebook
from kyvo.tokenizers.images import ImageTokenizer


def import_image_tokenizer(
    out: Path,
    taming: Path | None = None,
    config: Path | None = None,
    vq_model: str | None = None,
    subfolder: str = "",
    codebook: Path | None = None,
    half: bool = False,
) -> dict[str, Any]:
    """Bring a published image tokenizer: of taming-transformers, of diffusers, or its codebook alone.

    What is written is what `tokenizer.image`, `kyvo data code --image_tokenizer` and
    `ImageTokenizer.from_pretrained` take; of a codebook, what `tokenizer.image` takes.

    Args:
        out: Folder to write; created if absent.
        taming: Checkpoint of taming's VQGAN (`last.ckpt`), with its config.
        config: The config of that checkpoint: taming's YAML, or JSON of its `ddconfig`, `n_embed` and `embed_dim`.
        vq_model: Folder or hub id of a `VQModel` of diffusers.
        subfolder: Where in that folder or repository the `VQModel` lies, for example vqvae.
        codebook: NumPy file of code vectors [codes, dimensions], as Kyvo released them: with it a language model reads
            and writes codes of images that were coded elsewhere.
        half: Write float16 weights: half the size, and other codes where two were about equally near.

    Returns:
        What was written: its folder and sizes.

    Raises:
        ValueError: Not one of taming, vq_model and codebook; a checkpoint of another architecture; weights that are not
            finite.
    """
    given = {"taming": taming, "vq_model": vq_model, "codebook": codebook}
    names = [f"--{name}" for name, value in given.items() if value is not None]
    if len(names) != 1:
        raise ValueError(f"expected one of --taming, --vq_model and --codebook, got {' and '.join(names) or 'none'}")
    if (taming is None) != (config is None):
        raise ValueError("--taming, a checkpoint, and --config, the config it was trained with, belong together")
    if codebook is not None:
        return _import_codebook(codebook, out, half)
    if taming is not None and config is not None:
        tokenizer = ImageTokenizer(to_vq_model(read_network(config), read_weights(taming)))
    else:
        tokenizer = ImageTokenizer.from_pretrained(str(vq_model), subfolder)
    _check_finite(tokenizer)
    tokenizer.save_pretrained(out, torch.float16 if half else torch.float32)
    return {
        "folder": str(out),
        "image_size": list(tokenizer.size),
        "grid": list(tokenizer.grid),
        "codes": len(tokenizer.codebook),
        "code_dim": tokenizer.codebook.shape[1],
        "parameters": sum(weight.numel() for weight in tokenizer.model.parameters()),
    }


def _import_codebook(file: Path, out: Path, half: bool) -> dict[str, Any]:
    if half:
        raise ValueError("--half is for networks; a codebook is kept in float32")
    found = ImageCodebook.from_pretrained(file)
    found.save_pretrained(out)
    return {"folder": str(out), "codes": len(found.vectors), "code_dim": found.vectors.shape[1]}


def _check_finite(tokenizer: ImageTokenizer) -> None:
    for name, weight in tokenizer.model.state_dict().items():
        if not weight.isfinite().all():
            raise ValueError(f"expected finite weights, {name} {list(weight.shape)} has others")
