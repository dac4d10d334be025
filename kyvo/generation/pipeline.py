"""The API that people call: pictures, scenes and questions in; scenes, pictures and answers out.

B: inputs of a call, all methods take them together and keep their order.
"""

from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any, Self, TypeVar

import numpy as np
import torch
from PIL import Image

from kyvo.generation.folder import read_folder
from kyvo.generation.pictures import Picture, read_picture
from kyvo.generation.sampling import Sampling
from kyvo.generation.writing import write
from kyvo.models.language_model import KyvoForCausalLM
from kyvo.sample import Sample
from kyvo.scene import Scene
from kyvo.slat import Slat
from kyvo.task import Modality, Task
from kyvo.tokenizers.images import ImageTokenizer
from kyvo.tokenizers.pixels import image_batch, pixels
from kyvo.tokenizers.sequence import Generation
from kyvo.tokenizers.tokenizer import UnifiedTokenizer

Output = TypeVar("Output")

Inputs = dict[Modality, Sequence[Any]]
"""What is read, in the order in which it is read."""

MOST_TEXT = 512
"""Most tokens of a question or an instruction; what models are trained on has a few dozen."""


class Kyvo:
    """A trained model with its tokenizers.

    What is written always parses: decoding is bound to the grammar of the task.

    Args:
        model: The language model.
        tokenizer: Its tokenizer, with those of images and shapes for pixels and voxels.
        tasks: What the model was trained for, by specs such as `I-3`; None where that is not known, and then everything
            is tried.
        sampling: How tokens are chosen; greedy by default.
        batch_size: Inputs that are worked on at a time.
    """

    def __init__(
        self,
        model: KyvoForCausalLM,
        tokenizer: UnifiedTokenizer,
        tasks: Sequence[str] | None = None,
        sampling: Sampling | None = None,
        batch_size: int = 32,
    ) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size should be positive, got {batch_size}")
        self.model, self.tokenizer = model.eval(), tokenizer
        self.tasks = None if tasks is None else tuple(Task.parse(spec) for spec in tasks)
        self.sampling, self.batch_size = sampling, batch_size

    @classmethod
    def from_pretrained(cls, folder: str | Path, dtype: torch.dtype | None = None, **options: Any) -> Self:
        """Read what `kyvo export` wrote, merged or as an adapter.

        Args:
            folder: The folder, the name of a model that ships (mini), or the id of such a repository on the Hub.
            dtype: Type of the weights; by default that of the file, but float32 for float16, which is for storing.
            **options: `sampling` and `batch_size`.

        Raises:
            ValueError: If the folder holds something else.
        """
        found = read_folder(folder, dtype)
        return cls(found.model, found.tokenizer, found.tasks, **options)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.model.lm_head.weight.device

    def to(self, device: torch.device | str) -> Self:
        """Move the weights, those of the image and shape tokenizers too, and return self."""
        self.model.to(device)
        for tokenizer in (self.tokenizer.image, self.tokenizer.shape):
            if tokenizer is not None:
                tokenizer.to(device)
        return self

    def can(self, read: Collection[Modality], written: Collection[Modality]) -> bool:
        """Whether the model was trained for a task, or that is not known.

        Args:
            read: What it reads, in whatever order.
            written: What it writes.

        Returns:
            False also where a picture is read or written and there is no image tokenizer.
        """
        pictures = "image" not in (*read, *written) or self.tokenizer.image is not None
        return pictures and (self.tasks is None or self._trained(read, written) is not None)

    # ---- tasks --------------------------------------------------------------------------------------------------

    def recognize(self, images: Sequence[Picture], schema: str | None = None) -> list[Scene]:
        """The scenes that pictures show.

        Args:
            images: B pictures, of any size; see `kyvo.generation.pictures.Picture`.
            schema: Which kind of scene, where a model knows several; by default the tokenizer's.

        Raises:
            ValueError: If an input is no such picture, or the model was not trained for this.
        """
        return self._run({"image": images}, ("scene",), schema, _scene)

    def reconstruct(self, images: Sequence[Picture], schema: str | None = None) -> list[tuple[Scene, list[Slat]]]:
        """The scenes that pictures show, and the voxels of each object's shape, in the order of the scene.

        Args:
            images: B pictures.
            schema: See `recognize`; one with explicit shapes.

        Raises:
            ValueError: As `recognize`; or the scenes have no shapes, or there is no shape tokenizer.
        """
        table, shapes = self._view(schema).schema.shape, self.tokenizer.shape
        if table is None or shapes is None:
            missing = "a shape tokenizer" if shapes is None else "scenes with explicit shapes"
            raise ValueError(f"reconstruct needs {missing}, which this model does not have")
        scenes = self.recognize(images, schema)
        codes = [[one[table.name] for one in scene] for scene in scenes]
        return [
            (scene, shapes.decode(torch.tensor(rows)) if rows else [])
            for scene, rows in zip(scenes, codes, strict=True)
        ]

    def render(self, scenes: Sequence[Scene], schema: str | None = None) -> list[Image.Image]:
        """Pictures of scenes.

        Args:
            scenes: B scenes.
            schema: See `recognize`.

        Raises:
            ValueError: If a scene has a value that its schema or the number grids do not, naming object and attribute;
                or the model was not trained for this.
        """
        return self._pictures(self._run({"scene": scenes}, ("image",), schema, _codes))

    def edit(
        self,
        images: Sequence[Picture] | None,
        scenes: Sequence[Scene],
        texts: Sequence[str],
        schema: str | None = None,
    ) -> list[tuple[Image.Image, Scene]]:
        """Pictures and scenes changed as instructions say.

        Args:
            images: B pictures; None edits the scenes alone and then renders them, two tasks one after the other (which
                the paper's appendix proposes where pictures written by instructions are weak).
            scenes: What they show.
            texts: The instructions, one for each.
            schema: See `recognize`.

        Raises:
            ValueError: If an input is none of these, or the model was not trained for this.
        """
        if images is None:
            edited = self.edit_scenes(scenes, texts, schema)
            return list(zip(self.render(edited, schema), edited, strict=True))
        given: Inputs = {"image": images, "scene": scenes, "text": texts}
        both = self._run(given, ("image", "scene"), schema, lambda one: one)
        return list(zip(self._pictures([_codes(one) for one in both]), map(_scene, both), strict=True))

    def edit_scenes(self, scenes: Sequence[Scene], texts: Sequence[str], schema: str | None = None) -> list[Scene]:
        """As `edit`, of scenes alone.

        Args:
            scenes: B scenes.
            texts: The instructions, one for each.
            schema: See `recognize`.

        Raises:
            ValueError: If an input is none of these, or the model was not trained for this.
        """
        return self._run({"scene": scenes, "text": texts}, ("scene",), schema, _scene)

    def answer(
        self,
        images: Sequence[Picture],
        scenes: Sequence[Scene] | None,
        texts: Sequence[str],
        schema: str | None = None,
    ) -> list[str]:
        """Answers to questions about pictures.

        Args:
            images: B pictures.
            scenes: What they show; None for models that answer from the picture alone.
            texts: The questions, one for each.
            schema: See `recognize`.

        Raises:
            ValueError: If an input is none of these, or the model was not trained for this.
        """
        shown: Inputs = {"image": images} if scenes is None else {"image": images, "scene": scenes}
        return self._run({**shown, "text": texts}, ("text",), schema, _text)

    def generate(
        self, task: Task, samples: Sequence[Sample], schema: str | None = None, confidences: bool = False
    ) -> list[Generation]:
        """Any task, from codes to codes: what the other methods are made of.

        Args:
            task: What is read and written.
            samples: What is read.
            schema: See `recognize`.
            confidences: Whether to say how sure the model was of each object.

        Raises:
            ValueError: If a sample lacks something, or is longer than the model's context.
        """
        tokenizer, size = self._view(schema), self.batch_size
        for sample in samples:
            self._check_length(len(tokenizer.prompt(task, sample)), sample)
        parts = [samples[start : start + size] for start in range(0, len(samples), size)]
        return [one for part in parts for one in write(self.model, tokenizer, task, part, self.sampling, confidences)]

    # ---- inputs -------------------------------------------------------------------------------------------------

    def _run(
        self,
        inputs: Inputs,
        written: tuple[Modality, ...],
        schema: str | None,
        result: Callable[[Generation], Output],
    ) -> list[Output]:
        task = self._task(tuple(inputs), written)
        if "image" in written:
            self._image_tokenizer()
        count = _same_length(inputs)
        contents = {name: self._contents(name, values) for name, values in inputs.items()}
        samples = [
            Sample(f"input {index}", **{name: values[index] for name, values in contents.items()})
            for index in range(count)
        ]
        return [result(one) for one in self.generate(task, samples, schema)]

    def _contents(self, name: Modality, values: Sequence[Any]) -> list[Any]:
        """Codes of pictures; scenes and texts as they are, checked."""
        if name == "image":
            return self._encode(values)
        check = self._checked_text if name == "text" else _checked_scene
        return [check(value, f"{name}s[{index}]") for index, value in enumerate(values)]

    def _task(self, read: tuple[Modality, ...], written: tuple[Modality, ...]) -> Task:
        """The trained task that reads and writes these, in whatever order."""
        if self.tasks is None:
            symbols: dict[Modality, str] = {"image": "I", "scene": "3", "text": "T"}
            sides = ("+".join(symbols[one] for one in side) for side in (read, written))
            return Task.parse("-".join(sides))
        task = self._trained(read, written)
        if task is not None:
            return task
        known = ", ".join(f"{task.spec} ({task.name})" for task in self.tasks)
        wanted = f"{' + '.join(read)} to {' + '.join(written)}"
        raise ValueError(f"this model was not trained to go from {wanted}, only for {known}")

    def _trained(self, read: Collection[Modality], written: Collection[Modality]) -> Task | None:
        sides = set(read), set(written)
        return next((task for task in self.tasks or () if (set(task.inputs), set(task.outputs)) == sides), None)

    def _view(self, schema: str | None) -> UnifiedTokenizer:
        return self.tokenizer if schema is None else self.tokenizer.with_schema(schema)

    def _image_tokenizer(self) -> ImageTokenizer:
        if self.tokenizer.image is None:
            raise ValueError("this model's folder has no image tokenizer: it reads and writes codes alone")
        return self.tokenizer.image

    def _encode(self, images: Sequence[Picture]) -> list[np.ndarray]:
        tokenizer, size = self._image_tokenizer(), self.batch_size
        read: list[np.ndarray] = []
        for index, image in enumerate(images):
            try:
                read.append(read_picture(image, tokenizer.size))
            except ValueError as error:
                raise ValueError(f"images[{index}]: {error}") from error
        parts = [image_batch(read[start : start + size]) for start in range(0, len(read), size)]
        return [codes for part in parts for codes in tokenizer.encode(part).cpu().numpy()]

    def _pictures(self, codes: Sequence[np.ndarray]) -> list[Image.Image]:
        tokenizer, size = self._image_tokenizer(), self.batch_size
        parts = [torch.as_tensor(np.stack(codes[start : start + size])) for start in range(0, len(codes), size)]
        return [Image.fromarray(one) for part in parts for one in pixels(tokenizer.decode(part))]

    def _checked_text(self, text: Any, place: str) -> str:
        if not isinstance(text, str):
            raise ValueError(f"{place}: expected a text, got {type(text).__name__}")
        if any("\ud800" <= letter <= "\udfff" for letter in text):
            raise ValueError(f"{place}: expected a text, got half of a character (a lone surrogate) in it")
        ids = self.tokenizer.text.encode(text)
        if not 0 < len(ids) <= MOST_TEXT:
            raise ValueError(f"{place}: expected a text of 1 to {MOST_TEXT} tokens, got {len(ids)}")
        lost = self._lost(text, ids)
        if lost:
            raise ValueError(f"{place}: this model's text tokenizer has no tokens for {lost}")
        return text

    def _lost(self, text: str, ids: Sequence[int]) -> str:
        """Words of a text that its ids do not say, quoted; nothing for tokenizers of bytes."""
        decode = self.tokenizer.text.decode
        if decode(ids).split() == text.split():
            return ""
        words = (word for word in text.split() if decode(self.tokenizer.text.encode(word)).strip() != word)
        return ", ".join(repr(word) for word in words) or "it as a whole"

    def _check_length(self, length: int, sample: Sample) -> None:
        most = self.model.config.max_position_embeddings
        if length >= most:
            raise ValueError(f"{sample.key} takes {length} tokens, the model reads less than {most}")


def _checked_scene(scene: Any, place: str) -> Scene:
    if not isinstance(scene, Scene):
        raise ValueError(f"{place}: expected a Scene, got {type(scene).__name__}; SceneSchema.read makes one of JSON")
    return scene


def _same_length(inputs: Inputs) -> int:
    """The number of inputs.

    Raises:
        ValueError: If one is given alone rather than in a list, or there are more of one than of another.
    """
    for name, values in inputs.items():
        if isinstance(values, str | Image.Image | Scene) or not hasattr(values, "__len__"):
            raise ValueError(f"{name}s: expected a list, got one {type(values).__name__}")
    counts = {name: len(values) for name, values in inputs.items()}
    if len(set(counts.values())) > 1:
        raise ValueError(f"expected as many of each, got {', '.join(f'{n} {name}s' for name, n in counts.items())}")
    return next(iter(counts.values()))


# ---- outputs --------------------------------------------------------------------------------------------------------
# The grammar leaves nothing out: a task that writes a modality has it.


def _scene(written: Generation) -> Scene:
    assert written.scene is not None
    return written.scene


def _codes(written: Generation) -> np.ndarray:
    assert written.image is not None
    return written.image


def _text(written: Generation) -> str:
    assert written.text is not None
    return written.text
