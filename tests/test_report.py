"""Tables, drawings of scenes and grids of examples: their text, and where the pixels lie."""

import io

import numpy as np
import pytest
from PIL import Image, ImageFont
from rich.console import Console

from kyvo.report.grid import GridRow, draw_grid, draw_panel, wrap
from kyvo.report.scene_drawing import COLORS, draw_scene
from kyvo.report.table import MetricRow, metric_markdown, metric_table
from kyvo.scene import SCHEMAS, Scene, SceneObject

ROWS = [
    MetricRow("Jaccard", 0.9, "copy the input", 0.757, target=0.8),
    MetricRow("location error", 0.2, "untrained", 0.1, higher_is_better=False, digits=2),
    MetricRow("accuracy [exist]", float("nan"), baseline_value=0.5),
]


def cube(x, y, **words):
    values = {"size": "small", "color": "red", "material": "rubber", "shape": "sphere", "location": (x, y, 0.35)}
    return SceneObject(values | words)


def test_a_table_says_what_was_reached_and_whether_it_is_better():
    console = Console(file=io.StringIO(), width=120, force_terminal=True, color_system="standard")
    console.print(metric_table(ROWS, "after 100 steps"))
    text = console.file.getvalue()
    assert "after 100 steps" in text
    assert "accuracy [exist]" in text
    assert "\x1b[32m+0.143" in text  # green
    assert "\x1b[31m+0.10" in text  # red: an error above the baseline's
    assert "0.757 (copy the input)" in text


def test_markdown_has_the_same_cells():
    assert metric_markdown(ROWS).split("\n") == [
        "| metric | reached | baseline | difference | target |",
        "| :-- | --: | :-- | --: | --: |",
        "| Jaccard | 0.900 | 0.757 (copy the input) | +0.143 | 0.800 |",
        "| location error | 0.20 | 0.10 (untrained) | +0.10 | – |",
        "| accuracy [exist] | – | 0.500 | – | – |",
    ]
    assert metric_markdown(ROWS[1:]).startswith("| metric | reached | baseline | difference |\n")


def reddest(image):
    """Return the mean place (x, y) of the red pixels, from 0 to 1."""
    pixels = np.asarray(image).astype(int)
    ys, xs = np.nonzero((pixels[..., 0] - pixels[..., 1] > 80) & (pixels[..., 0] - pixels[..., 2] > 80))
    return xs.mean() / image.width, ys.mean() / image.height


def test_objects_lie_where_the_viewer_sees_them():
    # CLEVR's "right" is (0.656, 0.754) and its "front" (0.754, -0.656).
    assert reddest(draw_scene(Scene((cube(0.0, 0.0),)))) == pytest.approx((0.5, 0.5), abs=0.02)
    x, y = reddest(draw_scene(Scene((cube(1.5, 1.5),))))
    assert x > 0.65
    assert y == pytest.approx(0.5, abs=0.05)
    x, y = reddest(draw_scene(Scene((cube(1.5, -1.5),))))
    assert x == pytest.approx(0.5, abs=0.05)
    assert y > 0.65


def test_a_smaller_floor_enlarges_the_scene():
    def redness(extent):
        image = draw_scene(Scene((cube(0.5, 0.5),)), extent=extent)
        return (np.asarray(image).astype(int) @ [1, -1, 0] > 80).sum()

    assert redness(1.5) > 2 * redness(3.0)


def test_what_lies_outside_is_drawn_at_the_edge():
    for place in ((99.0, 99.0), (-99.0, -99.0), (float("nan"), 0.0)):
        x, y = reddest(draw_scene(Scene((cube(*place),))))
        assert 0 < x < 1
        assert 0 < y < 1


@pytest.mark.parametrize("shape", ["cube", "sphere", "cylinder"])
@pytest.mark.parametrize("material", ["metal", "rubber"])
def test_shapes_and_materials_look_different(shape, material):
    image = np.asarray(draw_scene(Scene((cube(0, 0, shape=shape, material=material, size="large"),))))
    other = {"metal": "rubber", "rubber": "metal"}[material]
    changed = np.asarray(draw_scene(Scene((cube(0, 0, shape=shape, material=other, size="large"),))))
    assert (image != changed).any(axis=-1).sum() > 50


def test_colors_are_those_of_the_schema():
    assert tuple(COLORS) == SCHEMAS["clevr"]["color"].values


def test_named_objects_of_other_schemas():
    bench = SceneObject({"shape": "bench", "location": (1.0, 0.0, 0.45, 0.5)})
    chair = SceneObject({"category": "chair", "center_cam": (0.2, 0.1, 1.5), "dimensions": (0.5, 1.0, 0.6)})
    for schema, obj in (("objaworld", bench), ("objectron", chair)):
        drawn, empty = (np.asarray(draw_scene(scene, schema)) for scene in (Scene((obj,)), Scene()))
        assert (drawn != empty).any(axis=-1).sum() > 200


def test_small_pictures_are_enlarged_in_blocks():
    picture = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    image = np.asarray(draw_panel(picture, 64))
    np.testing.assert_array_equal(image[4::8, 4::8], picture)


def test_wide_pictures_keep_their_proportions():
    image = np.asarray(draw_panel(np.zeros((3, 6, 3), np.uint8), 60))
    assert (image[15:45, 1:-1] == 0).all()
    assert (image[1:14, 1:-1] > 200).all()


def test_text_is_broken_between_words_and_fits():
    font = ImageFont.load_default(12)
    text = "Put a small gray rubber cylinder to the left of the sphere"
    lines = wrap(text, font, 80)
    assert " ".join(lines) == text
    assert all(font.getlength(line) <= 80 for line in lines)
    dark = np.nonzero(np.asarray(draw_panel(" ".join([text] * 6), 200).convert("L"))[2:-2, 2:-2] < 100)
    assert min(dark[0].min(), dark[1].min()) >= 5
    assert max(dark[0].max(), dark[1].max()) <= 190


def test_a_grid_holds_every_panel(tmp_path):
    picture = np.full((4, 4, 3), 7, np.uint8)
    rows = [
        GridRow((picture, Scene((cube(0, 0),)), "Remove it"), (picture,), (picture,), "first, jaccard 0.50"),
        GridRow((picture,), (picture,), (), ""),
    ]
    path = draw_grid(rows, tmp_path / "deep" / "grid.png", panel=64)
    page = np.asarray(Image.open(path).convert("RGB"))
    assert (page == 7).all(axis=-1).sum() == 5 * 62 * 62
    with pytest.raises(ValueError, match="at least one row"):
        draw_grid([], path)
    with pytest.raises(ValueError, match=r"float64 \[2, 2, 3\]"):
        draw_grid([GridRow((np.zeros((2, 2, 3)),), (), ())], path)
