"""VQGAN: discriminator, losses and their balance, quantiser, average, steps, resuming, several processes."""

import json
import subprocess
import sys
import warnings
from itertools import pairwise
from pathlib import Path

import pytest
import torch
import yaml
from lightning import Callback, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from torch import Tensor, nn
from torch.utils.data import DataLoader

from callbacks.codebook import Codebook
from kyvo.cli import find_config
from kyvo.metrics.codebook import CodeUsage, usage_scores
from kyvo.models.discriminator import PatchDiscriminator
from kyvo.models.gradient_quantizer import GradientVectorQuantizer
from kyvo.models.image_vq import ImageNetwork, build_vq_model
from kyvo.models.quantizer import EMAVectorQuantizer
from kyvo.tokenizers.images import ImageTokenizer
from kyvo.training.ema import WeightAverage
from kyvo.training.image_tokenizer import QuantizerConfig
from kyvo.training.vqgan import (
    AdamConfig,
    Adversary,
    GradientQuantizerConfig,
    Perceptual,
    VQGANModule,
    gradient_ratio,
    hinge_loss,
)
from tests.vqgan_run import TINY, pictures, quiet_trainer, results, tiny_vqgan


def loader(count: int = 8, batch_size: int = 4) -> DataLoader[Tensor]:
    return DataLoader(list(pictures(count)), batch_size)


def state_of(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}


def same(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return all(torch.equal(value, second[name]) for name, value in first.items())


# ---- discriminator --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "layers", "expected"),
    [((256, 256), 3, (30, 30)), ((64, 96), 3, (6, 10)), ((24, 24), 3, (1, 1)), ((16, 24), 2, (2, 4))],
)
def test_one_judgement_a_patch(size, layers, expected):
    with torch.device("meta"):
        judged = PatchDiscriminator(8, layers)(torch.zeros(2, 3, *size))
    assert judged.shape == (2, 1, *expected)


def test_as_many_parameters_as_tamings_discriminator():
    kernel, widths = 4 * 4, [64, 128, 256, 512]
    expected = (3 * kernel + 1) * 64 + (512 * kernel + 1)
    expected += sum(first * kernel * second + 2 * second for first, second in pairwise(widths))
    assert expected == 2_765_633
    with torch.device("meta"):
        model = PatchDiscriminator()
    assert sum(p.numel() for p in model.parameters()) == expected


def test_a_patch_is_70_pixels_wide():
    model = PatchDiscriminator(2).eval()
    image = torch.zeros(1, 3, 128, 128, requires_grad=True)
    model(image)[0, 0, 7, 7].backward()
    seen = image.grad.abs().sum((0, 1)) > 0
    assert (int(seen.any(1).sum()), int(seen.any(0).sum())) == (70, 70)


def test_initial_weights_of_the_discriminator():
    torch.manual_seed(0)
    blocks = PatchDiscriminator().blocks
    assert blocks[5].weight.std().item() == pytest.approx(0.02, rel=0.02)
    assert blocks[6].weight.mean().item() == pytest.approx(1, abs=0.01)
    assert blocks[6].weight.std().item() == pytest.approx(0.02, rel=0.2)
    assert blocks[5].bias is None
    assert not blocks[6].bias.any()
    with pytest.raises(ValueError, match="got 64 and 0"):
        PatchDiscriminator(layers=0)


# ---- losses ---------------------------------------------------------------------------------------------------------


def test_hinge_loss_by_hand():
    # (mean(0.5, 0) + mean(0, 3)) / 2
    assert hinge_loss(torch.tensor([0.5, 2.0]), torch.tensor([-1.5, 2.0])).item() == pytest.approx((0.25 + 1.5) / 2)
    assert hinge_loss(torch.tensor([1.0]), torch.tensor([-1.0])) == 0


def test_gradient_ratio_by_hand():
    assert gradient_ratio(torch.tensor([3.0, 4.0]), torch.tensor([[0.0], [2.0]])).item() == pytest.approx(5 / 2.0001)
    assert gradient_ratio(torch.tensor([3.0]), torch.zeros(2)) == 1e4


def test_adaptive_weight_is_the_ratio_at_the_last_layer():
    module = tiny_vqgan(Adversary(weight=0.8, start=0, channels=8, layers=2))
    logged: dict[str, Tensor] = {}
    module._log_training = logged.update
    module._mean = lambda value: value
    images = pictures(4)
    loss, output = module._generator_loss(images, adversarial=True)
    last = module.model.decoder.conv_out.weight
    l1, unreal = (output - images).abs().mean(), -module.discriminator(output).mean()
    norms = [torch.autograd.grad(term, last, retain_graph=True)[0].norm() for term in (l1, unreal)]
    expected = 0.8 * norms[0] / (norms[1] + 1e-4)
    assert logged["adaptive_weight"].item() == pytest.approx(expected.item(), rel=1e-5)
    total = l1 + logged["commitment"] + expected * unreal
    assert loss.item() == pytest.approx(total.item(), rel=1e-5)
    # The weighted adversarial gradient is 0.8 times as large as the reconstruction's.
    assert (expected * norms[1] / norms[0]).item() == pytest.approx(0.8, rel=1e-2)


# ---- quantiser ------------------------------------------------------------------------------------------------------


def test_gradient_quantiser_is_that_of_diffusers():
    reference = build_vq_model(TINY).quantize
    ours = GradientVectorQuantizer(TINY.codes, TINY.code_dim)
    nn.init.normal_(reference.embedding.weight)
    ours.load_state_dict(reference.state_dict())
    results = []
    for quantizer in (reference, ours):
        torch.manual_seed(1)
        z = torch.randn(3, TINY.code_dim, 4, 5, requires_grad=True)
        quantized, loss, (_, _, codes) = quantizer(z)
        (quantized * torch.linspace(0, 1, quantized.numel()).reshape(quantized.shape)).sum().add(loss).backward()
        results.append((quantized, loss, codes, z.grad, quantizer.embedding.weight.grad))
    for expected, found in zip(*results, strict=True):
        torch.testing.assert_close(found, expected)


def test_gradient_quantiser_is_float32_under_autocast():
    quantizer = GradientVectorQuantizer(64, 6)
    z = torch.randn(2, 6, 4, 4)
    plain = quantizer(z)
    with torch.autocast("cpu", torch.bfloat16):
        cast = quantizer(z)
    assert cast[0].dtype == torch.float32
    assert torch.equal(cast[2][2], plain[2][2])
    assert torch.equal(cast[0], plain[0])


# ---- average --------------------------------------------------------------------------------------------------------


def test_average_by_hand():
    model = nn.Linear(1, 1, bias=False)
    values = [1.0, 3.0, 7.0, -2.0]
    average = WeightAverage(model, 0.15)
    for value in values:
        model.weight.data.fill_(value)
        average.update_parameters(model)
    expected = 1.0
    for count, value in enumerate(values[1:], 1):
        kept = min(0.15, (1 + count) / (10 + count))
        expected = kept * expected + (1 - kept) * value
    assert average.module.weight.item() == pytest.approx(expected)
    assert not average.module.weight.requires_grad
    average.restart(model)
    assert average.module.weight.item() == -2
    with pytest.raises(ValueError, match="got 1"):
        WeightAverage(model, 1)


# ---- steps ----------------------------------------------------------------------------------------------------------


class Watcher(Callback):
    """Keeps the weights of both networks after each batch."""

    def __init__(self) -> None:
        self.seen: list[tuple[dict[str, Tensor], dict[str, Tensor], int]] = []

    def on_train_batch_end(self, trainer: Trainer, pl_module: VQGANModule, *_: object) -> None:
        networks = dict(pl_module.model.named_parameters()), dict(pl_module.discriminator.named_parameters())
        model, judge = ({name: value.detach().clone() for name, value in one.items()} for one in networks)
        self.seen.append((model, judge, trainer.global_step))


def test_the_discriminator_waits_and_steps_are_the_generators():
    module = tiny_vqgan(Adversary(start=2, channels=8, layers=2))
    before = state_of(module.discriminator)
    watcher = Watcher()
    quiet_trainer(max_steps=4, callbacks=[watcher]).fit(module, loader())
    models, judges, steps = zip(*watcher.seen, strict=True)
    assert steps == (1, 2, 3, 4)
    assert same(judges[0], before)
    assert same(judges[1], before)
    assert not same(judges[2], judges[1])
    assert not same(judges[3], judges[2])
    assert all(not same(models[index + 1], models[index]) for index in range(3))


def test_each_loss_moves_its_own_network():
    module = tiny_vqgan(Adversary(start=0, channels=8, layers=2))
    trainer = quiet_trainer(max_steps=1)
    trainer.fit(module, loader())
    generator, judge = trainer.optimizers
    assert {p for group in judge.param_groups for p in group["params"]} == set(module.discriminator.parameters())
    assert {p for group in generator.param_groups for p in group["params"]} == set(module.model.parameters())
    for parameter in module.parameters():
        parameter.grad = None
    module._log_training = lambda **_: None
    images = pictures(4)
    with trainer.strategy.model.optimizers()[0].toggle_model():
        loss, output = module._generator_loss(images, adversarial=True)
        loss.backward()
    assert all(p.grad is None for p in module.discriminator.parameters())
    assert all(p.grad is not None for p in module.model.parameters())
    made = [p.grad.clone() for p in module.model.parameters()]
    module._train_discriminator(torch.optim.SGD(module.discriminator.parameters(), 0.0), images, output.detach())
    assert all(torch.equal(p.grad, old) for p, old in zip(module.model.parameters(), made, strict=True))
    assert all(p.grad is not None for p in module.discriminator.parameters())


def test_learning_rate_grows_with_the_batch():
    module = tiny_vqgan(optimizer=AdamConfig(lr_per_image=1e-5))
    trainer = quiet_trainer(max_steps=1)
    trainer.fit(module, loader(batch_size=4))
    assert [optimizer.param_groups[0]["lr"] for optimizer in trainer.optimizers] == [4e-5, 4e-5]
    assert trainer.optimizers[0].param_groups[0]["betas"] == (0.5, 0.9)


@pytest.mark.parametrize("quantizer", [GradientQuantizerConfig(), QuantizerConfig(warmup_steps=5, pool=256)])
def test_training_learns_and_logs(quantizer, tmp_path):
    torch.manual_seed(0)
    module = tiny_vqgan(
        Adversary(start=50, channels=8, layers=2),
        perceptual=Perceptual(1.0),
        quantizer=quantizer,
        save_to=str(tmp_path / "made"),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer = quiet_trainer(
            max_steps=60, precision="bf16-mixed", logger=CSVLogger(tmp_path), log_every_n_steps=1,
            check_val_every_n_epoch=25, callbacks=[Codebook()],
        )  # fmt: skip
        trainer.fit(module, loader(batch_size=8), loader())
    lines = (tmp_path / "lightning_logs" / "version_0" / "metrics.csv").read_text().splitlines()
    rows = [dict(zip(lines[0].split(","), line.split(","), strict=True)) for line in lines[1:]]
    table = {name: [float(row[name]) for row in rows if row[name]] for name in rows[0]}
    assert table["train/l1"][-1] < 0.6 * table["train/l1"][0]
    assert table["train/perceptual"][-1] < 0.8 * table["train/perceptual"][0]
    assert len(table["train/l1"]) == len(table["train/commitment"]) == 60
    assert (
        len(table["train/generator"]) == len(table["train/discriminator"]) == len(table["train/adaptive_weight"]) == 10
    )
    assert table["val/psnr"][-1] > table["val/psnr"][0]
    assert all(1 / 32 <= share <= 1 for share in table["train/top_code_share"] + table["val/top_code_share"])
    assert table["val/usage"][-1] == table["val/codes_used"][-1] / TINY.codes
    assert "perceptual_loss" in (tmp_path / "lightning_logs" / "version_0" / "hparams.yaml").read_text()
    saved = ImageTokenizer.from_pretrained(tmp_path / "made")
    assert torch.equal(saved.codebook, module.average.module.quantize.embedding.weight)


@pytest.mark.parametrize(
    "quantizer", [GradientQuantizerConfig(), QuantizerConfig(warmup_steps=2, pool=128, revive_every=1)]
)
def test_a_resumed_run_equals_an_unbroken_one(quantizer, tmp_path):
    def run(checkpoint: Path | None = None, **options: object) -> VQGANModule:
        torch.manual_seed(3)
        module = tiny_vqgan(Adversary(start=3, channels=8, layers=2), quantizer=quantizer)
        # Whatever else has been drawn: steps draw from the seed and their number.
        torch.rand(7)
        quiet_trainer(**({"max_steps": 10} | options)).fit(module, loader(), loader(), ckpt_path=checkpoint)
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
    resumed, unbroken = run(Path(saving.best_model_path)), run()
    assert torch.load(saving.best_model_path, weights_only=True)["global_step"] == 6
    assert same(state_of(unbroken), state_of(resumed))


def test_checkpoints_name_the_perceptual_loss(tmp_path):
    module = tiny_vqgan(perceptual=Perceptual(1.0))
    trainer = quiet_trainer(max_steps=2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer.fit(module, loader())
    path = tmp_path / "made.ckpt"
    trainer.save_checkpoint(path)
    checkpoint = torch.load(path, weights_only=True)
    assert checkpoint["perceptual_loss"] == module.perceptual.name
    assert not any("perceptual" in name for name in checkpoint["state_dict"])
    loaded = VQGANModule.load_from_checkpoint(path)
    assert same(state_of(module), state_of(loaded))
    with pytest.warns(UserWarning, match=f"{module.perceptual.name}, this run goes on with none"):
        quiet_trainer(max_steps=4).fit(tiny_vqgan(perceptual=Perceptual(0)), loader(), ckpt_path=path)


# ---- weights to start from ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("quantizer", [GradientQuantizerConfig(), QuantizerConfig(warmup_steps=5, pool=256)])
def test_training_starts_from_published_weights(quantizer, tmp_path):
    torch.manual_seed(5)
    published = ImageTokenizer(build_vq_model(TINY))
    nn.init.normal_(published.codebook)
    published.save_pretrained(tmp_path)
    module = tiny_vqgan(quantizer=quantizer, init=str(tmp_path), optimizer=AdamConfig(lr_per_image=0))
    quiet_trainer(max_steps=1, limit_val_batches=0).fit(module, loader())
    for found in (module.model, module.average.module):
        state = found.state_dict()
        for name, value in published.model.state_dict().items():
            if "embedding" not in name or isinstance(found.quantize, GradientVectorQuantizer):
                assert torch.equal(state[name], value), name
    if isinstance(module.model.quantize, EMAVectorQuantizer):
        assert module.model.quantize.initialised
        used = torch.unique(published.encode(pictures(8)[:4]))
        unused = [code for code in range(TINY.codes) if code not in used]
        assert torch.allclose(module.model.quantize.embedding.weight[unused], published.codebook[unused])


def test_weights_of_other_sizes_are_refused(tmp_path):
    ImageTokenizer(build_vq_model(ImageNetwork(**{**vars(TINY), "codes": 16, "layers": 2}))).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"layers_per_block should be 1, is 2; num_vq_embeddings should be 32, is 16"):
        quiet_trainer(max_steps=1).fit(tiny_vqgan(init=str(tmp_path)), loader())


def test_the_papers_config_says_what_the_defaults_are():
    config = yaml.safe_load(Path(find_config("image_tokenizer/paper")).read_text())
    given = config["model"]["init_args"]
    parts = {"network": ImageNetwork, "quantizer": GradientQuantizerConfig, "adversary": Adversary}
    for name, part in parts.items():
        assert part(**{key: tuple(v) if isinstance(v, list) else v for key, v in given[name].items()}) == part(), name
    assert {key: float(value) for key, value in given["optimizer"].items()} == vars(AdamConfig())
    assert config["data"]["init_args"]["batch_size"] == 5


# ---- bad input ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("value", "message"), [(float("nan"), "nan"), (float("inf"), "to inf"), (255.0, "to 255")])
def test_pixels_that_no_image_has(value, message):
    images = pictures(4)
    images[1, 0, 0, 0] = value
    with pytest.raises(ValueError, match=rf"finite pixels in \[-1, 1\], got values from .*{message}"):
        quiet_trainer(max_steps=1).fit(tiny_vqgan(), DataLoader(list(images), 4))


def test_float16_is_refused():
    module = tiny_vqgan()
    module.trainer = type("Stub", (), {"precision": "16-mixed"})()
    with pytest.raises(ValueError, match="got 16-mixed"):
        module.setup("fit")


# ---- codebook health ------------------------------------------------------------------------------------------------


def test_usage_scores_by_hand():
    scores = usage_scores(torch.tensor([2, 0, 1, 1]))
    expected = {"codes_used": 3, "usage": 0.75, "perplexity": 2**1.5, "top_code_share": 0.5}
    assert {name: float(value) for name, value in scores.items()} == pytest.approx(expected)
    metric = CodeUsage(4)
    metric.update(torch.tensor([[0, 3], [2, 0]]))
    assert {name: float(value) for name, value in metric.compute().items()} == pytest.approx(expected)


def test_a_dying_codebook_is_told_at_every_validation():
    module = tiny_vqgan()
    nn.init.zeros_(module.model.quantize.embedding.weight)
    module.model.quantize.embedding.weight.requires_grad_(False)
    trainer = quiet_trainer(max_epochs=2, callbacks=[Codebook()])
    with pytest.warns(UserWarning, match=r"only 1 of 32 codes are used \(3.1%, should be 10% or more\)") as caught:
        trainer.fit(module, loader(), loader())
    assert sum("codes are used" in str(one.message) for one in caught) == 2
    assert trainer.callback_metrics["val/usage"] == 1 / 32
    assert trainer.callback_metrics["val/top_code_share"] == 1
    with pytest.raises(ValueError, match="got 10"):
        Codebook(10)


# ---- several processes ----------------------------------------------------------------------------------------------


def test_two_processes_train_as_one(tmp_path):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command += ["-m", "tests.vqgan_run", str(tmp_path / "made")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    two, other = (json.loads((tmp_path / f"made-{rank}.json").read_text()) for rank in (0, 1))
    assert two == other
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        one = results(0, 1)
    assert two["plain"] == pytest.approx(one["plain"], rel=1e-5)
    assert two["steps"] == one["steps"] == 4
    assert {"val/codes_used", "val/usage", "val/top_code_share", "val/psnr"} <= set(one["metrics"])
    for metrics in (one["metrics"], two["metrics"]):
        # The background is that of the first process's pictures.
        del metrics["val/object_psnr"]
    assert two["metrics"] == pytest.approx(one["metrics"], rel=1e-5)
