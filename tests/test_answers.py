"""Answer accuracy against cases counted by hand, the paper's baselines and the published script."""

import json
import math

import pytest

from kyvo.metrics.answers import CLEVR_ANSWERS, AnswerAccuracy, most_frequent

TRAINING = {"exist": {"True": 3, "False": 5}, "count": {"0": 4, "1": 2}, "query_color": {"cyan": 1}}


def test_counted_by_hand():
    metric = AnswerAccuracy(["exist", "count", "query_color", "query_size"], TRAINING)
    metric.update(["True ", "False"], ["True", "True"], ["exist", "exist"])
    metric.update(["0", None, "red"], ["0", "2", "cyan"], ["count", "count", "query_color"])
    result = {name: value.item() for name, value in metric.compute().items()}
    assert result["accuracy"] == pytest.approx(2 / 5)
    assert (result["accuracy_exist"], result["accuracy_count"], result["accuracy_query_color"]) == (0.5, 0.5, 0.0)
    assert math.isnan(result["accuracy_query_size"])
    assert (result["accuracy_answer_boolean"], result["accuracy_answer_number"]) == (0.5, 0.5)
    assert result["majority_baseline"] == pytest.approx(2 / 5)  # one 0 and one cyan
    assert result["random_baseline"] == pytest.approx((1 / 2 + 1 / 2 + 1 / 11 + 1 / 11 + 1 / 8) / 5)


def test_the_interval_is_that_of_questions():
    metric = AnswerAccuracy(["exist"])
    metric.update(["True"] * 75 + ["False"] * 25, ["True"] * 100, ["exist"] * 100)
    result = metric.compute()
    assert result["accuracy_low"].item() == pytest.approx(0.75 - 1.96 * 0.0433, abs=0.02)
    assert result["accuracy_high"].item() == pytest.approx(0.75 + 1.96 * 0.0433, abs=0.02)


def test_case_and_spelling_count():
    metric = AnswerAccuracy(["exist"])
    metric.update(["true", "yes", ""], ["True"] * 3, ["exist"] * 3)
    assert metric.compute()["accuracy"] == 0
    assert "majority_baseline" not in metric.compute()


def test_random_baseline_on_the_papers_training_mix():
    # Table 8: how often each answer type occurs among 20,000 questions, in thousandths; published 0.359 +- 0.009.
    mix = {"boolean": 404, "number": 220, "shape": 92, "color": 96, "material": 92, "size": 96}
    true = [CLEVR_ANSWERS[name][0] for name, count in mix.items() for _ in range(count)]
    metric = AnswerAccuracy(["any"])
    metric.update([None] * 1000, true, ["any"] * 1000)
    assert metric.compute()["random_baseline"].item() == pytest.approx(0.3587, abs=1e-4)


def test_majority_by_answer_type_pools_question_types():
    # By question type 3 is the majority of "count"; over all number questions it is 1.
    metric = AnswerAccuracy(["count", "other"], {"count": {"3": 5}, "other": {"1": 9}})
    metric.update(["3"], ["3"], ["count"])
    result = metric.compute()
    assert (result["majority_baseline"], result["majority_answer_type_baseline"]) == (1, 0)


def test_ties_go_to_the_first_in_the_alphabet():
    assert most_frequent({"b": 2, "a": 2, "c": 1}) == most_frequent({"a": 2, "c": 1, "b": 2}) == "a"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"types": []}, "at least one"),
        ({"types": ["a", "a"]}, "different"),
        ({"types": ["exist"], "training_answers": {"count": {"1": 1}}}, r"\['count'\]"),
        ({"types": ["exist"], "training_answers": {"exist": {"yes": 1}}}, r"\['yes'\]"),
        ({"types": ["exist"], "answers": {"a": ["1"], "b": ["1"]}}, "one type"),
    ],
)
def test_wrong_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        AnswerAccuracy(**arguments)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ((["1"], ["1", "2"], ["count"]), "as many"),
        ((["1"], ["1"], ["sum"]), "'sum'"),
        ((["1"], ["eleven"], ["count"]), "'eleven'"),
    ],
)
def test_wrong_rows_are_named(row, message):
    with pytest.raises(ValueError, match=message):
        AnswerAccuracy(["count"]).update(*row)


def test_equals_the_published_script(golden):
    root = golden / "jaccard"
    expected = json.loads((root / "expected.json").read_text())
    expected = expected if isinstance(expected, dict) else {entry["id"]: entry for entry in expected}

    def text(answer):
        # Markers belong to the tokenizer; they are taken off before an answer is scored.
        for marker in ("[TEXT-START]", "[TEXT-END]", "<|end_of_text|>"):
            answer = answer.replace(marker, "")
        return answer

    for case in json.loads((root / "cases.json").read_text()):
        reference = expected[case["id"]]["reference"]
        if case["dataset"] != "qa" or "accuracy_percent" not in reference:
            continue
        files = (json.loads((root / case[name]).read_text()) for name in ("predicted_file", "groundtruth_file"))
        predicted, true = ([text(entry["answer"]) for entry in content["answers"]] for content in files)
        metric = AnswerAccuracy(["any"], answers={"any": sorted({answer.strip() for answer in true})})
        metric.update(predicted, true, ["any"] * len(true))
        assert 100 * metric.compute()["accuracy"].item() == pytest.approx(reference["accuracy_percent"])
