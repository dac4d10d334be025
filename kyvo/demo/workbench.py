"""What the page does with a model: each step takes a desk and gives the next one, or a ValueError to be shown."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from PIL import Image

from kyvo.demo.desk import Desk
from kyvo.demo.examples import SHIPPED, Example, read_examples
from kyvo.demo.object_form import Control, ObjectForm
from kyvo.demo.scene_text import check_scene, read_scene_text
from kyvo.demo.upload import read_upload
from kyvo.generation.pipeline import Kyvo
from kyvo.scene import SCHEMAS, Scene, SceneSchema

DRAWN = "Drawn by the model from the scene."


class Workbench:
    """A model, its examples, and the tasks it was trained for.

    Args:
        kyvo: The model.
        examples: Pictures to begin with, of `picture_size`.

    Raises:
        ValueError: If the model has no image tokenizer.
    """

    def __init__(self, kyvo: Kyvo, examples: Sequence[Example] = ()) -> None:
        self.kyvo, self.examples, self.size = kyvo, list(examples), picture_size(kyvo)
        self.form = ObjectForm(kyvo.tokenizer)
        self.recognizes = kyvo.can(["image"], ["scene"])
        self.renders = kyvo.can(["scene"], ["image"])
        self._edits_scenes = kyvo.can(["scene", "text"], ["scene"])
        self._edits_both = kyvo.can(["image", "scene", "text"], ["image", "scene"])
        self._answers_by_scene = kyvo.can(["image", "scene", "text"], ["text"])
        self._answers_alone = kyvo.can(["image", "text"], ["text"])

    @property
    def schema(self) -> SceneSchema:
        """Of the model's scenes."""
        return self.kyvo.tokenizer.schema

    @property
    def instructs(self) -> bool:
        """Whether the model follows instructions."""
        return self._edits_scenes or self._edits_both

    @property
    def answers(self) -> bool:
        """Whether the model answers questions."""
        return self._answers_by_scene or self._answers_alone

    @property
    def reads_pictures(self) -> bool:
        """Whether the model can do something with a visitor's picture."""
        return self.recognizes or self.answers or self._edits_both

    # ---- pictures -----------------------------------------------------------------------------------------------

    def start(self) -> Desk:
        """The first example and what the model makes of it, which also warms it up; without examples nothing."""
        return self.example(0) if self.examples else Desk()

    def example(self, index: int) -> Desk:
        """An example: what the model recognises in it, or what it truly shows if the model does not recognise."""
        found = self.examples[index]
        return self._seen(
            Desk(found.picture, found.scene, f"Example {index + 1}: a picture the model was not trained on.")
        )

    def upload(self, path: str | Path) -> Desk:
        """A visitor's picture, and what the model recognises in it.

        Args:
            path: The file.

        Raises:
            ValueError: If it is no picture, or too large or too small.
        """
        found = read_upload(path, self.size)
        return self._seen(Desk(found.picture, None, found.note or "Your picture."))

    def _seen(self, desk: Desk) -> Desk:
        return self.recognize(desk) if self.recognizes else _with_scene(desk, desk.scene)

    def recognize(self, desk: Desk) -> Desk:
        """The scene that the picture shows.

        Args:
            desk: With a picture.

        Raises:
            ValueError: If there is none.
        """
        [scene] = self.kyvo.recognize([desk.shown])
        return _with_scene(replace(_quiet(desk), fresh=True), scene)

    # ---- objects ------------------------------------------------------------------------------------------------

    def read(self, desk: Desk, text: str) -> Desk:
        """The scene that a JSON says.

        Args:
            desk: What there is.
            text: As `kyvo.demo.scene_text.scene_text` writes it.

        Raises:
            ValueError: If it is no scene of the model's schema.
        """
        return self._changed(desk, read_scene_text(text, self.kyvo.tokenizer), desk.selected)

    def change(self, desk: Desk, control: Control, value: str | float) -> Desk:
        """The scene with one value of the selected object changed.

        Args:
            desk: With a selected object.
            control: Of the form.
            value: Its new value.

        Raises:
            ValueError: If no object is selected, or it cannot have that value.
        """
        objects, at = list(desk.known), _selected(desk)
        objects[at] = self.form.change(objects[at], control, value)
        return self._changed(desk, Scene(tuple(objects)), at)

    def add(self, desk: Desk) -> Desk:
        """The scene with one more object, which is selected.

        Raises:
            ValueError: If there are as many as the model can read.
        """
        scene = desk.scene or Scene()
        more = Scene((*scene, self.form.new(scene)))
        check_scene(more, self.kyvo.tokenizer)
        return self._changed(desk, more, len(scene))

    def remove(self, desk: Desk) -> Desk:
        """The scene without the selected object.

        Raises:
            ValueError: If no object is selected.
        """
        at = _selected(desk)
        return self._changed(desk, Scene(tuple(one for index, one in enumerate(desk.known) if index != at)), at)

    def select(self, desk: Desk, index: int) -> Desk:
        """Another object, to be edited."""
        return _with_scene(desk, desk.scene, index)

    def _changed(self, desk: Desk, scene: Scene, selected: int | None) -> Desk:
        return _with_scene(replace(_quiet(desk), fresh=desk.picture is None), scene, selected)

    def render(self, desk: Desk) -> Desk:
        """The picture of the scene.

        Args:
            desk: With a scene.

        Raises:
            ValueError: If there is none.
        """
        [picture] = self.kyvo.render([desk.known])
        return replace(desk, picture=picture, caption=DRAWN, fresh=True)

    # ---- texts --------------------------------------------------------------------------------------------------

    def instruct(self, desk: Desk, text: str) -> Desk:
        """Scene and picture changed as an instruction says: the scene first, then drawn, where the model does both.

        Args:
            desk: With a scene.
            text: The instruction.

        Raises:
            ValueError: If there is no scene, or the text is empty or too long.
        """
        desk = self._drawn(desk)
        picture, scene = self._edited(desk, _asked(text, "an instruction"))
        caption = DRAWN if picture is not None else "This model edits scenes and does not draw them."
        after = replace(_quiet(desk), picture=picture, caption=caption, before=desk.picture, instruction=text.strip())
        return _with_scene(after, scene, desk.selected)

    def _edited(self, desk: Desk, text: str) -> tuple[Image.Image | None, Scene]:
        if self._edits_scenes and self.renders:
            return self.kyvo.edit(None, [desk.known], [text])[0]
        if self._edits_both:
            return self.kyvo.edit([desk.shown], [desk.known], [text])[0]
        return None, self.kyvo.edit_scenes([desk.known], [text])[0]

    def ask(self, desk: Desk, text: str) -> Desk:
        """The answer to a question about the picture; a scene that was changed is drawn before.

        Args:
            desk: With a picture, and a scene if the model reads one.
            text: The question.

        Raises:
            ValueError: If either is missing, or the text is empty or too long.
        """
        desk, question = self._drawn(desk), _asked(text, "a question")
        scenes = [desk.known] if self._answers_by_scene else None
        [answer] = self.kyvo.answer([desk.shown], scenes, [question])
        return replace(_quiet(desk), question=question, answer=answer)

    def _drawn(self, desk: Desk) -> Desk:
        """A desk whose picture shows its scene, where the model draws."""
        missing = desk.picture is None or not desk.fresh
        return self.render(desk) if missing and self.renders and desk.scene is not None else desk


def picture_size(kyvo: Kyvo) -> tuple[int, int]:
    """Height and width of the pictures that a model reads and writes, in pixels.

    Raises:
        ValueError: If it has no image tokenizer.
    """
    if kyvo.tokenizer.image is None:
        raise ValueError("the page shows pictures, and this model's folder has no image tokenizer")
    return kyvo.tokenizer.image.size


def open_workbench(model: str | Path, examples: Path | None = None) -> Workbench:
    """A workbench over an exported model.

    Args:
        model: Its folder, the name of one that ships, or an id on the Hub.
        examples: Folder of example pictures; by default those that ship, for models of CLEVR scenes.

    Raises:
        ValueError: If the model or an example cannot be read.
    """
    kyvo = Kyvo.from_pretrained(model)
    schema = kyvo.tokenizer.schema
    folder = examples or (SHIPPED if schema == SCHEMAS["clevr"] else None)
    return Workbench(kyvo, () if folder is None else read_examples(folder, schema, picture_size(kyvo)))


def _quiet(desk: Desk) -> Desk:
    """Without what was last asked: it was about something else."""
    return replace(desk, before=None, instruction="", question="", answer="")


def _with_scene(desk: Desk, scene: Scene | None, selected: int | None = None) -> Desk:
    """Another scene; the selected object is one that it has."""
    last = (0 if scene is None else len(scene)) - 1
    return replace(desk, scene=scene, selected=None if last < 0 else min(max(selected or 0, 0), last))


def _selected(desk: Desk) -> int:
    if desk.selected is None:
        raise ValueError("there is no object to edit: add one first")
    return desk.selected


def _asked(text: str, what: str) -> str:
    if not text.strip():
        raise ValueError(f"type {what} first")
    return text.strip()
