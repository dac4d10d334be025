"""Image tokenizer: network sizes, coding and decoding, files, training, pictures as data, and the shipped weights."""

import json
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning import Trainer
from lightning.pytorch.loggers import CSVLogger
from PIL import Image
from torch import Tensor, nn

from data_modules.images import ImageDataModule, ImageDataset, find_images
from data_modules.shards import ShardWriter, encode_png
from data_modules.worlds.clevr import ClevrWorld
from kyvo.models import image_vq
from kyvo.models.image_vq import ImageNetwork, build_vq_model, plain_vq_model
from kyvo.models.quantizer import EMAVectorQuantizer
from kyvo.models.recognizer import Recognizer, RecognizerNetwork
from kyvo.tokenizers.images import ImageTokenizer
from kyvo.tokenizers.pixels import image_batch, pixels
from kyvo.training.image_tokenizer import ImageTokenizerModule, PixelLoss, QuantizerConfig, RecognitionLoss
from kyvo.training.optimizer import OptimizerConfig

QUICKSTART = Path(image_vq.__file__).parents[1] / "assets" / "image_tokenizer_quickstart"
TINY = ImageNetwork(
    image_size=(16, 24),
    patch=2,
    channels=(8, 16),
    layers=1,
    codes=32,
    code_dim=6,
    latent_channels=8,
    groups=4,
    attention=(),
    mid_attention=False,
)


@pytest.fixture(scope="module")
def tokenizer() -> ImageTokenizer:
    torch.manual_seed(0)
    model = build_vq_model(TINY)
    nn.init.normal_(model.quantize.embedding.weight)
    return ImageTokenizer(model)


def noise(count: int, height: int = 16, width: int = 24) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, height, width, 3), dtype=np.uint8)


# ---- network --------------------------------------------------------------------------------------------------------


def test_the_papers_network():
    with torch.device("meta"):
        model = build_vq_model(ImageNetwork())
    assert image_vq.image_size_of(model) == (256, 256)
    assert image_vq.grid_of(model) == (16, 16)
    assert model.quantize.embedding.weight.shape == (1024, 256)
    assert model.config["down_block_types"] == ("DownEncoderBlock2D",) * 4 + ("AttnDownEncoderBlock2D",)
    assert model.config["up_block_types"] == ("AttnUpDecoderBlock2D",) + ("UpDecoderBlock2D",) * 4
    assert len(model.encoder.mid_block.attentions) == 1


def test_taming_sizes_build_a_network_of_the_same_parameters(golden: Path):
    sizes = json.loads((golden / "image_tokenizer" / "taming_tiny.json").read_text())
    taming = sizes["ddconfig"]
    network = ImageNetwork(
        image_size=(taming["resolution"],) * 2,
        channels=tuple(taming["ch"] * factor for factor in taming["ch_mult"]),
        layers=taming["num_res_blocks"],
        codes=sizes["n_embed"],
        code_dim=sizes["embed_dim"],
        latent_channels=taming["z_channels"],
        attention=tuple(taming["attn_resolutions"]),
    )
    checkpoint = torch.load(golden / "image_tokenizer" / "taming_tiny.ckpt", map_location="cpu", weights_only=True)
    state = {name: value for name, value in checkpoint["state_dict"].items() if not name.startswith("loss.")}
    assert sum(p.numel() for p in build_vq_model(network).parameters()) == sum(map(Tensor.numel, state.values()))


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"image_size": (16, 22)}, r"multiple of 4 .* got \(16, 22\)"),
        ({"channels": (8, 18)}, r"multiples of the 4 groups, got \(8, 18\)"),
    ],
)
def test_sizes_that_do_not_fit(sizes: dict[str, tuple[int, int]], message: str):
    with pytest.raises(ValueError, match=message):
        ImageNetwork(**{**vars(TINY), **sizes})


def test_a_network_of_grey_images_is_refused(tokenizer: ImageTokenizer):
    model = plain_vq_model(tokenizer.model)
    model.register_to_config(in_channels=1)
    with pytest.raises(ValueError, match="got 1 channels"):
        ImageTokenizer(model)


# ---- tokenizer ------------------------------------------------------------------------------------------------------


def test_shapes_and_types(tokenizer: ImageTokenizer):
    assert (tokenizer.size, tokenizer.grid, tokenizer.codebook.shape) == ((16, 24), (4, 6), (32, 6))
    images = image_batch(noise(3))
    for dtype in (torch.float32, torch.float16):
        codes = tokenizer.encode(images.to(dtype))
        assert (codes.dtype, codes.shape) == (torch.int64, (3, 24))
    for dtype in (torch.int64, torch.int32, torch.int16):
        decoded = tokenizer.decode(codes.to(dtype))
        assert (decoded.dtype, decoded.shape) == (torch.float32, (3, 3, 16, 24))
        assert decoded.abs().max() <= 1


def test_codes_and_pixels_are_those_of_diffusers(tokenizer: ImageTokenizer):
    images = image_batch(noise(2))
    patches = nn.functional.pixel_unshuffle(images, 2)
    with torch.no_grad():
        features = tokenizer.model.encode(patches).latents
        expected = tokenizer.model.quantize(features)[2][2]
        decoded = nn.functional.pixel_shuffle(tokenizer.model.decode(features).sample, 2).clamp(-1, 1)
    codes = tokenizer.encode(images)
    assert torch.equal(codes.flatten(), expected)
    torch.testing.assert_close(tokenizer.decode(codes), decoded, atol=1e-5, rtol=0)


def test_an_image_has_the_same_codes_in_any_batch(tokenizer: ImageTokenizer):
    images = image_batch(noise(5))
    assert torch.equal(tokenizer.encode(images), torch.cat([tokenizer.encode(image[None]) for image in images]))


def test_bad_input_is_named(tokenizer: ImageTokenizer):
    with pytest.raises(ValueError, match=r"\[B, 3, 16, 24\] in \[-1, 1\], got torch.float32 \[1, 3, 16, 16\]"):
        tokenizer.encode(torch.zeros(1, 3, 16, 16))
    with pytest.raises(ValueError, match=r"got torch.uint8 \[1, 3, 16, 24\]"):
        tokenizer.encode(torch.zeros(1, 3, 16, 24, dtype=torch.uint8))
    with pytest.raises(ValueError, match=r"integers \[B, 24\], got torch.int64 \[24\]"):
        tokenizer.decode(torch.zeros(24, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"in \[0, 32\), got \[-1, 32\]"):
        tokenizer.decode(torch.tensor([[-1] + [32] * 23]))
    with pytest.raises(OSError, match="nowhere"):
        ImageTokenizer.from_pretrained("/nowhere")


def test_a_saved_tokenizer_is_a_plain_vq_model(tokenizer: ImageTokenizer, tmp_path: Path):
    from diffusers import VQModel

    tokenizer.save_pretrained(tmp_path)
    images = image_batch(noise(2))
    for loaded in (ImageTokenizer.from_pretrained(tmp_path), ImageTokenizer(VQModel.from_pretrained(tmp_path))):
        assert (loaded.size, loaded.grid) == (tokenizer.size, tokenizer.grid)
        codes = loaded.encode(images)
        assert torch.equal(codes, tokenizer.encode(images))
        assert torch.equal(loaded.decode(codes), tokenizer.decode(codes))


def test_half_precision_file_is_read_as_float32(tokenizer: ImageTokenizer, tmp_path: Path):
    tokenizer.save_pretrained(tmp_path, torch.float16)
    loaded = ImageTokenizer.from_pretrained(tmp_path)
    assert torch.equal(loaded.codebook, tokenizer.codebook.half().float())
    assert tokenizer.codebook.dtype == torch.float32


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_a_copy_is_as_large_as_its_original_and_loses_nothing(tokenizer: ImageTokenizer, tmp_path: Path, dtype):
    tokenizer.save_pretrained(tmp_path / "first", dtype)
    first = ImageTokenizer.from_pretrained(tmp_path / "first")
    first.save_pretrained(tmp_path / "second")
    files = [tmp_path / name / "diffusion_pytorch_model.safetensors" for name in ("first", "second")]
    assert files[0].read_bytes() == files[1].read_bytes()
    assert str(tmp_path) not in (tmp_path / "second" / "config.json").read_text()


def test_our_quantiser_leaves_no_trace_in_the_plain_model(tokenizer: ImageTokenizer):
    model = plain_vq_model(tokenizer.model)
    model.quantize = EMAVectorQuantizer(32, 6, pool=128)
    plain = plain_vq_model(model)
    assert plain.state_dict().keys() == tokenizer.model.state_dict().keys()
    assert torch.equal(plain.quantize.embedding.weight, model.quantize.embedding.weight)


# ---- pictures as data -----------------------------------------------------------------------------------------------


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    images = noise(5)
    for number, rows in enumerate((images[:2], images[2:4])):
        with ShardWriter(tmp_path / f"train-{number:06d}.tar") as writer:
            for index, row in enumerate(rows):
                writer.write(f"{number}{index}", {"image.png": encode_png(row), "scene.json": b"{}"})
    with ShardWriter(tmp_path / "train-edits-000000.tar") as writer:
        writer.write("e", {"image.png": encode_png(images[0]), "target.image.png": encode_png(images[4])})
    return tmp_path


def test_pictures_of_shards(shards: Path):
    dataset = ImageDataset(find_images(f"{shards}/train-0*.tar"), (16, 24))
    assert len(dataset) == 4
    assert all(np.array_equal(dataset[index], noise(5)[index]) for index in range(4))
    with_edits = ImageDataset(find_images(f"{shards}/train-*.tar"), (16, 24))
    assert len(with_edits) == 6
    assert np.array_equal(with_edits[5], noise(5)[4])


def test_pictures_of_a_folder_are_scaled(tmp_path: Path):
    (tmp_path / "deeper").mkdir()
    Image.fromarray(np.full((32, 48, 3), 7, np.uint8)).save(tmp_path / "deeper" / "a.png")
    Image.fromarray(np.full((8, 8), 9, np.uint8)).save(tmp_path / "b.png")
    (tmp_path / "notes.txt").write_text("no picture")
    dataset = ImageDataset(find_images(str(tmp_path)), (16, 24))
    assert [(dataset[k].shape, int(dataset[k].max())) for k in range(2)] == [((16, 24, 3), 9), ((16, 24, 3), 7)]


def test_no_pictures(tmp_path: Path):
    with pytest.raises(ValueError, match=r"got '.*none"):
        find_images(str(tmp_path / "none*.tar"))


def test_batches_map_levels_to_the_unit_range_and_back():
    images = np.zeros((1, 1, 3, 3), np.uint8)
    images[0, 0, :, 0] = (0, 51, 255)
    batch = image_batch(images)
    torch.testing.assert_close(batch[0, 0, 0], torch.tensor([-1.0, -0.6, 1.0]))
    levels = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1).repeat(3, 3)
    assert np.array_equal(pixels(image_batch(levels)), levels)
    assert pixels(torch.tensor([[[[-3.0]], [[3.0]], [[0.0]]]])).ravel().tolist() == [0, 255, 128]


def test_epochs_are_shuffled_and_complete(shards: Path):
    data = ImageDataModule(f"{shards}/train-0*.tar", f"{shards}/train-0*.tar", (16, 24), batch_size=2, val_limit=3)
    data.setup("fit")
    expected = image_batch(noise(4))
    epoch = torch.cat(list(data.train_dataloader()))
    assert sorted(epoch.sum((1, 2, 3)).tolist()) == sorted(expected.sum((1, 2, 3)).tolist())
    torch.testing.assert_close(torch.cat(list(data.val_dataloader())), expected[:3])


# ---- training -------------------------------------------------------------------------------------------------------


def test_loss_weighs_objects():
    output, images = torch.tensor([0.5, 0.1, 0.2]), torch.zeros(3)
    output, images = (x.reshape(1, 1, 1, 3).expand(1, 3, 1, 3) for x in (output, images))
    difference = torch.tensor([0.0, 0.125, 2.0]).reshape(1, 1, 1, 3)
    # Weights 1, 1 + 4 / 2, 1 + 4.
    expected = (1 * (0.5 + 2 * 0.25) + 3 * (0.1 + 2 * 0.01) + 5 * (0.2 + 2 * 0.04)) / 3
    assert PixelLoss()(output, images, difference).item() == pytest.approx(expected)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[ImageTokenizerModule, Path]:
    """A tiny network trained for 60 steps on coloured squares over a grey ground."""
    folder = tmp_path_factory.mktemp("training")
    rng = np.random.default_rng(0)
    (folder / "pictures").mkdir()
    for index in range(64):
        image = np.full((16, 24, 3), 100, np.uint8)
        top, left = rng.integers(0, (9, 17))
        image[top : top + 8, left : left + 8] = rng.integers(0, 256, 3)
        Image.fromarray(image).save(folder / "pictures" / f"{index:02d}.png")
    torch.manual_seed(0)
    module = ImageTokenizerModule(
        TINY,
        total_steps=60,
        optimizer=OptimizerConfig(lr=3e-3, warmup_steps=5),
        quantizer=QuantizerConfig(warmup_steps=10, pool=512),
        save_to=str(folder / "tokenizer"),
        half=True,
    )
    data = ImageDataModule(str(folder / "pictures"), str(folder / "pictures"), (16, 24), batch_size=16, val_limit=32)
    trainer = Trainer(
        max_steps=60,
        precision="bf16-mixed",
        gradient_clip_val=1.0,
        logger=CSVLogger(folder),
        check_val_every_n_epoch=5,
        log_every_n_steps=4,
        enable_progress_bar=False,
        enable_model_summary=False,
        accelerator="cpu",
        use_distributed_sampler=False,
        default_root_dir=folder,
    )
    trainer.fit(module, datamodule=data)
    return module, folder


def test_training_learns_and_logs(trained: tuple[ImageTokenizerModule, Path]):
    module, folder = trained
    assert module.model.quantize.initialised
    assert torch.unique(module.background) == pytest.approx(100 / 127.5 - 1)
    lines = (folder / "lightning_logs" / "version_0" / "metrics.csv").read_text().splitlines()
    rows = [dict(zip(lines[0].split(","), line.split(","), strict=True)) for line in lines[1:]]
    losses = [float(row["train/pixel_loss"]) for row in rows if row["train/pixel_loss"]]
    assert losses[-1] < 0.7 * losses[0]
    scores = [row for row in rows if row["val/psnr"]]
    assert float(scores[-1]["val/psnr"]) > float(scores[0]["val/psnr"])
    assert 1 < float(scores[-1]["val/perplexity"]) <= float(scores[-1]["val/codes_used"]) <= 32
    assert float(scores[-1]["val/object_psnr"]) < float(scores[-1]["val/psnr"])


def test_training_writes_the_tokenizer(trained: tuple[ImageTokenizerModule, Path]):
    module, folder = trained
    loaded = ImageTokenizer.from_pretrained(folder / "tokenizer")
    assert torch.equal(loaded.codebook, module.model.quantize.embedding.weight.half().float())
    assert loaded.size == (16, 24)


def test_a_recogniser_counts_and_stays_out_of_checkpoints(trained: tuple[ImageTokenizerModule, Path], tmp_path: Path):
    Recognizer({"shape": ("cube", "sphere")}, RecognizerNetwork(8, channels=(4,), layers=(1,))).save_pretrained(
        tmp_path / "recognizer"
    )
    pictures = str(trained[1] / "pictures")
    steps = {}
    for weight in (0.0, 100.0):
        torch.manual_seed(0)
        recognition = RecognitionLoss(str(tmp_path / "recognizer"), weight)
        module = ImageTokenizerModule(TINY, total_steps=2, recognition=recognition)
        trainer = Trainer(
            max_steps=2, logger=False, enable_checkpointing=False, enable_progress_bar=False, limit_val_batches=0
        )
        trainer.fit(module, datamodule=ImageDataModule(pictures, pictures, (16, 24), batch_size=8))
        assert trainer.callback_metrics["train/recognition"] > 0
        assert not any("recogni" in name for name in module.state_dict())
        steps[weight] = module.model.decoder.conv_out.weight.detach().clone()
    assert not torch.equal(steps[0.0], steps[100.0])


def test_a_checkpoint_brings_background_and_codebook_back(trained: tuple[ImageTokenizerModule, Path]):
    module, folder = trained
    (checkpoint,) = folder.rglob("*.ckpt")
    loaded = ImageTokenizerModule.load_from_checkpoint(checkpoint, weights_only=False)
    for name, value in loaded.state_dict().items():
        assert torch.equal(value, module.state_dict()[name]), name


def test_training_goes_on_from_weights_with_a_codebook_of_another_size(
    trained: tuple[ImageTokenizerModule, Path], tmp_path: Path
):
    pictures = str(trained[1] / "pictures")
    network = ImageNetwork(**{**vars(TINY), "codes": 48})
    module = ImageTokenizerModule(
        network,
        total_steps=6,
        optimizer=OptimizerConfig(lr=0.0),
        quantizer=QuantizerConfig(warmup_steps=4, pool=192),
        init=str(trained[1] / "tokenizer"),
        save_to=str(tmp_path / "tokenizer"),
    )
    trainer = Trainer(
        max_steps=6, logger=False, enable_checkpointing=False, enable_progress_bar=False, limit_val_batches=0
    )
    trainer.fit(module, datamodule=ImageDataModule(pictures, pictures, (16, 24), batch_size=8))
    given = ImageTokenizer.from_pretrained(trained[1] / "tokenizer").model.state_dict()
    found = ImageTokenizer.from_pretrained(tmp_path / "tokenizer")
    assert all(torch.equal(found.model.state_dict()[name], given[name]) for name in given if "embedding" not in name)
    assert found.codebook.shape == (48, 6)
    assert module.model.quantize.initialised


def test_no_steps():
    with pytest.raises(ValueError, match=r"set trainer\.max_steps"):
        ImageTokenizerModule(TINY, total_steps=-1)


# ---- shipped weights ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def quickstart() -> ImageTokenizer:
    return ImageTokenizer.from_pretrained(QUICKSTART)


def scenes(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Pictures [count, 64, 64, 3] of scenes that training did not see, and the pixels of their objects."""
    world = ClevrWorld(image_size=(64, 64), objects=(1, 3), extent=1.5, focal=1.8, light_jitter=0.0)
    made = [world.make(random.Random(f"tests/{index}")) for index in range(count)]
    return np.stack([image for _, image, _ in made]), np.stack([ids >= 0 for _, _, ids in made])


def decibels(squared: np.ndarray) -> float:
    return float(-10 * np.log10(squared.mean()))


def test_quickstart_sizes(quickstart: ImageTokenizer):
    assert (quickstart.size, quickstart.grid, quickstart.codebook.shape) == ((64, 64), (8, 8), (1024, 64))
    assert sum(path.stat().st_size for path in QUICKSTART.iterdir()) < 4_000_000


def test_quickstart_reconstructs_unseen_scenes(quickstart: ImageTokenizer):
    images, masks = scenes(32)
    codes = quickstart.encode(image_batch(images))
    squared = ((pixels(quickstart.decode(codes)) / 255.0 - images / 255.0) ** 2).mean(-1)
    whole = np.mean([decibels(error) for error in squared])
    objects = np.mean([decibels(error[mask]) for error, mask in zip(squared, masks, strict=True)])
    assert whole > 38
    assert objects > 29
    assert len(torch.unique(codes)) > 200


def test_quickstart_codes_change_where_the_image_does(quickstart: ImageTokenizer):
    world = ClevrWorld(image_size=(64, 64), objects=(1, 3), extent=1.5, focal=1.8, light_jitter=0.0)
    here, far = [], []
    for index in range(16):
        scene, image, _ = world.make(random.Random(f"tests/{index}"))
        first, *rest = scene["objects"]
        recoloured = first | {"color": "blue" if first["color"] == "red" else "red"}
        other, _ = world.render({**scene, "objects": [recoloured, *rest]})
        codes = quickstart.encode(image_batch([image, other])).reshape(2, 8, 8).numpy()
        # Light bounced off the object tints the ground all around it, invisibly.
        changed = (np.abs(image.astype(int) - other).max(-1) > 4).reshape(8, 8, 8, 8).any((1, 3))
        padded = np.pad(changed, 1)
        near = np.any([padded[i : i + 8, j : j + 8] for i in range(3) for j in range(3)], axis=0)
        here.append((codes[0] != codes[1])[changed])
        far.append((codes[0] != codes[1])[~near])
    assert np.concatenate(here).mean() > 0.7
    assert np.concatenate(far).mean() < 0.2
