"""The unified tokenizer: samples of a task to sequences of ids, and generated ids back."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from kyvo.sample import Content, Sample
from kyvo.scene import Scene, SceneSchema, get_schema, is_schema_file
from kyvo.task import Modality, Task
from kyvo.tokenizers.codebook import ImageCodebook
from kyvo.tokenizers.image_order import ImageOrder, inverse, order
from kyvo.tokenizers.numbers import Clip, Numbers
from kyvo.tokenizers.presets import PRESETS, Layout, Preset, PresetName
from kyvo.tokenizers.scenes import ObjectOrder, SceneCodec
from kyvo.tokenizers.sequence import Generation, Segment, TokenSequence
from kyvo.tokenizers.text import EMBEDDED, TextTokenizer
from kyvo.tokenizers.vocabulary import Vocabulary, runs_of

if TYPE_CHECKING:
    from torch import Tensor

    from kyvo.tokenizers.grammar import Grammar
    from kyvo.tokenizers.images import ImageTokenizer
    from kyvo.tokenizers.shapes import ShapeTokenizer

Options = TypeVar("Options", Layout, Preset)

_FILE = "unified_tokenizer.json"
_IMAGE_FOLDER = "image_tokenizer"
_SHAPE_FOLDER = "shape_tokenizer"


class UnifiedTokenizer:
    """Text, numbers, markers, image codes and shape codes in one id space.

    Args:
        vocabulary: the ids.
        schema: the attributes of an object; the layout's ``shape_length`` goes before its own.
        numbers: the number grids; their labels are the vocabulary's numbers.
        text: the text tokenizer.
        layout: how samples are laid out as sequences.
        image: the image tokenizer, for those who want pixels, or its codebook alone; sequences need only codes.
        shape: the shape tokenizer, for those who want voxels; sequences need only codes.
    """

    def __init__(
        self,
        vocabulary: Vocabulary,
        schema: SceneSchema,
        numbers: Numbers,
        text: TextTokenizer,
        layout: Layout,
        image: "ImageTokenizer | ImageCodebook | None" = None,
        shape: "ShapeTokenizer | None" = None,
    ) -> None:
        if vocabulary.numbers != numbers.labels or vocabulary.text != text.size:
            raise ValueError("the vocabulary was made for other numbers or another text tokenizer")
        schema = schema.with_shape_length(layout.shape_length)
        self.vocabulary, self.schema, self.numbers, self.text = vocabulary, schema, numbers, text
        self.layout, self._image, self.shape = layout, image, shape
        self.codec = SceneCodec(schema, vocabulary, numbers, text, layout.object_order, layout.clip)
        self._grammars: dict[tuple[Task, tuple[str, ...]], Grammar] = {}
        self._views: dict[str, UnifiedTokenizer] = {schema.name: self}
        self._brackets = {
            modality: (vocabulary.marker(f"[{modality.upper()}-START]"), vocabulary.marker(f"[{modality.upper()}-END]"))
            for modality in ("image", "scene", "text")
        }

    @classmethod
    def from_preset(
        cls,
        name: PresetName = "quickstart",
        text: str | Path | None = None,
        image: "ImageTokenizer | ImageCodebook | str | Path | None" = None,
        shape: "ShapeTokenizer | str | Path | None" = None,
        schema: SceneSchema | str | Path | None = None,
        granularity: float | None = None,
        image_codes: int | None = None,
        shape_codes: int | None = None,
        image_grid: tuple[int, int] | None = None,
        image_order: ImageOrder | None = None,
        output_image_order: ImageOrder | None = None,
        first_codes: int | None = None,
        first_codes_weight: float | None = None,
        read_text_weight: float | None = None,
        shape_length: int | None = None,
        object_order: ObjectOrder | None = None,
        clip: Clip | None = None,
        max_objects: int | None = None,
        max_text: int | None = None,
    ) -> "UnifiedTokenizer":
        """A tokenizer by the name of a preset; whatever is given replaces the preset's choice.

        Args:
            name: paper (137,607 ids with the text of Llama 3.2), kyvo-release, kyvo-release-objectron (the
                vocabularies of the released code), unified (several data sets in one model) or quickstart.
            text: folder or Hub id of a text tokenizer; by default the small one of the embedded world.
            image: image tokenizer, or the folder of one, which sets image_codes and image_grid; or its codebook alone
                (codebook.npy), which sets image_codes: enough to read and write codes, though not pixels.
            shape: shape tokenizer, or the folder of one, which sets shape_codes and shape_length.
            schema: attributes of an object, by name, as a table, or as the path of a YAML file, whose number grids
                then take the place of the preset's.
            granularity: step of the number grid.
            image_codes: size of the image codebook.
            shape_codes: size of the shape codebook.
            image_grid: rows and columns of image codes.
            image_order: order of the codes of images that are read.
            output_image_order: order of the codes of images that are written.
            first_codes: how many codes at the start of every written image weigh more in the loss.
            first_codes_weight: how much more.
            read_text_weight: weight in the loss of the questions and instructions that are read; 0 as in the paper.
                Whoever can say what may be asked of a scene has learned to look up its objects, of which an answer of
                one word teaches little.
            shape_length: codes of one 3D shape; by default as many as the schema says.
            object_order: order of the objects of a scene.
            clip: what to do with numbers outside their grid.
            max_objects: most objects of a generated scene.
            max_text: most text tokens of a generated text.
        """
        if name not in PRESETS:
            raise ValueError(f"no preset is called {name!r}; there are {', '.join(PRESETS)}")
        preset, loaded, shapes = PRESETS[name], _image_tokenizer(image), _shape_tokenizer(shape)
        if loaded is not None:
            image_codes = _agree("image", "image_codes", image_codes, len(loaded.codebook))
        if loaded is not None and not isinstance(loaded, ImageCodebook):
            image_grid = _agree("image", "image_grid", image_grid and tuple(image_grid), tuple(loaded.grid))
        if shapes is not None:
            shape_codes = _agree("shape", "shape_codes", shape_codes, len(shapes.codebook))
            shape_length = _agree("shape", "shape_length", shape_length, shapes.codes_per_shape)
        layout = _replace_given(
            preset.layout,
            image_grid=image_grid and tuple(image_grid),
            image_order=image_order,
            output_image_order=output_image_order,
            first_codes=first_codes,
            first_codes_weight=first_codes_weight,
            read_text_weight=read_text_weight,
            shape_length=shape_length,
            object_order=object_order,
            clip=clip,
            max_objects=max_objects,
            max_text=max_text,
        )
        preset = _replace_given(preset, image_codes=image_codes, shape_codes=shape_codes)
        table, numbers = _tables(preset, preset.schema if schema is None else schema, granularity)
        backend = TextTokenizer.from_pretrained(text or EMBEDDED)
        return cls(_vocabulary(preset, table, numbers, backend), table, numbers, backend, layout, loaded, shapes)

    @property
    def image(self) -> "ImageTokenizer | None":
        """What makes codes of pixels and pixels of codes; None where only codes are known."""
        return None if isinstance(self._image, ImageCodebook) else self._image

    @property
    def image_codebook(self) -> "Tensor | None":
        """The vectors of image codes, float32 [K, D], where they are known."""
        return None if self._image is None else self._image.codebook

    @property
    def shape_codebook(self) -> "Tensor | None":
        """The vectors of shape codes, float32 [K, D], where they are known."""
        return None if self.shape is None else self.shape.codebook

    @property
    def image_grid(self) -> tuple[int, int]:
        """Rows and columns of image codes."""
        return self.layout.image_grid

    @property
    def image_length(self) -> int:
        """Codes of one image."""
        return self.layout.image_grid[0] * self.layout.image_grid[1]

    def encode(self, task: Task, sample: Sample) -> TokenSequence:
        """A whole sequence: BOS, what is read, [OUTPUT-START], what is written, EOS.

        Raises:
            ValueError: if the sample lacks something, or has a value outside its grid or codebook.
        """
        spans = self._prompt(task, sample)
        prompt_length = sum(len(ids) for _, ids in spans)
        inputs = len(spans)
        spans += [self._span(sample, modality, True) for modality in task.outputs]
        spans.append(("eos", [self.vocabulary.eos]))
        segments: list[Segment] = []
        start = 0
        for index, (name, part) in enumerate(spans):
            segments.append(Segment(name, start, start + len(part), index >= inputs))
            start += len(part)
        ids = np.concatenate([part for _, part in spans], dtype=np.int64)
        return TokenSequence(ids, self._weights(segments, start), tuple(segments), prompt_length)

    def with_schema(self, name: str) -> "UnifiedTokenizer":
        """The same ids for the scenes of another data set; itself for its own schema.

        Raises:
            ValueError: if there is no such schema, or the vocabulary lacks a marker or a number grid that it needs.
        """
        if name not in self._views:
            view = UnifiedTokenizer(
                self.vocabulary, get_schema(name), self.numbers, self.text, self.layout, self._image, self.shape
            )
            view._views = self._views
            self._views[name] = view
        return self._views[name]

    def image_places(self, sequence: TokenSequence) -> list[np.ndarray]:
        """For each image of a sequence int64 [N], where its codes lie, in raster order."""
        return [
            segment.start + 1 + inverse(self._image_order(segment.written), *self.image_grid)
            for segment in sequence.segments
            if segment.name == "image"
        ]

    def prompt(self, task: Task, sample: Sample) -> np.ndarray:
        """int64 [P], the ids up to and including [OUTPUT-START]; nothing of what is to be written is needed."""
        return np.concatenate([ids for _, ids in self._prompt(task, sample)], dtype=np.int64)

    def decode(self, task: Task, ids: Sequence[int] | np.ndarray) -> Generation:
        """What ids generated after the prompt say; bad ids never raise, they are counted.

        Args:
            task: what was to be written.
            ids: [length], as generated, up to the end of the sequence; padding after it is ignored.
        """
        tokens: list[int] = np.asarray(ids).reshape(-1).tolist()
        faults = 0
        if self.vocabulary.eos in tokens:
            tokens = tokens[: tokens.index(self.vocabulary.eos)]
        else:
            faults += 1
        found: dict[str, Any] = {}
        for modality in task.outputs:
            body, tokens, skipped = self._cut(modality, tokens)
            found[modality], wrong = self._decode(modality, body) if body is not None else (None, 0)
            faults += skipped + wrong
        return Generation(**found, malformed=faults + bool(tokens))

    def grammar(self, task: Task, answers: Sequence[str] = ()) -> "Grammar":
        """The grammar of what a task writes; kept for the next call.

        Args:
            task: what is written.
            answers: if given, text is restricted to these.
        """
        key = (task, tuple(answers))
        if key not in self._grammars:
            self._grammars[key] = self._compile(task, tuple(answers))
        return self._grammars[key]

    def to_dict(self) -> dict[str, Any]:
        """Everything but the tokenizers of text, images and shapes, JSON-ready."""
        return {
            "vocabulary": self.vocabulary.to_dict(),
            "schema": self.schema.to_dict(),
            "numbers": self.numbers.to_dict(),
            "layout": asdict(self.layout),
        }

    def save_pretrained(self, folder: str | Path) -> None:
        """Write a folder that ``from_pretrained`` reads."""
        target = Path(folder)
        self.text.save_pretrained(target)
        (target / _FILE).write_text(json.dumps(self.to_dict(), indent=1) + "\n", encoding="utf-8")
        if self._image is not None:
            self._image.save_pretrained(target / _IMAGE_FOLDER)
        if self.shape is not None:
            self.shape.save_pretrained(target / _SHAPE_FOLDER)

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> "UnifiedTokenizer":
        """Read a folder that ``save_pretrained`` wrote; ValueError if it is none."""
        source = Path(folder)
        if not (source / _FILE).is_file():
            raise ValueError(f"{source} is no tokenizer folder: it lacks {_FILE}")
        folders = (source / name for name in (_IMAGE_FOLDER, _SHAPE_FOLDER))
        image, shape = (folder if folder.is_dir() else None for folder in folders)
        raw = json.loads((source / _FILE).read_text(encoding="utf-8"))
        return cls.from_dict(raw, TextTokenizer.from_pretrained(source), image, shape)

    @classmethod
    def from_dict(
        cls,
        raw: Mapping[str, Any],
        text: TextTokenizer,
        image: "ImageTokenizer | ImageCodebook | str | Path | None" = None,
        shape: "ShapeTokenizer | str | Path | None" = None,
    ) -> "UnifiedTokenizer":
        """Inverse of ``to_dict``, given the text tokenizer and those of images and shapes, if there are such."""
        return cls(
            Vocabulary.from_dict(raw["vocabulary"]),
            SceneSchema.from_dict(raw["schema"]),
            Numbers.from_dict(raw["numbers"]),
            text,
            Layout(**dict(raw["layout"]) | {"image_grid": tuple(raw["layout"]["image_grid"])}),
            _image_tokenizer(image),
            _shape_tokenizer(shape),
        )

    def _prompt(self, task: Task, sample: Sample) -> list[tuple[str, Any]]:
        """Named spans of ids up to and including [OUTPUT-START]."""
        spans: list[tuple[str, Any]] = [("bos", [self.vocabulary.bos])]
        spans += [self._span(sample, modality, False) for modality in task.inputs]
        spans.append(("output", [self.vocabulary.marker("[OUTPUT-START]")]))
        return spans

    def _span(self, sample: Sample, modality: Modality, written: bool) -> tuple[str, Any]:
        content = sample.write(modality) if written else sample.read(modality)
        try:
            return modality, self._encode(modality, content, written)
        except ValueError as error:
            raise ValueError(f"{modality} of sample {sample.key!r}: {error}") from error

    def _encode(self, modality: Modality, content: Content, written: bool) -> list[int] | np.ndarray:
        if isinstance(content, Scene):
            return self.codec.encode(content)
        start, end = self._brackets[modality]
        if isinstance(content, str):
            return [start, *self.text.encode(content), end]
        ids = np.empty(self.image_length + 2, dtype=np.int64)
        ids[0], ids[-1] = start, end
        ids[1:-1] = self._codes(content)[order(self._image_order(written), *self.image_grid)]
        ids[1:-1] += self.vocabulary.image_range.start
        return ids

    def _codes(self, content: np.ndarray) -> np.ndarray:
        codes = np.asarray(content).reshape(-1)
        size = self.vocabulary.image_codes
        if len(codes) != self.image_length:
            raise ValueError(f"an image has {self.image_length} codes, not {len(codes)}")
        if codes.min() < 0 or codes.max() >= size:
            raise ValueError(f"image codes go from 0 to {size - 1}, not from {codes.min()} to {codes.max()}")
        return codes

    def _image_order(self, written: bool) -> ImageOrder:
        return self.layout.output_image_order if written else self.layout.image_order

    def _weights(self, segments: Sequence[Segment], length: int) -> np.ndarray:
        weights = np.zeros(length, dtype=np.float32)
        for segment in segments:
            if segment.written:
                weights[segment.start : segment.stop] = 1.0
                if segment.name == "image":
                    first = segment.start + 1
                    weights[first : first + self.layout.first_codes] = self.layout.first_codes_weight
            elif segment.name == "text":
                # Its marker always comes: nothing is learned from it.
                weights[segment.start + 1 : segment.stop] = self.layout.read_text_weight
        return weights

    def _cut(self, modality: Modality, tokens: list[int]) -> tuple[list[int] | None, list[int], int]:
        """What lies between a modality's markers, what comes after, and faults; None if it never starts."""
        start, end = self._brackets[modality]
        if start not in tokens:
            return None, tokens, 1
        begin = tokens.index(start)
        faults = int(begin > 0)
        rest = tokens[begin + 1 :]
        if end not in rest:
            return rest, [], faults + 1
        stop = rest.index(end)
        return rest[:stop], rest[stop + 1 :], faults

    def _decode(self, modality: Modality, body: list[int]) -> tuple[Any, int]:
        """Content and number of faults of the ids between a modality's markers."""
        if modality == "scene":
            return self.codec.decode(body)
        if modality == "text":
            legal = [index for index in body if index in self.vocabulary.text_range]
            return self.text.decode(legal), int(len(legal) != len(body) or bool(self._specials.intersection(legal)))
        codes = self.vocabulary.image_range
        if len(body) != self.image_length or not all(index in codes for index in body):
            return None, 1
        written = np.array(body, dtype=np.int64) - codes.start
        return written[inverse(self.layout.output_image_order, *self.image_grid)], 0

    @cached_property
    def _specials(self) -> frozenset[int]:
        return frozenset(self.text.special_ids)

    def _compile(self, task: Task, answers: tuple[str, ...]) -> "Grammar":
        from kyvo.tokenizers.grammar import compile_grammar

        free = [index for index in self.vocabulary.text_range if index not in self._specials]
        return compile_grammar(
            task,
            self.vocabulary,
            self.codec,
            self.image_length,
            self.layout.max_objects,
            runs_of(free),
            self.layout.max_text,
            [tuple(self.text.encode(answer)) for answer in answers],
        )


def _image_tokenizer(
    image: "ImageTokenizer | ImageCodebook | str | Path | None",
) -> "ImageTokenizer | ImageCodebook | None":
    if not isinstance(image, str | Path):
        return image
    if ImageCodebook.is_at(image):
        return ImageCodebook.from_pretrained(image)
    from kyvo.tokenizers.images import ImageTokenizer

    return ImageTokenizer.from_pretrained(image)


def _shape_tokenizer(shape: "ShapeTokenizer | str | Path | None") -> "ShapeTokenizer | None":
    if not isinstance(shape, str | Path):
        return shape
    from kyvo.tokenizers.shapes import ShapeTokenizer

    return ShapeTokenizer.from_pretrained(shape)


def _replace_given(defaults: Options, **given: Any) -> Options:
    """The defaults with what was given, not None, in the place of theirs."""
    return replace(defaults, **{name: value for name, value in given.items() if value is not None})


def _agree(of: str, name: str, asked: Any, found: Any) -> Any:
    if asked is not None and asked != found:
        raise ValueError(f"{name} = {asked} does not fit the {of} tokenizer, which has {found}")
    return found


def _tables(preset: Preset, schema: SceneSchema | str | Path, granularity: float | None) -> tuple[SceneSchema, Numbers]:
    """The attributes of an object and the number tokens."""
    if isinstance(schema, SceneSchema) or not is_schema_file(schema):
        return get_schema(schema), preset.make_numbers(granularity)
    from kyvo.schema_file import read_schema_file

    found = read_schema_file(schema)
    if found.numbers is not None and granularity is not None:
        raise ValueError(f"granularity = {granularity} has no effect: {schema} gives the grid of each quantity")
    return found.schema, found.numbers or preset.make_numbers(granularity)


def _vocabulary(preset: Preset, schema: SceneSchema, numbers: Numbers, text: TextTokenizer) -> Vocabulary:
    return Vocabulary(
        text=text.size,
        numbers=numbers.labels,
        markers=tuple(dict.fromkeys((*preset.markers, *schema.markers))),
        image_codes=preset.image_codes,
        shape_codes=preset.shape_codes,
        reserved=preset.reserved,
        bos=text.bos,
        eos=text.eos,
        pad=text.pad,
    )
