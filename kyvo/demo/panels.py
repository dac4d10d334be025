"""The parts of the page that only show something, as HTML: picture, view, table, answer, before and after."""

import base64
import io
import json
from html import escape

from PIL import Image

from kyvo.clevr import COLORS
from kyvo.demo.desk import Desk
from kyvo.demo.solids import object_name, view_data
from kyvo.scene import Attribute, Scene, SceneObject, SceneSchema

STALE = "The scene was changed: draw it to see it as a picture."


def picture_html(desk: Desk) -> str:
    """The picture with its caption; faded where the scene has changed since."""
    if desk.picture is None:
        return _panel('<span class="kyvo-empty">No picture yet.</span>', desk.caption)
    return _panel(_image(desk.picture, "The picture"), desk.caption if desk.fresh else STALE, stale=not desk.fresh)


def view_html(desk: Desk, schema: SceneSchema) -> str:
    """The scene in three dimensions, to be turned by finger, mouse or arrow keys.

    Args:
        desk: What is shown.
        schema: Of its scene.
    """
    if desk.scene is None:
        return _panel('<span class="kyvo-empty">No scene yet.</span>', "")
    data = escape(json.dumps(view_data(desk.scene, schema, desk.selected)))
    names = escape(", ".join(object_name(one, schema) for one in desk.scene) or "no object")
    label = f'role="img" tabindex="0" aria-label="The scene in three dimensions: {names}"'
    return _panel(
        f'<kyvo-view {label} data-scene="{data}"></kyvo-view><span class="kyvo-hint">drag to turn</span>',
        _counted(desk.scene),
    )


def table_html(scene: Scene | None, schema: SceneSchema) -> str:
    """A row for each object.

    Args:
        scene: What is listed.
        schema: Its columns; codes of shapes are counted.
    """
    if not scene:
        return '<div class="kyvo-table">No objects.</div>'
    head = "".join(_head(attribute) for attribute in schema.attributes)
    rows = "".join(f"<tr><td>{number}</td>{_cells(one, schema)}</tr>" for number, one in enumerate(scene, 1))
    return f'<div class="kyvo-table"><table><thead><tr><th>#</th>{head}</tr></thead><tbody>{rows}</tbody></table></div>'


def answer_html(desk: Desk) -> str:
    """The last question and its answer."""
    asked = f"<small>{escape(desk.question)}</small>" if desk.question else ""
    return f'<div class="kyvo-answer" aria-live="polite">{asked}{escape(desk.answer)}</div>'


def change_html(desk: Desk) -> str:
    """The picture before and after the last instruction; nothing if there was none."""
    if not desk.instruction:
        return ""
    pairs = [(desk.before, "before"), (desk.picture, f"after “{desk.instruction}”")]
    shown = [
        f"<figure>{_image(picture, name)}<figcaption>{escape(name)}</figcaption></figure>"
        for picture, name in pairs
        if picture is not None
    ]
    return f'<div class="kyvo-change">{"<span>→</span>".join(shown)}</div>'


def _panel(content: str, caption: str, stale: bool = False) -> str:
    return (
        f'<figure class="kyvo-panel{" stale" * stale}"><div class="kyvo-frame">{content}</div>'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )


def _image(picture: Image.Image, name: str) -> str:
    file = io.BytesIO()
    picture.save(file, "PNG")
    data = base64.b64encode(file.getvalue()).decode()
    return f'<img src="data:image/png;base64,{data}" alt="{escape(name)}">'


def _counted(scene: Scene) -> str:
    return f"{len(scene)} object{'s' * (len(scene) != 1)}"


def _head(attribute: Attribute) -> str:
    if attribute.kind == "numbers":
        return "".join(f'<th class="number">{escape(one)}</th>' for one in attribute.quantities)
    return f"<th>{escape(attribute.name)}</th>"


def _cells(one: SceneObject, schema: SceneSchema) -> str:
    return "".join(_cell(one, attribute) for attribute in schema.attributes)


def _cell(one: SceneObject, attribute: Attribute) -> str:
    value = one[attribute.name]
    if isinstance(value, str):
        color = COLORS.get(value)
        swatch = f'<i style="background: rgb{color}"></i>' if color else ""
        return f"<td>{swatch}{escape(value)}</td>"
    if attribute.kind == "shape":
        return f"<td>{len(value)} codes</td>"
    return "".join(f'<td class="number">{number:.2f}</td>' for number in value)
