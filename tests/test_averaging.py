"""The running mean of the weights: exact, used by evaluations, and resumed."""

import copy

import pytest
import torch
from lightning import Trainer
from lightning.pytorch.callbacks import Callback
from torch.utils.data import DataLoader

from callbacks.averaging import Averaging
from kyvo.training.language import LanguageModule
from kyvo.training.optimizer import OptimizerConfig
from tests.worlds import batch_of, random_sample, tiny_module

DECAY = 0.5


class Watch(Callback):
    """Keeps the weights after each step, and those that validations see."""

    def __init__(self) -> None:
        self.steps: list[dict[str, torch.Tensor]] = []
        self.seen: list[dict[str, torch.Tensor]] = []

    def on_train_batch_end(self, trainer, module, *_):
        self.steps.append(_weights(module))

    def on_validation_batch_end(self, trainer, module, *_):
        self.seen.append(_weights(module))


def _weights(module):
    return {name: weight.detach().clone() for name, weight in module.named_parameters()}


def _module(**options):
    torch.manual_seed(0)
    return tiny_module(optimizer=OptimizerConfig(lr=1e-2, warmup_steps=1), **options)


def _trainer(tmp_path, steps, *callbacks, **options):
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    return Trainer(
        max_steps=steps, accelerator="cpu", callbacks=list(callbacks), default_root_dir=tmp_path,
        enable_model_summary=False, num_sanity_val_steps=0, **(quiet | options),
    )  # fmt: skip


def _batches(module, seeds):
    made = [batch_of(module.tokenizer, "I-3", [random_sample(seed)], keep=True) for seed in seeds]
    return DataLoader(made, batch_size=None)


def _mean(steps):
    """The mean by its definition: the first weights, then each with less weight than what was before."""
    mean = steps[0]
    for count, weights in enumerate(steps[1:], start=1):
        kept = min(DECAY, (1 + count) / (10 + count))
        mean = {name: kept * mean[name] + (1 - kept) * weights[name] for name in mean}
    return mean


def _assert_equal(found, expected, **tolerances):
    assert found.keys() == expected.keys()
    for name in found:
        torch.testing.assert_close(found[name], expected[name], **tolerances)


def test_validations_and_checkpoints_have_the_mean_and_training_goes_on_without(tmp_path):
    module, watch = _module(), Watch()
    trainer = _trainer(tmp_path, 4, Averaging(DECAY), watch, val_check_interval=4, limit_val_batches=1)
    trainer.fit(module, _batches(module, range(4)), _batches(module, [9]))
    mean = _mean(watch.steps)
    assert not torch.equal(mean["model.lm_head.weight"], watch.steps[-1]["model.lm_head.weight"])
    _assert_equal(watch.seen[-1], mean)
    _assert_equal(_weights(module), watch.steps[-1], rtol=0, atol=0)
    trainer.save_checkpoint(tmp_path / "mean.ckpt")
    loaded = LanguageModule.load_from_checkpoint(tmp_path / "mean.ckpt", tokenizer=module.tokenizer)
    _assert_equal(_weights(loaded), mean)
    # An evaluation after training sees the mean too, and leaves the weights.
    trainer.validate(module, _batches(module, [9]), verbose=False)
    _assert_equal(watch.seen[-1], mean)
    _assert_equal(_weights(module), watch.steps[-1], rtol=0, atol=0)


@pytest.mark.parametrize("recipe", ["scratch", "lora"])
def test_a_resumed_run_equals_an_unbroken_one(recipe, tmp_path):
    options = {"recipe": recipe, "backbone": str(_llama(tmp_path))} if recipe == "lora" else {}

    def run(steps, seeds, ckpt_path=None):
        module, mean = _module(total_steps=6, **options), Averaging(DECAY)
        trainer = _trainer(tmp_path, steps, mean)
        trainer.fit(module, _batches(module, seeds), ckpt_path=ckpt_path)
        trainer.save_checkpoint(tmp_path / f"{steps}.ckpt")
        return module, _weights(mean._average_model.module)

    whole, whole_mean = run(6, range(6))
    run(3, range(6))
    saved = torch.load(tmp_path / "3.ckpt", weights_only=True)
    assert saved["state_dict"].keys() == saved["current_model_state"].keys()
    # Frozen weights are in no checkpoint of an adapter.
    assert ("model.model.embed_tokens.parts.text.weight" in saved["state_dict"]) == (recipe == "scratch")
    # Lightning goes on in the middle of the epoch, with a loader that begins anew.
    resumed, resumed_mean = run(6, [3, 4, 5, 0, 0, 0], tmp_path / "3.ckpt")
    _assert_equal(_weights(resumed), _weights(whole), rtol=0, atol=0)
    _assert_equal(resumed_mean, whole_mean, rtol=0, atol=0)


def test_a_checkpoint_from_the_middle_of_a_validation_is_the_same(tmp_path):
    module = _module()

    class Stop(Callback):
        """Saves as a signal does that arrives in a validation."""

        def on_validation_batch_end(self, trainer, module, *_):
            trainer.save_checkpoint(tmp_path / "within.ckpt")

        def on_validation_end(self, trainer, module):
            trainer.save_checkpoint(tmp_path / "after.ckpt")

    trainer = _trainer(tmp_path, 2, Averaging(DECAY), Stop(), val_check_interval=2, limit_val_batches=1)
    trainer.fit(module, _batches(module, range(2)), _batches(module, [9]))
    within, after = (torch.load(tmp_path / f"{name}.ckpt", weights_only=True) for name in ("within", "after"))
    for key in ("state_dict", "current_model_state"):
        _assert_equal(within[key], after[key], rtol=0, atol=0)
    assert not torch.equal(
        after["state_dict"]["model.lm_head.weight"], after["current_model_state"]["model.lm_head.weight"]
    )


def test_a_run_without_means_can_begin_one(tmp_path):
    module = _module()
    trainer = _trainer(tmp_path, 1)
    trainer.fit(module, _batches(module, [0]))
    trainer.save_checkpoint(tmp_path / "plain.ckpt")
    start, watch, mean = copy.deepcopy(_weights(module)), Watch(), Averaging(DECAY)
    again = _module()
    _trainer(tmp_path, 2, mean, watch).fit(again, _batches(module, [1]), ckpt_path=tmp_path / "plain.ckpt")
    assert not torch.equal(watch.steps[-1]["model.lm_head.weight"], start["model.lm_head.weight"])
    _assert_equal(_weights(mean._average_model.module), watch.steps[-1])


@pytest.mark.parametrize("decay", [-0.1, 1.0])
def test_a_decay_outside_its_range_is_refused(decay):
    with pytest.raises(ValueError, match=rf"should be in \[0, 1\), got {decay}"):
        Averaging(decay)


def _llama(folder):
    """A small Llama checkpoint over the quickstart's text ids."""
    from transformers import LlamaConfig, LlamaForCausalLM

    from kyvo.tokenizers.tokenizer import UnifiedTokenizer
    from tests.worlds import TINY

    torch.manual_seed(1)
    size = UnifiedTokenizer.from_preset("quickstart").text.size
    LlamaForCausalLM(LlamaConfig(vocab_size=size, tie_word_embeddings=True, **TINY.to_llama())).save_pretrained(
        folder / "llama"
    )
    return folder / "llama"
