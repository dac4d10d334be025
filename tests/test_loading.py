"""Loaders of known length: a run that goes on in an epoch gets the rest of it."""

import pytest
import torch
from lightning import LightningDataModule, Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.demos.boring_classes import BoringModel
from torch.utils.data import TensorDataset

from data_modules.loading import distributed_loader

BATCHES = 4
"""Of an epoch: 13 items in threes."""


def _number(items):
    return torch.stack([item for (item,) in items])


class _Numbers(LightningDataModule):
    def __init__(self, num_workers):
        super().__init__()
        self.num_workers = num_workers

    def train_dataloader(self):
        numbers = TensorDataset(torch.arange(13))
        return distributed_loader(self, numbers, 3, True, 0, self.num_workers, _number)


class _Noting(BoringModel):
    def __init__(self):
        super().__init__()
        self.seen = []

    def training_step(self, batch, batch_idx):
        self.seen.append((self.trainer.global_step, batch.tolist()))
        return self.layer(batch.float().new_ones(1, 32)).sum()

    def validation_step(self, batch, batch_idx):
        pass


def _fit(folder, steps, num_workers=0, path=None, **options):
    model = _Noting()
    trainer = Trainer(
        accelerator="cpu", max_steps=steps, max_epochs=-1, logger=False, enable_progress_bar=False,
        enable_model_summary=False, enable_checkpointing=False, use_distributed_sampler=False,
        default_root_dir=folder, **options,
    )  # fmt: skip
    trainer.fit(model, datamodule=_Numbers(num_workers), ckpt_path=path)
    trainer.save_checkpoint(folder / f"{steps}.ckpt")
    return model.seen


class _Saving(Callback):
    """Saves after each step, as a run that is killed has."""

    def __init__(self, folder):
        self.folder = folder

    def on_train_batch_end(self, trainer, *_):
        trainer.save_checkpoint(self.folder / f"{trainer.global_step}.ckpt")


@pytest.mark.parametrize("options", [{}, {"limit_train_batches": 3}], ids=str)
def test_a_run_goes_on_wherever_it_stopped(tmp_path, options):
    steps = 2 * BATCHES + 2
    killed, ended = tmp_path / "killed", tmp_path / "ended"
    unbroken = _fit(tmp_path, steps, callbacks=[_Saving(killed)], **options)
    for epoch in range(2):
        batches = unbroken[epoch * BATCHES : (epoch + 1) * BATCHES]
        assert len({number for _, numbers in batches for number in numbers}) == 3 * BATCHES
    assert unbroken[0][1] != unbroken[BATCHES][1]
    for stopped in range(1, steps):
        assert _fit(tmp_path, steps, path=killed / f"{stopped}.ckpt", **options) == unbroken[stopped:], stopped
        assert _fit(ended, stopped, **options) == unbroken[:stopped]
        assert _fit(tmp_path, steps, path=ended / f"{stopped}.ckpt", **options) == unbroken[stopped:], stopped


def test_workers_read_the_rest_too(tmp_path):
    unbroken = _fit(tmp_path, 7, num_workers=1)
    assert _fit(tmp_path, 6, num_workers=1) == unbroken[:6]
    assert _fit(tmp_path, 7, num_workers=1, path=tmp_path / "6.ckpt") == unbroken[6:]
    assert _fit(tmp_path, 7) == unbroken


def test_an_epoch_of_another_length_is_gone_on_with_as_far_in_and_said():
    loader = _Numbers(0).train_dataloader()
    with pytest.warns(UserWarning, match="an epoch had 8 batches when this run was saved and has 4 now"):
        loader.load_state_dict({"given": 12, "length": 8})
    assert loader.state_dict() == {"given": 6, "length": 4}
