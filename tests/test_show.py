"""Samples shown as coloured text and as sheets: which parts carry which style, and where pictures lie."""

import io

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from data_modules.faults import BadInputError
from data_modules.index import Index
from data_modules.shards import encode_json, encode_npy, encode_png, write_shard
from data_modules.showing import colored, legend, panels, runs, show, table
from data_modules.spelling import spell
from kyvo.report.scene_drawing import floor_extent, has_floor
from kyvo.report.sheet import draw_sheet
from kyvo.sample import Sample
from kyvo.scene import SCHEMAS, Attribute, Scene, SceneObject, SceneSchema
from kyvo.task import Task
from kyvo.tokenizers.tokenizer import UnifiedTokenizer
from tests.tiny_world import tiny_image_tokenizer

CUBE = {"size": "small", "color": "red", "material": "metal", "shape": "cube", "3d_coords": [1.0, -0.5, 0.35]}
SCENE, TARGET = {"objects": [CUBE]}, {"objects": [CUBE | {"color": "blue"}]}
ASKED = [{"question": "Is it red?", "answer": "True", "type": "exist"}]
RED, BLUE = (np.full((8, 12, 3), color, np.uint8) for color in ((200, 0, 0), (0, 0, 200)))
OWN = """
name: table
attributes: [{name: thing, marker: "[THING]", values: [cup, plate]}, {name: at, marker: "[AT]", quantities: [x, y]}]
numbers: {x: {low: 0, high: 1, step: 0.1}, y: {low: 0, high: 1, step: 0.1}}
"""


@pytest.fixture
def root(tmp_path):
    """Two scenes and an edit, with pictures and codes."""
    codes = encode_npy(np.arange(16, dtype=np.uint16))
    scene = {"image.png": encode_png(RED), "scene.json": encode_json(SCENE), "image.codes.npy": codes}
    edit = {"target.image.png": encode_png(BLUE), "target.scene.json": encode_json(TARGET)}
    edit |= {"instruction.json": encode_json({"text": "Make it blue", "type": "appearance"})}
    edit |= {"target.image.codes.npy": encode_npy(np.arange(15, -1, -1, dtype=np.uint16))}
    asked = [(key, scene | {"question.json": encode_json(ASKED)}) for key in ("a", "b")]
    index = Index.of_schema(SCHEMAS["clevr"]).with_shard("train", write_shard(tmp_path / "train-000000.tar", asked))
    index.with_shard("train-edits", write_shard(tmp_path / "edits.tar", [("e", scene | edit)])).write(tmp_path)
    return tmp_path


def plain(text):
    return "".join(text.split())


def test_what_is_written_is_bold_and_what_weighs_more_is_underlined():
    tokenizer = UnifiedTokenizer.from_preset("paper", image_grid=(2, 4))
    sample = Sample("a", np.arange(8), SCHEMAS["clevr"].read(SCENE))
    sequence = tokenizer.encode(Task.parse("3-I"), sample)
    text = colored(sequence, tokenizer)
    scene = "[SCENE-START][OBJECT-START][SIZE] small[COLOR] red[MATERIAL] metal[SHAPE] cube[LOCATION] 1.00 -0.50 0.35"
    assert [(text.plain[span.start : span.end], span.style) for span in text.spans] == [
        ("[BOS]", "magenta"),
        (f"{scene}[OBJECT-END][SCENE-END]", "green"),
        ("[OUTPUT-START]", "magenta"),
        ("[IMAGE-START]", "bold cyan"),
        ("<2><1><3><0><4>", "bold underline cyan"),
        ("<5><6><7>[IMAGE-END]", "bold cyan"),
        ("[EOS]", "bold magenta"),
    ]
    assert [(name, weight, len(ids)) for name, weight, ids in runs(sequence)][3:6] == [
        ("image", 1.0, 1),
        ("image", 10.0, 5),
        ("image", 1.0, 4),
    ]
    assert legend(tokenizer).plain.startswith("read   written   weighs 10 times   image   scene   text")
    assert "weighs" not in legend(UnifiedTokenizer.from_preset("unified")).plain


def test_ids_of_every_kind_are_spelled():
    tokenizer = UnifiedTokenizer.from_preset("kyvo-release-objectron", shape_codes=2)
    vocabulary = tokenizer.vocabulary
    ids = [
        vocabulary.bos,
        *tokenizer.text.encode("Is it red?"),
        vocabulary.number_range.start,
        vocabulary.marker_range[4],
    ]
    ids += [vocabulary.reserved_range[0], vocabulary.image_range[-1], vocabulary.shape_range[1], vocabulary.eos]
    expected = f"[BOS]Is it red? -0.20[CATEGORY][{vocabulary.reserved_range[0]}]<1023>{{1}}[EOS]"
    assert spell(tokenizer, ids) == expected


def test_show_prints_ids_and_draws(root, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    show(str(root), "I+3+Q-A", n=5, ids=True, png=tmp_path / "out" / "sheet.png")
    printed = capsys.readouterr().out
    assert "a-q0  I+3+Q-A" in printed
    assert "b-q0  I+3+Q-A" in printed
    tokenizer = UnifiedTokenizer.from_preset("paper", image_grid=(4, 4))
    for ids in (tokenizer.text.encode("Is it red?"), tokenizer.text.encode("True")):
        assert " ".join(map(str, ids)) in printed
    assert "[TEXT-START]Is it red?[TEXT-END]" in printed
    # A panel of 288 pixels, 288 of 12 wide: the picture is as wide as the panel, and two thirds as high.
    sheet = np.asarray(Image.open(tmp_path / "out" / "sheet.png"))
    assert (sheet[34 + 144, 16 + 10] == (200, 0, 0)).all()
    assert not (sheet[34 + 20, 16 + 144] == (200, 0, 0)).all()


def test_edits_show_what_is_before_and_after(root, tmp_path, capsys):
    show(str(root), "I+3+T-I+3", tokenizer=None, png=tmp_path / "sheet.png")
    printed = plain(capsys.readouterr().out)
    assert "[TEXT-START]Makeitblue[TEXT-END][OUTPUT-START][IMAGE-START]<9><10>" in printed
    sheet = np.asarray(Image.open(tmp_path / "sheet.png"))
    # Five columns: image, scene, text, target image, target scene.
    assert sheet.shape == (34 + 288 + 26 + 16, 2 * 16 + 5 * (288 + 6) - 6, 3)
    assert (sheet[34 + 144, 16 + 3 * 294 + 10] == (0, 0, 200)).all()


def test_a_tokenizers_folder_is_used(root, tmp_path, capsys):
    UnifiedTokenizer.from_preset("quickstart", image_grid=(4, 4)).save_pretrained(tmp_path / "tokenizer")
    show(str(root), "I-3", n=1, tokenizer=tmp_path / "tokenizer")
    assert "<0><1><2><3>" in plain(capsys.readouterr().out)


def test_pictures_come_from_codes_where_there_are_no_pixels():
    coded = Sample("a", image=np.zeros(16, dtype=np.int64))
    without = UnifiedTokenizer.from_preset("quickstart")
    assert panels(coded, without) == {"image": "16 codes and no picture"}
    picture = panels(coded, UnifiedTokenizer.from_preset("quickstart", image=tiny_image_tokenizer()))["image"]
    assert (picture.shape, picture.dtype) == ((32, 32, 3), np.uint8)
    asked = Sample("a", text="Is it red?", target_text="True", pixels=RED)
    assert panels(asked, without)["text"] == "Is it red?\n\nTrue"


def test_own_schemas_need_their_file(tmp_path, capsys):
    (tmp_path / "own.yaml").write_text(OWN)
    schema = UnifiedTokenizer.from_preset("unified", schema=tmp_path / "own.yaml").schema
    files = {"scene.json": encode_json({"objects": [{"thing": "cup", "at": [0.3, 0.7]}]})}
    shard = write_shard(tmp_path / "train-000000.tar", [("a", files)])
    Index.of_schema(schema).with_shard("train", shard).write(tmp_path)
    with pytest.raises(ValueError, match=r"a schema of their own, 'table': give its file, --tokenizer FILE\.yaml"):
        show(str(tmp_path), "3-3")
    show(str(tmp_path), "3-3", tokenizer=tmp_path / "own.yaml", png=tmp_path / "sheet.png")
    assert "[THING]cup[AT]x:0.30y:0.70" in plain(capsys.readouterr().out)
    assert Image.open(tmp_path / "sheet.png").size[0] == 2 * 16 + 288


def test_a_bad_sample_is_named(root):
    write_shard(root / "train-000000.tar", [("a", {"scene.json": b"{"}), ("b", {})])
    with pytest.raises(BadInputError, match=r"train-000000\.tar"):
        show(str(root), "3-3")
    with pytest.raises(ValueError, match="no shards 'val'"):
        show(str(root), "3-3", split="val")


def test_tables_have_a_row_for_each_run():
    tokenizer = UnifiedTokenizer.from_preset("paper", image_grid=(2, 4))
    sample = Sample("a", np.arange(8), SCHEMAS["clevr"].read(SCENE))
    console = Console(file=io.StringIO(), width=200)
    console.print(table(tokenizer.encode(Task.parse("3-I"), sample), tokenizer))
    lines = [line.split() for line in console.file.getvalue().splitlines()]
    assert lines[0] == ["segment", "from", "weight", "ids", "says"]
    offset = tokenizer.vocabulary.image_range.start
    first = ["image", "19", "10", *(str(offset + code) for code in (2, 1, 3, 0, 4))]
    assert first in [line[:8] for line in lines]


# ---- drawings --------------------------------------------------------------------------------------------------------


def things(*places):
    schema = SceneSchema(
        "t", (Attribute("a", "[A]", values=("b",)), Attribute("at", "[AT]", "numbers", quantities=("x", "y")))
    )
    return schema, Scene(tuple(SceneObject({"a": "b", "at": place}) for place in places))


def test_the_floor_of_own_data_is_a_round_number_around_what_is_on_it():
    for reach, extent in ((0.04, 0.05), (0.9, 1.0), (1.1, 2.0), (25.0, 30.0), (4.0, 5.0)):
        schema, scene = things((0.0, -reach), (reach / 2, 0.0))
        assert floor_extent([scene], schema) == pytest.approx(extent)
    schema, empty = things()
    assert floor_extent([empty], schema) == 1.0
    assert floor_extent([], SCHEMAS["clevr"]) == 3.0
    box = SceneObject({"category": "cup", "center_cam": (0.1, 0.0, 1.7), "dimensions": (0.1, 0.1, 0.1)})
    assert floor_extent([Scene((box,))], SCHEMAS["objectron"]) == 1.0


def test_own_data_is_drawn_like_a_map(tmp_path):
    """x points right and y up: the mark of an object at (0.8, 0.8) is in the upper right quarter."""
    from kyvo.report.scene_drawing import PALETTE, draw_scene

    schema, scene = things((0.8, 0.8))
    pixels = np.asarray(draw_scene(scene, schema, 200, floor_extent([scene], schema))).astype(int)
    blue = (pixels[..., 2] - pixels[..., 0]) > 40
    rows, columns = np.nonzero(blue)
    assert PALETTE[0][2] > PALETTE[0][0]
    assert rows.mean() < 60
    assert columns.mean() > 140


def test_scenes_without_places_are_put_in_words(tmp_path):
    schema = SceneSchema("w", (Attribute("a", "[A]", values=("b", "c")),))
    assert not has_floor(schema)
    scene = Scene((SceneObject({"a": "b"}),))
    sheet = draw_sheet([("", {"scene": scene})], tmp_path / "a.png", schema)
    text = draw_sheet([("", {"scene": "b"})], tmp_path / "b.png", schema)
    np.testing.assert_array_equal(np.asarray(Image.open(sheet)), np.asarray(Image.open(text)))
    with pytest.raises(ValueError, match="at least one sample"):
        draw_sheet([], tmp_path / "c.png")
