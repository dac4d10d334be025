"""The accuracy of answers in files: of ours, of the published code, or of chat models."""

import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from kyvo.metrics.answers import CLEVR_ANSWERS, AnswerAccuracy
from kyvo.metrics.jaccard import Rule
from kyvo.score.chat import read_questions, read_replies, said_answer
from kyvo.score.json_files import by_key, line_files, read_json, read_json_lines

_MARKERS = re.compile(r"\[TEXT-START\]|\[TEXT-END\]|<\|end_of_text\|>")
_UNTYPED = "untyped"
"""The type of questions whose file gives none."""

_OTHER = "other"
"""The type of answers that CLEVR does not have."""


@dataclass(frozen=True)
class Answer:
    """An answer and the type of its question, "" where the file gives none; no text where there was none to be read."""

    text: str | None
    kind: str = ""


def score(
    predictions: str,
    ground_truth: str | None = None,
    training: str | None = None,
    rule: Rule = "optimal",
    format: Literal["kyvo", "chat"] = "kyvo",
    output: Path | None = None,
) -> dict[str, Any]:
    """Score answers by exact match, overall, by type of question and by type of answer, beside what needs no picture.

    By the rule `optimal` answers go with questions by their keys, and a question without an answer is answered wrongly.
    By the rule `official` those of the published files go by their order, as in the published script; where it raises,
    so does this.

    Args:
        predictions: JSON with a list under `answers`; lines of `predictions/` of a run (a .jsonl file, a folder of
            them, a pattern); or lines of replies (chat).
        ground_truth: JSON with a list under `answers`, or under `questions` in CLEVR's format; or lines of a run's
            predictions, which hold the true answers too; default is the file of the predictions.
        training: Such a file of training questions, whose most frequent answers are the majority baseline; default is
            the ground truth itself, which flatters that baseline.
        rule: `optimal`, or `official`, the published script.
        format: What the predictions are: `kyvo` or `chat`.
        output: JSON file to write into.

    Returns:
        `accuracy`, `questions` (how many), `unreadable` (without an answer that could be read) and `scores`, those of
        `kyvo.metrics.answers.AnswerAccuracy`: interval, types, baselines.

    Raises:
        ValueError: For files that are not as expected, answers to unknown questions, two to one question, or where the
            published script raises.
    """
    if ground_truth is None and (format != "kyvo" or _is_published(Path(predictions))):
        raise ValueError(f"{predictions} holds no true answers: give the ground truth")
    truth = ground_truth or predictions
    if rule == "official" and format == "kyvo" and _is_published(Path(predictions)):
        pairs = official_pairs(Path(predictions), Path(truth))
    else:
        true = read_answers(truth, "target")
        given = _replies(predictions, true.values()) if format == "chat" else read_answers(predictions, "generated")
        pairs = pair_answers(given, true, predictions, truth)
    found = scores_of(pairs, None if training is None else read_answers(training, "target").values())
    if output is not None:
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return found


Pair = tuple[Answer, Answer]
"""What was answered, and what is right."""


def scores_of(pairs: Sequence[Pair], training: Iterable[Answer] | None = None) -> dict[str, Any]:
    """Scores of answers as `score` returns them.

    Args:
        pairs: Answers and true answers, at least one.
        training: True answers of training questions.
    """
    known = [one for _, one in pairs] if training is None else list(training)
    kinds = sorted({_kind(one) for one in (*known, *(true for _, true in pairs))})
    legal = _answers((*known, *(true for _, true in pairs)))
    metric = AnswerAccuracy(kinds, _counts(known), legal)
    metric.update(
        [given.text for given, _ in pairs],
        [str(true.text) for _, true in pairs],
        [_kind(true) for _, true in pairs],
    )
    scores = {name: value.item() for name, value in metric.compute().items()}
    if not {_kind(true) for _, true in pairs} <= {_kind(one) for one in known}:
        # Other types of question than in training, as where its file gives none: what is most frequent isn't known.
        del scores["majority_baseline"]
    hits, asked = int(metric.hits.sum()), int(metric.asked.sum())
    return {
        "accuracy": hits / asked,
        "questions": asked,
        "unreadable": sum(given.text is None for given, _ in pairs),
        "scores": {name: value for name, value in scores.items() if not math.isnan(value)},
    }


def _kind(answer: Answer) -> str:
    return answer.kind or _UNTYPED


def _counts(answers: Iterable[Answer]) -> dict[str, Counter[str]]:
    counts: dict[str, Counter[str]] = {}
    for one in answers:
        counts.setdefault(_kind(one), Counter())[str(one.text)] += 1
    return counts


def _answers(answers: Iterable[Answer]) -> Mapping[str, Sequence[str]]:
    """CLEVR's answers by type, and those that it does not have as a type of their own."""
    known = {answer for values in CLEVR_ANSWERS.values() for answer in values}
    others = sorted({str(one.text) for one in answers} - known)
    return {**CLEVR_ANSWERS, **({_OTHER: others} if others else {})}


# ---- files ----------------------------------------------------------------------------------------------------------


def _is_published(path: Path) -> bool:
    return path.suffix == ".json"


def read_answers(path: str, side: Literal["generated", "target"]) -> dict[str, Answer]:
    """Read answers by key.

    Args:
        path: As the arguments of `score`.
        side: Of a run's predictions, whether what was generated or what is right.

    Raises:
        ValueError: With the file and key of what is not as expected.
    """
    place = Path(path)
    if not _is_published(place):
        lines = (line for file in line_files(place) for line in read_json_lines(file))
        return by_key([_own_answer(where, line, side) for where, line in lines], path, "answer")
    content = read_json(place)
    if isinstance(content, dict) and "questions" in content:
        questions = read_questions(place)
        return by_key([(one["key"], Answer(one["answer"], one["kind"])) for one in questions], path, "answer")
    published = [_published_answer(raw, place, number) for number, raw in enumerate(_list(content, place))]
    return by_key(published, path, "answer")


def _list(content: Any, place: Path) -> list[Any]:
    if not isinstance(content, dict) or not isinstance(content.get("answers"), list):
        raise ValueError(f"{place} should hold a list under 'answers'")
    return list(content["answers"])


def _published_answer(raw: Any, place: Path, number: int) -> tuple[str, Answer]:
    key = raw.get("key", raw.get("image_filename")) if isinstance(raw, dict) else None
    if not isinstance(key, str) or not isinstance(raw.get("answer"), str):
        raise ValueError(f"{place}, answer {number} should be an object with a 'key' and a text under 'answer'")
    return key, Answer(plain(raw["answer"]))


def _own_answer(place: str, line: Mapping[str, Any], side: str) -> tuple[str, Answer]:
    content = line.get(side)
    if not isinstance(content, dict) or "text" not in content:
        raise ValueError(f"{place}, key {line['key']!r}: there is no 'text' under {side!r}")
    text, kind = content["text"], line.get("kind", "")
    if not isinstance(text, str) and (text is not None or side == "target"):
        raise ValueError(f"{place}, key {line['key']!r}: 'text' under {side!r} should be a text, not {text!r}")
    return line["key"], Answer(None if text is None else plain(text), str(kind))


def plain(answer: str) -> str:
    """An answer without the markers and white space around it.

    >>> plain("[TEXT-START] red[TEXT-END]<|end_of_text|>")
    'red'
    """
    return _MARKERS.sub("", answer).strip()


def _replies(path: str, answers: Iterable[Answer]) -> dict[str, Answer]:
    """What replies say, in the words of CLEVR's answers and of the true ones."""
    legal = [answer for values in _answers(answers).values() for answer in values]
    return by_key([(key, Answer(said_answer(reply, legal))) for key, reply in read_replies(path)], path, "answer")


def pair_answers(given: Mapping[str, Answer], true: Mapping[str, Answer], place: str, truth: str) -> list[Pair]:
    """Every true answer with what was answered.

    Raises:
        ValueError: For an answer to a question that there isn't.
    """
    unknown = next((key for key in given if key not in true), None)
    if unknown is not None:
        raise ValueError(f"{place} answers {unknown!r}, which is no question of {truth}")
    return [(given.get(key, Answer(None)), answer) for key, answer in true.items()]


def official_pairs(predictions: Path, ground_truth: Path) -> list[Pair]:
    """Pair answers as the published script does: by order, the numbers of their scenes having to agree.

    Raises:
        ValueError: Where the script raises.
    """
    given, true = (_list(read_json(path), path) for path in (predictions, ground_truth))
    if len(given) != len(true):
        raise ValueError(f"{predictions} has {len(given)} answers, {ground_truth} {len(true)}")
    if not true:
        raise ValueError(f"{ground_truth} holds no answer")
    return [
        (_official_answer(ours, theirs, predictions, number), _official_answer(theirs, ours, ground_truth, number))
        for number, (ours, theirs) in enumerate(zip(given, true, strict=True))
    ]


def _official_answer(raw: Any, other: Any, place: Path, number: int) -> Answer:
    try:
        names = [one["image_filename"].split("_scene_")[1] for one in (raw, other)]
        text = _MARKERS.sub("", raw["answer"]).strip()
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        raise ValueError(
            f"{place}, answer {number}: the published script ends with {type(error).__name__}: {error}"
        ) from error
    if names[0] != names[1]:
        raise ValueError(f"{place}, answer {number} is of scene {names[0]!r}, the other file's of {names[1]!r}")
    return Answer(text)
