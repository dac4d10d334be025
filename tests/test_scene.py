import pytest

from kyvo.scene import SCHEMAS, Attribute, Scene, SceneObject, SceneSchema, get_schema

CUBE = {"size": "large", "color": "cyan", "material": "metal", "shape": "cube", "3d_coords": [-0.55, 0.0512345, 0.7]}


def test_clevr_round_trip_keeps_unrounded_numbers():
    raw = {"objects": [CUBE | {"rotation": 322.6, "pixel_coords": [1, 2, 3]}], "directions": {}}
    scene = SCHEMAS["clevr"].read(raw)
    assert scene.objects[0]["location"] == (-0.55, 0.0512345, 0.7)
    assert scene.objects[0]["color"] == "cyan"
    assert SCHEMAS["clevr"].write(scene) == {"objects": [CUBE]}
    assert len(scene) == 1
    assert [item["shape"] for item in scene] == ["cube"]


def test_real_clevr_scenes_read(golden):
    import json

    raw = json.loads((golden / "clevr_real/generator_2obj_train/scenes/CLEVR_train_000000.json").read_text())
    scene = SCHEMAS["clevr"].read(raw)
    assert scene.objects[0]["color"] == "green"
    assert scene.objects[0]["location"] == tuple(raw["objects"][0]["3d_coords"])


@pytest.mark.parametrize("coords", [{"3d_coords": [1, 2, 0.5], "rotation": 3.1}, {"3d_coords": [1, 2, 0.5, 3.1]}])
def test_objaworld_takes_yaw_as_a_rotation_or_as_a_fourth_number(coords):
    scene = SCHEMAS["objaworld"].read({"objects": [{"shape": "bench-01", **coords}]})
    assert scene.objects[0].values == {"shape": "bench", "location": (1.0, 2.0, 0.5, 3.1)}
    written = SCHEMAS["objaworld"].write(scene)
    assert written == {"objects": [{"shape": "bench", "3d_coords": [1.0, 2.0, 0.5], "rotation": 3.1}]}


def test_shapes_and_boxes():
    codes = list(range(512))
    shapes = SCHEMAS["objaworld-shapes"]
    raw = {"objects": [{"shape_codes": codes, "3d_coords": [0.0, 0.0, 0.5], "rotation": 1.0}]}
    assert shapes.read(raw).objects[0]["shape"] == tuple(codes)
    assert shapes.write(shapes.read(raw)) == raw
    boxes = SCHEMAS["objectron"]
    raw = {"objects": [{"category": "cereal box", "center_cam": [0.0, -0.1, 2.45], "dimensions": [0.6, 1.1, 1.0]}]}
    assert boxes.write(boxes.read(raw)) == raw


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"color": "pink"}, r"object 1, attribute 'color' \(clevr\): 'pink' is none of gray, red"),
        ({"3d_coords": [0.0, 1.0]}, r"object 1, attribute 'location' .*expected finite numbers .*, got \[0.0, 1.0\]"),
        ({"3d_coords": [0.0, 1.0, float("nan")]}, "finite"),
        ({"3d_coords": [0.0, True, 1.0]}, "finite"),
        ({"3d_coords": "here"}, "finite"),
    ],
)
def test_bad_objects_are_named(change, message):
    with pytest.raises(ValueError, match=message):
        SCHEMAS["clevr"].read({"objects": [CUBE, CUBE | change]})


def test_missing_things_are_named():
    clevr = SCHEMAS["clevr"]
    with pytest.raises(ValueError, match="key 'size' is missing"):
        clevr.read({"objects": [{"color": "red"}]})
    with pytest.raises(ValueError, match="needs a list under 'objects'"):
        clevr.read({"scenes": []})
    with pytest.raises(ValueError, match=r"object 0 .* should be a mapping, not list"):
        clevr.read({"objects": [[]]})
    with pytest.raises(ValueError, match="no schema is called 'clever'; there are clevr"):
        get_schema("clever")
    with pytest.raises(ValueError, match="512 integer codes"):
        SCHEMAS["objaworld-shapes"].read({"objects": [{"shape_codes": [1], "3d_coords": [0, 0, 0, 0]}]})
    with pytest.raises(ValueError, match="'location' has 3 values, not 2"):
        clevr["location"].write((1.0, 2.0))


def test_tables_are_checked():
    with pytest.raises(ValueError, match="words need values"):
        Attribute("size", "[SIZE]")
    with pytest.raises(ValueError, match="do not add up to 2"):
        Attribute("place", "[PLACE]", "numbers", quantities=("x", "y"), keys=(("at", 3),))


@pytest.mark.parametrize("schema", SCHEMAS.values(), ids=lambda schema: schema.name)
def test_schemas_survive_json(schema):
    import json

    assert SceneSchema.from_dict(json.loads(json.dumps(schema.to_dict()))) == schema


def test_schema_look_up():
    clevr = SCHEMAS["clevr"]
    assert clevr.markers == ("[SIZE]", "[COLOR]", "[MATERIAL]", "[SHAPE]", "[LOCATION]")
    assert clevr.position("y") == ("location", 1)
    assert clevr.position("yaw") is None
    assert "shape" in clevr
    assert "category" not in clevr
    with pytest.raises(KeyError, match="no attribute 'category'"):
        clevr["category"]
    assert get_schema(clevr) is clevr


def test_scenes_compare_by_value():
    assert Scene((SceneObject({"a": "b"}),)) == Scene((SceneObject({"a": "b"}),))
    assert Scene() != Scene((SceneObject({"a": "b"}),))
