"""What lies before a visitor of the page: a picture, a scene, and what was last asked of the model."""

from dataclasses import dataclass

from PIL import Image

from kyvo.scene import Scene


@dataclass(frozen=True)
class Desk:
    """The state of one visit.

    Args:
        picture: RGB, of the model's size; None where there is none.
        scene: What is known of it; None before it is recognised.
        caption: Where the picture comes from.
        fresh: Whether the picture shows the scene; objects that are changed make it stale.
        selected: Which object is being edited; None where there is none.
        before: The picture before the last instruction.
        instruction: The last instruction; empty if there was none, or something else came after it.
        question: The last question, likewise.
        answer: What the model answered.
    """

    picture: Image.Image | None = None
    scene: Scene | None = None
    caption: str = ""
    fresh: bool = True
    selected: int | None = None
    before: Image.Image | None = None
    instruction: str = ""
    question: str = ""
    answer: str = ""

    @property
    def known(self) -> Scene:
        """The scene.

        Raises:
            ValueError: If there is none.
        """
        if self.scene is None:
            raise ValueError("there is no scene yet: pick or upload a picture, or add an object")
        return self.scene

    @property
    def shown(self) -> Image.Image:
        """The picture.

        Raises:
            ValueError: If there is none.
        """
        if self.picture is None:
            raise ValueError("there is no picture yet: pick or upload one")
        return self.picture
