"""Presets of the unified tokenizer: the published vocabularies and ours."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from kyvo.scene import SCHEMAS
from kyvo.tokenizers.image_order import ImageOrder
from kyvo.tokenizers.numbers import Clip, Numbers, objectron_release, shared, unified
from kyvo.tokenizers.scenes import ObjectOrder

PresetName = Literal["paper", "kyvo-release", "kyvo-release-objectron", "unified", "quickstart"]

_SCENE = ("[SCENE-START]", "[SCENE-END]", "[OBJECT-START]", "[OBJECT-END]")
_REST = ("[IMAGE-START]", "[IMAGE-END]", "[TEXT-START]", "[TEXT-END]", "[OUTPUT-START]")
STRUCTURE = (*_SCENE, *_REST)
"""Markers that every vocabulary has, and no attribute may have."""

# In the order of the official tokenizers' ids.
CLEVR_MARKERS = (*_SCENE, *SCHEMAS["clevr"].markers, *_REST)
OBJECTRON_MARKERS = (*_SCENE, *SCHEMAS["objectron"].markers, *_REST)
ALL_MARKERS = tuple(dict.fromkeys((*CLEVR_MARKERS, *(m for schema in SCHEMAS.values() for m in schema.markers))))


@dataclass(frozen=True)
class Layout:
    """How samples are laid out as sequences.

    Args:
        image_grid: rows and columns of image codes.
        image_order: order of the codes of images that are read.
        output_image_order: order of the codes of images that are written.
        first_codes: how many codes at the start of every written image weigh more in the loss.
        first_codes_weight: how much more.
        read_text_weight: weight in the loss of the questions and instructions that are read; 0 as in the paper.
        shape_length: codes of one 3D shape; None for what the schema says.
        object_order: order of the objects of a scene: as given, or from left to right in the picture.
        clip: what to do with numbers outside their grid: ``error``, or ``warn`` and take the outermost.
        max_objects: most objects of a generated scene.
        max_text: most text tokens of a generated text.
    """

    image_grid: tuple[int, int] = (16, 16)
    image_order: ImageOrder = "raster"
    output_image_order: ImageOrder = "raster"
    first_codes: int = 0
    first_codes_weight: float = 1.0
    read_text_weight: float = 0.0
    shape_length: int | None = None
    object_order: ObjectOrder = "given"
    clip: Clip = "error"
    max_objects: int = 16
    max_text: int = 64


@dataclass(frozen=True)
class Preset:
    """What a name stands for.

    Args:
        schema: name of the default schema.
        numbers: makes the number tokens, with a granularity if one is given.
        markers: markers in id order; those that the schema needs beyond them are added behind.
        image_codes: size of the image codebook.
        shape_codes: size of the shape codebook.
        reserved: unused ids after the markers.
        layout: how samples are laid out.
    """

    schema: str = "clevr"
    numbers: Callable[..., Numbers] = shared
    markers: tuple[str, ...] = CLEVR_MARKERS
    image_codes: int = 1024
    shape_codes: int = 0
    reserved: int = 0
    layout: Layout = field(default_factory=Layout)

    def make_numbers(self, granularity: float | None) -> Numbers:
        """The number tokens, of the preset's own granularity where none is given."""
        if granularity is None:
            return self.numbers()
        if self.numbers is objectron_release:
            raise ValueError("the numbers of the released Objectron tokenizer have no single granularity")
        return self.numbers(granularity)


# Paper, section 3.2.2: the output image starts at its centre, and its first five codes weigh ten times as much.
_PUBLISHED = Layout(output_image_order="center-out", first_codes=5, first_codes_weight=10.0)
_OBJECTRON = Layout(output_image_order="center-out", first_codes=5, first_codes_weight=10.0, clip="warn")


def _release_numbers(granularity: float = 0.005) -> Numbers:
    return shared(granularity)


PRESETS: dict[str, Preset] = {
    "paper": Preset(shape_codes=8192, layout=_PUBLISHED),
    "kyvo-release": Preset(numbers=_release_numbers, layout=_PUBLISHED),
    # The released vocabulary counts 104 numbers where there are 103, which leaves one id that nothing uses.
    "kyvo-release-objectron": Preset("objectron", objectron_release, OBJECTRON_MARKERS, reserved=1, layout=_OBJECTRON),
    "unified": Preset(numbers=unified, markers=ALL_MARKERS, layout=Layout(clip="warn")),
    "quickstart": Preset(image_codes=1024, layout=Layout(image_grid=(8, 8), object_order="left-to-right")),
}
"""Presets by name; ``UnifiedTokenizer.from_preset`` reads them."""
