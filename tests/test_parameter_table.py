"""The parameter table: every weight in one part, trained and frozen apart."""

from rich.console import Console

from kyvo.models.parts import NEW_PARTS, PARTS, part_of
from kyvo.training.adapters import Lora
from kyvo.training.parameter_table import ParameterTable, count_parts, parameter_table
from tests.trained_run import save_llama
from tests.worlds import tiny_module


def test_every_weight_is_counted_once():
    model = tiny_module().model
    counts = count_parts(model)
    assert sum(one.trained + one.frozen for one in counts) == sum(p.numel() for p in model.parameters())
    by_name = {one.part: one for one in counts}
    assert by_name["head"].trained == by_name["text"].trained + (1333 - 686) * 32
    assert by_name["numbers"].trained == 121 * 32
    assert by_name["image_positions"].trained == 64 * 32
    assert [one.part for one in counts] == [part for part in PARTS if part in by_name]


def test_recipes_train_what_they_say(tmp_path):
    llama = str(save_llama(tmp_path))
    fft = {one.part: one for one in count_parts(tiny_module(backbone=llama, recipe="fft").model)}
    assert {name for name, one in fft.items() if one.frozen} == {"text"}
    lora = {one.part: one for one in count_parts(tiny_module(backbone=llama, recipe="lora").model)}
    assert {name for name, one in lora.items() if one.trained} == {"adapters"} | (NEW_PARTS - {"shape"})
    assert {name for name, one in lora.items() if one.frozen} == {"text", "blocks"}
    dora = tiny_module(backbone=llama, recipe="lora", lora=Lora(dora=True)).model
    assert {one.part: one.trained for one in count_parts(dora)}["adapters"] > lora["adapters"].trained


def test_names_of_wrapped_modules_keep_their_parts():
    for name in (
        "model.layers.0.self_attn.q_proj.lora_A.default.weight",
        "layers.0.q_proj.lora_magnitude_vector.default",
    ):
        assert part_of(name) == "adapters"
    assert part_of("_fsdp_wrapped_module.model.model.embed_tokens.parts.image.projector.weight") == "image"
    assert part_of("model.norm.weight") == "blocks"


def test_the_table_is_printed_when_training_starts(capsys):
    module = tiny_module()
    ParameterTable().setup(None, module, "fit")
    printed = capsys.readouterr().out
    assert "numbers" in printed
    assert "3,872" in printed
    ParameterTable().setup(None, module, "validate")
    assert not capsys.readouterr().out


def test_sums_are_the_last_row():
    console = Console(width=80)
    counts = count_parts(tiny_module().model)
    with console.capture() as capture:
        console.print(parameter_table(counts))
    last = [line for line in capture.get().splitlines() if "all" in line]
    assert f"{sum(one.trained for one in counts):,}" in last[0]
