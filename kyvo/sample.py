"""Samples: one example of the data, with what may be read and what is to be written."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from kyvo.scene import Scene
from kyvo.task import Modality

if TYPE_CHECKING:
    from kyvo.metrics.edits import Relation

Content = np.ndarray | Scene | str


@dataclass(frozen=True)
class Seen:
    """Where an object shows in a picture.

    Args:
        box: x0, y0, x1, y1 in pixels, x1 and y1 just outside.
        pixels: how many of its pixels are seen.
    """

    box: tuple[float, float, float, float]
    pixels: float


@dataclass(frozen=True)
class Sample:
    """One example; what it lacks is None.

    N: image codes, H W: height and width of the picture.

    Args:
        key: name of the example in its data set.
        image: int64 [N], image codes in raster order.
        scene: the objects, unrounded.
        text: the question or the instruction.
        target_image: image codes to be written, where they differ from ``image``.
        target_scene: scene to be written, where it differs from ``scene``.
        target_text: text to be written, such as the answer.
        pixels: uint8 [H, W, 3], the picture itself (evaluation only).
        target_pixels: uint8 [H, W, 3], the picture to be written (evaluation only).
        mask: bool [H, W], pixels of ``pixels`` that show objects (evaluation only).
        target_mask: bool [H, W], the same of ``target_pixels``.
        shapes: what the shapes of the objects of ``scene`` are called, in their order (evaluation only).
        target_shapes: the same of ``target_scene``.
        seen: where the objects of ``scene`` show in ``pixels``, in their order; None for one that is hidden (evaluation
            only).
        target_seen: the same of ``target_scene`` and ``target_pixels``.
        relation: where the instruction wants a new or moved object; None where it does not say (evaluation only).
        camera: float64 [3, 4], from homogeneous points of ``scene`` to homogeneous places in ``pixels``: across in
            widths and down in heights of the picture, the third the depth (evaluation only).
        target_camera: the same of ``target_scene`` and ``target_pixels``.
        rotations: float64 [objects, 3, 3], from the own axes of the boxes of ``scene`` into the camera's frame
            (evaluation only).
        kind: type of question or instruction, such as ``count`` or ``appearance``.
    """

    key: str
    image: np.ndarray | None = None
    scene: Scene | None = None
    text: str | None = None
    target_image: np.ndarray | None = None
    target_scene: Scene | None = None
    target_text: str | None = None
    pixels: np.ndarray | None = None
    target_pixels: np.ndarray | None = None
    mask: np.ndarray | None = None
    target_mask: np.ndarray | None = None
    shapes: tuple[str, ...] | None = None
    target_shapes: tuple[str, ...] | None = None
    seen: tuple[Seen | None, ...] | None = None
    target_seen: tuple[Seen | None, ...] | None = None
    relation: "Relation | None" = None
    camera: np.ndarray | None = None
    target_camera: np.ndarray | None = None
    rotations: np.ndarray | None = None
    kind: str = ""

    @property
    def written_pixels(self) -> np.ndarray | None:
        """The picture to be written: the target's if there is one, else the one that is read."""
        return self.pixels if self.target_pixels is None else self.target_pixels

    @property
    def written_mask(self) -> np.ndarray | None:
        """Pixels of `written_pixels` that show objects."""
        return self.mask if self.target_pixels is None else self.target_mask

    @property
    def written_seen(self) -> tuple[Seen | None, ...] | None:
        """Where the objects of `pictured_scene` show in `written_pixels`."""
        return self.seen if self.target_pixels is None else self.target_seen

    @property
    def written_camera(self) -> np.ndarray | None:
        """How `written_pixels` sees `pictured_scene`."""
        return self.camera if self.target_pixels is None else self.target_camera

    @property
    def pictured_scene(self) -> Scene | None:
        """The scene that `written_pixels` shows."""
        return self.scene if self.target_pixels is None else self.target_scene

    @property
    def written_shapes(self) -> tuple[str, ...] | None:
        """Names of the shapes of the scene to be written."""
        return self.shapes if self.target_scene is None else self.target_shapes

    def read(self, modality: Modality) -> Content:
        """What the model reads of a modality; ValueError if the sample lacks it."""
        content: Content | None = getattr(self, modality)
        if content is None:
            raise ValueError(f"sample {self.key!r} has no {modality} to read")
        return content

    def write(self, modality: Modality) -> Content:
        """What the model has to write: the target if there is one, else what is read; ValueError without either."""
        content: Content | None = getattr(self, f"target_{modality}")
        if content is None:
            content = getattr(self, modality)
        if content is None:
            raise ValueError(f"sample {self.key!r} has no {modality} to write, neither a target nor one to read")
        return content
