import pytest

from kyvo.task import Task

OFFICIAL = {
    "3-I": (("scene",), ("image",), "rendering"),
    "I-3": (("image",), ("scene",), "recognition"),
    "I+3+T-I+3": (("image", "scene", "text"), ("image", "scene"), "instruction"),
    "I+3+Q-A": (("image", "scene", "text"), ("text",), "question_answering"),
    "I+Q-A": (("image", "text"), ("text",), "question_answering"),
    "3+I+Q-A": (("scene", "image", "text"), ("text",), "question_answering"),
    "3+I+T-3+I": (("scene", "image", "text"), ("scene", "image"), "instruction"),
    "3+T-3": (("scene", "text"), ("scene",), "instruction"),
    "I+3+T-3": (("image", "scene", "text"), ("scene",), "instruction"),
    "I+T-I+3": (("image", "text"), ("image", "scene"), "instruction"),
    "I+T-3": (("image", "text"), ("scene",), "instruction"),
    "I+T-I": (("image", "text"), ("image",), "instruction"),
    "I+T-T": (("image", "text"), ("text",), "question_answering"),
    "I+3+T-T": (("image", "scene", "text"), ("text",), "question_answering"),
}


@pytest.mark.parametrize("spec", OFFICIAL)
def test_official_tasks(spec):
    task = Task.parse(spec)
    assert (task.inputs, task.outputs, task.name) == OFFICIAL[spec]
    assert task.spec == spec


def test_other_combinations():
    assert Task.parse("I-I+3").name == "I-I+3"
    assert Task.parse("T-I").name == "instruction"


BAD = ("", "I", "I-", "-3", "I-3-T", "I+X-3", "i-3", "I 3-T", "recognition", "I+I-3", "T+Q-A")


@pytest.mark.parametrize("spec", BAD)
def test_bad_specs_say_what_one_looks_like(spec):
    with pytest.raises(ValueError, match=r"should look like '3-I', 'I-3', 'I\+3\+T-I\+3' or .* I, 3, T, Q, A"):
        Task.parse(spec)
