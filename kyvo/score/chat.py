"""Baselines by vision-language models that chat: prompts with examples for them, and the reading of their replies."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from kyvo.scene import Attribute, SceneSchema, get_schema
from kyvo.score.json_files import line_files, read_json, read_json_lines
from kyvo.score.scene_files import Entry, gather, read_truths

ChatTask = Literal["recognition", "question_answering"]

_PICTURES = (".png", ".jpg")

_DIGITS = 2
"""Decimals of numbers in examples, those of the paper's number grid."""

_WORDS = {
    **{"yes": "True", "no": "False", "true": "True", "false": "False"},
    **{"zero": "0", "one": "1", "two": "2", "three": "3", "four": "4", "five": "5"},
    **{"six": "6", "seven": "7", "eight": "8", "nine": "9", "ten": "10"},
}
"""What replies say for an answer of CLEVR."""


def write_prompts(
    root: Path,
    examples: Path,
    output: Path,
    schema: str = "clevr",
    task: ChatTask = "recognition",
    shots: int = 3,
    example_images: bool = False,
    split: str | None = None,
    example_split: str | None = None,
) -> dict[str, Any]:
    """Write prompts with examples for a vision-language model, one line a scene or question.

    A line holds `key` and `messages`, roles and contents as chat models take them; pictures are given as paths. Replies
    are expected as lines with `key` and `reply`, to be scored by `kyvo score jaccard` or `kyvo score answers` with
    `--format chat`.

    Args:
        root: Folder with `scenes/` (a JSON file each, or one of a split), `images/` (or `images/SPLIT/`) and, for
            questions, `questions.json` or a file in `questions/`, as CLEVR's download has them.
        examples: Such a folder with scenes of the training data.
        output: File of JSON lines to write.
        schema: Schema of the scenes.
        task: `recognition`, or `question_answering` without a scene to help.
        shots: Examples in a prompt, the first ones of their folder.
        example_images: Whether examples come with their pictures; not every model takes several.
        split: Of a root that holds several, such as val: CLEVR_val_scenes.json and CLEVR_val_questions.json are read.
        example_split: The same of the examples.

    Returns:
        `prompts`, how many.

    Raises:
        ValueError: For files that are not as expected, pictures that are missing, or too few examples.
    """
    table = get_schema(schema)
    shown = list(islice(_turns(examples, table, task, example_split), shots))
    if len(shown) < shots:
        raise ValueError(f"{examples} has {len(shown)} examples, not {shots}")
    head: list[dict[str, Any]] = [{"role": "system", "content": instructions(table, task)}]
    for _, picture, question, reply in shown:
        head.append(_asked(picture if example_images else None, question))
        head.append({"role": "assistant", "content": reply})
    lines = [
        json.dumps({"key": key, "messages": [*head, _asked(picture, question)]})
        for key, picture, question, _ in _turns(root, table, task, split)
    ]
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return {"prompts": len(lines)}


def instructions(schema: SceneSchema, task: ChatTask) -> str:
    """What a model is told before the examples."""
    if task == "question_answering":
        return (
            "You answer questions about pictures of simple objects. Answer with a single word: True or False, a number "
            "from 0 to 10, or a color, size, shape or material."
        )
    lines = [_legend(attribute) for attribute in schema.attributes]
    return (
        "You describe the 3D scene in a picture as JSON: an object with a list under 'objects', one entry for each "
        "object that is seen. Every entry has\n" + "\n".join(lines) + "\nReply with the JSON alone."
    )


def _legend(attribute: Attribute) -> str:
    key = attribute.places[0][0]
    if attribute.kind == "word":
        return f"- '{key}': one of {', '.join(attribute.values)}"
    if attribute.kind == "shape":
        raise ValueError("a chat model writes no shape codes: take a schema whose objects have words")
    numbers = ", ".join(attribute.quantities)
    return f"- '{key}': the numbers [{numbers}], lengths in the units of the examples, angles in radians"


def _asked(picture: Path | None, question: str) -> dict[str, Any]:
    text = [{"type": "text", "text": question}]
    return {"role": "user", "content": text if picture is None else [{"type": "image", "path": str(picture)}, *text]}


def _turns(root: Path, schema: SceneSchema, task: ChatTask, split: str | None) -> Iterator[tuple[str, Path, str, str]]:
    """Key, picture, question and right reply of each prompt that a folder has."""
    pictures = {file.stem: file for file in sorted((root / "images").rglob("*")) if file.suffix in _PICTURES}
    if task == "recognition":
        scenes = root / "scenes" if split is None else root / "scenes" / f"CLEVR_{split}_scenes.json"
        for key, objects in read_truths(str(scenes)).scenes.items():
            asked = "Describe the 3D scene in this picture."
            yield key, _picture(root, pictures, key), asked, scene_reply(objects, schema)
        return
    for question in read_questions(_questions(root, split)):
        picture = _picture(root, pictures, question["image"])
        yield question["key"], picture, question["question"], question["answer"]


def _questions(root: Path, split: str | None) -> Path:
    """The file of a folder's questions; ValueError where several are meant."""
    files = sorted((root / "questions").glob(f"CLEVR_{split or '*'}_questions.json"))
    if len(files) > 1:
        raise ValueError(f"{root / 'questions'} holds {len(files)} files of questions: say which by the split")
    return files[0] if files else root / "questions.json"


def scene_reply(objects: Sequence[Any], schema: SceneSchema) -> str:
    """The reply that is wanted: what the schema knows of the objects, numbers to two decimals.

    Raises:
        ValueError: for an object without its words or numbers.
    """
    return json.dumps({"objects": [_entry(raw, schema) for raw in objects]})


def _entry(raw: Any, schema: SceneSchema) -> dict[str, Any]:
    entry: dict[str, Any] = {}
    for attribute in schema.attributes:
        key = attribute.places[0][0]
        if not isinstance(raw, dict) or key not in raw:
            raise ValueError(f"an object of an example lacks {key!r}: {raw}")
        numbers = attribute.kind == "numbers"
        entry[key] = [round(float(one), _DIGITS) for one in gather(attribute, raw)] if numbers else attribute.read(raw)
    return entry


def _picture(root: Path, pictures: Mapping[str, Path], key: str) -> Path:
    if key not in pictures:
        raise ValueError(f"the picture {key}.png (or .jpg) is not in {root / 'images'}")
    return pictures[key]


def read_questions(file: Path) -> list[dict[str, str]]:
    """Questions in CLEVR's format.

    Args:
        file: JSON with a list under `questions`.

    Returns:
        For each `key` (IMAGE-q0, IMAGE-q1, ... in the file's order), `image`, `question`, `answer` and `kind`, the last
        function of its program, "" where it has none. CLEVR's yes and no are True and False here.

    Raises:
        ValueError: with the file and number of a question that is not as expected.
    """
    content = read_json(file)
    questions = content.get("questions") if isinstance(content, dict) else None
    if not isinstance(questions, list):
        raise ValueError(f"{file} should hold a list under 'questions'")
    found: list[dict[str, str]] = []
    counts: dict[str, int] = {}
    for number, raw in enumerate(questions):
        names = ("image_filename", "question", "answer")
        if not isinstance(raw, dict) or not all(name in raw for name in names):
            raise ValueError(f"{file}, question {number} should be an object with {', '.join(names)}")
        image = Path(str(raw["image_filename"])).stem
        index = counts[image] = counts.get(image, -1) + 1
        answer = str(raw["answer"])
        found.append(
            {
                "key": f"{image}-q{index}",
                "image": image,
                "question": str(raw["question"]),
                "answer": {"yes": "True", "no": "False"}.get(answer, answer),
                "kind": _kind(raw.get("program")),
            }
        )
    return found


def _kind(program: Any) -> str:
    last = program[-1] if isinstance(program, list) and program else {}
    # CLEVR's data says "function", its generator "type".
    return str(last.get("function", last.get("type", ""))) if isinstance(last, dict) else ""


# ---- replies --------------------------------------------------------------------------------------------------------


def read_replies(path: str) -> list[tuple[str, str]]:
    """Keys and replies of lines with `key` and `reply`.

    Raises:
        ValueError: with the file and line that is not as expected.
    """
    found = []
    for file in line_files(Path(path)):
        for place, line in read_json_lines(file):
            if not isinstance(line.get("reply"), str):
                raise ValueError(f"{place}, key {line['key']!r} should have a text under 'reply'")
            found.append((line["key"], line["reply"]))
    return found


def scene_entries(path: str, schema: SceneSchema) -> list[Entry]:
    """The scenes that replies describe; a reply without one counts as unreadable.

    Args:
        path: Lines of replies.
        schema: Of the scenes; what objects hold is looked at later.
    """
    replies = ((key, described_objects(reply)) for key, reply in read_replies(path))
    return [Entry(key, objects or [], unreadable=objects is None) for key, objects in replies]


def described_objects(reply: str) -> list[Any] | None:
    """The objects of the first scene in JSON in a reply, whatever else it says; None without one.

    >>> described_objects('Sure: {"objects": [{"shape": "cube"}]}')
    [{'shape': 'cube'}]
    """
    for value in _json_values(reply):
        # An empty list may be anything, such as the place of an object that was never finished.
        objects = value.get("objects") if isinstance(value, dict) else value or None
        if isinstance(objects, list) and all(isinstance(item, dict) for item in objects):
            return objects
    return None


def _json_values(text: str) -> Iterator[Any]:
    """JSON objects and lists that begin anywhere in a text."""
    decoder = json.JSONDecoder()
    for found in re.finditer(r"[\[{]", text):
        try:
            yield decoder.raw_decode(text, found.start())[0]
        except ValueError:
            continue


def said_answer(reply: str, answers: Iterable[str]) -> str | None:
    """The answer that a reply gives; None if it gives none or several.

    Args:
        reply: Of a model; what follows the last "answer:" counts if there is such.
        answers: The legal ones.

    >>> said_answer("Answer: the cube is Red.", ["red", "blue"]), said_answer("red or blue", ["red", "blue"])
    ('red', None)
    """
    legal = {answer.lower(): answer for answer in answers}
    words = re.findall(r"[a-z0-9]+", re.split(r"answer\s*(?:is)?\s*:", reply, flags=re.IGNORECASE)[-1].lower())
    spoken = {legal.get(word, _WORDS.get(word, "")) for word in words}
    found = spoken & set(legal.values())
    return found.pop() if len(found) == 1 else None
