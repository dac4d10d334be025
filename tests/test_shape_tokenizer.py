"""Shape tokenizer: losses, training, resuming, several processes, coding and decoding, files, configs."""

import json
import math
import subprocess
import sys
import warnings
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
import yaml
from lightning import Callback, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from torch import Tensor, nn

from data_modules.voxels import voxelize_asset
from data_modules.worlds.assets.invented import invent
from data_modules.worlds.assets.library import ASSETS
from kyvo.assets import resolve
from kyvo.cameras import Cameras
from kyvo.cli import find_config
from kyvo.models.finite_quantizer import FiniteQuantizerConfig
from kyvo.models.gradient_quantizer import GradientVectorQuantizer
from kyvo.models.shape_decoder import ShapeDecoder, Views
from kyvo.models.shape_vq import TRELLIS_MEAN, ShapeNetwork, ShapeVQ
from kyvo.slat import Slat, densify, sparsify
from kyvo.tokenizers.shapes import ShapeTokenizer
from kyvo.training.adaptive_clipping import ClippingConfig
from kyvo.training.image_tokenizer import QuantizerConfig
from kyvo.training.occupancy_threshold import OccupancyThreshold
from kyvo.training.optimizer import OptimizerConfig, learning_rate_factor
from kyvo.training.render_loss import RenderWeights
from kyvo.training.shape_loss import ShapeLoss, dice_loss, divergence
from kyvo.training.shape_tokenizer import Rendering, ShapeBatch, ShapeTokenizerModule, vector_statistics
from kyvo.training.vqgan import GradientQuantizerConfig
from tests.shape_run import SIZE, TINY, boxes, fit, loader, quiet_trainer, tiny_module

PIXELS = RenderWeights(weight=0.5, perceptual=0.0)


class Shadow(ShapeDecoder):
    """Sums of colours and occupancy along y, from whatever side; enough to have gradients in both."""

    space = "voxel8"

    def render(self, grid: Tensor, cameras: Cameras, size: int, background: float = 1.0) -> Views:
        occupancy = grid[:, :1]
        alpha = 1 - torch.exp(-occupancy.sum(3) * (1 + cameras.positions[0, 0].abs()))
        colour = ((grid[:, 1:4] + 1) / 2 * occupancy).sum(3) / (occupancy.sum(3) + 1e-3)
        rgb = F.interpolate(colour * alpha + background * (1 - alpha), (size, size))
        alpha = F.interpolate(alpha, (size, size))
        views = len(cameras)
        return Views(rgb[:, None].expand(-1, views, -1, -1, -1), alpha[:, 0, None].expand(-1, views, -1, -1))


def state_of(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}


def same(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(value, second[name]) for name, value in first.items())


def tokenizer(network: ShapeNetwork = TINY, space: str = "voxel8") -> ShapeTokenizer:
    torch.manual_seed(0)
    model = ShapeVQ(network, GradientVectorQuantizer(network.codes, network.code_dim))
    nn.init.normal_(model.quantize.embedding.weight, std=0.3)
    return ShapeTokenizer(model, space)


# ---- losses ---------------------------------------------------------------------------------------------------------


def test_loss_by_hand():
    there = torch.tensor([1.0, 0, 0, 1]).reshape(1, 1, 1, 2, 2)
    target = torch.cat([there, 2 * there, there], 1)
    logits = torch.tensor([0.0, -1, 2, 3]).reshape(1, 1, 1, 2, 2)
    output = torch.cat([logits, torch.ones(1, 2, 1, 2, 2)], 1)
    terms = ShapeLoss(latent=2, empty=0.1, occupancy=3, positive=4, dice=5)(output, target)
    # There: errors 1 and 0; elsewhere 1 and 1.
    assert terms.latent.item() == pytest.approx(0.5 + 0.1 * 1)
    p = [1 / (1 + math.exp(-x)) for x in (0.0, -1, 2, 3)]
    entropy = -(4 * math.log(p[0]) + math.log(1 - p[1]) + math.log(1 - p[2]) + 4 * math.log(p[3])) / 4
    assert terms.occupancy.item() == pytest.approx(entropy)
    dice = 1 - (2 * (p[0] + p[3]) + 1) / (sum(p) + 2 + 1)
    assert terms.dice.item() == pytest.approx(dice)
    assert terms.total.item() == pytest.approx(2 * 0.6 + 3 * entropy + 5 * dice)
    dense = ShapeLoss(latent=2).dense(output, target)
    assert (dense.latent.item(), dense.total.item()) == pytest.approx((0.75, 1.5))


def test_nothing_there_has_a_loss():
    assert ShapeLoss()(torch.zeros(1, 3, 2, 2, 2), torch.zeros(1, 3, 2, 2, 2)).total.isfinite()
    assert dice_loss(torch.zeros(2, 2, 2, 2), torch.zeros(2, 2, 2, 2)) == 0


def test_divergence_is_torchs():
    mean, log_variance = torch.randn(4, 5), torch.randn(4, 5)
    normal = torch.distributions.Normal(mean, (log_variance / 2).exp())
    expected = torch.distributions.kl_divergence(normal, torch.distributions.Normal(0.0, 1.0)).mean()
    torch.testing.assert_close(divergence(mean, log_variance), expected)


def test_threshold_matches_the_number_of_voxels():
    metric, lengths = OccupancyThreshold(), torch.rand(3, 4, 4, 4) * 3
    there = (torch.rand(3, 4, 4, 4) < 0.3).float()
    for one, other in zip(lengths, there, strict=True):
        metric.update(one, other)
    found = (lengths > metric.compute()).sum()
    assert abs(int(found) - int(there.sum())) <= 1


def test_statistics_of_vectors():
    slats = boxes(5)
    mean, std = vector_statistics(loader(densify(slats), 2))
    vectors = torch.cat([slat.feats for slat in slats])
    torch.testing.assert_close(mean, vectors.mean(0))
    expected = vectors.std(0, correction=0)
    # The offset is always 0 and the opacity 1.
    expected[6:] = 1
    torch.testing.assert_close(std, expected)


def test_constant_schedule():
    config = OptimizerConfig(schedule="constant", warmup_steps=4)
    assert [learning_rate_factor(step, 8, config) for step in (0, 1, 3, 7, 100)] == [0.25, 0.5, 1, 1, 1]


# ---- training -------------------------------------------------------------------------------------------------------


def test_one_object_is_learned_by_heart(tmp_path: Path):
    """The whole way: training, the saved folder, codes, and voxels that are all predicted."""
    torch.manual_seed(0)
    [slat] = boxes(1)
    network = replace(TINY, channels=(24, 24))
    module = tiny_module(
        network=network, quantizer=QuantizerConfig(warmup_steps=20, pool=1024, decay=0.9), total_steps=250,
        optimizer=OptimizerConfig(lr=5e-3, weight_decay=0.0, warmup_steps=5, schedule="trapezoid"), ema=0.9,
        save_to=str(tmp_path / "made"),
    )  # fmt: skip
    grids = densify([slat])
    trainer = quiet_trainer(
        max_steps=250, logger=CSVLogger(tmp_path), check_val_every_n_epoch=250, log_every_n_steps=10,
        num_sanity_val_steps=0,
    )  # fmt: skip
    trainer.fit(module, loader(grids), loader(grids))
    scores = trainer.callback_metrics
    assert scores["val/iou"] > 0.95
    assert scores["val/feature_mse"] < 0.02
    assert 1 < scores["val/codes_used"] <= 16
    assert scores["val/usage"] == scores["val/codes_used"] / 16
    names = ("codes_used", "usage", "perplexity", "top_code_share")
    assert {f"val/{prefix}{name}" for prefix in ("", "filled_") for name in names} <= set(scores)
    saved = ShapeTokenizer.from_pretrained(tmp_path / "made")
    codes = saved.encode([slat])
    assert codes.shape == (1, saved.codes_per_shape) == (1, 8)
    found = saved.decode(codes)[0]
    both = len(set(found.cells().tolist()) & set(slat.cells().tolist()))
    assert both / (len(found.coords) + len(slat.coords) - both) > 0.95
    colours = (found.feats[:, :3].mean(0) - slat.feats[:, :3].mean(0)).abs().max()
    assert colours < 0.1


@pytest.mark.parametrize(
    "options",
    [
        {"network": replace(TINY, occupancy=False), "statistics": "data"},
        {"network": replace(TINY, variational=True, checkpointing=True), "divergence": 1e-3},
        {"quantizer": GradientQuantizerConfig()},
        {"quantizer": FiniteQuantizerConfig((4, 4)), "ema": 0.0},
        {"decoder": Shadow(), "rendering": Rendering("single-view", 16, 2, 2, PIXELS, 2)},
    ],
    ids=["paper", "variational", "gradient", "finite", "rendering"],
)
def test_every_kind_trains_is_restored_and_saved(options: dict[str, object], tmp_path: Path):
    torch.manual_seed(0)
    module = tiny_module(**options, save_to=str(tmp_path / "made"))
    trainer = quiet_trainer(max_steps=6, num_sanity_val_steps=0)
    trainer.fit(module, loader(densify(boxes(12))), loader(densify(boxes(4))))
    logged = {name for name in trainer.callback_metrics if name.startswith("train/")}
    assert {"train/latent", "train/commitment", "train/perplexity", "train/gradient_norm"} <= logged
    assert ("train/divergence" in logged, "train/render" in logged) == ("divergence" in options, "decoder" in options)
    assert ("val/view_psnr" in trainer.callback_metrics) == ("decoder" in options)
    trainer.save_checkpoint(tmp_path / "one.ckpt")
    loaded = ShapeTokenizerModule.load_from_checkpoint(tmp_path / "one.ckpt")
    assert same(state_of(module), state_of(loaded))
    saved, [slat] = ShapeTokenizer.from_pretrained(tmp_path / "made"), boxes(1)
    model = module.evaluated.eval()
    with torch.no_grad():
        features = model.encode(model.normalise(densify([slat])))
        quantized, _, (_, _, codes) = model.quantize(features)
        grid = model.denormalise(model.decode(quantized))
    assert torch.equal(saved.encode([slat])[0], codes)
    torch.testing.assert_close(saved.grid(codes[None]), grid)


def test_a_resumed_run_equals_an_unbroken_one(tmp_path: Path):
    grids = densify(boxes(8))

    def run(checkpoint: Path | None = None, **options: object) -> ShapeTokenizerModule:
        module = tiny_module(
            decoder=Shadow(), rendering=Rendering("multi-view", 16, None, 4, PIXELS), statistics="data",
            clipping=ClippingConfig(100.0, window=4),
        )  # fmt: skip
        torch.manual_seed(3)
        module.configure_model()
        # Whatever else has been drawn: steps draw from the seed and their number.
        torch.rand(7)
        trainer = quiet_trainer(**({"max_steps": 10} | options))
        trainer.fit(module, loader(grids), loader(grids), ckpt_path=checkpoint)
        return module

    class Killed(Exception):  # noqa: N818
        pass

    class Killer(Callback):
        def on_train_batch_start(self, trainer: Trainer, *_: object) -> None:
            if trainer.global_step == 7:
                raise Killed

    saving = ModelCheckpoint(tmp_path, every_n_epochs=3)
    with pytest.raises(Killed):
        run(callbacks=[saving, Killer()], enable_checkpointing=True)
    assert torch.load(saving.best_model_path, weights_only=True)["global_step"] == 6
    resumed, unbroken = run(Path(saving.best_model_path)), run()
    assert unbroken.clipping.steps == 10
    assert unbroken.clipping.limit < 100
    assert same(state_of(unbroken), state_of(resumed))


def test_the_decoder_is_in_no_checkpoint(tmp_path: Path):
    decoder = Shadow()
    decoder.weights = nn.Linear(2, 2)
    module = tiny_module(decoder=decoder)
    module.configure_model()
    assert not any("decoder.weights" in name or "_decoder" in name for name in module.state_dict())
    assert all(p is not decoder.weights.weight for p in module.parameters())


def test_looks_teach_the_encoder():
    torch.manual_seed(0)
    module = tiny_module(decoder=Shadow(), rendering=Rendering("multi-view", 16, None, 1, PIXELS))
    trainer = quiet_trainer(max_steps=1, limit_val_batches=0)
    trainer.fit(module, loader(densify(boxes(4))))
    batch = ShapeBatch(densify(boxes(4)))
    for step in (0, 1):
        trainer.fit_loop.epoch_loop.automatic_optimization.optim_progress.optimizer.step.total.completed = step
        assert module.global_step == step
        module.zero_grad()
        features = module.model.encode(module.model.normalise(batch.grid))
        output = module.model.decode(features)
        output.retain_grad()
        module._looks(batch, output).backward()
        assert output.grad[:, 1:4].abs().sum() > 0
        # While the true voxels are rendered, the picture says nothing of occupancy.
        assert (output.grad[:, 0].abs().sum() > 0) == (step == 1)
        assert module.model.encoder[0].weight.grad.abs().sum() > 0


def test_pictures_of_the_data_come_first():
    module = tiny_module(decoder=Shadow(), rendering=Rendering("multi-view", 16, None, 0, PIXELS))
    trainer = quiet_trainer(max_steps=1, limit_val_batches=0)
    grid = densify(boxes(4))
    trainer.fit(module, loader(grid))
    cameras = Cameras.sphere(4)
    module.render_loss = lambda pictures, targets: type("Terms", (), {"total": torch.stack([pictures, targets])})
    with torch.no_grad():
        output = torch.cat([20 * grid[:, :1] - 10, grid[:, 1:]], 1)
        images, alphas = torch.full((4, 3, 24, 24), 0.25), torch.full((4, 24, 24), 0.5)
        found = module._looks(ShapeBatch(grid, images, alphas, cameras), output)
        module.rendering = Rendering("single-view", 16, None, 0, PIXELS)
        with pytest.raises(ValueError, match="single-view needs data without pictures"):
            module._looks(ShapeBatch(grid, images, alphas, cameras), output)
    assert found.shape == (2, 4, 3, 24, 24)
    # Half covered, before black or white.
    assert float(found[1].mean()) in (0.125, 0.625)


def test_without_occupancy_validation_sets_the_threshold():
    module = tiny_module(network=replace(TINY, occupancy=False))
    trainer = quiet_trainer(max_steps=30, num_sanity_val_steps=0, check_val_every_n_epoch=10)
    grids = densify(boxes(12))
    trainer.fit(module, loader(grids), loader(grids))
    model = module.evaluated.eval()
    assert model.threshold != 1
    assert model.threshold == module.model.threshold
    with torch.no_grad():
        codes = model.quantize(model.encode(model.normalise(grids)))[0]
        count = (model.decode(codes)[:, 0] > 0).sum()
    assert int(count) == pytest.approx(int(grids[:, 0].sum()), rel=0.05)


def test_two_processes_end_with_the_same(tmp_path: Path):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command += ["-m", "tests.shape_run", str(tmp_path / "made")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    (first, scores), (second, other) = (torch.load(tmp_path / f"made-{rank}.pt") for rank in (0, 1))
    assert first["model.quantize.initialised"]
    assert same(first, second)
    assert scores == other
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        state, alone = fit(0, 1)
    assert alone.keys() == scores.keys()
    # Before k-means, whose random numbers differ, two learn what one does.
    assert state["clipping.norms"][0].item() == pytest.approx(first["clipping.norms"][0].item(), rel=0.2)
    assert int(first["model.quantize.steps"]) == int(state["model.quantize.steps"]) == 8


# ---- bad settings and data ------------------------------------------------------------------------------------------


def test_settings_that_do_not_fit():
    with pytest.raises(ValueError, match=r"set trainer\.max_steps"):
        tiny_module(total_steps=-1)
    with pytest.raises(ValueError, match="the space of the data is trellis, the decoder reads voxel8"):
        tiny_module(space="trellis", decoder=Shadow())
    data = loader(densify(boxes(4)))
    with pytest.raises(ValueError, match=r"leave trainer\.gradient_clip_val unset"):
        quiet_trainer(max_steps=1, gradient_clip_val=1.0).fit(tiny_module(), data)
    with pytest.raises(ValueError, match="variational: true"):
        quiet_trainer(max_steps=1).fit(tiny_module(divergence=1.0), data)
    with pytest.raises(ValueError, match=r"views \(multi-view\) need a decoder of the space voxel8"):
        quiet_trainer(max_steps=1).fit(tiny_module(rendering=Rendering("multi-view")), data)


def test_bad_batches():
    with pytest.raises(ValueError, match=r"\[B, 9, 8, 8, 8\], got \[4, 9, 4, 4, 4\]"):
        quiet_trainer(max_steps=1).fit(tiny_module(), loader(densify(boxes(4))[..., :4, :4, :4]))
    grids = densify(boxes(4))
    grids[0, 3, 0, 0, 0] = float("nan")
    with pytest.raises(ValueError, match="finite"):
        quiet_trainer(max_steps=1).fit(tiny_module(), loader(grids))


def test_spaces_have_their_statistics():
    for options, expected in [
        ({"space": "trellis"}, TRELLIS_MEAN),
        ({"space": "voxel8"}, [0.0] * 8),
        ({"space": "trellis", "statistics": "none"}, [0.0] * 8),
    ]:
        module = tiny_module(**options)
        module.configure_model()
        torch.testing.assert_close(module.model.mean, torch.tensor(expected))
    for options in ({"space": "learned"}, {"space": "voxel8", "statistics": "data"}):
        module = tiny_module(**options)
        module.configure_model()
        assert module.model.mean.isnan().all()


# ---- tokenizer ------------------------------------------------------------------------------------------------------


def test_shapes_and_types():
    made, slats = tokenizer(), boxes(3)
    assert (made.space, made.resolution, made.codes_per_shape, made.codebook.shape) == ("voxel8", 8, 8, (16, 4))
    codes = made.encode(slats)
    assert (codes.dtype, codes.shape) == (torch.int64, (3, 8))
    for dtype in (torch.int64, torch.int32, torch.int16):
        decoded = made.decode(codes.to(dtype))
        assert [(slat.space, slat.resolution, slat.channels) for slat in decoded] == [("voxel8", 8, 8)] * 3
    grid = made.grid(codes)
    assert grid.shape == (3, 9, 8, 8, 8)
    assert all(torch.equal(a.coords, b.coords) for a, b in zip(decoded, sparsify(grid, "voxel8"), strict=True))
    assert made.encode([]).shape == (0, 8)


def test_an_object_has_the_same_codes_in_any_batch():
    made, slats = tokenizer(), boxes(5)
    assert torch.equal(made.encode(slats), torch.cat([made.encode([slat]) for slat in slats]))


def test_codes_are_in_raster_order():
    network = replace(TINY, layers=0, channels=(8, 8), resolution=16)
    made, [slat] = tokenizer(network), boxes(1, 16)
    model = made.model
    with torch.no_grad():
        z = model.encode(densify([slat]))
        x, y, w = 3, 1, 2
        distances = (made.codebook - z[0, :, x, y, w]).square().sum(1)
    assert made.encode([slat])[0, (x * 4 + y) * 4 + w] == distances.argmin()


def test_pictures():
    made = ShapeTokenizer(tokenizer().model, "voxel8", Shadow())
    views = made.render(boxes(2), Cameras.sphere(3), 20)
    assert (views.rgb.shape, views.alpha.shape) == ((2, 3, 3, 20, 20), (2, 3, 20, 20))
    embedded = tokenizer().render(boxes(1), Cameras.sphere(2), 16, 0.0)
    assert embedded.rgb.shape == (1, 2, 3, 16, 16)
    with pytest.raises(ValueError, match="no decoder of the space mine is embedded"):
        tokenizer(space="mine").render(boxes(1, space="mine"), Cameras.sphere(1), 16)
    with pytest.raises(ValueError, match="the tokenizer's space is mine, the decoder reads voxel8"):
        ShapeTokenizer(tokenizer().model, "mine", Shadow())


def test_bad_input_is_named():
    made, [slat] = tokenizer(), boxes(1)
    wrong = "space voxel8, resolution 8, 8 channels; got space {}, resolution {}, {} channels"
    for other, words in [
        (replace(slat, space="trellis"), ("trellis", 8, 8)),
        (replace(slat, resolution=64), ("voxel8", 64, 8)),
        (Slat(slat.coords, slat.feats[:, :5], SIZE, "voxel8"), ("voxel8", 8, 5)),
    ]:
        with pytest.raises(ValueError, match=wrong.format(*words)):
            made.encode([slat, other])
    with pytest.raises(ValueError, match=r"integers \[B, 8\], got torch.int64 \[8\]"):
        made.decode(torch.zeros(8, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"integers \[B, 8\], got torch.float32 \[1, 8\]"):
        made.decode(torch.zeros(1, 8))
    with pytest.raises(ValueError, match=r"in \[0, 16\), got \[-1, 16\]"):
        made.decode(torch.tensor([[-1] + [16] * 7]))


# ---- files ----------------------------------------------------------------------------------------------------------


def test_a_folder_brings_the_tokenizer_back(tmp_path: Path):
    made, slats = tokenizer(), boxes(3)
    made.model.set_statistics(torch.randn(8), torch.rand(8) + 0.5)
    made.save_pretrained(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "model.safetensors"]
    loaded = ShapeTokenizer.from_pretrained(tmp_path)
    assert same(state_of(loaded.model), state_of(made.model))
    codes = loaded.encode(slats)
    assert torch.equal(codes, made.encode(slats))
    assert torch.equal(loaded.grid(codes), made.grid(codes))


def test_half_precision_spares_the_statistics(tmp_path: Path):
    made = tokenizer()
    made.model.set_statistics(torch.randn(8), torch.rand(8) + 0.5)
    made.save_pretrained(tmp_path, torch.float16)
    loaded = ShapeTokenizer.from_pretrained(tmp_path)
    assert torch.equal(loaded.model.mean, made.model.mean)
    assert torch.equal(loaded.codebook, made.codebook.half().float())
    assert made.codebook.dtype == torch.float32
    loaded.save_pretrained(tmp_path / "again")
    assert (tmp_path / "again/model.safetensors").read_bytes() == (tmp_path / "model.safetensors").read_bytes()


def test_folders_that_hold_no_tokenizer(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match=r"nowhere holds no shape tokenizer: config\.json is missing"):
        ShapeTokenizer.from_pretrained(tmp_path / "nowhere")
    tokenizer().save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    for changed in ({**config, "quantizer": {"kind": "odd"}}, {"space": "voxel8"}, {**config, "network": {"a": 1}}):
        (tmp_path / "config.json").write_text(json.dumps(changed))
        with pytest.raises(ValueError, match="does not hold a shape tokenizer"):
            ShapeTokenizer.from_pretrained(tmp_path)
    config["network"]["channels"] = [8, 8]
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="size mismatch"):
        ShapeTokenizer.from_pretrained(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"model\.safetensors is missing"):
        ShapeTokenizer.from_pretrained(tmp_path)


# ---- configs --------------------------------------------------------------------------------------------------------


def network_of(name: str) -> ShapeNetwork:
    given = yaml.safe_load(Path(find_config(f"shape_tokenizer/{name}")).read_text())["model"]["init_args"]["network"]
    return ShapeNetwork(**{key: tuple(value) if isinstance(value, list) else value for key, value in given.items()})


@pytest.mark.parametrize(
    ("name", "resolution", "codes", "most"),
    [("quickstart", 32, 512, 1_200_000), ("quickstart_64", 16, 64, 1_200_000), ("small", 64, 512, 8_000_000)],
)
def test_sizes_of_the_configs(name: str, resolution: int, codes: int, most: int):
    network = network_of(name)
    with torch.device("meta"):
        model = ShapeVQ(network, GradientVectorQuantizer(network.codes, network.code_dim))
    assert (network.resolution, network.side**3) == (resolution, codes)
    assert sum(p.numel() for p in model.parameters()) <= most


def test_the_papers_config_says_what_the_paper_does():
    config = yaml.safe_load(Path(find_config("shape_tokenizer/paper")).read_text())
    given = config["model"]["init_args"]
    assert replace(network_of("paper"), checkpointing=False, variational=False) == ShapeNetwork()
    assert (config["trainer"]["max_steps"], config["data"]["init_args"]["batch_size"]) == (200_000, 8)
    assert (given["quantizer"]["decay"], given["quantizer"]["commitment"], given["divergence"]) == (0.99, 0.25, 1e-6)
    assert {name: given["optimizer"][name] for name in ("lr", "beta1", "beta2", "weight_decay")} == {
        "lr": 3e-4, "beta1": 0.9, "beta2": 0.999, "weight_decay": 0.0
    }  # fmt: skip
    assert given["optimizer"]["schedule"] == "constant"
    assert given["rendering"]["views"] == "multi-view"
    assert given["rendering"]["weights"] == {"weight": 0.1, "l1": 1.0, "ssim": 0.2, "perceptual": 0.2}


# ---- the tokenizers that ship ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "resolution", "codes", "least"), [("", 32, 512, 0.85), ("_64", 16, 64, 0.8)])
def test_shipped_tokenizers_keep_shapes_that_training_never_saw(name: str, resolution: int, codes: int, least: float):
    tokenizer = ShapeTokenizer.from_pretrained(f"shape_tokenizer_quickstart{name}")
    assert (tokenizer.space, tokenizer.resolution, tokenizer.codes_per_shape) == ("voxel8", resolution, codes)
    slats = [voxelize_asset(asset, resolution) for asset in (ASSETS["duck"], ASSETS["guitar"], invent(1))]
    found, true = densify(tokenizer.decode(tokenizer.encode(slats)))[:, 0], densify(slats)[:, 0]
    overlap = (found * true).sum((1, 2, 3)) / (found + true).clamp(max=1).sum((1, 2, 3))
    assert overlap.mean() > least


@pytest.mark.parametrize("name", ["shape_tokenizer_quickstart", "shape_tokenizer_quickstart_64"])
def test_shipped_tokenizers_are_small(name: str):
    assert sum(file.stat().st_size for file in Path(resolve(name)).iterdir()) < 4e6
