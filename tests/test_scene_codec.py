import pytest
from hypothesis import given
from hypothesis import strategies as st

from kyvo.scene import SCHEMAS, Attribute, Scene, SceneObject, SceneSchema
from kyvo.tokenizers.scenes import SceneCodec
from kyvo.tokenizers.tokenizer import UnifiedTokenizer

QUICK = UnifiedTokenizer.from_preset("quickstart", object_order="given")
V = QUICK.vocabulary


def clevr(*places):
    return Scene(
        tuple(
            SceneObject({"size": "large", "color": "red", "material": "metal", "shape": "cube", "location": place})
            for place in places
        )
    )


def body(scene):
    return QUICK.codec.encode(scene)[1:-1]


def test_one_object_in_full():
    word = {name: QUICK.text.encode(f" {name}")[0] for name in ("large", "red", "metal", "cube")}
    zero = V.number_range.start + 60
    assert QUICK.codec.encode(clevr((0.0, 1.004, -3.0))) == [
        V.marker("[SCENE-START]"),
        V.marker("[OBJECT-START]"),
        V.marker("[SIZE]"),
        word["large"],
        V.marker("[COLOR]"),
        word["red"],
        V.marker("[MATERIAL]"),
        word["metal"],
        V.marker("[SHAPE]"),
        word["cube"],
        V.marker("[LOCATION]"),
        zero,
        zero + 20,
        zero - 60,
        V.marker("[OBJECT-END]"),
        V.marker("[SCENE-END]"),
    ]


def test_broken_objects_are_left_out_and_counted():
    good, other = body(clevr((1.0, 1.0, 0.7))), body(clevr((2.0, 2.0, 0.7)))
    decode = QUICK.codec.decode
    assert decode([*good, *other]) == (clevr((1.0, 1.0, 0.7), (2.0, 2.0, 0.7)), 0)
    assert decode([*good[:-1], *other]) == (clevr((2.0, 2.0, 0.7)), 1)  # [OBJECT-END] is missing
    assert decode([*good, *other[1:]]) == (clevr((1.0, 1.0, 0.7)), 1)  # [OBJECT-START] is missing
    assert decode([*good, *other[:-1]]) == (clevr((1.0, 1.0, 0.7)), 1)  # the last one never ends
    assert decode([*good[:-2], *good[-1:]]) == (Scene(), 1)  # two numbers
    assert decode([*good[:-1], good[-2], good[-1]]) == (Scene(), 1)  # four numbers
    assert decode([good[0], *good[3:5], *good[1:3], *good[5:]]) == (Scene(), 1)  # attributes change places
    assert decode([*good[:2], *good[3:]]) == (Scene(), 1)  # no word
    assert decode([*good[:2], good[4], *good[3:]]) == (Scene(), 1)  # a colour as a size
    assert decode([good[0], 5, *good[1:]]) == (Scene(), 1)
    assert decode([good[0], good[-1]]) == (Scene(), 1)
    assert decode([7, 8, *good, 9]) == (clevr((1.0, 1.0, 0.7)), 2)
    assert decode([]) == (Scene(), 0)


def test_left_to_right_follows_clevrs_right():
    sorting = UnifiedTokenizer.from_preset("quickstart").codec
    places = [(2.0, 0.0, 0.7), (-1.0, 0.0, 0.7), (0.0, 1.0, 0.7), (0.0, -2.0, 0.7)]
    found, _ = sorting.decode(sorting.encode(clevr(*places))[1:-1])
    assert [item["location"] for item in found] == [places[3], places[1], places[2], places[0]]


def test_left_to_right_in_a_camera_frame_follows_the_ray():
    tokenizer = UnifiedTokenizer.from_preset("unified", schema="objectron", object_order="left-to-right")
    sizes = (0.3, 0.3, 0.3)

    def box(name, x, depth):
        return SceneObject({"category": name, "center_cam": (x, 0.0, depth), "dimensions": sizes})

    scene = Scene((box("cup", 0.6, 1.0), box("chair", 1.0, 4.0), box("cereal box", -0.5, 2.0)))
    found, faults = tokenizer.codec.decode(tokenizer.codec.encode(scene)[1:-1])
    assert ([item["category"] for item in found], faults) == (["cereal box", "chair", "cup"], 0)


def test_left_to_right_needs_positions():
    flat = SceneSchema("flat", (Attribute("kind", "[KIND]", values=("a", "b")),))
    codec = UnifiedTokenizer.from_preset("quickstart", schema=flat).codec
    with pytest.raises(ValueError, match="schema 'flat' has no 'x' to order objects"):
        codec.encode(Scene((SceneObject({"kind": "a"}),)))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"color": "pink"}, r"object 1, attribute 'color' \(clevr\): 'pink' is none of gray, red"),
        ({"location": (0.0, 3.5, 0.0)}, r"object 1, attribute 'location' .* y = 3.5 is outside the number grid"),
        ({"location": (0.0, 3.5)}, r"expected 3 numbers \(x, y, z\), got \(0.0, 3.5\)"),
        ({"location": "here"}, r"expected 3 numbers"),
        ({"size": (1.0,)}, r"is none of large, small"),
    ],
)
def test_bad_values_are_named(values, message):
    good = clevr((0.0, 0.0, 0.7)).objects[0]
    with pytest.raises(ValueError, match=message):
        QUICK.codec.encode(Scene((good, SceneObject({**good.values, **values}))))


def test_a_missing_attribute_is_named():
    with pytest.raises(ValueError, match=r"object 0, attribute 'color' .*is missing"):
        QUICK.codec.encode(Scene((SceneObject({"size": "large"}),)))


def test_clip_warn_is_an_option():
    codec = UnifiedTokenizer.from_preset("quickstart", clip="warn").codec
    with pytest.warns(UserWarning, match="values of x outside -3 to 3 are clipped"):
        ids = codec.encode(clevr((9.0, 0.0, 0.7)))
    assert codec.decode(ids[1:-1])[0].objects[0]["location"] == (3.0, 0.0, 0.7)


def test_words_of_several_tokens_and_words_that_begin_alike():
    words = ("table", "coffee table", "coffee", "table lamp", "cereal box")
    schema = SceneSchema("room", (Attribute("shape", "[SHAPE]", values=words),))
    codec = UnifiedTokenizer.from_preset("quickstart", schema=schema, object_order="given").codec
    scene = Scene(tuple(SceneObject({"shape": word}) for word in words))
    assert codec.decode(codec.encode(scene)[1:-1]) == (scene, 0)


def test_shape_codes():
    tokenizer = UnifiedTokenizer.from_preset("unified", schema="objaworld-shapes", shape_codes=8192)
    values = {"shape": tuple(range(7000, 7512)), "location": (0.0, 1.0, 0.5, 0.0)}
    scene = Scene((SceneObject(values),))
    ids = tokenizer.codec.encode(scene)
    # Two markers of the scene, two of the object, two of attributes, 512 codes, four numbers.
    assert len(ids) == 2 + 2 + 2 + 512 + 4
    assert tokenizer.codec.decode(ids[1:-1]) == (scene, 0)
    for bad in ((1, 2), tuple(range(7681, 8193)), "cube"):
        with pytest.raises(ValueError, match=r"attribute 'shape' .*expected 512 shape codes from 0 to 8191"):
            tokenizer.codec.encode(Scene((SceneObject(values | {"shape": bad}),)))
    spoilt = [*ids[1:-1]]
    spoilt[3] = ids[1]
    assert tokenizer.codec.decode(spoilt)[0] == Scene()
    with pytest.raises(ValueError, match="'shape' holds shape codes, of which the vocabulary has none"):
        SceneCodec(SCHEMAS["objaworld-shapes"], V, QUICK.numbers, QUICK.text, "given", "error")


@given(st.lists(st.integers(0, V.size - 1), max_size=40))
def test_any_ids_decode(ids):
    scene, faults = QUICK.codec.decode(ids)
    assert isinstance(scene, Scene)
    assert faults >= bool(ids)
