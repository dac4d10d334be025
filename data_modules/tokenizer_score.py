"""Scoring an image tokenizer: how near reconstructions come, how codes are used, what is still recognised.

B pictures of a batch, H and W their size in pixels, N codes of a picture.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from data_modules.crops import SceneThing, visible_things
from data_modules.index import Index
from data_modules.records import decode_record
from data_modules.shards import RawSample, read_shard
from data_modules.storage import locate
from kyvo.metrics.codebook import CodeUsage
from kyvo.metrics.images import RenderingMetrics
from kyvo.metrics.rerecognition import AttributeAccuracy
from kyvo.models.perceptual import PerceptualLoss, cached_trunk, installed_heads, perceptual_loss
from kyvo.models.recognizer import Recognizer, word_attributes
from kyvo.report.pairs import Pair, draw_pairs
from kyvo.scene import SceneSchema
from kyvo.tokenizers.images import ImageTokenizer
from kyvo.tokenizers.pixels import image_batch, pixels

_SHOWN = 32
"""Pairs on a sheet."""


def score(
    root: str,
    image_tokenizer: str,
    recognizer: str | None = None,
    split: str = "val",
    limit: int = 500,
    sheet: Path | None = None,
    batch_size: int = 50,
) -> dict[str, Any]:
    """Score an image tokenizer on the pictures of shards that it was not trained on.

    Prints PSNR and SSIM, PSNR over the pixels of objects by the renderer's masks, LPIPS where its weights are at hand,
    how the codes are used, and, with a recogniser, for each attribute the accuracy on true and on reconstructed
    pictures, and their ratio.

    Args:
        root: Folder or http(s) URL of shards with pictures and scenes.
        image_tokenizer: Folder or hub id of an image tokenizer, or the name of one that ships.
        recognizer: Folder of a recogniser trained on true pictures, or the name of one that ships; default is not to
            recognise.
        split: The split to score.
        limit: At most this many pictures are used, the first ones.
        sheet: Draw 32 pictures beside their reconstructions into this PNG file.
        batch_size: Pictures coded together.

    Returns:
        `images` (how many), `psnr`, `object_psnr` (dB), `ssim`, `lpips`; `codes` (see
        `kyvo.metrics.codebook.usage_scores`); `recognition`, by attribute (`shape`) and by attribute and size
        (`shape_small`): `true`, `reconstructed`, `ratio`, `objects`. What could not be measured is left out.

    Raises:
        ValueError: Pictures of another size than the tokenizer's, or a recogniser of other attributes.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    tokenizer = ImageTokenizer.from_pretrained(image_tokenizer).to(device)
    reader = None if recognizer is None else Recognizer.from_pretrained(recognizer).to(device)
    schema = Index.read(root).scene_schema
    if reader is not None and reader.attributes != word_attributes(schema):
        raise ValueError(
            f"{recognizer} recognises {reader.attributes}, the scenes of {root} have {word_attributes(schema)}"
        )
    total = TokenizerScore(tokenizer, reader, _lpips())
    pairs: list[Pair] = []
    for batch in _batches(root, split, limit, batch_size, tokenizer.size, reader is not None):
        decoded = pixels(total.update(batch))
        for one, copy in zip(batch[: _SHOWN - len(pairs)], decoded, strict=False):
            pairs.append(Pair(one.pixels, copy, one.key))
    if sheet is not None:
        draw_pairs(pairs, sheet)
    return total.compute()


@dataclass(frozen=True)
class Picture:
    """A picture to reconstruct.

    Args:
        key: Key of its sample.
        pixels: uint8 [H, W, 3].
        mask: Where objects are seen, bool [H, W]; None if it isn't known.
        things: The objects to recognise.
    """

    key: str
    pixels: np.ndarray
    mask: np.ndarray | None = None
    things: Sequence[SceneThing] = ()


class TokenizerScore:
    """Adds up how well pictures survive an image tokenizer.

    Args:
        tokenizer: Codes and decodes.
        recognizer: Reads attributes of objects; None to recognise nothing.
        lpips: A perceptual distance; None to measure none.
    """

    def __init__(
        self, tokenizer: ImageTokenizer, recognizer: Recognizer | None = None, lpips: PerceptualLoss | None = None
    ) -> None:
        self.tokenizer = tokenizer
        self.recognizer = recognizer
        self.lpips = lpips
        self.rendering = RenderingMetrics().to(tokenizer.device)
        self.distances: list[Tensor] = []
        self.codes = CodeUsage(len(tokenizer.codebook)).to(tokenizer.device)
        attributes = {} if recognizer is None else recognizer.attributes
        self.true, self.reconstructed = (AttributeAccuracy(attributes) for _ in range(2))

    def update(self, batch: Sequence[Picture]) -> Tensor:
        """Add pictures; returns their reconstructions, float32 [B, 3, H, W] in [-1, 1]."""
        images = image_batch([one.pixels for one in batch]).to(self.tokenizer.device)
        codes = self.tokenizer.encode(images)
        decoded = self.tokenizer.decode(codes)
        self.codes.update(codes)
        self.rendering.update((decoded + 1) / 2, (images + 1) / 2, _masks(batch).to(images.device))
        if self.lpips is not None:
            self.distances.append(self.lpips(decoded, images).cpu())
        if self.recognizer is not None and any(one.things for one in batch):
            boxes = [torch.tensor([thing.box for thing in one.things]).reshape(-1, 4) for one in batch]
            values = torch.tensor([thing.values for one in batch for thing in one.things])
            self.true.update(self.recognizer.classify(images, boxes).cpu(), values)
            self.reconstructed.update(self.recognizer.classify(decoded, boxes).cpu(), values)
        return decoded

    def compute(self) -> dict[str, Any]:
        """The scores of all pictures, as `score` returns them."""
        scores = {name: value.item() for name, value in self.rendering.compute().items()}
        found: dict[str, Any] = {"images": int(self.rendering.pictures)}
        found |= {name: scores[name] for name in ("psnr", "object_psnr", "ssim") if not math.isnan(scores[name])}
        if self.distances:
            found["lpips"] = torch.cat(self.distances).mean().item()
        found["codes"] = {name: value.item() for name, value in self.codes.compute().items()}
        if self.recognizer is not None:
            found["recognition"] = self._recognition()
        return found

    def _recognition(self) -> dict[str, dict[str, float]]:
        true, reconstructed, counts = self.true.compute(), self.reconstructed.compute(), self.true.counts
        found: dict[str, dict[str, float]] = {}
        for name, value in true.items():
            if counts[name]:
                found[name] = {"true": value.item(), "reconstructed": reconstructed[name].item()}
                found[name] |= {"ratio": (reconstructed[name] / value).item()} if value else {}
                found[name]["objects"] = counts[name]
        return found


def _lpips() -> PerceptualLoss | None:
    """LPIPS where its weights are at hand: no stand-in belongs in a table."""
    return perceptual_loss() if cached_trunk() and installed_heads() else None


def _masks(batch: Sequence[Picture]) -> Tensor:
    """Masks bool [B, H, W]; nothing where it isn't known, which counts for no score of objects."""
    known = [np.zeros(one.pixels.shape[:2], dtype=bool) if one.mask is None else one.mask for one in batch]
    return torch.from_numpy(np.stack(known))


# ---- pictures -------------------------------------------------------------------------------------------------------


def _batches(
    root: str, split: str, limit: int, batch_size: int, size: tuple[int, int], things: bool
) -> Iterator[list[Picture]]:
    """The first pictures of a split; ValueError naming shard and key of one that has another size."""
    index = Index.read(root)
    held: list[Picture] = []
    for shard in index.shards(split, limit):
        members = ("image.png", "image.jpg", "scene.json")
        for raw in islice(read_shard(locate(root, shard.name), members), shard.samples):
            held.append(_picture(raw, index.scene_schema, size, things))
            if len(held) == batch_size:
                yield held
                held = []
    if held:
        yield held


def _picture(raw: RawSample, schema: SceneSchema, size: tuple[int, int], things: bool) -> Picture:
    sample = decode_record(raw, schema, pixels=True).sample
    if sample.pixels is None:
        raise raw.fault("image.png", "missing")
    if sample.pixels.shape[:2] != tuple(size):
        found = sample.pixels.shape[:2]
        raise raw.fault("image.png", f"is {found} pixels, the image tokenizer codes {tuple(size)}")
    return Picture(raw.key, sample.pixels, sample.mask, visible_things(raw, schema) if things else ())
