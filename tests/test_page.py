"""The page of a run: balanced, self-contained, its filters, its samples and its curves."""

import base64
import io
import json
import math
import re
import shutil
import subprocess
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from kyvo.report import page
from kyvo.report.metrics_file import MetricsFile
from kyvo.report.page import Evaluation, write_page
from kyvo.report.page_confusion import confusions
from kyvo.report.page_curves import Chart, Curve, chart_svg, training_charts
from kyvo.report.page_examples import choose, find_schema, read_examples, with_scores
from kyvo.report.page_pictures import PictureKey, Pictures, compress
from kyvo.report.page_run import read_tasks, report
from kyvo.scene import SCHEMAS
from kyvo.task import Task
from tests.tiny_world import tiny_image_tokenizer

CLEVR = SCHEMAS["clevr"]
CSV = "step,train/recognition/loss,val/recognition/loss,val/recognition/jaccard,val/recognition/jaccard_low\n"
CSV += "1,5.0,,,\n2,,4.0,0.1,\n3,0.5,,,\n4,,0.4,0.6,0.5\n"

# What a browser would do with the page's script: press buttons, then say what is shown.
BROWSER = """
const fs = require("fs");
const [page, elements, presses] = process.argv.slice(2);
const script = fs.readFileSync(page, "utf8").match(/<script>([\\s\\S]*)<\\/script>/)[1];
const made = JSON.parse(elements).map(one => ({ ...one, hidden: false, inside: [],
  setAttribute(name, value) { this[name] = value; }, addEventListener(kind, run) { this.press = run; },
  querySelectorAll() { return this.inside.filter(one => one.tag === "article"); } }));
made.forEach(one => { if (one.parent !== null) made[one.parent].inside.push(one); });
const isGroup = one => one.tag === "section" && "group" in one.dataset;
const found = { "[data-task]": one => "task" in one.dataset, "article[data-task]": one => one.tag === "article",
  "section[data-group]": isGroup,
  "button[data-filter]": one => one.tag === "button" };
const named = { filters: { hidden: true }, count: {} };
global.document = { querySelectorAll: wanted => made.filter(found[wanted]), getElementById: name => named[name] };
eval(script);
for (const [filter, value] of JSON.parse(presses))
  made.find(one => one.dataset.filter === filter && one.dataset.value === value).press();
process.stdout.write(JSON.stringify({ bar: named.filters.hidden, count: named.count.textContent,
  shown: made.filter(one => one.tag === "article" && !one.hidden).map(one => one.dataset),
  groups: made.filter(one => isGroup(one) && !one.hidden).map(one => one.dataset) }));
"""


class Tree(HTMLParser):
    """The elements of a page that must be closed, checked, and what they hold."""

    OPEN = frozenset(("meta", "img", "br", "line", "rect", "circle", "polyline", "input"))

    def __init__(self, text):
        super().__init__()
        self.stack, self.elements, self.sources, self.ids = [], [], [], []
        self.feed(text)
        assert self.stack == []

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        assert not {"href", "srcset"} & set(given)
        if tag == "img":
            assert given["alt"]
            self.sources.append(given["src"])
        dataset = {name.removeprefix("data-"): value for name, value in given.items() if name.startswith("data-")}
        if dataset:
            parent = next((place for place in reversed(self.ids) if place is not None), None)
            self.elements.append({"tag": tag, "dataset": dataset, "parent": parent})
        if tag not in self.OPEN:
            self.stack.append(tag)
            is_group = tag == "section" and "group" in dataset
            self.ids.append(len(self.elements) - 1 if is_group else None)

    def handle_startendtag(self, tag, attrs):
        if tag in ("img", "input"):
            self.handle_starttag(tag, attrs)

    def handle_endtag(self, tag):
        assert self.stack.pop() == tag
        self.ids.pop()


def thing(x, y, color="red", **words):
    values = {"size": "small", "color": color, "material": "rubber", "shape": "cube", "3d_coords": [x, y, 0.35]}
    return values | words


def scene(*objects):
    return {"objects": list(objects)}


def line(key, spec, read, target, generated, kind="", malformed=0, **scores):
    parts = {"key": key, "task": spec, "kind": kind, "read": read, "target": target, "generated": generated}
    return json.dumps(parts | {"malformed": malformed} | ({"scores": scores} if scores else {}))


def recognition(number, off):
    codes = [number % 16] * 16
    true, guess = scene(thing(0, 0), thing(1, 1, "blue")), scene(thing(off, 0), thing(1, 1, "cyan"))
    return line(f"s-{number}", "I-3", {"image": codes}, {"scene": true}, {"scene": guess})


@pytest.fixture
def folder(tmp_path):
    """A run's folder with three tasks, without scores in its predictions."""
    root = tmp_path / "run" / "predictions" / "val"
    root.mkdir(parents=True)
    lines = [recognition(number, 0.012 * number) for number in range(20)]
    lines.append(line("odd", "I-3", {"image": [0] * 16}, {"scene": scene(thing(0, 0))}, {"scene": None}, malformed=2))
    (root / "I-3.rank0.jsonl").write_text("\n".join(lines[::2]) + "\n")
    (root / "I-3.rank1.jsonl").write_text("\n".join(lines[1::2]) + "\n")
    asked = [
        line(
            f"q-{number}",
            "I+Q-A",
            {"image": [1] * 16, "text": f"is <it> {number}?"},
            {"text": "True"},
            {"text": said},
            kind,
        )
        for number, (said, kind) in enumerate(
            [("True", "exist"), ("False", "exist"), ("2", "count"), ("True", "count")] * 3
        )
    ]
    (root / "I+Q-A.rank0.jsonl").write_text("\n".join(asked) + "\n")
    drawn = [
        line(f"d-{number}", "3-I", {"scene": scene(thing(0, 0))}, {"image": [3] * 16}, {"image": [number] * 16})
        for number in range(6)
    ]
    (root / "3-I.rank0.jsonl").write_text("\n".join(drawn) + "\n")
    (tmp_path / "run" / "metrics.csv").write_text(CSV)
    return tmp_path / "run"


@pytest.fixture
def made(folder):
    """The page of that run, and its elements."""
    tiny_image_tokenizer().save_pretrained(folder / "images")
    (folder / "config.yaml").write_text(f"tokenizer: {{image: {folder / 'images'}}}\n")
    found = report(folder, rows=2)
    text = (folder / "report.html").read_text()
    assert found == {"page": str(folder / "report.html"), "samples": 39}
    return folder / "report.html", text, Tree(text)


def test_the_page_is_balanced_and_holds_all_it_shows(made):
    _, text, tree = made
    assert "http" not in text.replace("http-equiv", "")
    assert "@import" not in text
    for source in tree.sources:
        data = re.fullmatch(r"data:image/(?:png|jpeg);base64,(.*)", source).group(1)
        assert Image.open(io.BytesIO(base64.b64decode(data))).size[0] in (32, 224)
    cards = [one["dataset"] for one in tree.elements if one["tag"] == "article"]
    assert {card["group"] for card in cards} == {"best", "median", "worst", "malformed", "wrong", "right"} - {
        "malformed"
    }
    assert [card for card in cards if card["formed"] == "no"] == [
        {"task": "recognition", "group": "worst", "formed": "no"}
    ]
    assert "is &lt;it&gt;" in text
    assert "<b>0.600</b>" in text
    assert "nothing to be read" in text


@pytest.mark.skipif(shutil.which("node") is None, reason="no node")
def test_filters_hide_what_does_not_fit(made, tmp_path):
    path, _, tree = made
    (tmp_path / "browser.js").write_text(BROWSER)

    def press(*presses):
        command = ["node", tmp_path / "browser.js", path, json.dumps(tree.elements), json.dumps(presses)]
        return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)

    every = press()
    assert every["bar"] is False
    total = len(every["shown"])
    assert every["count"] == f"{total} of {total} samples shown"
    answers = press(["task", "question_answering"])["shown"]
    assert {one["task"] for one in answers} == {"question_answering"}
    assert 0 < len(answers) < total
    worst = press(["task", "recognition"], ["group", "worst"])
    assert {(one["task"], one["group"]) for one in worst["shown"]} == {("recognition", "worst")}
    faulty = press(["formed", "no"])
    assert [one["formed"] for one in faulty["shown"]] == ["no"]
    # A group of which nothing is left has no heading either.
    assert len(faulty["groups"]) == 1
    assert press(["formed", "no"], ["formed", ""]) == every


def test_samples_are_scored_where_their_file_says_nothing(folder):
    tasks = {task.label: task for task in read_tasks(folder / "predictions/val", None, tiny_image_tokenizer())}
    scores = {one.key: one.score for one in tasks["recognition"].examples}
    # The blue cube is never found; the red one is at distances below as many of the five taus as it says.
    assert scores["s-1"] == ("jaccard", pytest.approx(1 / 3))
    assert scores["s-10"] == ("jaccard", pytest.approx(1 / 3 * 3 / 5))
    assert scores["odd"] == ("jaccard", 0.0)
    assert {one.key: one.score[1] for one in tasks["question_answering"].examples}["q-1"] == 0
    assert {one.key: one.score[1] for one in tasks["rendering"].examples}["d-3"] == pytest.approx(100)


def test_the_file_s_own_scores_win(tmp_path):
    (tmp_path / "I-3.rank0.jsonl").write_text(
        line("a", "I-3", {}, {"scene": scene()}, {"scene": scene()}, jaccard=0.25, psnr=9.0) + "\n"
    )
    examples = read_examples([tmp_path / "I-3.rank0.jsonl"], CLEVR)
    assert with_scores(examples, Task.parse("I-3"), CLEVR, None)[0].score == ("jaccard", 0.25)


def test_groups_are_the_ends_and_the_middle(folder):
    (task,) = (one for one in read_tasks(folder / "predictions/val", CLEVR, None) if one.label == "recognition")
    groups = choose(task.examples, task.task, 3)
    assert list(groups) == ["best", "median", "worst"]
    values = {name: [one.score[1] for one in group] for name, group in groups.items()}
    ordered = sorted(one.score[1] for one in task.examples)
    assert values["best"] == ordered[::-1][:3]
    assert values["worst"] == ordered[:3]
    assert values["median"] == ordered[9:12]
    assert groups == choose(task.examples[::-1], task.task, 3)
    keys = [one.key for group in choose(task.examples[:2], task.task, 4).values() for one in group]
    assert len(keys) == len(set(keys)) == 2
    answers = next(
        one for one in read_tasks(folder / "predictions/val", CLEVR, None) if one.label == "question_answering"
    )
    wrong = choose(answers.examples, answers.task, 2)["wrong"]
    assert [one.kind for one in wrong] == ["count", "exist"] * 2


def test_confusion_counts_pairs_missed_and_invented():
    true = CLEVR.read(scene(thing(0, 0), thing(1, 1, "blue"), thing(-2, 2, "green")))
    guess = CLEVR.read(scene(thing(0.9, 1, "cyan"), thing(0, 0.1)))
    color = next(one for one in confusions(CLEVR, [(guess, true), (true, guess)]) if one.attribute == "color")
    at = {word: place for place, word in enumerate(color.words)}
    assert color.counts[at["red"], at["red"]] == 2
    assert color.counts[at["blue"], at["cyan"]] == 1
    assert color.counts[at["cyan"], at["blue"]] == 1
    assert color.counts[at["green"], -1] == color.counts[-1, at["green"]] == 1
    assert color.counts.sum() == 6
    assert color.accuracy == 0.5
    assert confusions(SCHEMAS["objaworld-shapes"], []) == []


def test_curves_lie_on_their_scales(folder):
    loss, jaccard = training_charts(MetricsFile.read(folder / "metrics.csv"))
    assert [curve.name for curve in loss.curves] == ["train", "val"]
    assert jaccard.curves[0].points == [(2, 0.1), (4, 0.6)]
    found = re.findall(r'<polyline class="c(\d)" points="([^"]*)"', chart_svg(loss))
    assert [number for number, _ in found] == ["0", "1"]
    train, val = ([tuple(map(float, one.split(","))) for one in points.split()] for _, points in found)
    # The losses fall from 5 to 0.4: a logarithmic scale over the whole height.
    height = 186 * math.log(0.5 / 0.4) / math.log(5 / 0.4)
    assert train == [(46, 10), (46 + 324 * 2 / 3, pytest.approx(196 - height, abs=0.1))]
    assert val[-1] == (370, 196)
    assert chart_svg(Chart("a", "b", [Curve("c", [(1, float("nan"))])])) == ""
    assert 'points="208,103"' in chart_svg(Chart("a", "b", [Curve("c", [(1, 2.0)])]))


def test_kept_pictures_come_before_codes():
    picture = np.full((32, 32, 3), 200, np.uint8)
    where = PictureKey("recognition", "a", "read")
    pictures = Pictures({where: compress(picture)}, tiny_image_tokenizer())
    shown = pictures.find(where, np.zeros(16, np.int64))
    assert not shown.decoded
    assert (np.asarray(Image.open(io.BytesIO(shown.compressed))) == 200).all()
    assert pictures.find(where._replace(key="b"), np.zeros(16, np.int64)).decoded
    assert Pictures().find(where, np.zeros(16, np.int64)) is None
    large = Image.open(io.BytesIO(compress(np.zeros((600, 300, 3), np.uint8))))
    assert (large.size, large.format) == ((128, 256), "JPEG")


def test_a_page_stays_below_its_size(folder, monkeypatch):
    tasks = read_tasks(folder / "predictions/val", None, None)
    evaluation = Evaluation("run", "val", {}, tasks)
    full = len(page.page_html(evaluation, Pictures(), 4))
    monkeypatch.setattr(page, "MOST_BYTES", full - 1)
    small = write_page(evaluation, folder / "new" / "small.html", rows=4).read_text()
    assert len(small) < full
    assert "No metric was logged" in small
    with pytest.raises(ValueError, match=r"an \.html file"):
        write_page(evaluation, folder / "page.htm")


def test_bad_predictions_are_named(folder):
    root = folder / "predictions/val"
    file = root / "I-3.rank0.jsonl"
    good = file.read_text().splitlines()
    for change, message in (
        ("{", r"I-3\.rank0\.jsonl, line 2: Expecting"),
        ('{"key": 1}', "line 2: expected key, kind, read.*KeyError 'read'"),
        (good[0], "line 2: sample 's-0' comes twice; files of an earlier run"),
        (good[1].replace('"cyan"', '"pink"'), "line 2: object 1, attribute 'color'"),
    ):
        file.write_text("\n".join([good[0], change]) + "\n")
        with pytest.raises(ValueError, match=message):
            read_examples([file], CLEVR)
    with pytest.raises(ValueError, match=r"of none of the schemas clevr, .*'pink' is none of"):
        find_schema([file])
    with pytest.raises(ValueError, match=r"expected predictions/val/TASK\.rank0\.jsonl"):
        report(folder / "predictions")
    (folder / "config.yaml").write_text("tokenizer: {image: nowhere/images}\n")
    with pytest.raises(ValueError, match="'nowhere/images' is not here; give --image_tokenizer"):
        report(folder)
