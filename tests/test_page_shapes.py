"""Scenes whose shapes are codes on a page: by name, with tables, where the predictions name them."""

import json
import re

import pytest

from kyvo.metrics.shape_assignment import UNKNOWN
from kyvo.report.page_confusion import confusions
from kyvo.report.page_examples import find_schema, read_examples, shape_length
from kyvo.report.page_run import read_tasks, report
from kyvo.report.page_shapes import with_names
from kyvo.scene import SCHEMAS, Scene

CODED = SCHEMAS["objaworld-shapes"].with_shape_length(4)


def scene(*places):
    return {"objects": [{"shape_codes": [1, 2, 3, n], "3d_coords": [x, 0.0, 0.0], "rotation": 0.0}
                        for n, x in enumerate(places)]}  # fmt: skip


def line(key, written, names=None, **changes):
    """Two true objects, a bench and a bird."""
    parts = {"read": {"image": [0] * 16}, "target": {"scene": scene(0.0, 2.0)}, "generated": {"scene": written}}
    facts = {"key": key, "task": "I-3", "kind": "", "malformed": 0, "scores": {"jaccard": 0.5}}
    named = {} if names is None else {"shapes": {"target": ["bench", "bird"], "generated": names}}
    return json.dumps(parts | facts | named | changes)


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "run" / "predictions" / "val"
    root.mkdir(parents=True)
    rows = [
        line("a", scene(0.1, 2.1), ["bench", "bird"]),
        line("b", scene(0.1, 2.1), ["bird", UNKNOWN]),
        line("c", None, [], malformed=1),
    ]
    (root / "I-3.rank0.jsonl").write_text("\n".join(rows) + "\n")
    return tmp_path / "run"


def test_names_take_the_place_of_codes(folder):
    (task,) = read_tasks(folder / "predictions/val", None, None)
    assert task.schema.shape is None
    assert task.schema["shape"].values == ("bench", "bird", UNKNOWN)
    assert [one["shape"] for one in task.examples[1].generated["scene"]] == ["bird", UNKNOWN]
    assert task.examples[2].generated["scene"] is None
    pairs = [(one.generated["scene"] or Scene(), one.target["scene"]) for one in task.examples]
    (found,) = confusions(task.schema, pairs)
    assert found.counts.tolist() == [[1, 1, 0, 1], [0, 1, 1, 1], [0, 0, 0, 0], [0, 0, 0, 0]]


def test_the_page_has_their_tables(folder):
    assert report(folder)["samples"] == 3
    text = (folder / "report.html").read_text()
    assert re.search(r"shape · 50\.0% of pairs agree", text)
    assert f"<mark>{'shape'}</mark>" in text
    assert "bench (0.00, 0.00, 0.00, 0.00)" in text
    assert "shape_codes" not in text


def test_without_names_codes_stay(folder):
    (file,) = (folder / "predictions/val").iterdir()
    file.write_text(line("a", scene(0.1)) + "\n" + line("b", scene(0.1, 1.0), ["bench"]) + "\n")
    examples = read_examples([file], CODED)
    assert with_names(examples, CODED) == (examples, CODED)
    assert report(folder)["samples"] == 2
    assert with_names([], SCHEMAS["clevr"]) == ([], SCHEMAS["clevr"])


def test_the_length_of_a_shape_is_read_from_the_file(folder):
    (file,) = (folder / "predictions/val").iterdir()
    lines = file.read_text().splitlines()
    assert shape_length(lines, CODED) == 4
    assert shape_length([line("a", None, target={"scene": None})], CODED) is None
    assert shape_length(lines, SCHEMAS["clevr"]) is None
    assert find_schema([file]).shape.codes == 4
