"""The API: pictures, scenes and texts in, typed scenes and pictures out; what is wrong with an input is said."""

import numpy as np
import pytest
import torch
from PIL import Image

from kyvo import Kyvo
from kyvo.generation.folder import write_extras
from kyvo.generation.pictures import read_picture
from kyvo.generation.sampling import Sampling
from kyvo.generation.writing import write
from kyvo.sample import Sample
from kyvo.scene import SCHEMAS, Scene
from kyvo.task import Task
from kyvo.tokenizers.pixels import image_batch
from kyvo.tokenizers.tokenizer import UnifiedTokenizer
from kyvo.training.backbone import Backbone
from tests.tiny_world import tiny_tokenizer
from tests.worlds import random_sample, tiny_kyvo

TASKS = ["3-I", "I-3", "I+3+T-I+3", "3+T-3", "3+I+Q-A"]


@pytest.fixture(scope="module")
def kyvo():
    return tiny_kyvo(TASKS, batch_size=2)


@pytest.fixture(scope="module")
def images():
    noise = np.random.default_rng(0)
    return [Image.fromarray(noise.integers(0, 256, (32, 32, 3), dtype=np.uint8)) for _ in range(3)]


@pytest.fixture(scope="module")
def scenes():
    return [random_sample(seed).scene for seed in range(3)]


def test_every_method_gives_its_types_in_order(kyvo, images, scenes):
    texts = ["remove the cube", "what color is it", "make it red"]
    assert all(isinstance(one, Scene) for one in kyvo.recognize(images))
    assert [one.size for one in kyvo.render(scenes)] == [(32, 32)] * 3
    edited = kyvo.edit(images, scenes, texts)
    assert all(isinstance(picture, Image.Image) and isinstance(scene, Scene) for picture, scene in edited)
    assert all(isinstance(one, Scene) for one in kyvo.edit_scenes(scenes, texts))
    assert all(isinstance(one, str) for one in kyvo.answer(images, scenes, texts))
    assert kyvo.recognize([]) == []
    assert kyvo.render([]) == []


def test_without_pictures_scenes_are_edited_and_then_rendered(kyvo, scenes):
    texts = ["remove the cube", "what color is it", "make it red"]
    chained = kyvo.edit(None, scenes, texts)
    assert [scene for _, scene in chained] == kyvo.edit_scenes(scenes, texts)
    for (picture, scene), alone in zip(chained, kyvo.render([scene for _, scene in chained]), strict=True):
        assert np.array_equal(np.asarray(picture), np.asarray(alone))
        assert isinstance(scene, Scene)
    with pytest.raises(ValueError, match="not trained to go from scene \\+ text to scene"):
        tiny_kyvo(["I+3+T-I+3"]).edit(None, scenes, texts)


def test_what_a_model_can_is_asked_in_any_order(kyvo):
    assert kyvo.can(["image", "scene", "text"], ["text"])
    assert kyvo.can({"text", "image", "scene"}, {"scene", "image"})
    assert not kyvo.can(["image", "text"], ["text"])
    anything = tiny_kyvo()
    assert anything.can(["image", "text"], ["text"])
    blind = tiny_kyvo(TASKS, UnifiedTokenizer.from_preset("quickstart"))
    assert (blind.can(["scene", "text"], ["scene"]), blind.can(["scene"], ["image"])) == (True, False)


def test_words_that_the_text_tokenizer_loses_are_named(kyvo, scenes, monkeypatch):
    assert kyvo.edit_scenes(scenes[:1], ["héllo ☃ \n cube"])
    text = kyvo.tokenizer.text
    plain, decode = "remove the snow cube", text.decode
    monkeypatch.setattr(text, "decode", lambda ids: decode(ids).replace("snow", "<unk>"))
    with pytest.raises(ValueError, match=r"texts\[0\]: this model's text tokenizer has no tokens for 'snow'"):
        kyvo.edit_scenes(scenes[:1], [plain])


def test_models_that_ship_are_found_by_name(kyvo, tmp_path, monkeypatch, images):
    kyvo.model.save_pretrained(tmp_path / "mini")
    write_extras(tmp_path / "mini", kyvo.tokenizer, tuple(TASKS))
    monkeypatch.setattr("kyvo.assets.ROOT", tmp_path)
    assert Kyvo.from_pretrained("mini").recognize(images) == kyvo.recognize(images)


def test_batches_change_nothing(images, scenes):
    one_by_one, together = (tiny_kyvo(TASKS, batch_size=size) for size in (1, 3))
    assert one_by_one.recognize(images) == together.recognize(images)
    for left, right in zip(one_by_one.render(scenes), together.render(scenes), strict=True):
        assert np.array_equal(np.asarray(left), np.asarray(right))


def test_pictures_are_read_as_the_tokenizer_codes_them(kyvo, images):
    seen = []
    original = kyvo.tokenizer.image.encode
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kyvo.tokenizer.image, "encode", lambda batch: seen.append(batch) or original(batch))
        found = kyvo.recognize(images)
    assert torch.equal(torch.cat(seen), image_batch([np.asarray(one) for one in images]))
    samples = [Sample("", image=codes) for codes in original(torch.cat(seen)).numpy()]
    expected = write(kyvo.model, kyvo.tokenizer, Task.parse("I-3"), samples)
    assert found == [one.scene for one in expected]


def test_pictures_of_every_kind_are_the_same(images):
    image = images[0]
    array = np.asarray(image)
    tensor = torch.from_numpy(array.copy()).movedim(-1, 0)
    kinds = [array, tensor, array / 255, array.astype(np.float32) / 255, tensor.double() / 255, image.convert("RGBA")]
    assert all(np.array_equal(read_picture(one, (32, 32)), array) for one in kinds)
    grey = image.convert("L")
    assert np.array_equal(read_picture(grey, (32, 32)), np.asarray(grey.convert("RGB")))
    scaled = np.asarray(image.resize((20, 10), Image.Resampling.LANCZOS))
    assert np.array_equal(read_picture(image, (10, 20)), scaled)


@pytest.mark.parametrize(
    ("picture", "message"),
    [
        ("a.png", "expected a picture of PIL, NumPy or torch, got str"),
        (np.zeros((3, 32, 32), np.uint8), r"expected an array \[H, W, 3\].*uint8 \[3, 32, 32\]"),
        (torch.zeros(32, 32, 3), r"expected a tensor \[3, H, W\].*float32 \[32, 32, 3\]"),
        (np.zeros((32, 32, 3), np.int64), "of bytes or of floats in .*int64"),
        (np.zeros((32, 32)), "expected an array"),
        (np.zeros((0, 32, 3)), "expected an array"),
        (np.full((32, 32, 3), 2.0), r"floats in \[0, 1\], got \[2, 2\]"),
        (np.full((32, 32, 3), np.nan), r"floats in \[0, 1\], got \[nan, nan\]"),
        (Image.new("RGB", (4, 32)), "8 or more pixels a side and 64 million at most, got 4 x 32"),
        (Image.new("1", (9000, 9000)), "got 9000 x 9000"),
    ],
)
def test_what_is_no_picture_is_refused_by_its_place(kyvo, images, picture, message):
    with pytest.raises(ValueError, match=rf"images\[1\]: .*{message}"):
        kyvo.recognize([images[0], picture])


def test_wrong_inputs_are_refused_by_their_place(kyvo, images, scenes):
    far = SCHEMAS["clevr"].write(scenes[0])
    far["objects"][0]["3d_coords"] = [9.0, 0.0, 0.7]
    beyond = SCHEMAS["clevr"].read(far)
    for call, message in (
        (lambda: kyvo.recognize(images[0]), "images: expected a list, got one Image"),
        (lambda: kyvo.recognize(None), "images: expected a list, got one NoneType"),
        (lambda: kyvo.render(scenes[0]), "scenes: expected a list, got one Scene"),
        (lambda: kyvo.render([far]), r"scenes\[0\]: expected a Scene, got dict"),
        (lambda: kyvo.render([scenes[1], beyond]), "'input 1': object 0, attribute 'location'.* x = 9 is outside"),
        (lambda: kyvo.edit_scenes(scenes, ["x"]), "as many of each, got 3 scenes, 1 texts"),
        (lambda: kyvo.edit_scenes(scenes[:1], "x"), "texts: expected a list, got one str"),
        (lambda: kyvo.edit_scenes(scenes[:1], [1]), r"texts\[0\]: expected a text, got int"),
        (lambda: kyvo.edit_scenes(scenes[:1], [""]), r"texts\[0\]: expected a text of 1 to 512 tokens, got 0"),
        (lambda: kyvo.edit_scenes(scenes[:1], ["re\ud800d"]), r"texts\[0\]: .* half of a character"),
        (lambda: kyvo.edit_scenes(scenes[:1], ["what " * 600]), "expected a text of 1 to 512 tokens, got 601"),
        (lambda: kyvo.answer(images, None, ["x"] * 3), "not trained to go from image \\+ text to text, only for 3-I"),
        (lambda: kyvo.reconstruct(images), "needs a shape tokenizer"),
        (lambda: kyvo.render(scenes, schema="objaworld-shapes"), "shape codes, of which the vocabulary has none"),
    ):
        with pytest.raises(ValueError, match=message):
            call()
    with pytest.raises(ValueError, match="batch_size should be positive"):
        tiny_kyvo(batch_size=0)


def test_inputs_longer_than_the_context_are_refused(images, scenes):
    kyvo = tiny_kyvo(backbone=Backbone(hidden_size=32, layers=1, heads=2, max_positions=24))
    assert len(kyvo.recognize(images[:1])) == 1
    with pytest.raises(ValueError, match=r"input 0 takes \d+ tokens, the model reads less than 24"):
        kyvo.answer(images[:1], scenes[:1], ["what color is it"])


def test_objects_come_with_confidences_where_asked(kyvo, scenes):
    samples = [Sample(str(index), scene=scene, text="remove it") for index, scene in enumerate(scenes)]
    asked = kyvo.generate(Task.parse("3+T-3"), samples, confidences=True)
    assert [len(one.confidences) for one in asked] == [len(one.scene) for one in asked]
    plain = kyvo.generate(Task.parse("3+T-3"), samples)
    assert [one.scene for one in plain] == [one.scene for one in asked]
    assert plain[0].confidences is None


def test_models_of_unknown_training_try_everything(images):
    assert len(tiny_kyvo().answer(images, None, ["what color is it"] * 3)) == 3


def test_without_an_image_tokenizer_there_are_no_pictures(scenes, images):
    kyvo = tiny_kyvo(tokenizer=UnifiedTokenizer.from_preset("quickstart"))
    for call in (lambda: kyvo.render(scenes), lambda: kyvo.recognize(images)):
        with pytest.raises(ValueError, match="no image tokenizer"):
            call()


def test_shapes_are_reconstructed_as_voxels():
    tokenizer = UnifiedTokenizer.from_preset(
        "quickstart", image=tiny_tokenizer().image, shape="shape_tokenizer_quickstart_64", schema="objaworld-shapes",
        max_objects=2,
    )  # fmt: skip
    kyvo = tiny_kyvo(tokenizer=tokenizer, sampling=Sampling(temperature=1.0))
    found = kyvo.reconstruct([np.full((32, 32, 3), level / 8) for level in range(8)])
    assert any(len(scene) for scene, _ in found)
    for scene, slats in found:
        assert len(slats) == len(scene)
        for slat, one in zip(slats, scene, strict=True):
            assert torch.equal(slat.coords, tokenizer.shape.decode(torch.tensor([one["shape"]]))[0].coords)


@pytest.mark.gpu
def test_everything_moves_to_the_gpu(images, scenes):
    kyvo = tiny_kyvo(TASKS).to("cuda")
    assert kyvo.device.type == "cuda"
    assert len(kyvo.edit(images, scenes, ["remove the cube"] * 3)) == 3
    kyvo.to("cpu")
