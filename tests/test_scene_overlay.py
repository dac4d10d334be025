"""Scenes drawn over pictures: lines lie where the camera sees the objects, and nowhere else."""

import numpy as np
import pytest
from PIL import Image

from kyvo.report.page_examples import Example
from kyvo.report.page_pictures import PictureKey, Pictures, compress
from kyvo.report.page_samples import SampleSheet, TaskResults
from kyvo.report.scene_overlay import TRUE, WRITTEN, Layer, draw_over, has_outlines, outlines
from kyvo.scene import SCHEMAS, Attribute, Scene, SceneObject, SceneSchema
from kyvo.task import Task

CAMERA = np.array([[1.0, 0, 0.5, 0], [0, 1.0, 0.5, 0], [0, 0, 1.0, 0]])
"""At the origin, along z; x right, y down; one unit wide at a depth of 1."""

GRAY = Image.new("RGB", (50, 50), (90, 90, 90))


def cup(x, depth, size=0.5):
    return SceneObject({"category": "cup", "center_cam": (x, 0.0, depth), "dimensions": (size, size, size)})


def cube(x, y, z, size="small"):
    words = {"size": size, "color": "red", "material": "rubber", "shape": "cube"}
    return SceneObject({**words, "location": (x, y, z)})


def columns(image, color):
    """First and last column, as shares, in which a colour occurs."""
    pixels = np.asarray(image).astype(int)
    found = np.flatnonzero((np.abs(pixels - color).sum(-1) < 40).any(0))
    return found.min() / image.width, found.max() / image.width


def test_a_box_covers_its_place():
    scene = Scene((cup(0.25, 2.25),))
    drawn = draw_over(GRAY, CAMERA, [Layer(scene, TRUE, 2.0)], SCHEMAS["objectron"], 200)
    assert drawn.size == (200, 200)
    # The nearer face lies at a depth of 2, from x = 0 to 0.5.
    assert columns(drawn, TRUE) == pytest.approx((0.5, 0.75), abs=0.01)
    assert np.asarray(drawn)[5, 5].tolist() == [90, 90, 90]


def test_boxes_are_turned():
    quarter = np.array([[0.0, 0, 1], [0, 1, 0], [-1, 0, 0]])
    scene = Scene((SceneObject({"category": "cup", "center_cam": (0.0, 0.0, 4.0), "dimensions": (2.0, 0.5, 1.0)}),))
    plain, turned = (
        outlines(Layer(scene, TRUE, rotations=rotation), SCHEMAS["objectron"], CAMERA)[0].points
        for rotation in (None, quarter[None])
    )
    assert np.ptp(plain, axis=0) == pytest.approx([1.0, 0.5, 2.0])
    assert np.ptp(turned, axis=0) == pytest.approx([2.0, 0.5, 1.0])


def test_what_is_behind_the_camera_is_not_drawn():
    for scene in (Scene((cup(0.0, -3.0),)), Scene()):
        drawn = draw_over(GRAY, CAMERA, [Layer(scene, TRUE)], SCHEMAS["objectron"], 100)
        assert (np.asarray(drawn) == 90).all()
    # Of what is partly behind, the rest is.
    long = SceneObject({"category": "cup", "center_cam": (0.0, 0.0, 0.2), "dimensions": (1.0, 0.1, 0.1)})
    drawn = draw_over(GRAY, CAMERA, [Layer(Scene((long,)), TRUE)], SCHEMAS["objectron"], 100)
    assert columns(drawn, TRUE) == pytest.approx((0.5 - 0.05 / 0.7, 0.5 + 0.05 / 0.7), abs=0.02)


def test_blocks_of_clevr_have_their_size():
    for size, side in (("large", 1.4), ("small", 0.7)):
        (block,) = outlines(Layer(Scene((cube(1, 2, 5, size),)), TRUE), SCHEMAS["clevr"], CAMERA)
        assert np.ptp(block.points, axis=0) == pytest.approx([side] * 3)
        assert block.points.mean(0) == pytest.approx([1, 2, 5])


def test_posed_objects_are_rings_with_a_pointer():
    def marker(depth, yaw):
        scene = Scene((SceneObject({"shape": "bench", "location": (0.5, 0.25, depth, yaw)}),))
        (found,) = outlines(Layer(scene, TRUE), SCHEMAS["objaworld"], CAMERA)
        return found

    found = marker(5.0, np.pi / 2)
    start, tip = found.points[-2:]
    assert start == pytest.approx([0.5, 0.25, 5])
    assert (tip - start)[[0, 2]] == pytest.approx([0, 0], abs=1e-9)
    assert tip[1] > start[1]
    # As large in the picture from near and from far.
    assert np.ptp(marker(10.0, 0.0).points[:24, 0]) == pytest.approx(2 * np.ptp(found.points[:24, 0]))


def test_the_later_layer_lies_over_the_earlier():
    layers = [Layer(Scene((cup(0.25, 2.25),)), TRUE, 4.0), Layer(Scene((cup(0.25, 2.25),)), WRITTEN, 2.0)]
    pixels = np.asarray(draw_over(GRAY, CAMERA, layers, SCHEMAS["objectron"], 200)).astype(int)
    for color in (TRUE, WRITTEN):
        assert (np.abs(pixels - color).sum(-1) < 60).any()


def test_only_schemas_with_places():
    assert [name for name in SCHEMAS if not has_outlines(SCHEMAS[name])] == []
    words = SceneSchema("words", (Attribute("color", "[COLOR]", values=("red",)),))
    assert not has_outlines(words)
    with pytest.raises(ValueError, match="schema 'words' does not place"):
        draw_over(GRAY, CAMERA, [], words, 100)


def sheet(task, camera=CAMERA, **contents):
    example = Example("a", "", **contents, scores={"jaccard": 0.5}, camera=camera)
    key = PictureKey("here", "a", "target" if "image" in task.outputs else "read")
    pictures = Pictures({key: compress(GRAY)})
    return SampleSheet(TaskResults("here", task, SCHEMAS["clevr"], [example]), pictures).html(1)


def test_the_page_shows_them_where_the_camera_is_known():
    scene, codes = Scene((cube(0, 0, 5),)), np.zeros(16, np.int64)
    recognised = {"read": {"image": codes}, "target": {"scene": scene}, "generated": {"scene": scene}}
    said = '<b class="true">true</b> and <b class="written">written</b> in the image'
    assert sheet(Task.parse("I-3"), **recognised).count(said) == 1
    # A scene that could not be read leaves the true one.
    assert sheet(Task.parse("I-3"), **{**recognised, "generated": {"scene": None}}).count(said) == 1
    assert said not in sheet(Task.parse("I-3"), camera=None, **recognised)
    edited = {
        "read": {"image": codes, "scene": scene, "text": "Turn it."},
        "target": {"image": codes, "scene": scene},
        "generated": {"image": codes, "scene": scene},
    }
    assert sheet(Task.parse("I+3+T-I+3"), **edited).count(said) == 1
    # What was to be drawn is drawn over what was written, which nothing decodes here.
    rendered = {"read": {"scene": scene}, "target": {"image": codes}, "generated": {"image": codes}}
    assert "in the image" not in sheet(Task.parse("3-I"), **rendered)
