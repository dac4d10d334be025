"""The language module: exact loss, recipes, adapters and checkpoints."""

import pytest
import torch
from lightning import Trainer
from torch.utils.data import DataLoader

from kyvo.generation.folder import write_extras
from kyvo.models.language_model import KyvoConfig, KyvoForCausalLM
from kyvo.task import Task
from kyvo.tokenizers.tokenizer import UnifiedTokenizer
from kyvo.training.backbone import Backbone, NewEmbeddings
from kyvo.training.language import LanguageModule, LossConfig
from kyvo.training.loss import reference_loss
from kyvo.training.optimizer import OptimizerConfig
from tests.worlds import TINY, batch_of, random_sample, tiny_module

TASK = Task.parse("I+3+T-I+3")


def _batch(module, seeds, task=TASK):
    return batch_of(module.tokenizer, task, [random_sample(seed) for seed in seeds])


@pytest.mark.parametrize("spec", ["3-I", "I-3", "I+3+T-I+3", "I+3+Q-A"])
def test_the_loss_is_the_plain_one_over_full_logits(spec):
    module = tiny_module()
    batch = _batch(module, range(4), Task.parse(spec))
    total, cells = module.loss_sum(batch.ids, batch.weights)
    logits = module.model(input_ids=batch.ids).logits
    torch.testing.assert_close(total, reference_loss(logits, batch.ids, batch.weights))
    assert cells == batch.weights[:, 1:].sum()


def test_padding_does_not_change_the_loss():
    module = tiny_module()
    batch = _batch(module, range(3))
    padded = torch.nn.functional.pad(batch.ids, (0, 9), value=module.tokenizer.vocabulary.pad)
    weights = torch.nn.functional.pad(batch.weights, (0, 9))
    torch.testing.assert_close(module.loss_sum(batch.ids, batch.weights), module.loss_sum(padded, weights))


def test_official_normalisation_counts_every_position():
    module = tiny_module(loss=LossConfig(normalization="official"))
    batch = _batch(module, range(3))
    assert module.loss_sum(batch.ids, batch.weights)[1] == batch.weights[:, 1:].numel()


def _trained(batches, accumulate, tmp_path, **options):
    torch.manual_seed(0)
    module = tiny_module(**options)
    # Adam divides a gradient by its own size, which would magnify the rounding of the smallest ones.
    module.configure_optimizers = lambda: torch.optim.SGD(module.parameters(), lr=0.1)
    trainer = Trainer(
        default_root_dir=tmp_path, max_steps=2, accumulate_grad_batches=accumulate, accelerator="cpu", logger=False,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False, gradient_clip_val=1.0,
    )  # fmt: skip
    trainer.fit(module, DataLoader(batches, batch_size=None))
    return {name: p.detach() for name, p in module.named_parameters()}


def test_accumulation_equals_one_big_batch_whatever_the_split(tmp_path):
    made = tiny_module()
    whole = _trained([_batch(made, range(6)), _batch(made, range(6, 12))], 1, tmp_path)
    split = _trained([_batch(made, seeds) for seeds in ([0], range(1, 6), range(6, 10), [10, 11])], 2, tmp_path)
    for name in whole:
        torch.testing.assert_close(whole[name], split[name], rtol=1e-4, atol=1e-6)


def test_smoothing_is_for_training_only_and_anneals():
    module = tiny_module(loss=LossConfig(number_smoothing=0.2, number_smoothing_end=0.0001))
    start = module._number_targets()
    assert start is not None
    assert (start.table.diagonal() < 0.5).all()
    module.total_steps = 0.5
    module.trainer = None
    module.eval()
    assert module._number_targets() is None


@pytest.fixture(scope="module")
def llama(tmp_path_factory):
    """A small Llama checkpoint over the quickstart's text ids, tied like Llama 3.2."""
    from transformers import LlamaConfig, LlamaForCausalLM

    folder = tmp_path_factory.mktemp("llama")
    size = UnifiedTokenizer.from_preset("quickstart").text.size
    torch.manual_seed(1)
    config = LlamaConfig(vocab_size=size, tie_word_embeddings=True, initializer_range=0.05, **TINY.to_llama())
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def test_a_pretrained_llama_keeps_its_text_logits(llama):
    from transformers import LlamaForCausalLM

    module = tiny_module(backbone=str(llama), recipe="fft")
    text = module.tokenizer.text.size
    ids = torch.randint(text, (2, 9))
    expected = LlamaForCausalLM.from_pretrained(llama)(ids).logits
    torch.testing.assert_close(module.model(input_ids=ids).logits[..., :text], expected)
    new = module.model.lm_head.weight[text:]
    mean = module.model.lm_head.weight[:text].mean(0)
    assert ((new - mean).std() < 0.1 * 0.06).item()
    assert not module.model.embedding.parts["text"].weight.requires_grad


def test_recipe_and_backbone_have_to_fit(llama):
    with pytest.raises(ValueError, match="recipe 'fft' needs a checkpoint"):
        tiny_module(recipe="fft")
    with pytest.raises(ValueError, match="recipe 'scratch' needs a shape"):
        tiny_module(backbone=str(llama))


def test_lora_trains_adapters_and_every_new_part_and_reloads_to_equal_logits(llama, tmp_path):
    torch.manual_seed(0)
    module = tiny_module(backbone=str(llama), recipe="lora", optimizer=OptimizerConfig(lr=1e-2, warmup_steps=1))
    trained = {name for name, p in module.named_parameters() if p.requires_grad}
    for part in ("lora_A", "lora_B", "numbers", "markers", "image", "image_positions", "lm_head"):
        assert any(part in name for name in trained), part
    assert not any("parts.text" in name for name in trained)
    batch = _batch(module, range(4))
    trainer = Trainer(
        default_root_dir=tmp_path, max_steps=2, accelerator="cpu", logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(module, DataLoader([batch, batch], batch_size=None))
    trainer.save_checkpoint(tmp_path / "adapter.ckpt")
    saved = torch.load(tmp_path / "adapter.ckpt", weights_only=True)["state_dict"]
    assert set(saved) == trained
    again = LanguageModule.load_from_checkpoint(tmp_path / "adapter.ckpt", tokenizer=module.tokenizer)
    module.eval()
    again.eval()
    assert torch.equal(module.model(input_ids=batch.ids).logits, again.model(input_ids=batch.ids).logits)


def test_a_checkpoint_of_another_vocabulary_is_refused_with_both_sizes(tmp_path):
    module = tiny_module()
    trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, default_root_dir=tmp_path)
    trainer.strategy.connect(module)
    trainer.save_checkpoint(tmp_path / "one.ckpt")
    other = UnifiedTokenizer.from_preset("quickstart", granularity=0.1)
    with pytest.raises(ValueError, match=rf"{module.tokenizer.vocabulary.size} ids.*{other.vocabulary.size}.*numbers"):
        LanguageModule.load_from_checkpoint(tmp_path / "one.ckpt", tokenizer=other)


def test_model_folders_reload_to_equal_logits(tmp_path):
    module = tiny_module().eval()
    module.save_pretrained(tmp_path)
    model = KyvoForCausalLM.from_pretrained(tmp_path).eval()
    tokenizer = UnifiedTokenizer.from_pretrained(tmp_path)
    batch = _batch(module, range(2))
    assert torch.equal(model(input_ids=batch.ids).logits, module.model(input_ids=batch.ids).logits)
    assert model.vocabulary == tokenizer.vocabulary


def test_a_model_without_a_vocabulary_is_refused():
    with pytest.raises(ValueError, match="vocabulary is not set"):
        KyvoForCausalLM(KyvoConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=1))


@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_gradients_are_clipped_under_autocast(name, tmp_path):
    module = tiny_module(optimizer=OptimizerConfig(name=name))
    trainer = Trainer(
        default_root_dir=tmp_path, max_steps=1, accelerator="cpu", logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, gradient_clip_val=1e-4, precision="bf16-mixed",
    )  # fmt: skip
    norms = []
    original = module.optimizer_step

    def step(epoch, batch_idx, optimizer, closure):
        original(epoch, batch_idx, optimizer, closure)
        norms.append(torch.nn.utils.get_total_norm([p.grad for p in module.parameters() if p.grad is not None]))

    module.optimizer_step = step
    trainer.fit(module, DataLoader([_batch(module, range(2))], batch_size=None))
    assert norms[0] == pytest.approx(1e-4, rel=1e-3)


def test_true_half_precision_rounds_the_model_and_not_the_batch():
    module = tiny_module()
    batch = batch_of(module.tokenizer, Task.parse("3-I"), [random_sample(0)])
    trainer = Trainer(
        accelerator="cpu", precision="bf16-true", max_steps=2, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    seen = []
    module.on_train_batch_start = lambda given, batch_idx: seen.append(given.weights.dtype)
    trainer.fit(module, DataLoader([batch, batch], batch_size=None))
    assert seen == [torch.float32, torch.float32]
    assert next(module.parameters()).dtype == torch.bfloat16


def test_training_starts_from_an_exported_model_but_with_its_own_codebook(tmp_path):
    """Every weight is the exported one's; the codebook stays that of the tokenizer in use."""
    tokenizer = UnifiedTokenizer.from_preset("quickstart", image="image_tokenizer_quickstart")
    exported = LanguageModule(tokenizer, backbone=TINY, total_steps=10)
    book = exported.model.embedding.parts["image"].codebook.clone()
    exported.model.embedding.parts["image"].codebook.mul_(2)
    exported.model.save_pretrained(tmp_path)
    write_extras(tmp_path, tokenizer, None)
    fresh = LanguageModule(tokenizer, backbone=TINY, total_steps=10)
    started = LanguageModule(tokenizer, backbone=TINY, total_steps=10, init=str(tmp_path))
    weights = exported.model.state_dict()
    for name, value in started.model.state_dict().items():
        assert torch.equal(value, book if name.endswith("image.codebook") else weights[name]), name
    assert not torch.equal(started.model.lm_head.weight, fresh.model.lm_head.weight)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"backbone": Backbone(hidden_size=48, layers=2, heads=2)}, "should be .*, is"),
        ({"backbone": Backbone(hidden_size=32, layers=3, heads=2)}, "other parts"),
        ({"embeddings": NewEmbeddings(image_positions=False)}, "other parts"),
    ],
)
def test_an_exported_model_of_another_shape_is_no_start(tmp_path, change, message):
    """The message names what differs."""
    exported = tiny_module()
    exported.model.save_pretrained(tmp_path)
    write_extras(tmp_path, exported.tokenizer, None)
    with pytest.raises(ValueError, match=message):
        tiny_module(**change, init=str(tmp_path))
