"""The first codes of pictures to be written, as an evaluation logs them."""

import pytest
import torch
from lightning import Trainer

from callbacks.first_codes import FirstCodes
from data_modules.clevr import ClevrDataModule
from data_modules.first_codes import first_codes
from kyvo.tokenizers.tokenizer import UnifiedTokenizer
from kyvo.training.language import LanguageModule
from tests.tiny_world import make_coded_world, tiny_image_tokenizer
from tests.worlds import TINY


@pytest.mark.parametrize("order", ["raster", "center-out"])
def test_they_are_those_of_the_order_of_writing(order, tmp_path):
    root = make_coded_world(tmp_path / "world", scenes={"train": 2, "val": 5})
    tokenizer = UnifiedTokenizer.from_preset("quickstart", image=tiny_image_tokenizer(), output_image_order=order)
    torch.manual_seed(0)
    module = LanguageModule(tokenizer, backbone=TINY, total_steps=1)
    quiet = dict.fromkeys(("logger", "enable_progress_bar", "enable_model_summary", "enable_checkpointing"), False)
    trainer = Trainer(accelerator="cpu", default_root_dir=tmp_path, callbacks=[FirstCodes()], **quiet)
    data = ClevrDataModule(str(root), tokenizer, {"3-I": 1.0, "I-3": 1.0}, eval_batch_size=2)
    trainer.validate(module, datamodule=data, verbose=False)
    found = {name: float(value) for name, value in trainer.callback_metrics.items() if "first_code" in name}
    # Counted by the command that reads the shards.
    expected = first_codes(str(root), "val")["orders"][order]
    assert found == {
        "val/rendering/first_code_entropy": pytest.approx(expected["entropy_bits"], abs=1e-5),
        "val/rendering/first_code_share": pytest.approx(expected["share_of_the_same"], abs=1e-5),
    }
