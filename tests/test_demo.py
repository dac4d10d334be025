"""What the page does with a model, without a browser: uploads, scenes as text, controls of objects, and each task."""

import json
import math
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from kyvo import Kyvo
from kyvo.demo.desk import Desk
from kyvo.demo.examples import SHIPPED, read_examples
from kyvo.demo.object_form import Choice, ObjectForm, Range
from kyvo.demo.panels import answer_html, change_html, picture_html, table_html, view_html
from kyvo.demo.phrases import instructions, questions
from kyvo.demo.scene_text import read_scene_text, scene_text
from kyvo.demo.solids import look_at, solids_of, view_data
from kyvo.demo.upload import MOST_BYTES, read_upload
from kyvo.demo.workbench import Workbench, open_workbench
from kyvo.generation.folder import write_extras
from kyvo.scene import SCHEMAS, Scene, SceneObject
from kyvo.tokenizers.tokenizer import UnifiedTokenizer
from tests.tiny_world import tiny_tokenizer
from tests.worlds import random_sample, tiny_kyvo

TASKS = ["3-I", "I-3", "I+3+Q-A", "3+T-3"]
CLEVR = SCHEMAS["clevr"]


def bench_of(*tasks):
    return Workbench(tiny_kyvo(tasks or TASKS), read_examples(SHIPPED, CLEVR, (32, 32)))


@pytest.fixture(scope="module")
def bench():
    return bench_of()


@pytest.fixture
def scene():
    return random_sample(3).scene


def saved(tmp_path, picture, name="a.png", **options):
    picture.save(tmp_path / name, **options)
    return tmp_path / name


# ---- uploads --------------------------------------------------------------------------------------------------------


@given(st.integers(8, 90), st.integers(8, 90), st.sampled_from([(32, 32), (20, 30)]))
def test_the_middle_is_cut_to_the_models_shape(width, height, size):
    row = np.arange(width, dtype=np.uint8)[None] + np.arange(height, dtype=np.uint8)[:, None]
    with tempfile.TemporaryDirectory() as folder:
        found = read_upload(saved(Path(folder), Image.fromarray(row)), size)
    assert found.picture.size == size[::-1]
    # The mean of a ramp is that of its middle, wherever it is cut symmetrically.
    assert abs(np.asarray(found.picture, dtype=float).mean() - (width + height) / 2 + 1) < 2.5
    assert bool(found.note) == ((height, width) != size)


def test_notes_say_what_was_done(tmp_path):
    same = read_upload(saved(tmp_path, Image.new("RGB", (32, 32), (9, 8, 7))), (32, 32))
    assert (same.note, same.picture.getpixel((0, 0))) == ("", (9, 8, 7))
    wide = read_upload(saved(tmp_path, Image.new("RGB", (200, 100))), (32, 32))
    assert wide.note == (
        "Your picture of 200 × 100 pixels was cropped to its middle of 100 × 100 and scaled to 32 × 32 pixels, "
        "which this model reads."
    )
    assert "cropped" not in read_upload(saved(tmp_path, Image.new("RGB", (64, 64))), (32, 32)).note


def test_photographs_stand_upright_and_palettes_become_colours(tmp_path):
    lying = Image.new("RGB", (32, 32), (250, 0, 0))
    lying.paste((0, 0, 250), (0, 0, 16, 32))
    exif = Image.Exif()
    exif[274] = 6  # to be turned by a quarter: what is left comes to the top
    found = read_upload(saved(tmp_path, lying, "a.jpg", exif=exif, quality=95), (32, 32)).picture
    assert found.getpixel((16, 2))[2] > 200
    assert found.getpixel((16, 29))[0] > 200
    palette = Image.new("RGB", (32, 32), (0, 128, 0)).convert("P")
    assert read_upload(saved(tmp_path, palette, "a.gif"), (32, 32)).picture.mode == "RGB"


def test_what_is_no_picture_is_said(tmp_path):
    text = tmp_path / "a.png"
    text.write_text("no picture")
    with pytest.raises(ValueError, match="no picture that can be read: expected PNG, JPEG, WEBP, BMP, GIF"):
        read_upload(text, (32, 32))
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    broken = saved(tmp_path, Image.fromarray(noise))
    broken.write_bytes(broken.read_bytes()[:4000])
    with pytest.raises(ValueError, match="seems broken"):
        read_upload(broken, (32, 32))
    tiff = saved(tmp_path, Image.new("RGB", (32, 32)), "b.tiff")
    with pytest.raises(ValueError, match="no picture that can be read"):
        read_upload(tiff, (32, 32))


@pytest.mark.parametrize(("width", "height"), [(9000, 9000), (20000, 10000), (4, 32)])
def test_pictures_too_large_or_small_are_refused_by_their_header(tmp_path, width, height, monkeypatch):
    file = saved(tmp_path, Image.new("1", (width, height)))
    monkeypatch.setattr(Image.Image, "convert", None)
    with pytest.raises(ValueError, match=f"64 million at most, got {width} x {height}|far too large"):
        read_upload(file, (32, 32))


def test_files_too_large_are_not_opened(tmp_path, monkeypatch):
    file = tmp_path / "a.png"
    with file.open("wb") as out:
        out.truncate(MOST_BYTES + 1)
    monkeypatch.setattr(Image, "open", None)
    with pytest.raises(ValueError, match=r"10 MB at most, got 10\.0 MB"):
        read_upload(file, (32, 32))


# ---- examples -------------------------------------------------------------------------------------------------------


def test_shipped_examples_are_what_their_readme_makes():
    text = (SHIPPED / "README.md").read_text().split("```python\n")[1].split("```")[0]
    made = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Image.Image, "save", lambda self, path, **options: made.__setitem__(path.name, np.asarray(self)))
        patch.setattr("pathlib.Path.write_text", lambda self, content: made.__setitem__(self.name, content))
        exec(text.replace("enumerate((14, 28, 32, 27, 8, 24, 36, 38))", "enumerate((14, 28))"), {})
    assert sorted(made) == ["0.json", "0.png", "1.json", "1.png"]
    for name in ("0", "1"):
        assert np.array_equal(np.asarray(Image.open(SHIPPED / f"{name}.png")), made[f"{name}.png"])
        assert (SHIPPED / f"{name}.json").read_text() == made[f"{name}.json"]


def test_examples_of_a_folder(tmp_path):
    found = read_examples(SHIPPED, CLEVR, (32, 32))
    assert len(found) == 8
    assert all(one.picture.size == (32, 32) and 1 <= len(one.scene) <= 3 for one in found)
    with pytest.raises(ValueError, match="folder of PNG files"):
        read_examples(tmp_path, CLEVR, (32, 32))
    saved(tmp_path, Image.new("RGB", (40, 40)))
    assert read_examples(tmp_path, CLEVR, (32, 32))[0].scene is None
    (tmp_path / "a.json").write_text('{"objects": [{}]}')
    with pytest.raises(ValueError, match=r"a\.png: object 0, attribute 'size'"):
        read_examples(tmp_path, CLEVR, (32, 32))


# ---- scenes as text -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(4))
def test_scenes_as_text_are_read_back(seed, bench):
    scene = random_sample(seed).scene
    text = scene_text(scene, CLEVR)
    assert len(text.splitlines()) == len(scene) + 2
    assert read_scene_text(text, bench.kyvo.tokenizer) == scene
    assert read_scene_text(scene_text(Scene(), CLEVR), bench.kyvo.tokenizer) == Scene()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no JSON: Expecting value in line 1, column 1"),
        ('{"objects": [\n{]}', "no JSON: .* in line 2"),
        ("[" * 50_000, "nested too deeply"),
        ("x" * 200_000, "100,000 letters at most"),
        ("[]", "not a list"),
        ("{}", "needs a list under 'objects'"),
        ('{"objects": [1]}', "object 0 .* should be a mapping"),
        ('{"objects": [{"size": "huge"}]}', "object 0, attribute 'size'.*'huge' is none of large, small"),
        ('{"objects": [@, @]}', "object 1, attribute 'location'.*x = 9 is outside"),
        (f'{{"objects": [{", ".join("@" * 17)}]}}', "16 objects at most, got 17"),
    ],
)
def test_what_is_no_scene_is_said(text, message, bench):
    one = json.loads(scene_text(random_sample(0).scene, CLEVR))["objects"][0]
    text = text.replace("@", json.dumps(one), 1 if "17" not in message else -1)
    text = text.replace("@", json.dumps(one | {"3d_coords": [9, 0, 0]}))
    with pytest.raises(ValueError, match=f"(?s){message}"):
        read_scene_text(text, bench.kyvo.tokenizer)


# ---- controls of objects --------------------------------------------------------------------------------------------


def test_controls_are_those_of_the_schema():
    form = ObjectForm(tiny_tokenizer())
    assert form.controls[:4] == [Choice(one.name, one.values) for one in CLEVR.attributes[:4]]
    assert form.controls[4:] == [Range("location", index, name, -3.0, 3.0, 0.05) for index, name in enumerate("xyz")]
    shapes = UnifiedTokenizer.from_preset("unified", schema="objaworld-shapes", shape_codes=64)
    assert [one.quantity for one in ObjectForm(shapes).controls] == ["x", "y", "z", "yaw"]


def test_each_control_changes_its_value_alone(scene):
    form = ObjectForm(tiny_tokenizer())
    one = scene.objects[0]
    for place, control in enumerate(form.controls):
        value = control.values[-1] if isinstance(control, Choice) else 0.5
        changed = form.change(one, control, value)
        differ = [
            index
            for index, pair in enumerate(zip(form.read(one), form.read(changed), strict=True))
            if len(set(pair)) > 1
        ]
        assert form.read(changed)[place] == value
        # A size lifts or lowers an object that stands on the floor.
        assert set(differ) <= {place} | ({6} if control.attribute == "size" else set())
    with pytest.raises(ValueError, match="'huge' is none of large, small"):
        form.change(one, form.controls[0], "huge")
    for bad in (3.5, math.nan, "1", None):
        with pytest.raises(ValueError, match="x: expected a number from -3 to 3"):
            form.change(one, form.controls[4], bad)


def test_sizes_keep_objects_on_the_floor_and_leave_those_in_the_air():
    form = ObjectForm(tiny_tokenizer())
    size, height = form.controls[0], form.controls[6]
    one = form.new(Scene())
    assert (one["size"], height.read(one)) == ("large", 0.7)
    assert height.read(form.change(one, size, "small")) == 0.35
    flying = height.write(one, 2.0)
    assert height.read(form.change(flying, size, "small")) == 2.0


def test_new_objects_stand_apart():
    form, scene = ObjectForm(tiny_tokenizer()), Scene()
    for _ in range(9):
        scene = Scene((*scene, form.new(scene)))
    assert len({one["location"] for one in scene}) == 9
    assert read_scene_text(scene_text(scene, CLEVR), tiny_tokenizer()) == scene


def test_new_objects_of_other_schemas():
    tokenizer = UnifiedTokenizer.from_preset("unified", schema="objectron")
    one = ObjectForm(tokenizer).new(Scene())
    tokenizer.codec.encode(Scene((one,)))
    assert one["dimensions"][0] > 0
    shapes = UnifiedTokenizer.from_preset("unified", schema="objaworld-shapes", shape_codes=64)
    with pytest.raises(ValueError, match="explicit shape"):
        ObjectForm(shapes).new(Scene())


# ---- the view -------------------------------------------------------------------------------------------------------


def test_solids_of_clevr_have_its_colours_and_sizes():
    scene = Scene(
        (
            SceneObject(
                {"size": "small", "color": "red", "material": "metal", "shape": "sphere", "location": (1.0, -2.0, 0.35)}
            ),
        )
    )
    [one] = solids_of(scene, CLEVR)
    assert (one.kind, one.center, one.half, one.color) == ("sphere", (1.0, -2.0, 0.35), (0.35,) * 3, (173, 35, 35))
    assert (one.metal, one.yaw, one.name) == (True, None, "small red metal sphere")
    look = look_at([one], CLEVR)
    assert look.extent == 2.5
    # What lies right for CLEVR's camera lies right here.
    right = (-math.sin(look.azimuth), math.cos(look.azimuth))
    assert np.allclose(right, (0.6563, 0.7545), atol=1e-3)


def test_solids_of_cameras_and_poses():
    box = SceneObject({"category": "cup", "center_cam": (0.1, 0.2, 1.5), "dimensions": (0.2, 0.4, 0.6)})
    [one] = solids_of(Scene((box,)), SCHEMAS["objectron"])
    assert one.kind == "cube"
    assert np.allclose(one.center, (0.1, 1.5, -0.2))
    assert np.allclose(one.half, (0.1, 0.3, 0.2))
    assert np.allclose(look_at([one], SCHEMAS["objectron"]).target, (0.1, 1.5, -0.4))
    sofa = SceneObject({"shape": "sofa", "location": (1.0, 0.0, 0.0, 0.5)})
    [one] = solids_of(Scene((sofa,)), SCHEMAS["objaworld"])
    assert (one.yaw, one.name) == (0.5, "sofa")


def test_panels_show_what_is_there_and_nothing_of_html(bench, scene):
    empty = Desk()
    assert "No picture yet" in picture_html(empty)
    assert "No scene yet" in view_html(empty, CLEVR)
    assert "No objects" in table_html(None, CLEVR)
    desk = Desk(Image.new("RGB", (32, 32)), scene, "<b>", selected=0, question="<i>", answer="<u>")
    assert "&lt;b&gt;" in picture_html(desk)
    assert "stale" in picture_html(replace(desk, fresh=False))
    assert table_html(scene, CLEVR).count("<tr>") == len(scene) + 1
    assert "<i>" not in answer_html(desk)
    assert change_html(desk) == ""
    both = replace(desk, before=desk.picture, instruction="<script>")
    assert change_html(both).count("<img") == 2
    assert "<script>" not in change_html(both)
    data = json.dumps(view_data(scene, CLEVR, 0))
    assert data.replace('"', "&quot;") in view_html(desk, CLEVR)


def test_phrases_are_about_the_scene(scene):
    nouns = {f"{one['color']} {one['shape']}" for one in scene}
    found = instructions(scene, CLEVR)
    assert found
    assert all(any(noun in text for noun in nouns) for text in found)
    assert len(questions(scene, CLEVR)) == len(set(questions(scene, CLEVR))) > 1
    assert instructions(None, CLEVR) == questions(scene, SCHEMAS["objaworld"]) == []


# ---- tasks ----------------------------------------------------------------------------------------------------------


def test_examples_and_uploads_are_recognised(bench, tmp_path):
    desk = bench.example(1)
    assert bench.kyvo.recognize([bench.examples[1].picture]) == [desk.scene]
    found = bench.upload(saved(tmp_path, Image.new("RGB", (60, 40), (90, 90, 90))))
    assert found.picture.size == (32, 32)
    assert "cropped to its middle of 40 × 40" in found.caption
    assert bench.kyvo.recognize([found.picture]) == [found.scene]


def test_changed_objects_make_the_picture_stale_until_it_is_drawn(bench, scene):
    desk = replace(bench.start(), scene=scene, selected=0, answer="red")
    moved = bench.change(desk, bench.form.controls[4], 0.5)
    assert (moved.scene.objects[0]["location"][0], moved.fresh, moved.answer) == (0.5, False, "")
    assert moved.scene.objects[1:] == scene.objects[1:]
    drawn = bench.render(moved)
    [expected] = bench.kyvo.render([moved.scene])
    assert drawn.fresh
    assert np.array_equal(np.asarray(drawn.picture), np.asarray(expected))


def test_objects_are_added_removed_and_selected(bench):
    desk = bench.add(bench.add(Desk()))
    assert (len(desk.scene), desk.selected) == (2, 1)
    assert bench.select(desk, 0).selected == 0
    one = bench.remove(desk)
    assert (len(one.scene), one.selected) == (1, 0)
    none = bench.remove(one)
    assert (none.scene, none.selected) == (Scene(), None)
    with pytest.raises(ValueError, match="add one first"):
        bench.remove(none)
    full = desk
    while len(full.scene) < 16:
        full = bench.add(full)
    with pytest.raises(ValueError, match="16 objects at most"):
        bench.add(full)


def test_instructions_edit_the_scene_and_then_draw_it(bench, scene):
    desk = replace(bench.start(), scene=scene, selected=0)
    after = bench.instruct(desk, " remove the cube ")
    [(picture, edited)] = bench.kyvo.edit(None, [scene], ["remove the cube"])
    assert (after.scene, after.instruction, after.before) == (edited, "remove the cube", desk.picture)
    assert np.array_equal(np.asarray(after.picture), np.asarray(picture))


def test_questions_are_about_a_picture_of_the_scene(bench, scene):
    stale = replace(bench.start(), scene=scene, fresh=False)
    found = bench.ask(stale, "what color is it")
    assert found.fresh
    assert [found.answer] == bench.kyvo.answer([found.picture], [scene], ["what color is it"])


def test_models_do_what_they_were_trained_for(scene):
    pictures = bench_of("I-3")
    assert (pictures.recognizes, pictures.renders, pictures.instructs, pictures.answers) == (True, False, False, False)
    reader = bench_of("I+Q-A")
    assert reader.ask(reader.start(), "what color is it").answer is not None
    assert reader.start().scene == reader.examples[0].scene
    whole = bench_of("I+3+T-I+3")
    after = whole.instruct(whole.start(), "remove it")
    given = whole.examples[0]
    assert after.scene == whole.kyvo.edit([given.picture], [given.scene], ["remove it"])[0][1]
    text = bench_of("3+T-3")
    assert text.instruct(text.start(), "remove it").picture is None
    assert not text.reads_pictures
    everything = Workbench(Kyvo(text.kyvo.model, text.kyvo.tokenizer))
    assert everything.recognizes
    assert everything.start() == Desk()


def test_steps_say_what_is_missing(bench, scene):
    for step, message in (
        (lambda: bench.render(Desk()), "no scene yet"),
        (lambda: bench.recognize(Desk()), "no picture yet"),
        (lambda: bench.ask(Desk(), "what"), "no scene yet"),
        (lambda: bench.instruct(Desk(scene=scene), "  "), "type an instruction first"),
        (lambda: bench.ask(bench.start(), "what " * 600), "1 to 512 tokens, got 6"),
    ):
        with pytest.raises(ValueError, match=message):
            step()
    with pytest.raises(ValueError, match="no image tokenizer"):
        Workbench(tiny_kyvo(tokenizer=UnifiedTokenizer.from_preset("quickstart")))


def test_a_folder_is_opened_with_the_examples_of_its_schema(tmp_path):
    kyvo = tiny_kyvo(TASKS)
    kyvo.model.save_pretrained(tmp_path / "model")
    write_extras(tmp_path / "model", kyvo.tokenizer, tuple(TASKS))
    bench = open_workbench(tmp_path / "model")
    assert bench.start().scene == kyvo.recognize([bench.examples[0].picture])[0]
    saved(tmp_path, Image.new("RGB", (32, 32)))
    assert len(open_workbench(tmp_path / "model", tmp_path).examples) == 1
