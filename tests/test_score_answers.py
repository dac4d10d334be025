"""Files of answers to numbers: the published script's in both rules, our own lines, questions of CLEVR, bad input."""

import json
from pathlib import Path

import pytest

from kyvo.score.answers import score

GOLDEN = Path(__file__).resolve().parents[2] / "shared" / "golden" / "jaccard"


def golden_cases():
    path = GOLDEN / "cases.json"
    cases = json.loads(path.read_text()) if path.is_file() else []
    return [case for case in cases if case["dataset"] == "qa"]


@pytest.mark.parametrize("case", golden_cases(), ids=lambda case: case["id"])
def test_the_official_rule_equals_the_published_script(golden, case):
    reference = json.loads((golden / "jaccard" / "expected.json").read_text())[case["id"]]["reference"]
    files = [str(GOLDEN / case[name]) for name in ("predicted_file", "groundtruth_file")]
    if "accuracy_percent" in reference:
        assert 100 * score(*files, rule="official")["accuracy"] == pytest.approx(reference["accuracy_percent"])
        assert score(*files)["accuracy"] == score(*files, rule="official")["accuracy"]
    else:
        with pytest.raises(ValueError, match="json"):
            score(*files, rule="official")


def published(path, answers):
    entries = [
        {"image_filename": f"a_scene_{index}", "key": key, "answer": f"[TEXT-START]{answer}[TEXT-END]"}
        for index, (key, answer) in enumerate(answers)
    ]
    path.write_text(json.dumps({"answers": entries}))
    return str(path)


def line(key, given, true, kind="exist"):
    texts = {"generated": {"text": given}, "target": {"text": true}}
    return json.dumps({"key": key, "task": "I+3+Q-A", "kind": kind, "malformed": 0, **texts}) + "\n"


def test_keys_not_order_decide(tmp_path):
    given = published(tmp_path / "p.json", [("b", "3"), ("a", "red")])
    true = published(tmp_path / "t.json", [("a", "red"), ("b", "3"), ("c", "True")])
    found = score(given, true)
    assert found["accuracy"] == pytest.approx(2 / 3)
    assert found["unreadable"] == 1
    assert (found["scores"]["accuracy_answer_color"], found["scores"]["accuracy_answer_boolean"]) == (1, 0)
    # Every answer comes once: the first in the alphabet is the majority.
    assert found["scores"]["majority_baseline"] == pytest.approx(1 / 3)
    with pytest.raises(ValueError, match="has 2 answers"):
        score(given, true, rule="official")


def test_lines_of_a_run_have_types_and_training_has_majorities(tmp_path):
    (tmp_path / "a.jsonl").write_text(line("1", "True", "True") + line("2", None, "4", "count"))
    training = published(tmp_path / "t.json", [("x", "True")])
    output = tmp_path / "out.json"
    found = score(str(tmp_path / "a.jsonl"), output=output)
    assert (found["accuracy"], found["questions"], found["unreadable"]) == (0.5, 2, 1)
    assert (found["scores"]["accuracy_exist"], found["scores"]["accuracy_count"]) == (1, 0)
    assert found["scores"]["random_baseline"] == pytest.approx((1 / 2 + 1 / 11) / 2)
    assert json.loads(output.read_text()) == found
    # The questions of the training file have no type: only the answers' types tell.
    scores = score(str(tmp_path / "a.jsonl"), training=training)["scores"]
    assert scores["majority_answer_type_baseline"] == 0.5
    assert "majority_baseline" not in scores


def test_clevrs_questions_are_true_answers(tmp_path):
    program = [{"type": "scene", "inputs": []}, {"type": "exist", "inputs": [0]}]
    about = {"image_filename": "CLEVR_val_000003.png", "question": "Is there a cube?", "program": program}
    (tmp_path / "questions.json").write_text(json.dumps({"questions": [about | {"answer": "yes"}] * 2}))
    given = published(tmp_path / "p.json", [("CLEVR_val_000003-q1", "True")])
    found = score(given, str(tmp_path / "questions.json"))
    assert (found["accuracy"], found["scores"]["accuracy_exist"]) == (0.5, 0.5)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("p.json", "{", "p.json is not JSON"),
        ("p.json", "{}", "p.json should hold a list under 'answers'"),
        ("p.json", '{"answers": []}', "p.json holds no answer"),
        ("p.json", '{"answers": [{"key": "a"}]}', "p.json, answer 0 should be an object"),
        ("p.json", '{"answers": [{"key": "z", "answer": "3"}]}', "p.json answers 'z', which is no question of"),
        ("p.json", json.dumps({"answers": [{"key": "a", "answer": "3"}] * 2}), "holds two answers with the key 'a'"),
        ("p.jsonl", '{"key": "a", "generated": {"text": 3}}', "line 1, key 'a': 'text' under 'generated'"),
        ("p.jsonl", '{"key": "a", "generated": {}}', "line 1, key 'a': there is no 'text' under 'generated'"),
    ],
)
def test_bad_files_are_named(tmp_path, name, content, message):
    (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match=message):
        score(str(tmp_path / name), published(tmp_path / "t.json", [("a", "3")]))


def test_published_files_need_a_truth(tmp_path):
    with pytest.raises(ValueError, match="give the ground truth"):
        score(published(tmp_path / "p.json", [("a", "3")]))
