"""The recogniser: crops, network, files, accuracy, objects as data, training, and the shipped weights."""

import json
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning import Trainer
from lightning.pytorch.loggers import CSVLogger
from PIL import Image
from torch import nn

from data_modules.crops import CropDataModule, CropDataset, object_batch
from data_modules.faults import BadInputError
from data_modules.index import Index
from data_modules.make import make
from data_modules.shards import ShardWriter, decode_json, decode_pixels, encode_json, encode_png, read_shard
from data_modules.worlds.clevr import ClevrWorld
from kyvo.metrics.rerecognition import AttributeAccuracy
from kyvo.models import recognizer
from kyvo.models.recognizer import Recognizer, RecognizerNetwork, crop, crop_squares, word_attributes
from kyvo.models.recognizer_features import RecognizerFeatures
from kyvo.scene import SCHEMAS
from kyvo.tokenizers.pixels import image_batch
from kyvo.training.optimizer import OptimizerConfig
from kyvo.training.recognizer import CropJitter, RecognizerModule
from tests.tiny_world import tiny_recipe

SHIPPED = Path(recognizer.__file__).parents[1] / "assets" / "recognizer_quickstart"
TINY = RecognizerNetwork(side=8, channels=(8, 8), layers=(1, 1), hidden=16)
CLEVR = word_attributes("clevr")


@pytest.fixture
def model() -> Recognizer:
    torch.manual_seed(0)
    return Recognizer(CLEVR, TINY).eval()


def noise(count: int = 1, height: int = 16, width: int = 24) -> torch.Tensor:
    return torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(0)) * 2 - 1


# ---- crops ----------------------------------------------------------------------------------------------------------


def test_squares_lie_around_boxes():
    boxes = torch.tensor([[2.0, 4.0, 12.0, 10.0], [0.0, 0.0, 4.0, 8.0]])
    assert crop_squares(boxes, 0.25).tolist() == [[7, 7, 15], [2, 4, 12]]


def test_a_crop_of_its_own_size_is_the_picture():
    images = noise(2, 8, 8)
    torch.testing.assert_close(crop(images, torch.tensor([[4.0, 4.0, 8.0]] * 2), 8), images)
    part = crop(noise(1, 16, 16), torch.tensor([[6.0, 9.0, 8.0]]), 8)
    torch.testing.assert_close(part, noise(1, 16, 16)[:, :, 5:13, 2:10])


def test_crops_are_pillows():
    images, squares = noise(3, 16, 16), torch.tensor([[9.3, 8.1, 7.0], [8.2, 8.0, 11.5], [7.4, 7.7, 13.9]])
    found = crop(images, squares, 8)
    for image, (x, y, side), one in zip(images, squares.tolist(), found, strict=True):
        extent = (x - side / 2, y - side / 2, x + side / 2, y + side / 2)
        for channel, read in zip(image, one, strict=True):
            drawn = Image.fromarray(channel.numpy()).transform(
                (8, 8), Image.Transform.EXTENT, extent, Image.Resampling.BILINEAR
            )
            torch.testing.assert_close(read, torch.from_numpy(np.array(drawn)), atol=1e-5, rtol=0)


def test_beyond_the_edge_its_pixels_go_on():
    images = torch.full((1, 3, 8, 8), -1.0)
    images[:, :, :, -1] = 0.5
    assert (crop(images, torch.tensor([[12.0, 4.0, 8.0]]), 8) == 0.5)[..., 4:].all()


def test_nothing_of_a_large_picture_is_skipped():
    images = torch.zeros(1, 3, 64, 64)
    images[..., ::4] = 1  # a stripe of one pixel in four: read at a point each, most of it would be missed
    torch.testing.assert_close(crop(images, torch.tensor([[32.0, 32.0, 64.0]]), 8), torch.full((1, 3, 8, 8), 0.25))


# ---- network --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sizes", "message"),
    [({"side": 10}, r"multiple of 4 .* got 10"), ({"layers": (1,)}, r"as many, got \(8, 8\) and \(1,\)")],
)
def test_sizes_that_do_not_fit(sizes, message):
    with pytest.raises(ValueError, match=message):
        RecognizerNetwork(**{**vars(TINY), **sizes})


def test_attributes_are_the_words_of_a_schema():
    assert list(CLEVR) == ["size", "color", "material", "shape"]
    assert CLEVR["shape"] == ("cube", "sphere", "cylinder")
    assert list(word_attributes("objaworld")) == ["shape"]


def test_words_come_in_the_order_of_pictures_and_boxes(model: Recognizer):
    images = noise(3)
    boxes = [
        torch.tensor([[0, 0, 8, 8], [3, 4, 9, 13]]),
        torch.zeros(0, 4),
        torch.tensor([[5.5, 2.0, 20.25, 15.0]]),
    ]
    words = model.predict(images, boxes)
    assert {name: len(column) for name, column in words.items()} == dict.fromkeys(CLEVR, 3)
    assert all(word in CLEVR[name] for name, column in words.items() for word in column)
    numbers = model.classify(images, boxes)
    assert (numbers.dtype, numbers.shape) == (torch.int64, (3, 4))
    for row, (image, box) in enumerate(((0, boxes[0][:1]), (0, boxes[0][1:]), (2, boxes[2]))):
        assert torch.equal(model.classify(images[image : image + 1], [box])[0], numbers[row])
        assert [CLEVR[name][n] for name, n in zip(CLEVR, numbers[row], strict=True)] == [words[n][row] for n in CLEVR]


def test_no_objects_at_all(model: Recognizer):
    assert model.predict(noise(2), [torch.zeros(0, 4)] * 2) == {name: [] for name in CLEVR}


def test_recognising_in_training_leaves_the_statistics_alone(model: Recognizer):
    before = {name: value.clone() for name, value in model.state_dict().items()}
    expected = model.classify(noise(), [torch.tensor([[0.0, 0.0, 8.0, 8.0]])])
    assert torch.equal(model.train().classify(noise(), [torch.tensor([[0.0, 0.0, 8.0, 8.0]])]), expected)
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize(
    ("images", "boxes", "message"),
    [
        (noise()[0], [], r"\[B, 3, H, W\] in \[-1, 1\], got torch.float32 \[3, 16, 24\]"),
        (noise().to(torch.uint8), [[[0, 0, 1, 1]]], "got torch.uint8"),
        (noise() / 0, [[[0, 0, 1, 1]]], "images must be finite"),
        (noise(2), [[[0, 0, 1, 1]]], "each of 2 images, got 1"),
        (noise(), [[[4, 0, 1, 1]]], r"boxes of image 0 .* x0 < x1 .* got \[\[4, 0, 1, 1\]\]"),
        (noise(), [[0, 0, 1, 1]], r"\[objects, 4\] .* got \[0, 0, 1, 1\]"),
    ],
)
def test_bad_input_is_named(model: Recognizer, images, boxes, message):
    with pytest.raises(ValueError, match=message):
        model.predict(images, [torch.tensor(rows) for rows in boxes])


# ---- features as a loss ---------------------------------------------------------------------------------------------


def test_distance_by_what_a_recogniser_sees(model: Recognizer):
    first, second = noise(2), noise(4)[2:]
    conv1, norm1, conv2, norm2 = (layer for layer in model.trunk if isinstance(layer, nn.Conv2d | nn.BatchNorm2d))
    for norm in (norm1, norm2):
        norm.running_mean.uniform_(-0.2, 0.2)

    def levels(images: torch.Tensor) -> list[torch.Tensor]:
        fine = norm1(conv1(images)).relu()
        return [fine, norm2(conv2(fine.unfold(2, 2, 2).unfold(3, 2, 2).amax((-1, -2)))).relu()]

    parts = [
        (a - b).square().sum() / a.square().sum()
        for scale in (1, 3)
        for a, b in zip(
            *(levels(nn.functional.interpolate(x, scale_factor=scale, mode="bilinear")) for x in (first, second)),
            strict=True,
        )
    ]
    expected = sum(parts) / 4
    torch.testing.assert_close(RecognizerFeatures(model, (1.0, 3.0))(first, second), expected)
    assert RecognizerFeatures(model)(first, first) == 0


def test_its_gradient_reaches_what_is_shown_alone(model: Recognizer):
    true, shown = noise().requires_grad_(), noise(2)[1:].requires_grad_()
    RecognizerFeatures(model)(true, shown).backward()
    assert true.grad is None
    assert shown.grad is not None
    assert shown.grad.abs().sum() > 0
    assert all(weight.grad is None for weight in model.parameters())


# ---- files ----------------------------------------------------------------------------------------------------------


def test_a_saved_recogniser_reads_alike(model: Recognizer, tmp_path: Path):
    model.save_pretrained(tmp_path / "new" / "folder")
    loaded = Recognizer.from_pretrained(tmp_path / "new" / "folder")
    assert (loaded.attributes, loaded.network, loaded.training) == (model.attributes, TINY, False)
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in loaded.state_dict().items())


def test_half_precision_file_is_read_as_float32(model: Recognizer, tmp_path: Path):
    model.save_pretrained(tmp_path, torch.float16)
    loaded = Recognizer.from_pretrained(tmp_path)
    assert torch.equal(loaded.heads.weight, model.heads.weight.half().float())
    assert next(model.parameters()).dtype == torch.float32


def test_folders_that_hold_something_else(model: Recognizer, tmp_path: Path):
    with pytest.raises(OSError, match="nowhere"):
        Recognizer.from_pretrained("/nowhere")
    (tmp_path / "config.json").write_text(json.dumps({"sample_size": 16}))
    with pytest.raises(ValueError, match="does not hold a recogniser: KeyError: 'network'"):
        Recognizer.from_pretrained(tmp_path)
    model.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config["attributes"]["shape"].append("cone")
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=r"does not hold a recogniser: (?s:.*)heads\.weight"):
        Recognizer.from_pretrained(tmp_path)


# ---- accuracy -------------------------------------------------------------------------------------------------------


def test_accuracies_and_their_counts():
    metric = AttributeAccuracy({"color": ["red", "blue"], "size": ["large", "small"]})
    metric.update(torch.tensor([[0, 0], [1, 0]]), torch.tensor([[0, 0], [0, 1]]))
    metric.update(torch.tensor([[1, 0]]), torch.tensor([[1, 0]]))
    found = {name: value.item() for name, value in metric.compute().items()}
    expected = {"color": 2 / 3, "color_large": 1, "color_small": 0, "size": 2 / 3, "size_large": 1, "size_small": 0}
    assert found == pytest.approx(expected)
    assert metric.counts == {"color": 3, "color_large": 2, "color_small": 1} | {
        "size": 3,
        "size_large": 2,
        "size_small": 1,
    }


def test_without_sizes_nothing_is_split():
    metric = AttributeAccuracy({"shape": ["bench", "bird"]})
    metric.update(torch.tensor([[0], [1]]), torch.tensor([[0], [0]]))
    assert metric.compute() == {"shape": torch.tensor(0.5)}


def test_values_of_other_shapes():
    with pytest.raises(ValueError, match=r"\[N, 4\] alike, got \[2, 4\] against \[2, 3\]"):
        AttributeAccuracy(CLEVR).update(torch.zeros(2, 4), torch.zeros(2, 3))


# ---- objects as data ------------------------------------------------------------------------------------------------


def read_world(root: Path, split: str):
    """Pictures and scenes of a split, read by themselves."""
    for path in sorted(root.glob(f"{split}-0*.tar")):
        for raw in read_shard(path):
            yield decode_pixels(raw.members["image.png"]), decode_json(raw.members["scene.json"])


def test_objects_of_shards(tmp_path: Path):
    make(tmp_path, tiny_recipe(questions=0, edits=0), workers=1)
    dataset = CropDataset.of_split(tmp_path, "train", SCHEMAS["clevr"], least_pixels=0)
    expected = [(image, one) for image, scene in read_world(tmp_path, "train") for one in scene["objects"]]
    assert len(dataset) == len(expected) > 8
    for (picture, thing), (image, one) in zip((dataset[k] for k in range(len(dataset))), expected, strict=True):
        assert np.array_equal(picture, image)
        assert list(thing.box) == one["bbox"]
        assert [CLEVR[name][n] for name, n in zip(CLEVR, thing.values, strict=True)] == [one[name] for name in CLEVR]
    batch = object_batch([dataset[0], dataset[3]])
    assert torch.equal(batch.images, image_batch([expected[0][0], expected[3][0]]))
    assert batch.boxes.tolist() == [expected[0][1]["bbox"], expected[3][1]["bbox"]]
    assert batch.values.shape == (2, 4)


def test_limits_on_scenes_and_on_what_is_seen(tmp_path: Path):
    make(tmp_path, tiny_recipe(questions=0, edits=0), workers=1)
    scenes = [scene for _, scene in read_world(tmp_path, "train")]
    three = CropDataset.of_split(tmp_path, "train", SCHEMAS["clevr"], limit=3, least_pixels=0)
    assert len(three) == sum(len(scene["objects"]) for scene in scenes[:3])
    seen = sorted(one["visible_pixels"] for scene in scenes for one in scene["objects"])
    some = CropDataset.of_split(tmp_path, "train", SCHEMAS["clevr"], least_pixels=seen[4])
    assert len(some) == sum(pixels >= seen[4] for pixels in seen) < len(seen)
    with pytest.raises(ValueError, match="no object of split 'train' shows 9999 pixels"):
        CropDataset.of_split(tmp_path, "train", SCHEMAS["clevr"], least_pixels=9999)


def write_world(root: Path, scenes: int, **changes) -> Path:
    """Coloured squares on grey: what is red is a large cube, what is blue a small sphere."""
    rng, index = np.random.default_rng(0), Index("clevr")
    words = {"material": "metal", "visible_pixels": 64}
    kinds = (
        {"color": "red", "size": "large", "shape": "cube"},
        {"color": "blue", "size": "small", "shape": "sphere"},
    )
    for split in ("train", "val"):
        with ShardWriter(root / f"{split}-000000.tar") as writer:
            for number in range(scenes):
                image = np.full((16, 24, 3), 100, np.uint8)
                x, y = rng.integers(0, (17, 9)).tolist()
                image[y : y + 8, x : x + 8] = ((200, 20, 20), (20, 20, 200))[number % 2]
                one = {**words, **kinds[number % 2], "bbox": [x, y, x + 8, y + 8], "3d_coords": [0, 0, 0], **changes}
                writer.write(
                    str(number), {"image.png": encode_png(image), "scene.json": encode_json({"objects": [one]})}
                )
        index = index.with_shard(split, writer.shard)
    index.write(root)
    return root


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"bbox": [1, 2]}, r"train-000000.tar: key '0': member 'scene.json': expected objects with bbox"),
        ({"visible_pixels": None}, "TypeError"),
        ({"shape": "cone"}, "'cone' is none of cube, sphere, cylinder"),
    ],
)
def test_scenes_without_boxes_are_named(tmp_path: Path, changes, message):
    with pytest.raises(BadInputError, match=message):
        CropDataset.of_split(write_world(tmp_path, 2, **changes), "train", SCHEMAS["clevr"])


def test_an_object_that_is_not_seen_has_no_box(tmp_path: Path):
    root = write_world(tmp_path, 2, bbox=None, visible_pixels=0)
    with pytest.raises(ValueError, match="no object"):
        CropDataset.of_split(root, "train", SCHEMAS["clevr"], least_pixels=0)


def test_epochs_are_shuffled_and_complete(tmp_path: Path):
    data = CropDataModule(str(write_world(tmp_path, 8)), batch_size=4, val_limit=3, seed=1)
    data.setup("fit")
    order = [thing.box for _, thing in (data.train_things[k] for k in range(8))]
    drawn = [tuple(box) for batch in data.train_dataloader() for box in batch.boxes.tolist()]
    assert sorted(drawn) == sorted(order)
    assert drawn != order
    assert [len(batch.images) for batch in data.val_dataloader()] == [3]


def test_the_world_is_made_where_it_is_missing(tmp_path: Path):
    data = CropDataModule(str(tmp_path), make=tiny_recipe(questions=0, edits=0), workers=1, least_pixels=0)
    data.prepare_data()
    made = {path.name: path.read_bytes() for path in tmp_path.glob("*.tar")}
    data.setup("validate")
    assert len(data.val_things) > 5
    CropDataModule(str(write_world(tmp_path / ".", 1))).prepare_data()
    assert len(made) == 7


# ---- training -------------------------------------------------------------------------------------------------------


def test_jitter_keeps_within_its_bounds():
    torch.manual_seed(0)
    squares = torch.tensor([[10.0, 20.0, 8.0]]).repeat(2000, 1)
    moved = CropJitter(shift=0.25, closest=0.5, farthest=2.0).move(squares)
    scale = moved[:, 2] / 8
    assert 0.5 <= scale.min() < 0.51
    assert 1.97 < scale.max() <= 2
    assert abs(float((scale < 1).float().mean()) - 0.5) < 0.05
    shift = (moved[:, :2] - squares[:, :2]) / 8
    assert shift.abs().max() <= 0.25
    assert shift.amin(0).max() < -0.24
    assert shift.amax(0).min() > 0.24
    torch.testing.assert_close(CropJitter(shift=0, closest=1, farthest=1).move(squares), squares)
    with pytest.raises(ValueError, match="closest=2"):
        CropJitter(closest=2)


def test_crops_are_spoilt_within_bounds():
    torch.manual_seed(0)
    crops = torch.zeros(500, 3, 8, 8)
    crops[..., ::2] = 1  # every mean over 5 x 5 pixels well inside is 0.4 or 0.6
    blurred = CropJitter(blur=0.5, noise=0).spoil(crops)[:, :, 3:5, 3:5]
    contrast = (blurred[..., 1] - blurred[..., 0]).abs()
    assert 0.59 < contrast.min() < 0.63
    assert 0.98 < contrast.max() <= 1
    spots = CropJitter(blur=0, noise=0.2).spoil(crops) - crops
    assert spots.mean().abs() < 0.01
    assert spots.std((1, 2, 3)).max() < 0.25
    assert 0 < spots.std((1, 2, 3)).min() < 0.01
    torch.testing.assert_close(CropJitter(blur=0, noise=0).spoil(crops), crops)
    with pytest.raises(ValueError, match="blur=2"):
        CropJitter(blur=2)


def test_training_learns_logs_and_writes(tmp_path: Path):
    root = tmp_path / "world"
    root.mkdir()
    write_world(root, 32)
    torch.manual_seed(0)
    module = RecognizerModule(
        network=TINY, total_steps=30, optimizer=OptimizerConfig(lr=1e-2, warmup_steps=5), save_to=str(tmp_path / "out")
    )
    trainer = Trainer(
        max_steps=30,
        logger=CSVLogger(tmp_path),
        check_val_every_n_epoch=5,
        log_every_n_steps=5,
        enable_progress_bar=False,
        enable_model_summary=False,
        accelerator="cpu",
        use_distributed_sampler=False,
        default_root_dir=tmp_path,
    )
    trainer.fit(module, datamodule=CropDataModule(str(root), batch_size=16))
    lines = (tmp_path / "lightning_logs" / "version_0" / "metrics.csv").read_text().splitlines()
    rows = [dict(zip(lines[0].split(","), line.split(","), strict=True)) for line in lines[1:]]
    losses = [float(row["train/loss"]) for row in rows if row["train/loss"]]
    assert losses[-1] < 0.3 * losses[0]
    assert float([row for row in rows if row["val/shape"]][-1]["val/shape_small"]) == 1
    loaded = Recognizer.from_pretrained(tmp_path / "out")
    picture, thing = CropDataset.of_split(root, "val", SCHEMAS["clevr"])[1]
    words = loaded.predict(image_batch([picture]), [torch.tensor([thing.box])])
    assert words == {"size": ["small"], "color": ["blue"], "material": ["metal"], "shape": ["sphere"]}
    (checkpoint,) = tmp_path.rglob("*.ckpt")
    again = RecognizerModule.load_from_checkpoint(checkpoint, weights_only=False)
    assert all(torch.equal(value, module.state_dict()[name]) for name, value in again.state_dict().items())


def test_no_steps():
    with pytest.raises(ValueError, match=r"set trainer\.max_steps"):
        RecognizerModule(total_steps=-1)


# ---- shipped weights ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def unseen() -> tuple[torch.Tensor, list[torch.Tensor], dict[str, list[str]]]:
    """Pictures of 64 scenes that training did not see, the boxes of their objects, and the words for them."""
    world = ClevrWorld(image_size=(64, 64), objects=(1, 3), extent=1.5, focal=1.8, light_jitter=0.0)
    made = [world.make(random.Random(f"tests/{index}")) for index in range(64)]
    boxes = [torch.tensor([one["bbox"] for one in scene["objects"]]) for scene, _, _ in made]
    words = {name: [one[name] for scene, _, _ in made for one in scene["objects"]] for name in CLEVR}
    return image_batch([image for _, image, _ in made]), boxes, words


def share_right(found: dict[str, list[str]], true: dict[str, list[str]], name: str) -> float:
    return float(np.mean([ours == theirs for ours, theirs in zip(found[name], true[name], strict=True)]))


def test_shipped_recogniser(unseen):
    images, boxes, words = unseen
    assert sum(path.stat().st_size for path in SHIPPED.iterdir()) < 300_000
    model = Recognizer.from_pretrained("recognizer_quickstart")
    assert model.attributes == CLEVR
    found = model.predict(images, boxes)
    for name in CLEVR:
        assert share_right(found, words, name) >= 0.97, name
    shaken = [rows + torch.tensor([1.0, -1.0, 1.0, -1.0]) for rows in boxes]
    assert share_right(model.predict(images, shaken), words, "shape") >= 0.95
