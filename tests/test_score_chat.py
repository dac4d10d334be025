"""Prompts for chat models, and their replies: scored, and counted where they say nothing that can be read."""

import json
from pathlib import Path

import pytest

from kyvo.score import answers, jaccard
from kyvo.score.chat import described_objects, said_answer, write_prompts
from kyvo.score.scene_files import read_truths

CUBE = {"size": "large", "color": "red", "material": "metal", "shape": "cube", "3d_coords": [0.1234, 0.0, 0.7]}


def make_root(folder, count):
    """A folder of scenes, pictures and questions, as CLEVR's."""
    for name in ("scenes", "images"):
        (folder / name).mkdir(parents=True)
    questions = []
    for index in range(count):
        key = f"scene_{index}"
        scene = {"image_filename": f"{key}.png", "objects": [CUBE | {"pixel_coords": [1, 2, 3]}] * (index + 1)}
        (folder / "scenes" / f"{key}.json").write_text(json.dumps(scene))
        (folder / "images" / f"{key}.png").touch()
        questions.append({"image_filename": f"{key}.png", "question": "Is it red?", "answer": "yes"})
    (folder / "questions.json").write_text(json.dumps({"questions": questions}))
    return folder


@pytest.fixture
def roots(tmp_path):
    return make_root(tmp_path / "test", 2), make_root(tmp_path / "train", 4)


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize("task", ["recognition", "question_answering"])
def test_prompts_have_examples_and_the_right_picture(roots, tmp_path, task):
    output = tmp_path / "prompts.jsonl"
    assert write_prompts(*roots, output, task=task, shots=2, example_images=True) == {"prompts": 2}
    for index, prompt in enumerate(lines(output)):
        roles = [message["role"] for message in prompt["messages"]]
        assert roles == ["system", "user", "assistant", "user", "assistant", "user"]
        picture, _ = prompt["messages"][-1]["content"]
        assert Path(picture["path"]) == roots[0] / "images" / f"scene_{index}.png"
        shown = prompt["messages"][1]["content"][0]["path"]
        assert Path(shown).parent == roots[1] / "images"


def test_splits_lie_as_in_the_download(roots, tmp_path):
    root = tmp_path / "clevr"
    for number, (split, made) in enumerate(zip(("val", "train"), roots, strict=True)):
        scenes = [json.loads(file.read_text()) for file in sorted((made / "scenes").glob("*.json"))]
        for name, records in (("scenes", scenes), ("questions", load_questions(made))):
            for record in records:
                record["image_filename"] = record["image_filename"].replace("scene", split)
            (root / name).mkdir(parents=True, exist_ok=True)
            (root / name / f"CLEVR_{split}_{name}.json").write_text(json.dumps({name: records}))
        (root / "images" / split).mkdir(parents=True)
        for index in range(2 + 2 * number):
            (root / "images" / split / f"{split}_{index}.png").touch()
    output = tmp_path / "prompts.jsonl"
    for task, key in (("recognition", "val_1"), ("question_answering", "val_1-q0")):
        made = write_prompts(root, root, output, task=task, split="val", example_split="train", example_images=True)
        last = lines(output)[-1]
        assert (made, last["key"]) == ({"prompts": 2}, key)
        assert Path(last["messages"][-1]["content"][0]["path"]) == root / "images" / "val" / "val_1.png"
        assert "train_0" in last["messages"][1]["content"][0]["path"]
    assert len(read_truths(str(root / "scenes")).scenes) == 6
    with pytest.raises(ValueError, match="holds 2 files of questions: say which by the split"):
        write_prompts(root, root, output, task="question_answering")
    # What was written stays as it was.
    assert len(lines(output)) == 2


def load_questions(root):
    return json.loads((root / "questions.json").read_text())["questions"]


def test_examples_are_replies_that_score_full_marks(roots, tmp_path):
    write_prompts(*roots, tmp_path / "prompts.jsonl", shots=3)
    messages = lines(tmp_path / "prompts.jsonl")[0]["messages"]
    replies = [message["content"] for message in messages if message["role"] == "assistant"]
    assert json.loads(replies[0])["objects"] == [CUBE | {"3d_coords": [0.12, 0.0, 0.7]}]
    rows = [{"key": f"scene_{index}", "reply": f"Here:\n```json\n{reply}\n```"} for index, reply in enumerate(replies)]
    (tmp_path / "replies.jsonl").write_text("\n".join(map(json.dumps, rows)))
    found = jaccard.score("clevr", str(tmp_path / "replies.jsonl"), str(roots[1] / "scenes"), format="chat")
    # The last one of four has no reply.
    assert (found["mean"], found["unreadable"]) == (0.75, 0)


def test_replies_without_a_scene_are_counted(roots, tmp_path):
    replies = [{"key": "scene_0", "reply": "I see a red cube."}, {"key": "scene_1", "reply": '{"objects": [{}, 3]}'}]
    (tmp_path / "r.jsonl").write_text("\n".join(map(json.dumps, replies)))
    found = jaccard.score("clevr", str(tmp_path / "r.jsonl"), str(roots[0] / "scenes"), format="chat")
    assert (found["mean"], found["unreadable"]) == (0, 2)


def test_answers_of_replies(roots, tmp_path):
    replies = [{"key": "scene_0-q0", "reply": "Yes, it is."}, {"key": "scene_1-q0", "reply": "I cannot tell."}]
    (tmp_path / "r.jsonl").write_text("\n".join(map(json.dumps, replies)))
    found = answers.score(str(tmp_path / "r.jsonl"), str(roots[0] / "questions.json"), format="chat")
    assert (found["accuracy"], found["unreadable"]) == (0.5, 1)


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        ('[{"shape": "cube"}] or so', [{"shape": "cube"}]),
        ('{"objects": []}', []),
        ('{"objects": [{"shape": "cube", "3d_coords": []}, {"sha', None),
        ("", None),
    ],
)
def test_scenes_in_replies(reply, expected):
    assert described_objects(reply) == expected


def test_answers_in_replies():
    legal = ["True", "False", "3", "red"]
    assert said_answer("There are three.", legal) == "3"
    assert said_answer("It could be red or not. Answer: red", legal) == "red"
    assert said_answer("blue", legal) is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda roots: (roots[0] / "images" / "scene_1.png").unlink(), "scene_1.png"),
        (lambda roots: (roots[1] / "scenes" / "scene_0.json").write_text('{"objects": [{}]}'), "lacks 'size'"),
        (lambda roots: [path.unlink() for path in (roots[1] / "scenes").glob("scene_[1-3].json")], "has 1 examples"),
    ],
)
def test_bad_folders_are_named(roots, tmp_path, change, message):
    change(roots)
    with pytest.raises(ValueError, match=message):
        write_prompts(*roots, tmp_path / "prompts.jsonl", shots=2)


def test_bad_replies_are_named(roots, tmp_path):
    (tmp_path / "r.jsonl").write_text('{"key": "scene_0"}')
    with pytest.raises(ValueError, match="key 'scene_0' should have a text under 'reply'"):
        jaccard.score("clevr", str(tmp_path / "r.jsonl"), str(roots[0] / "scenes"), format="chat")
