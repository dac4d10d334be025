"""Latents learned by rendering: shapes and masks, files, statistics, and a training that comes near."""

import json

import pytest
import torch
from lightning import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from torch.utils.data import DataLoader

from kyvo.cameras import Cameras
from kyvo.models.learned_decoder import LearnedDecoder, SlatAutoencoder, SlatNetwork
from kyvo.models.voxel_renderer import VoxelDecoder
from kyvo.slat import Slat, densify, sparsify
from kyvo.training.optimizer import OptimizerConfig
from kyvo.training.render_loss import RenderWeights
from kyvo.training.shape_tokenizer import ShapeBatch
from kyvo.training.slat_autoencoder import SlatAutoencoderModule, kl_divergence, latent_statistics

TINY = SlatNetwork(hidden=16, encoder_blocks=1, decoder_blocks=1)


def ball(size: int = 8, color: tuple[float, float, float] = (0.9, 0.2, 0.1), radius: float = 0.35) -> torch.Tensor:
    """The surface of a ball of one colour, its upper half of another, as voxel8 [9, N, N, N]."""
    axis = (torch.arange(size) + 0.5) / size - 0.5
    places = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"))
    distance = torch.linalg.vector_norm(places, dim=0)
    grid = torch.zeros(9, size, size, size)
    grid[0] = (distance - radius).abs() < 0.7 / size
    grid[1:4] = 2 * torch.where(places[2] > 0, torch.tensor(color)[:, None, None, None], 0.5) - 1
    grid[4:7] = places / distance
    grid[8] = 1
    grid[1:] *= grid[0]
    return grid


def balls(count: int = 4) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    drawn = torch.rand(count, 3, generator=generator).tolist()
    return torch.stack([ball(color=tuple(color), radius=0.3 + 0.03 * (n % 4)) for n, color in enumerate(drawn)])


def decoder(seed: int = 0) -> LearnedDecoder:
    torch.manual_seed(seed)
    return LearnedDecoder(SlatAutoencoder(TINY), torch.arange(8.0), torch.ones(8) + torch.arange(8.0))


def loader(images: bool = False) -> DataLoader[ShapeBatch]:
    def collate(rows: list[torch.Tensor]) -> ShapeBatch:
        grid = torch.stack(rows)
        if not images:
            return ShapeBatch(grid)
        cameras = Cameras.sphere(len(rows), (0.5, 0.5))
        views = VoxelDecoder().render_each(grid, cameras, 16)
        return ShapeBatch(grid, views.rgb[:, 0], views.alpha[:, 0], cameras)

    return DataLoader(list(balls()), 2, collate_fn=collate)


def module(**options: object) -> SlatAutoencoderModule:
    torch.manual_seed(0)
    render = RenderWeights(weight=1.0, perceptual=0.0)
    return SlatAutoencoderModule(TINY, **{"size": 16, "val_views": 2, "render": render, **options})


def trainer(folder: object, steps: int, **options: object) -> Trainer:
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False, "accelerator": "cpu"}
    return Trainer(max_steps=steps, default_root_dir=folder, log_every_n_steps=1, **{**quiet, **options})


# ---- network --------------------------------------------------------------------------------------------------------


def test_half_as_many_latents_and_twice_as_many_voxels():
    model, grid = SlatAutoencoder(TINY), balls(2)
    latents, log_variance = model.encode(grid)
    assert latents.shape == (2, 9, 4, 4, 4)
    assert log_variance.shape == (2, 8, 4, 4, 4)
    assert model.decode(latents).shape == (2, 4, 8, 8, 8)


def test_latents_are_where_voxels_are():
    grid = torch.zeros(1, 9, 8, 8, 8)
    grid[0, :, 5, 2, 7] = 1
    latents, log_variance = SlatAutoencoder(TINY).encode(grid)
    expected = torch.zeros(4, 4, 4)
    expected[2, 1, 3] = 1
    assert torch.equal(latents[0, 0], expected)
    for values in (latents[0, 1:], log_variance[0]):
        assert torch.equal((values != 0).any(0), expected.bool())


def test_what_is_decoded_lies_in_its_voxel():
    grid = torch.zeros(1, 9, 4, 4, 4)
    grid[0, :, 2, 1, 3] = 1
    volume = SlatAutoencoder(TINY).decode(grid)
    assert volume[0, 0, 4:6, 2:4, 6:8].min() > 0
    assert (volume[0, 0] > 0).sum() == 8
    assert 0 < volume[:, 1:].min() <= volume[:, 1:].max() < 1
    # A full voxel of the finer grid is as opaque as one of voxel8 with as many voxels.
    assert volume[0, 0].max() < TINY.density * 8


def test_the_eight_parts_are_in_their_places():
    model = SlatAutoencoder(TINY)
    head = model.decoder[-1]
    with torch.no_grad():
        head.weight.zero_()
        head.bias.copy_(torch.linspace(-3, 3, 32))
    volume = model.decode(torch.ones(1, 9, 2, 2, 2))[0]
    expected = torch.linspace(-3, 3, 32).sigmoid().view(4, 2, 2, 2)
    # The same eight in each of the eight voxels.
    torch.testing.assert_close(volume[1:], expected[1:].repeat(1, 2, 2, 2))


def test_a_latent_sees_few_voxels():
    model = SlatAutoencoder(TINY)
    grid = torch.zeros(1, 9, 24, 24, 24)
    grid[:, 0] = 1
    grid.requires_grad_()
    model.encode(grid)[0][0, 1:, 6, 6, 6].sum().backward()
    # The voxel's own two, one that the first convolution adds, and four that the block's two do, on each side.
    seen = grid.grad.abs().amax((0, 1, 3, 4)).nonzero()[:, 0]
    assert (seen.min().item(), seen.max().item()) == (12 - 5, 13 + 5)


def test_vectors_of_empty_voxels_say_nothing():
    model, grid = SlatAutoencoder(TINY), balls(1)
    noisy = grid.clone()
    noisy[:, 1:] += 5 * (grid[:, :1] == 0)
    assert torch.equal(model.encode(noisy)[0], model.encode(grid)[0])


def test_refuses_other_grids():
    model = SlatAutoencoder(TINY)
    with pytest.raises(ValueError, match="even number of voxels along a side, got 5"):
        model.encode(torch.zeros(1, 9, 5, 5, 5))
    with pytest.raises(ValueError, match=r"\[B, 9, N, N, N\]"):
        model.decode(torch.zeros(1, 5, 4, 4, 4))


# ---- decoder --------------------------------------------------------------------------------------------------------


def test_frozen_but_gradients_reach_the_grid():
    model = decoder()
    assert not any(p.requires_grad for p in model.parameters())
    assert not model.train().training
    grid = torch.rand(2, 9, 4, 4, 4, requires_grad=True)
    model.render_each(grid, Cameras.sphere(2, (0.3, 0.3)), 8).rgb.square().sum().backward()
    reached = grid.grad.abs().amax((0, 2, 3, 4))
    assert (reached > 0).all()


def test_encodes_voxel8():
    model = decoder()
    slats = sparsify(balls(2), "voxel8")
    found = model.encode(slats)
    assert [slat.space for slat in found] == ["learned"] * 2
    assert [slat.resolution for slat in found] == [4, 4]
    expected = model.autoencoder.encode(densify(slats))[0]
    torch.testing.assert_close(densify(found), expected, atol=1e-5, rtol=1e-5)
    assert model.render(densify(found), Cameras.sphere(3), 8).rgb.shape == (2, 3, 3, 8, 8)
    with pytest.raises(ValueError, match="space voxel8, got learned"):
        model.encode(found)


def test_files(tmp_path):
    model = decoder()
    model.save_pretrained(tmp_path)
    loaded = LearnedDecoder.from_pretrained(tmp_path)
    assert loaded.autoencoder.network == TINY
    assert torch.equal(loaded.mean, model.mean)
    assert torch.equal(loaded.std, model.std)
    grid = torch.rand(1, 9, 4, 4, 4)
    cameras = Cameras.sphere(2)
    assert torch.equal(loaded.render(grid, cameras, 8).rgb, model.render(grid, cameras, 8).rgb)
    model.save_pretrained(tmp_path / "half", torch.float16)
    halved = LearnedDecoder.from_pretrained(tmp_path / "half")
    assert torch.equal(halved.std, model.std)
    torch.testing.assert_close(halved.volume(grid), model.volume(grid), atol=0.1, rtol=0.01)


def test_folders_of_something_else(tmp_path):
    with pytest.raises(FileNotFoundError):
        LearnedDecoder.from_pretrained(tmp_path)
    decoder().save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config["network"]["hidden"] = 8
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="does not hold a learned decoder"):
        LearnedDecoder.from_pretrained(tmp_path)


# ---- training -------------------------------------------------------------------------------------------------------


def test_divergence_by_hand():
    latents, log_variance = torch.zeros(1, 3, 1, 1, 2), torch.zeros(1, 2, 1, 1, 2)
    latents[0, :, 0, 0, 0] = torch.tensor([1.0, 2.0, 0.0])
    log_variance[0, 1, 0, 0, 0] = 1
    # Of the empty voxel nothing counts.
    log_variance[0, :, 0, 0, 1] = 7
    expected = (2**2 / 2 + (torch.e - 1 - 1) / 2) / 2
    assert kl_divergence(latents, log_variance).item() == pytest.approx(expected)


def test_statistics_are_those_of_all_voxels():
    model = SlatAutoencoder(TINY)
    batches = [ShapeBatch(part) for part in balls(4).split(3)]
    latents = model.encode(balls(4))[0].movedim(1, -1).flatten(0, 3)
    values = latents[latents[:, 0] > 0, 1:]
    mean, std = latent_statistics(model, batches)
    torch.testing.assert_close(mean, values.mean(0), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(std, values.std(0, correction=0), atol=1e-5, rtol=1e-3)


def test_training_comes_nearer_and_is_saved(tmp_path):
    learner = module(
        total_steps=160, optimizer=OptimizerConfig(lr=3e-3, warmup_steps=5), save_to=str(tmp_path / "made")
    )
    quiet = trainer(tmp_path, 160, limit_val_batches=2, num_sanity_val_steps=0, enable_checkpointing=False)
    before = quiet.validate(learner, loader(), verbose=False)[0]
    quiet.fit(learner, loader())
    after = quiet.validate(learner, loader(), verbose=False)[0]
    assert after["val/psnr"] > before["val/psnr"] + 5
    assert after["val/object_psnr"] > before["val/object_psnr"] + 5
    made = LearnedDecoder.from_pretrained(tmp_path / "made")
    mean, std = latent_statistics(learner.model, loader())
    assert torch.equal(made.mean, mean)
    assert torch.equal(made.std, std)
    assert (std > 0).all()
    torch.testing.assert_close(made.autoencoder.encode(balls(1))[0], learner.model.encode(balls(1))[0])


def test_gradients_reach_every_weight():
    learner = module()
    learner.setup("fit")
    learner.log = learner.log_dict = lambda *_, **__: None
    next_batch = next(iter(loader()))
    learner.training_step(next_batch, 0).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in learner.model.parameters())


def test_pictures_of_the_batch_are_the_targets_where_there_are_some():
    learner = module()
    batch = next(iter(loader(images=True)))
    for background in (0.0, 1.0):
        expected = batch.images * batch.alphas[:, None] + background * (1 - batch.alphas[:, None])
        assert torch.equal(learner._targets(batch, batch.cameras, background), expected)
    bare = ShapeBatch(batch.grid)
    rendered = learner._targets(bare, batch.cameras, 1.0)
    assert torch.equal(rendered, batch.images)


def test_checkpoints_hold_the_name_of_the_perceptual_loss(tmp_path):
    learner = module(total_steps=2)
    saver = ModelCheckpoint(dirpath=tmp_path, save_last=True)
    trainer(tmp_path, 2, callbacks=[saver], limit_val_batches=0).fit(learner, loader(images=True))
    assert torch.load(saver.last_model_path, weights_only=True)["perceptual_loss"] == "none"
    loaded = SlatAutoencoderModule.load_from_checkpoint(saver.last_model_path)
    assert loaded.model.network == TINY
    trainer(tmp_path, 4, limit_val_batches=0).fit(module(total_steps=4), loader(), ckpt_path=saver.last_model_path)


def test_no_steps():
    with pytest.raises(ValueError, match="total_steps should be positive, not 0"):
        SlatAutoencoderModule(total_steps=0)


def test_slats_of_the_decoder_can_be_written(tmp_path):
    [slat] = decoder().encode(sparsify(balls(1), "voxel8"))
    slat.save(tmp_path / "one.npz")
    assert Slat.load(tmp_path / "one.npz").space == "learned"
