"""Runs exported: equal logits in plain transformers, in plain peft and here; what the folder says of itself."""

import json

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from kyvo import cli
from kyvo.export import export
from kyvo.generation.folder import read_folder
from kyvo.models.language_model import KyvoForCausalLM
from kyvo.task import Task
from kyvo.training.stored_run import StoredRun
from tests.trained_run import fit
from tests.worlds import batch_of, random_sample


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A LoRA run of a few steps, with DoRA and rsLoRA."""
    return fit(tmp_path_factory.mktemp("lora"), recipe="lora", lora={"rank": 4, "dora": True, "rslora": True})


@pytest.fixture(scope="module")
def module(run):
    return StoredRun.find(run).module


@pytest.fixture(scope="module")
def ids(module):
    return batch_of(module.tokenizer, "I+3+Q-A", [random_sample(seed) for seed in range(2)]).ids


@pytest.fixture(scope="module")
def expected(module, ids):
    with torch.no_grad():
        return module.model(input_ids=ids).logits


def _logits(model, ids):
    with torch.no_grad():
        return model.eval()(input_ids=ids).logits


def test_adapters_have_moved(module):
    # Else what follows would hold for adapters that nobody looked at.
    moved = [p for name, p in module.named_parameters() if "lora_B" in name]
    assert len(moved) == 2 * 7
    assert all(p.abs().max() > 1e-3 for p in moved)


def test_merged_folders_are_plain_llamas_with_equal_logits(run, module, ids, expected, tmp_path, capsys):
    cli.main(["export", str(run), "--out", str(tmp_path / "merged")])
    assert json.loads(capsys.readouterr().out)["kind"] == "llama"
    plain = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
    assert type(plain).__name__ == "LlamaForCausalLM"
    torch.testing.assert_close(_logits(plain, ids), expected, rtol=1e-4, atol=1e-5)
    found = read_folder(tmp_path / "merged")
    torch.testing.assert_close(_logits(found.model, ids), expected, rtol=1e-4, atol=1e-5)
    assert found.tokenizer.to_dict() == module.tokenizer.to_dict()
    assert found.tasks == ("3-I", "I-3", "I+3+Q-A", "3+T-3")
    assert not any("lora" in name for name, _ in found.model.named_parameters())


def test_kept_adapters_are_read_by_plain_peft_and_here(run, ids, expected, tmp_path):
    from peft import AutoPeftModelForCausalLM

    assert export(str(run), out=tmp_path / "kept", adapter="keep")["kind"] == "adapter"
    assert {"adapter_config.json", "adapter_model.safetensors"} <= {path.name for path in (tmp_path / "kept").iterdir()}
    plain = AutoPeftModelForCausalLM.from_pretrained(str(tmp_path / "kept"), is_trainable=False)
    torch.testing.assert_close(_logits(plain, ids), expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(_logits(read_folder(tmp_path / "kept").model, ids), expected, rtol=1e-4, atol=1e-5)


def test_the_plain_tokenizer_spells_sequences_and_reads_them_back(run, module, tmp_path):
    export(str(run), out=tmp_path / "out")
    tokenizer, ours = AutoTokenizer.from_pretrained(tmp_path / "out"), module.tokenizer
    assert len(tokenizer) == ours.vocabulary.size
    for spec in ("3-I", "I+3+T-I+3", "I+3+Q-A"):
        ids = ours.encode(Task.parse(spec), random_sample(3)).ids.tolist()
        assert tokenizer(tokenizer.decode(ids), add_special_tokens=False)["input_ids"] == ids
    limits = GenerationConfig.from_pretrained(tmp_path / "out")
    assert (limits.bos_token_id, limits.eos_token_id) == (ours.vocabulary.bos, ours.vocabulary.eos)
    assert limits.max_new_tokens == ours.grammar(Task.parse("I-3")).max_length


def test_cards_say_where_a_model_comes_from_and_how_it_is_loaded(run, module, tmp_path):
    export(str(run / "checkpoints" / "last.ckpt"), out=tmp_path / "out")
    card = (tmp_path / "out" / "README.md").read_text()
    for text in (
        f"base_model: {module.hparams['backbone']}", "recipe `lora`, 3 steps", "`data/quickstart`",
        "AutoModelForCausalLM", "model.recognize(images)", "| image codes | 821 | 512 |",
    ):  # fmt: skip
        assert text in card


def test_weights_can_be_narrow(run, ids, expected, tmp_path):
    export(str(run), out=tmp_path / "out", dtype="bfloat16")
    found = read_folder(tmp_path / "out")
    assert found.model.lm_head.weight.dtype == torch.bfloat16
    assert (_logits(found.model, ids) - expected).abs().max() < 0.1 * expected.abs().max()
    assert read_folder(tmp_path / "out", torch.float32).model.lm_head.weight.dtype == torch.float32


def test_what_no_plain_llama_computes_stays_a_kyvo(tmp_path):
    run = fit(tmp_path, backbone={"hidden_size": 32, "layers": 2, "heads": 2}, recipe="scratch", embeddings={
        "image_positions": True
    })  # fmt: skip
    module = StoredRun.find(run).module
    assert export(str(run), out=tmp_path / "out")["kind"] == "kyvo"
    found = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert isinstance(found, KyvoForCausalLM)
    ids = batch_of(module.tokenizer, "3-I", [random_sample(0)]).ids
    assert torch.equal(_logits(found, ids), _logits(module.model, ids))
    assert torch.equal(_logits(read_folder(tmp_path / "out").model, ids), _logits(module.model, ids))
    card = (tmp_path / "out" / "README.md").read_text()
    assert "This is no plain Llama: codes of images carry" in card
    assert "Trained from random weights (recipe `scratch`, 3 steps)" in card
    with pytest.raises(ValueError, match="recipe 'scratch' leaves no adapter"):
        export(str(run), out=tmp_path / "kept", adapter="keep")


def test_a_card_names_the_model_that_training_started_from(tmp_path):
    shape = {"backbone": {"hidden_size": 32, "layers": 2, "heads": 2}, "recipe": "scratch"}
    positions = {"embeddings": {"image_positions": True}}
    export(str(fit(tmp_path / "first", **shape, **positions)), out=tmp_path / "start")
    second = fit(tmp_path / "second", **shape, **positions, init=str(tmp_path / "start"))
    export(str(second), out=tmp_path / "out")
    card = (tmp_path / "out" / "README.md").read_text()
    assert f"Trained from {tmp_path / 'start'} (recipe `scratch`, 3 steps)" in card


def test_wrong_sources_and_targets_are_refused(run, tmp_path):
    with pytest.raises(ValueError, match="holds something"):
        export(str(run), out=run)
    with pytest.raises(ValueError, match="holds no checkpoint"):
        export(str(tmp_path), out=tmp_path / "out")
    with pytest.raises(ValueError, match="expected one run or checkpoint, got 2"):
        export(str(run), str(run), out=tmp_path / "out")
    bare = tmp_path / "bare.ckpt"
    torch.save({"global_step": 1}, bare)
    with pytest.raises(ValueError, match="holds no config of a run"):
        export(str(bare), out=tmp_path / "out")
    with pytest.raises(ValueError, match="lacks the folder kyvo"):
        read_folder(run)
    with pytest.raises(ValueError, match="neither a folder nor a repository"):
        read_folder("somebody/nothing")


def test_a_checkpoint_alone_is_enough(run, tmp_path):
    moved = tmp_path / "moved.ckpt"
    moved.write_bytes((run / "checkpoints" / "last.ckpt").read_bytes())
    found = StoredRun.find(moved)
    assert found.tasks == StoredRun.find(run).tasks
    assert found.steps == 3
    assert found.roots == ("data/quickstart",)
