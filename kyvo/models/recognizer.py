"""A small network that says of an object in a picture what it is: shape, colour and whatever else has words.

B pictures, H and W their size in pixels, N objects in all of them, S side of a crop in pixels, A attributes.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from kyvo.assets import resolve
from kyvo.scene import SceneSchema, get_schema

CONFIG = "config.json"
WEIGHTS = "model.safetensors"


@dataclass(frozen=True)
class RecognizerNetwork:
    """Sizes of a recogniser's network.

    Attributes:
        side: Side S of a crop in pixels.
        margin: What a crop shows beyond its box on each side, as a share of the longer side of the box.
        channels: Channels of each level; each halves the resolution of the one before.
        layers: Convolutions of a level.
        hidden: Features from which the attributes are read.
    """

    side: int = 32
    margin: float = 0.2
    channels: tuple[int, ...] = (16, 32, 64)
    layers: tuple[int, ...] = (1, 2, 2)
    hidden: int = 64

    def __post_init__(self) -> None:
        if len(self.channels) != len(self.layers):
            raise ValueError(f"channels and layers should be as many, got {self.channels} and {self.layers}")
        if self.side % 2 ** len(self.channels):
            raise ValueError(f"side should be a multiple of {2 ** len(self.channels)} (2 ** levels), got {self.side}")


def word_attributes(schema: SceneSchema | str) -> dict[str, tuple[str, ...]]:
    """The attributes of a schema that are words, and their values."""
    return {one.name: one.values for one in get_schema(schema).attributes if one.kind == "word"}


# ---- crops ----------------------------------------------------------------------------------------------------------


def crop_squares(boxes: Tensor, margin: float) -> Tensor:
    """The square that a crop of each box shows: around its middle, as wide as its longer side and the margin twice.

    Args:
        boxes: float [N, 4] of x0, y0, x1, y1 in pixels, x1 and y1 just outside.
        margin: Share of the longer side.

    Returns:
        float [N, 3]: x and y of the middle, and the side, in pixels.
    """
    low, high = boxes[:, :2], boxes[:, 2:]
    side = (high - low).amax(1, keepdim=True) * (1 + 2 * margin)
    return torch.cat([(low + high) / 2, side], 1)


def crop(images: Tensor, squares: Tensor, side: int) -> Tensor:
    """Squares of pictures, scaled to one size bilinearly; beyond a picture's edge its last pixels go on.

    Args:
        images: float [N, 3, H, W], one picture for each square.
        squares: float [N, 3], see `crop_squares`.
        side: S.

    Returns:
        float [N, 3, S, S].
    """
    height, width = images.shape[2:]
    # A large picture is read at several points for each pixel of the crop: a single one would miss what lies between.
    points = max(1, round(max(height, width) / (2 * side)))
    steps = (torch.arange(side * points, device=images.device) + 0.5) / (side * points) - 0.5
    x, y = (squares[:, axis, None] + squares[:, 2:] * steps for axis in (0, 1))
    grid = torch.stack(torch.broadcast_tensors(2 * x[:, None, :] / width - 1, 2 * y[:, :, None] / height - 1), dim=-1)
    read = F.grid_sample(images, grid.to(images), mode="bilinear", padding_mode="border", align_corners=False)
    return F.avg_pool2d(read, points) if points > 1 else read


def check_boxes(images: Tensor, boxes: Sequence[Tensor]) -> None:
    """Raise ValueError unless these are pictures, and as many tensors of boxes that have a width and a height."""
    if images.ndim != 4 or images.shape[1] != 3 or not images.is_floating_point():
        raise ValueError(
            f"images must be floating point [B, 3, H, W] in [-1, 1], got {images.dtype} {list(images.shape)}"
        )
    if not images.isfinite().all():
        raise ValueError("images must be finite, got some pixels that are not")
    if len(boxes) != len(images):
        raise ValueError(f"expected boxes for each of {len(images)} images, got {len(boxes)}")
    for number, rows in enumerate(boxes):
        if rows.ndim != 2 or rows.shape[1] != 4 or not (rows[:, 2:] > rows[:, :2]).all():
            raise ValueError(
                f"boxes of image {number} must be [objects, 4] with x0 < x1 and y0 < y1, got {rows.tolist()}"
            )


# ---- network --------------------------------------------------------------------------------------------------------


class Recognizer(nn.Module):
    """Reads the attributes of objects from crops of pictures, given their boxes.

    A crop is scaled to the same side however large the object, so the network is also told how much of the picture the
    crop shows: with what fills the crop, that says how large the object is.

    Args:
        attributes: Attributes and their values, for example `word_attributes("clevr")`.
        network: Sizes.
    """

    def __init__(
        self,
        attributes: Mapping[str, Sequence[str]],
        network: RecognizerNetwork = RecognizerNetwork(),
    ) -> None:
        super().__init__()
        self.attributes = {name: tuple(values) for name, values in attributes.items()}
        self.network = network
        levels, width = [], 3
        for channels, layers in zip(network.channels, network.layers, strict=True):
            levels += [*_level(width, channels, layers), nn.MaxPool2d(2)]
            width = channels
        positions = (network.side // 2 ** len(network.channels)) ** 2
        self.trunk = nn.Sequential(*levels, nn.Flatten())
        self.hidden = nn.Linear(width * positions + 1, network.hidden)
        self.heads = nn.Linear(network.hidden, sum(map(len, self.attributes.values())))

    def forward(self, crops: Tensor, shares: Tensor) -> tuple[Tensor, ...]:
        """Scores of the values of each attribute.

        Args:
            crops: float [N, 3, S, S] in [-1, 1], see `crop`.
            shares: float [N], the side of each crop as a share of its picture's height.

        Returns:
            For each attribute float [N, its values].
        """
        features = torch.cat([self.trunk(crops), shares.log2()[:, None].to(crops)], 1)
        read: Tensor = self.heads(F.relu(self.hidden(features)))
        return read.split([len(values) for values in self.attributes.values()], 1)

    @torch.no_grad()
    def classify(self, images: Tensor, boxes: Sequence[Tensor]) -> Tensor:
        """The value of each attribute of each object, as a number.

        Args:
            images: float [B, 3, H, W] in [-1, 1].
            boxes: For each picture the boxes of its objects, [objects, 4] of x0, y0, x1, y1 in pixels.

        Returns:
            int64 [N, A]: the objects of the first picture, then those of the second, and so on.

        Raises:
            ValueError: For other shapes, pixels that are not finite, or a box without area.
        """
        check_boxes(images, boxes)
        device = self.heads.weight.device
        counts = torch.tensor([len(rows) for rows in boxes])
        repeated = images.to(device, torch.float32).repeat_interleave(counts.to(device), 0)
        squares = crop_squares(torch.cat([*boxes]).to(device, torch.float32), self.network.margin)
        training = self.training
        scores = self.eval()(crop(repeated, squares, self.network.side), squares[:, 2] / images.shape[2])
        self.train(training)
        return torch.stack([one.argmax(1) for one in scores], 1)

    def predict(self, images: Tensor, boxes: Sequence[Tensor]) -> dict[str, list[str]]:
        """The words for each object; arguments and order as in `classify`."""
        columns = self.classify(images, boxes).T.tolist()
        return {
            name: [values[number] for number in column]
            for (name, values), column in zip(self.attributes.items(), columns, strict=True)
        }

    # ---- files ------------------------------------------------------------------------------------------------------

    def save_pretrained(self, folder: str | Path, dtype: torch.dtype = torch.float32) -> None:
        """Write config.json and model.safetensors, for `from_pretrained`.

        Args:
            folder: Where to write; created if absent.
            dtype: Type of the weights in the file.
        """
        target = Path(folder)
        target.mkdir(parents=True, exist_ok=True)
        config = {"attributes": self.attributes, "network": asdict(self.network)}
        (target / CONFIG).write_text(json.dumps(config, indent=1) + "\n")
        state = {name: value.detach().cpu().contiguous() for name, value in self.state_dict().items()}
        kept = {name: value.to(dtype) if value.is_floating_point() else value for name, value in state.items()}
        save_file(kept, target / WEIGHTS)

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> Self:
        """Load what `save_pretrained` wrote, in eval mode and float32.

        Args:
            folder: A folder, or the name of one that ships (recognizer_quickstart).

        Raises:
            FileNotFoundError: Nothing to load there.
            ValueError: The folder holds something else.
        """
        source = Path(resolve(folder))
        config = json.loads((source / CONFIG).read_text())
        try:
            sizes: dict[str, Any] = {k: tuple(x) if isinstance(x, list) else x for k, x in config["network"].items()}
            model = cls(config["attributes"], RecognizerNetwork(**sizes))
            model.load_state_dict(load_file(source / WEIGHTS))
        except (KeyError, TypeError, AttributeError, RuntimeError) as error:
            raise ValueError(f"{source} does not hold a recogniser: {type(error).__name__}: {error}") from error
        return model.eval().requires_grad_(False)


def _level(inputs: int, channels: int, layers: int) -> list[nn.Module]:
    modules: list[nn.Module] = []
    for _ in range(layers):
        modules += [nn.Conv2d(inputs, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels), nn.ReLU()]
        inputs = channels
    return modules
