"""Text backbones: what is said of a world, how it is laid out, and a backbone from which models are fine-tuned."""

import json
import math

import pytest
import torch
from lightning import Trainer
from transformers import LlamaForCausalLM

from data_modules.documents import DocumentDataModule, document, documents, rows_of
from data_modules.records import Question, Record
from data_modules.shards import read_shard
from kyvo.sample import Sample
from kyvo.scene import SCHEMAS
from kyvo.tokenizers.tokenizer import UnifiedTokenizer
from kyvo.training.language import LanguageModule
from kyvo.training.text_backbone import TextBackboneModule
from tests.tiny_world import tiny_recipe
from tests.worlds import TINY

CLEVR = SCHEMAS["clevr"]
QUIET = dict.fromkeys(("logger", "enable_progress_bar", "enable_model_summary", "enable_checkpointing"), False)


def _scene(color):
    one = {"size": "small", "color": color, "material": "metal", "shape": "cube", "3d_coords": [0.5, -1, 0.35]}
    return CLEVR.read({"objects": [one]})


def test_a_scene_is_followed_by_its_questions_or_by_what_an_instruction_makes_of_it():
    asked = Record(Sample("a", scene=_scene("red")), (Question("is it red?", "True", "exist"),))
    assert document(asked, CLEVR) == "small red metal cube 0.50 -1.00 0.35. is it red? True."
    edit = Record(Sample("b", scene=_scene("red"), text="paint it blue", target_scene=_scene("blue")))
    before, after = (f"small {color} metal cube 0.50 -1.00 0.35." for color in ("red", "blue"))
    assert document(edit, CLEVR) == f"{before} paint it blue: {after}"
    with pytest.raises(ValueError, match="'c' has no scene"):
        document(Record(Sample("c")), CLEVR)


def test_rows_hold_all_texts_in_order():
    text = UnifiedTokenizer.from_preset("quickstart").text
    rows = rows_of(["a red cube", "blue"], text, 4)
    expected = [text.bos, *text.encode("a red cube"), text.eos, text.bos, *text.encode("blue"), text.eos]
    assert rows.flatten().tolist() == expected[: len(expected) // 4 * 4]
    with pytest.raises(ValueError, match="do not fill a row of 400"):
        rows_of(["a red cube"], text, 400)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The folder of a backbone after three steps, the world's folder, and what was logged."""
    folder = tmp_path_factory.mktemp("text")
    tokenizer = UnifiedTokenizer.from_preset("quickstart")
    data = DocumentDataModule(str(folder / "world"), tokenizer, tiny_recipe(), length=32, batch_size=2, workers=1)
    module = TextBackboneModule(tokenizer, TINY, total_steps=3, save_to=str(folder / "model"))
    trainer = Trainer(accelerator="cpu", max_steps=3, limit_val_batches=2, default_root_dir=folder, **QUIET)
    trainer.fit(module, data)
    trainer.validate(module, data, verbose=False)
    return folder, module, {name: float(value) for name, value in trainer.callback_metrics.items()}


def test_every_text_of_a_world_is_read(trained):
    root = trained[0] / "world"
    said = " ".join(documents(str(root), "train"))
    for name, member, key in (("train", "question.json", "question"), ("train-edits", "instruction.json", "text")):
        for path in root.glob(f"{name}-0*.tar"):
            for raw in read_shard(str(path)):
                found = json.loads(raw.members[member])
                assert all(one[key] in said for one in (found if isinstance(found, list) else [found]))


def test_a_backbone_is_a_llama_that_language_models_start_from(trained):
    folder, module, logged = trained
    # Three steps from a uniform guess over the ids.
    assert 0 < logged["val/loss"] < 1.05 * math.log(module.text.size)
    llama = LlamaForCausalLM.from_pretrained(folder / "model")
    assert llama.config.tie_word_embeddings
    tokenizer = UnifiedTokenizer.from_preset("quickstart", text=folder / "model")
    assert tokenizer.text.encode("red cube") == module.text.encode("red cube")
    for recipe in ("fft", "lora"):
        started = LanguageModule(tokenizer, str(folder / "model"), recipe=recipe)
        torch.testing.assert_close(
            started.model.embedding.parts["text"].weight, llama.model.embed_tokens.weight, rtol=0, atol=0
        )
        blocks = [one for name, one in started.model.named_parameters() if name.endswith("up_proj.weight")]
        blocks += [one for name, one in started.model.named_parameters() if name.endswith("up_proj.base_layer.weight")]
        expected = [layer.mlp.up_proj.weight for layer in llama.model.layers]
        assert len(blocks) == len(expected) == 2
        assert all(torch.equal(*pair) for pair in zip(blocks, expected, strict=True))


def test_the_loss_is_transformers_own(trained):
    _, module, _ = trained
    ids = torch.randint(0, module.text.size, (2, 9), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(module.loss(ids), module.model(input_ids=ids, labels=ids).loss)


def test_a_run_without_steps_is_refused():
    with pytest.raises(ValueError, match="total_steps should be positive"):
        TextBackboneModule(UnifiedTokenizer.from_preset("quickstart"), TINY, total_steps=-1)
