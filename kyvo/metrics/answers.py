"""Accuracy of answers to questions, overall and by type, and the baselines that need no picture."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from kyvo.metrics.bootstrap import gathered, interval
from kyvo.scene import SCHEMAS

_ATTRIBUTES = ("size", "color", "material", "shape")
QUESTION_TYPES = (
    *("exist", "count", "equal_integer", "less_than", "greater_than"),
    *(f"query_{name}" for name in _ATTRIBUTES),
    *(f"equal_{name}" for name in _ATTRIBUTES),
)
"""Types of CLEVR questions: the last function of their programs."""

CLEVR_ANSWERS: dict[str, tuple[str, ...]] = {
    "boolean": ("True", "False"),
    "number": tuple(str(number) for number in range(11)),
    **{name: SCHEMAS["clevr"][name].values for name in ("shape", "color", "material", "size")},
}
"""The legal answers of CLEVR by answer type (paper, table 8)."""


class AnswerAccuracy(Metric):
    """Share of answers equal to the true one, case by case, but for white space at the ends.

    ``compute`` returns scalars:

    - ``accuracy``; ``accuracy_low`` and ``accuracy_high``, its 95 % interval by bootstrap over questions
    - ``accuracy_<question type>`` and ``accuracy_answer_<answer type>``; NaN for a type without questions
    - ``majority_baseline``, the accuracy of always giving the answer most frequent in training for the question's type
    - ``majority_answer_type_baseline``, the same with the type of the true answer known, as in the paper
    - ``random_baseline``, the expected accuracy of a uniform guess among the answers of the true answer's type

    Args:
        types: the question types, in a fixed order.
        training_answers: for each question type, how often each answer occurs in training; the majority baselines are
            left out without it.
        answers: the legal answers of each answer type; by default CLEVR's.
        kwargs: options of ``torchmetrics.Metric``.

    Raises:
        ValueError: for repeated types, training answers of an unknown type, or an answer of two answer types.

    Example:
        >>> metric = AnswerAccuracy(["count", "exist"])
        >>> metric.update(["3", "True"], ["3", "False"], ["count", "exist"])
        >>> metric.compute()["accuracy"].item()
        0.5
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False
    plot_lower_bound = 0.0
    plot_upper_bound = 1.0

    hits: Tensor
    asked: Tensor
    majority_hits: Tensor
    majority_answer_type_hits: Tensor
    chance: Tensor
    per_question: list[Tensor]

    def __init__(
        self,
        types: Sequence[str] = QUESTION_TYPES,
        training_answers: Mapping[str, Mapping[str, int]] | None = None,
        answers: Mapping[str, Sequence[str]] = CLEVR_ANSWERS,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.types = check_types(types)
        self.answers = {name: tuple(values) for name, values in answers.items()}
        self.answer_type = invert(self.answers)
        self.has_training_answers = training_answers is not None
        by_type = {name: Counter(counts) for name, counts in (training_answers or {}).items()}
        if unknown := set(by_type) - set(self.types):
            raise ValueError(f"training answers are given for {sorted(unknown)}, which are not among {self.types}")
        self.majority = {name: most_frequent(counts) for name, counts in by_type.items() if counts}
        self.majority_of_answer_type = self._majority_of_answer_types(by_type)
        # Rows are question types, columns answer types.
        for name in ("hits", "asked"):
            self.add_state(name, torch.zeros(len(types), len(answers), dtype=torch.long), dist_reduce_fx="sum")
        for name in ("majority_hits", "majority_answer_type_hits"):
            self.add_state(name, torch.tensor(0), dist_reduce_fx="sum")
        self.add_state("chance", torch.tensor(0.0), dist_reduce_fx="sum")
        self.add_state("per_question", [], dist_reduce_fx="cat")

    def _majority_of_answer_types(self, by_type: Mapping[str, Counter[str]]) -> dict[str, str]:
        total = sum(by_type.values(), Counter[str]())
        if unknown := set(total) - set(self.answer_type):
            raise ValueError(f"training answers {sorted(unknown)} are none of {sorted(self.answer_type)}")
        groups = {name: Counter({a: total[a] for a in values if total[a]}) for name, values in self.answers.items()}
        return {name: most_frequent(counts) for name, counts in groups.items() if counts}

    def update(self, predictions: Sequence[str | None], targets: Sequence[str], types: Sequence[str]) -> None:
        """Add answers.

        Args:
            predictions: the answers given; None where there was none to be read, which is wrong.
            targets: the true answers.
            types: the types of the questions.

        Raises:
            ValueError: if the lengths differ, or for a type or true answer that the constructor was not told.
        """
        if not len(predictions) == len(targets) == len(types):
            raise ValueError(
                f"{len(predictions)} predictions, {len(targets)} targets and {len(types)} types should be as many"
            )
        for prediction, target, kind in zip(predictions, targets, types, strict=True):
            self._add(prediction, target.strip(), kind)

    def _add(self, prediction: str | None, target: str, kind: str) -> None:
        if kind not in self.types:
            raise ValueError(f"question types should be among {self.types}, got {kind!r}")
        if target not in self.answer_type:
            raise ValueError(f"true answers should be among {sorted(self.answer_type)}, got {target!r}")
        answer_type = self.answer_type[target]
        cell = self.types.index(kind), list(self.answers).index(answer_type)
        self.asked[cell] += 1
        hit = int(prediction is not None and prediction.strip() == target)
        self.hits[cell] += hit
        self.per_question.append(self.chance.new_tensor([hit]))
        self.majority_hits += int(self.majority.get(kind) == target)
        self.majority_answer_type_hits += int(self.majority_of_answer_type.get(answer_type) == target)
        self.chance += 1 / len(self.answers[answer_type])

    def compute(self) -> dict[str, Tensor]:
        """Return the scalars listed in the class's description; NaN before any update."""
        total = self.asked.sum()
        low, high = interval(gathered(self.per_question, self.device).cpu().numpy())
        result = {"accuracy": self.hits.sum() / total}
        result |= {"accuracy_low": self.chance.new_tensor(low), "accuracy_high": self.chance.new_tensor(high)}
        by_type = self.hits.sum(1) / self.asked.sum(1)
        result |= {f"accuracy_{name}": value for name, value in zip(self.types, by_type, strict=True)}
        by_answer = self.hits.sum(0) / self.asked.sum(0)
        result |= {f"accuracy_answer_{name}": value for name, value in zip(self.answers, by_answer, strict=True)}
        if self.has_training_answers:
            result["majority_baseline"] = self.majority_hits / total
            result["majority_answer_type_baseline"] = self.majority_answer_type_hits / total
        result["random_baseline"] = self.chance / total
        return result

    def plot(self, val: Any = None, ax: Any = None) -> Any:
        """Draw given or current values with matplotlib; return the figure and axes."""
        return self._plot(val, ax)


def check_types(types: Sequence[str]) -> tuple[str, ...]:
    """Return types as a tuple; ValueError if there is none or one occurs twice."""
    if not types or len(set(types)) != len(types):
        raise ValueError(f"types should be different names, at least one, got {list(types)}")
    return tuple(types)


def invert(answers: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """Return the type of each answer; ValueError if an answer has two."""
    result = {answer: name for name, values in answers.items() for answer in values}
    if len(result) != sum(len(values) for values in answers.values()):
        raise ValueError(f"every answer should have one type, got {dict(answers)}")
    return result


def most_frequent(counts: Mapping[str, int]) -> str:
    """Return the answer with the highest count; of equals the first in alphabetical order, whatever the order given.

    >>> most_frequent({"True": 4, "False": 4})
    'False'
    """
    return min(counts, key=lambda answer: (-counts[answer], answer))
