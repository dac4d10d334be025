import json
import pickle
import random
from itertools import chain, pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kyvo.sample import Sample
from kyvo.scene import SCHEMAS, Scene, SceneObject
from kyvo.task import Task
from kyvo.tokenizers.sequence import Segment
from kyvo.tokenizers.text import EMBEDDED, TextTokenizer
from kyvo.tokenizers.tokenizer import UnifiedTokenizer
from tests.worlds import random_sample

QUICK = UnifiedTokenizer.from_preset("quickstart", image_grid=(2, 3), image_codes=9)
GIVEN = UnifiedTokenizer.from_preset(
    "quickstart", image_grid=(2, 3), image_codes=9, object_order="given", output_image_order="center-out", max_text=200
)
OFFICIAL = ("3-I", "I-3", "I+3+T-I+3", "I+3+Q-A", "I+Q-A", "3+I+Q-A", "3+I+T-3+I", "3+T-3", "I+3+T-3", "I+T-I+3")
OFFICIAL += ("I+T-3", "I+T-I", "I+T-T", "I+3+T-T")


def clevr(*items):
    names = ("size", "color", "material", "shape", "location")
    return Scene(tuple(SceneObject(dict(zip(names, item, strict=True))) for item in items))


BEFORE = clevr(("large", "cyan", "metal", "cube", (-0.55, 0.05, 0.7)))
AFTER = clevr(("small", "yellow", "rubber", "cylinder", (1.25, 2.5, 0.35)))
CODES, TARGET = np.arange(16) * 3, 1023 - np.arange(16)


def sample_of(spec):
    """A tiny sample; for questions the target is an answer, for instructions another image and scene."""
    question = Task.parse(spec).name == "question_answering"
    if question:
        return Sample("1", CODES, BEFORE, "Remove the cube", target_text="True")
    return Sample("1", CODES, BEFORE, "Remove the cube", target_image=TARGET, target_scene=AFTER)


# The released CLEVR vocabulary in literal ids, with the real Llama 3.2 text.
BOS, EOS, SEP = [128000], [128001], [129470]
SCENE = [129457, 129459, 129461, 3544, 129462, 58988, 129463, 9501, 129464, 24671, 129465]
SCENE += [128746, 128866, 128996, 129460, 129458]
SCENE_AFTER = [129457, 129459, 129461, 2678, 129462, 14071, 129463, 23506, 129464, 35664, 129465]
SCENE_AFTER += [129106, 129356, 128926, 129460, 129458]
IMAGE = [129466, *(129471 + 3 * place for place in range(16)), 129467]
CENTER_OUT = (6, 5, 7, 4, 8, 3, 9, 2, 10, 1, 11, 0, 12, 13, 14, 15)
OUT = [129466, *(129471 + 3 * place for place in CENTER_OUT), 129467]
OUT_TARGET = [129466, *(129471 + 1023 - place for place in CENTER_OUT), 129467]
TEXT, ANSWER = [129468, 13319, 279, 24671, 129469], [129468, 2575, 129469]
LITERAL = {
    "3-I": ([SCENE], [OUT_TARGET]),
    "I-3": ([IMAGE], [SCENE_AFTER]),
    "I+3+T-I+3": ([IMAGE, SCENE, TEXT], [OUT_TARGET, SCENE_AFTER]),
    "I+3+Q-A": ([IMAGE, SCENE, TEXT], [ANSWER]),
    "I+Q-A": ([IMAGE, TEXT], [ANSWER]),
    "3+I+Q-A": ([SCENE, IMAGE, TEXT], [ANSWER]),
    "3+I+T-3+I": ([SCENE, IMAGE, TEXT], [SCENE_AFTER, OUT_TARGET]),
    "3+T-3": ([SCENE, TEXT], [SCENE_AFTER]),
    "I+3+T-3": ([IMAGE, SCENE, TEXT], [SCENE_AFTER]),
    "I+T-I+3": ([IMAGE, TEXT], [OUT_TARGET, SCENE_AFTER]),
    "I+T-3": ([IMAGE, TEXT], [SCENE_AFTER]),
    "I+T-I": ([IMAGE, TEXT], [OUT_TARGET]),
    "I+T-T": ([IMAGE, TEXT], [ANSWER]),
    "I+3+T-T": ([IMAGE, SCENE, TEXT], [ANSWER]),
}


@pytest.fixture(scope="module")
def release(golden):
    return UnifiedTokenizer.from_preset("kyvo-release", text=golden / "llama3_tokenizer", image_grid=(4, 4))


@pytest.mark.parametrize("spec", OFFICIAL)
def test_ids_of_the_official_tasks(release, spec):
    inputs, outputs = LITERAL[spec]
    prompt = [*BOS, *chain(*inputs), *SEP]
    sequence = release.encode(Task.parse(spec), sample_of(spec))
    assert sequence.ids.tolist() == [*prompt, *chain(*outputs), *EOS]
    assert sequence.prompt_length == len(prompt)
    assert release.prompt(Task.parse(spec), sample_of(spec)).tolist() == prompt
    # Nothing is learnt of the prompt; the first five codes of a written image weigh ten times as much.
    weights = [1.0] * (len(sequence) - len(prompt))
    if "image" in Task.parse(spec).outputs:
        start = sequence.ids.tolist().index(129466, len(prompt)) - len(prompt)
        weights[start + 1 : start + 6] = [10.0] * 5
    assert sequence.weights.tolist() == [0.0] * len(prompt) + weights


@pytest.mark.parametrize("spec", ["3-I", "I-3"])
def test_without_targets_the_sample_itself_is_written(release, spec):
    expected = {"3-I": [*BOS, *SCENE, *SEP, *OUT, *EOS], "I-3": [*BOS, *IMAGE, *SEP, *SCENE, *EOS]}
    assert release.encode(Task.parse(spec), Sample("1", CODES, BEFORE)).ids.tolist() == expected[spec]


def test_published_vocabularies(golden):
    llama = golden / "llama3_tokenizer"
    found = {name: UnifiedTokenizer.from_preset(name, text=llama) for name in ("paper", "kyvo-release", "unified")}
    found["kyvo-release-objectron"] = UnifiedTokenizer.from_preset("kyvo-release-objectron", text=llama)
    sizes = {name: tokenizer.vocabulary.size for name, tokenizer in found.items()}
    assert sizes["paper"] == 137_607
    assert sizes["kyvo-release"] == 130_495
    assert sizes["kyvo-release-objectron"] == 129_396
    assert found["kyvo-release"].vocabulary.image_range.start == 129_471
    objectron = found["kyvo-release-objectron"].vocabulary
    assert objectron.image_range.start == 128_372
    assert list(objectron.reserved_range) == [128_371]
    assert [objectron.marker(name) for name in ("[SCENE-START]", "[IMAGE-START]", "[OUTPUT-START]")] == [
        128_359,
        128_366,
        128_370,
    ]
    for name in ("paper", "kyvo-release", "kyvo-release-objectron"):
        layout = found[name].layout
        assert (layout.image_grid, layout.image_order, layout.output_image_order) == ((16, 16), "raster", "center-out")
        assert (layout.first_codes, layout.first_codes_weight) == (5, 10.0)


def test_text_that_is_read_weighs_what_is_said():
    tokenizer = UnifiedTokenizer.from_preset("quickstart", read_text_weight=0.25)
    for spec in ("I+3+Q-A", "3+T-3"):
        sequence = tokenizer.encode(Task.parse(spec), random_sample(0))
        [text] = [one for one in sequence.segments if one.name == "text" and not one.written]
        expected = np.zeros(len(sequence))
        expected[text.start + 1 : text.stop] = 0.25
        expected[sequence.prompt_length :] = 1
        assert sequence.weights.tolist() == expected.tolist()


def test_an_objectron_sequence(golden):
    tokenizer = UnifiedTokenizer.from_preset(
        "kyvo-release-objectron", text=golden / "llama3_tokenizer", image_grid=(1, 2), output_image_order="raster"
    )
    values = {"category": "cereal box", "center_cam": (0.0, -0.1, 2.45), "dimensions": (0.6, 1.1, 1.0)}
    sequence = tokenizer.encode(Task.parse("I-3"), Sample("1", np.array([0, 1023]), Scene((SceneObject(values),))))
    labels = tokenizer.numbers.labels
    number = {label: 128256 + labels.index(label) for label in ("0.00", "-0.10", "2.45", "0.60", "1.10", "1.00")}
    words = tokenizer.text.encode(" cereal box")
    assert len(words) == 2
    expected = [128000, 128366, 128372, 129395, 128367, 128370, 128359, 128361, 128363, *words, 128364]
    expected += [number["0.00"], number["-0.10"], number["2.45"], 128365]
    expected += [number["0.60"], number["1.10"], number["1.00"], 128362, 128360, 128001]
    assert sequence.ids.tolist() == expected
    found = tokenizer.decode(Task.parse("I-3"), sequence.ids[sequence.prompt_length :])
    assert (found.scene.objects[0].values, found.malformed) == (values, 0)


def printed(scene):
    """A scene as the paper prints it, for a text tokenizer without markers and number tokens."""
    parts = ["[SCENE-START]"]
    for item in scene:
        words = " ".join(f"[{name.upper()}] {item[name]}" for name in ("size", "color", "material", "shape"))
        numbers = " ".join(f"{round(value * 20) / 20 + 0.0:.2f}" for value in item["location"])
        parts.append(f"[OBJECT-START]{words} [LOCATION] {numbers} [OBJECT-END]")
    return "".join([*parts, "[SCENE-END]"])


def test_sequence_lengths_of_the_paper(golden):
    """Scenes of 3 to 10 objects: 93 ids on average against about 271 of plain Llama text (section 3.2.1)."""
    tokenizer = UnifiedTokenizer.from_preset("paper", text=golden / "llama3_tokenizer")
    rng, values = random.Random(0), {a.name: a.values for a in SCHEMAS["clevr"].attributes}

    def item():
        size = rng.choice(values["size"])
        words = (rng.choice(values[name]) for name in ("color", "material", "shape"))
        return (size, *words, (rng.uniform(-3, 3), rng.uniform(-3, 3), 0.7 if size == "large" else 0.35))

    scenes = [clevr(*(item() for _ in range(count))) for count in range(3, 11) for _ in range(25)]
    assert np.mean([len(tokenizer.codec.encode(scene)) for scene in scenes]) == 93.0
    assert np.mean([len(tokenizer.text.encode(printed(scene))) for scene in scenes]) == pytest.approx(271.4, rel=0.02)


def test_segments_tile_the_sequence():
    sample = Sample("1", np.arange(6), BEFORE, "Remove it", target_scene=AFTER)
    sequence = QUICK.encode(Task.parse("I+3+T-I+3"), sample)
    names = [segment.name for segment in sequence.segments]
    assert names == ["bos", "image", "scene", "text", "output", "image", "scene", "eos"]
    assert [segment.written for segment in sequence.segments] == [False] * 5 + [True] * 3
    assert sequence.segments[0] == Segment("bos", 0, 1, False)
    for previous, segment in pairwise(sequence.segments):
        assert segment.start == previous.stop
    assert sequence.segments[-1].stop == len(sequence)
    assert sequence.segments[4].stop == sequence.prompt_length
    for segment in sequence.segments:
        assert (sequence.weights[segment.start : segment.stop] > 0).all() == segment.written
    assert (sequence.ids.dtype, sequence.weights.dtype) == (np.int64, np.float32)


def test_input_and_output_orders_are_options():
    tokenizer = UnifiedTokenizer.from_preset(
        "quickstart", image_grid=(2, 3), image_codes=9, image_order="spiral", output_image_order="center-out"
    )
    sequence = tokenizer.encode(Task.parse("I+T-I"), Sample("1", np.arange(6), text="a"))
    codes = [index - tokenizer.vocabulary.image_range.start for index in sequence.ids.tolist()]
    codes = [code for code in codes if 0 <= code < 9]
    assert codes == [1, 0, 3, 4, 5, 2, 2, 1, 3, 0, 4, 5]
    found = tokenizer.decode(Task.parse("I+T-I"), sequence.ids[sequence.prompt_length :])
    assert found.image.tolist() == list(range(6))


NUMBER = st.integers(-60, 60).map(lambda step: round(step * 0.05, 2) + 0.0)
ITEMS = st.tuples(
    *(st.sampled_from(attribute.values) for attribute in SCHEMAS["clevr"].attributes[:4]),
    st.tuples(NUMBER, NUMBER, NUMBER),
)
SAMPLES = st.builds(
    lambda codes, items, text: Sample("1", np.array(codes), clevr(*items), text),
    st.lists(st.integers(0, 8), min_size=6, max_size=6),
    st.lists(ITEMS, max_size=5),
    st.text(max_size=30),
)


@settings(max_examples=50, deadline=None)
@given(SAMPLES, st.sampled_from(["3-I", "I-3", "I+3+T-I+3", "I+3+Q-A", "3+I+T-3+I"]), st.booleans())
def test_decoding_undoes_encoding(sample, spec, ordered):
    tokenizer = QUICK if ordered else GIVEN
    task = Task.parse(spec)
    sequence = tokenizer.encode(task, sample)
    found = tokenizer.decode(task, sequence.ids[sequence.prompt_length :])
    assert found.malformed == 0
    if "image" in task.outputs:
        np.testing.assert_array_equal(found.image, sample.image)
    if "text" in task.outputs:
        assert found.text == sample.text
    if "scene" in task.outputs and not ordered:
        assert found.scene == sample.scene
    if "scene" in task.outputs and ordered:
        assert sorted(map(str, found.scene)) == sorted(map(str, sample.scene))
    # The grammar lets through whatever is encoded.
    grammar = tokenizer.grammar(task)
    state = grammar.start
    for index in sequence.ids[sequence.prompt_length :].tolist():
        assert grammar.allowed[grammar.mask_of[state], index]
        state = int(grammar.next[state, grammar.classes[index]])
    assert state == grammar.final


SOME_IDS = st.integers(-3, QUICK.vocabulary.size + 3) | st.sampled_from(list(QUICK.vocabulary.marker_range))


@settings(deadline=None)
@given(st.lists(SOME_IDS, max_size=60), st.sampled_from(OFFICIAL))
def test_any_ids_decode(ids, spec):
    found = QUICK.decode(Task.parse(spec), ids)
    assert found.malformed >= 0
    assert QUICK.decode(Task.parse(spec), np.array(ids, dtype=np.int32)).malformed == found.malformed


@settings(deadline=None)
@given(st.integers(0, 100), st.integers(0, QUICK.vocabulary.size - 1), st.sampled_from(["swap", "drop", "insert"]))
def test_a_spoilt_sequence_decodes(place, index, change):
    task = Task.parse("I+3+T-I+3")
    sequence = QUICK.encode(task, Sample("1", np.arange(6), BEFORE, "Remove it"))
    ids = sequence.ids[sequence.prompt_length :].tolist()
    place %= len(ids)
    ids[place : place + (change != "insert")] = [] if change == "drop" else [index]
    assert QUICK.decode(task, ids).malformed >= 0


def test_faults_are_counted():
    task, v = Task.parse("I+3+T-I+3"), QUICK.vocabulary
    sequence = QUICK.encode(task, Sample("1", np.arange(6), BEFORE, "Remove it"))
    ids = sequence.ids[sequence.prompt_length :].tolist()

    def faults(changed):
        return QUICK.decode(task, changed).malformed

    assert faults(ids) == 0
    assert faults([*ids, v.pad, v.pad]) == 0
    assert faults([*ids, 5, 5]) == 0  # nothing counts after the end
    assert faults(ids[:-1]) == 1  # no end
    assert faults([]) == 3  # no image, no scene, no end
    assert faults([v.eos]) == 2
    assert faults([5, 6, *ids]) == 1  # one run of strays
    assert faults([*ids[:-1], 5, v.eos]) == 1
    short = QUICK.decode(task, [*ids[:3], *ids[4:]])
    assert (short.image, short.malformed) == (None, 1)  # one code is missing
    assert short.scene == QUICK.decode(task, ids).scene
    swapped = [ids[0], v.number_range.start, *ids[2:]]
    assert (QUICK.decode(task, swapped).image, faults(swapped)) == (None, 1)


def test_text_faults():
    task, v = Task.parse("I+3+Q-A"), QUICK.vocabulary
    start, end, word = v.marker("[TEXT-START]"), v.marker("[TEXT-END]"), QUICK.text.encode("True")
    found = QUICK.decode(task, [start, *word, end, v.eos])
    assert (found.text, found.malformed, found.scene, found.image) == ("True", 0, None, None)
    found = QUICK.decode(task, [start, *word, v.image_range.start, end, v.eos])
    assert (found.text, found.malformed) == ("True", 1)
    assert QUICK.decode(task, [start, v.pad, *word, end, v.eos]).malformed == 1
    found = QUICK.decode(task, [start, *word])
    assert (found.text, found.malformed) == ("True", 2)


def test_bad_samples_are_refused():
    task = Task.parse("I-3")
    with pytest.raises(ValueError, match="sample 'k' has no scene to write"):
        QUICK.encode(task, Sample("k", np.arange(6)))
    with pytest.raises(ValueError, match="image of sample 'k': an image has 6 codes, not 5"):
        QUICK.encode(task, Sample("k", np.arange(5), BEFORE))
    with pytest.raises(ValueError, match="image codes go from 0 to 8, not from 4 to 9"):
        QUICK.encode(task, Sample("k", np.arange(4, 10), BEFORE))
    assert QUICK.prompt(task, Sample("k", np.arange(6))).shape == (10,)


def test_presets_take_overrides():
    half = UnifiedTokenizer.from_preset("paper", granularity=0.5, shape_codes=0, max_text=3, image_grid=[4, 5])
    assert len(half.numbers.labels) == 13
    assert half.vocabulary.shape_codes == 0
    assert (half.layout.max_text, half.image_grid, half.image_length) == (3, (4, 5), 20)
    with pytest.raises(ValueError, match="no preset is called 'papre'; there are paper, kyvo-release"):
        UnifiedTokenizer.from_preset("papre")
    with pytest.raises(ValueError, match="no single granularity"):
        UnifiedTokenizer.from_preset("kyvo-release-objectron", granularity=0.1)


def test_unified_ids_do_not_depend_on_the_schema():
    names = ("clevr", "objaworld", "objaworld-pose", "objectron", "arkitscenes")
    vocabularies = [UnifiedTokenizer.from_preset("unified", schema=name).vocabulary for name in names]
    assert all(vocabulary == vocabularies[0] for vocabulary in vocabularies)
    assert {"[POSE]", "[CATEGORY]", "[SIZE]"} <= set(vocabularies[0].markers)


def test_quickstart():
    tokenizer = UnifiedTokenizer.from_preset("quickstart")
    assert tokenizer.image_grid == (8, 8)
    v = tokenizer.vocabulary
    assert (len(v.numbers), len(v.markers), v.image_codes, v.shape_codes) == (121, 14, 1024, 0)
    assert (tokenizer.layout.object_order, tokenizer.layout.first_codes) == ("left-to-right", 0)


class Pictures:
    """Stands in for an image tokenizer."""

    codebook = np.zeros((7, 4))
    grid = (2, 5)


def test_a_schema_can_be_declared_in_yaml():
    from jsonargparse import ArgumentParser

    parser = ArgumentParser()
    parser.add_function_arguments(UnifiedTokenizer.from_preset, "tokenizer")
    table = {
        "name": "room",
        "attributes": [
            {"name": "shape", "marker": "[SHAPE]", "values": ["coffee table", "lamp"]},
            {"name": "place", "marker": "[PLACE]", "kind": "numbers", "quantities": ["x", "y"], "keys": [["at", 2]]},
        ],
    }
    config = parser.parse_object({"tokenizer": {"schema": table}})
    tokenizer = UnifiedTokenizer.from_preset(**parser.instantiate_classes(config).tokenizer)
    assert tokenizer.vocabulary.markers[-1] == "[PLACE]"
    raw = {"objects": [{"shape": "coffee table", "at": [0.5, -1.0]}]}
    ids = tokenizer.codec.encode(tokenizer.schema.read(raw))
    found, faults = tokenizer.codec.decode(ids[1:-1])
    assert (tokenizer.schema.write(found), faults) == (raw, 0)


def test_the_image_tokenizer_sets_codes_and_grid():
    tokenizer = UnifiedTokenizer.from_preset("quickstart", image=Pictures())
    assert (tokenizer.vocabulary.image_codes, tokenizer.image_grid) == (7, (2, 5))
    with pytest.raises(ValueError, match="image_codes = 8 does not fit the image tokenizer, which has 7"):
        UnifiedTokenizer.from_preset("quickstart", image=Pictures(), image_codes=8)


@pytest.mark.parametrize("preset", ["quickstart", "paper", "unified", "kyvo-release-objectron"])
def test_saved_tokenizers_are_equal(preset, tmp_path):
    tokenizer = UnifiedTokenizer.from_preset(preset)
    tokenizer.save_pretrained(tmp_path)
    again = UnifiedTokenizer.from_pretrained(tmp_path)
    assert again.to_dict() == tokenizer.to_dict()
    assert (again.vocabulary, again.schema, again.layout) == (tokenizer.vocabulary, tokenizer.schema, tokenizer.layout)
    assert again.text.encode("Remove it") == tokenizer.text.encode("Remove it")
    assert json.loads((tmp_path / "unified_tokenizer.json").read_text())["vocabulary"]["text"] == tokenizer.text.size


def test_folders_and_vocabularies_are_checked(tmp_path):
    with pytest.raises(ValueError, match=r"is no tokenizer folder: it lacks unified_tokenizer.json"):
        UnifiedTokenizer.from_pretrained(tmp_path)
    other = UnifiedTokenizer.from_preset("quickstart", granularity=0.5)
    with pytest.raises(ValueError, match="made for other numbers or another text tokenizer"):
        UnifiedTokenizer(QUICK.vocabulary, QUICK.schema, other.numbers, QUICK.text, QUICK.layout)


def test_workers_can_take_it_along():
    again = pickle.loads(pickle.dumps(QUICK))
    sample, task = Sample("1", np.arange(6), BEFORE, "Remove it"), Task.parse("I+3+T-I+3")
    np.testing.assert_array_equal(again.encode(task, sample).ids, QUICK.encode(task, sample).ids)


def test_importing_is_light():
    import subprocess
    import sys

    heavy = "{'torch', 'transformers', 'tokenizers'}"
    code = f"import sys, kyvo.tokenizers.tokenizer; print(not {heavy} & set(sys.modules))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "True"


def test_embedded_text_is_the_default():
    assert QUICK.text.size == TextTokenizer.from_pretrained(EMBEDDED).size == QUICK.vocabulary.text
