"""Objects of scenes written out as text, markers and all: as the published code reads them, and as they are meant."""

import math
import re
from typing import Any

from kyvo.scene import Attribute, SceneSchema

_NUMBERS_3 = r"-?\d+\.\d{3}"
_TRIPLE = r"(-?\d+\.\d{2})(-?\d+\.\d{2})(\d+\.\d{2})"


def official_objects(text: str, schema: SceneSchema) -> list[dict[str, Any]]:
    """Objects as the published code finds them, bug for bug.

    The first start goes with the first end and so on, whatever lies between; only the first word of a value counts;
    what cannot be read is left out without a trace.

    Args:
        text: What was generated, decoded.
        schema: Of CLEVR, ObjaWorld, Objectron or ARKitScenes.

    Returns:
        JSON objects; places of CLEVR and ObjaWorld hold as many numbers of three decimals as there were.
    """
    # Taken out before anything is counted, as these may stand anywhere.
    for marker in ("<|end_of_text|>", "[SCENE-START]", "[SCENE-END]"):
        text = text.replace(marker, "")
    starts = [found.start() for found in re.finditer(r"\[OBJECT-START\]", text)]
    ends = [found.end() for found in re.finditer(r"\[OBJECT-END\]", text)]
    # Not strict: a start without an end is lost.
    found = (_official_object(text[start:end], schema) for start, end in zip(starts, ends, strict=False))
    return [item for item in found if item is not None]


def _official_object(text: str, schema: SceneSchema) -> dict[str, Any] | None:
    item: dict[str, Any] = {}
    for attribute in schema.attributes:
        value = _official_value(text, attribute, "category" in schema)
        if value is None:
            return None
        item[attribute.places[0][0]] = value
    return item


def _official_value(text: str, attribute: Attribute, boxes: bool) -> Any:
    marker = re.escape(attribute.marker)
    if attribute.kind == "word":
        word = re.search(rf"{marker} (\w+)", text)
        return word and word.group(1)
    if not boxes:
        return [float(number) for number in re.findall(_NUMBERS_3, text)]
    triple = re.search(marker + _TRIPLE, text)
    return triple and [float(number) for number in triple.groups()]


def written_objects(text: str, schema: SceneSchema) -> tuple[list[dict[str, Any]], int]:
    """Objects as they are meant, and how many were begun but cannot be read.

    Values run from their marker to the next one, so that words may be several ("cereal box"); numbers may be set apart
    by spaces or by nothing, then of three or two decimals each.

    Args:
        text: What was generated, decoded.
        schema: What each object should hold.

    Example:
        >>> from kyvo.scene import SCHEMAS
        >>> body = "[CATEGORY] cereal box[CENTER_CAM]0.10-0.201.00[DIMENSIONS]0.100.200.30"
        >>> text = f"[OBJECT-START]{body}[OBJECT-END][OBJECT-START]and"
        >>> written_objects(text, SCHEMAS["objectron"])
        ([{'category': 'cereal box', 'center_cam': [0.1, -0.2, 1.0], 'dimensions': [0.1, 0.2, 0.3]}], 1)
        >>> official_objects(text, SCHEMAS["objectron"])[0]["category"]
        'cereal'
    """
    bodies = text.split("[OBJECT-START]")[1:]
    found = [_object(body.split("[OBJECT-END]")[0], schema) if "[OBJECT-END]" in body else None for body in bodies]
    objects = [item for item in found if item is not None]
    return objects, len(found) - len(objects)


def _object(text: str, schema: SceneSchema) -> dict[str, Any] | None:
    parts = re.split("(" + "|".join(re.escape(marker) for marker in schema.markers) + ")", text)
    if parts[0].strip() or parts[1::2] != list(schema.markers):
        return None
    item: dict[str, Any] = {}
    for attribute, body in zip(schema.attributes, parts[2::2], strict=True):
        value = body.strip() if attribute.kind == "word" else _numbers(body)
        if attribute.kind == "word" and value not in attribute.values:
            return None
        if attribute.kind != "word" and (value is None or len(value) != len(attribute.quantities)):
            return None
        # The first key may hold all numbers, whatever keys a file has them under.
        item[attribute.places[0][0]] = value
    return item


def _numbers(text: str) -> list[float] | None:
    words = text.split()
    if len(words) == 1:
        # Glued: of one kind of decimals, which must account for every sign.
        for pattern in (_NUMBERS_3, r"-?\d+\.\d{2}"):
            found = re.findall(pattern, words[0])
            if "".join(found) == words[0]:
                return [float(number) for number in found]
    try:
        numbers = [float(word) for word in words]
    except ValueError:
        return None
    return numbers if all(map(math.isfinite, numbers)) else None
