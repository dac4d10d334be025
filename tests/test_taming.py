"""Published image tokenizers: taming's codes and pixels, checkpoints of other networks, and the command."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from kyvo import cli
from kyvo.importing import import_image_tokenizer
from kyvo.models.image_vq import build_vq_model
from kyvo.models.taming import read_network, read_weights, taming_name, to_vq_model
from kyvo.tokenizers.images import ImageTokenizer

SIZES: dict[str, Any] = {
    "ddconfig": {
        "double_z": False,
        "z_channels": 8,
        "resolution": 32,
        "in_channels": 3,
        "out_ch": 3,
        "ch": 32,
        "ch_mult": [1, 2],
        "num_res_blocks": 1,
        "attn_resolutions": [16],
        "dropout": 0.0,
    },
    "n_embed": 12,
    "embed_dim": 4,
}


class Foreign:
    """A class of another program, as Lightning's checkpoints name them."""

    built = 0

    def __init__(self) -> None:
        type(self).built += 1

    def __setstate__(self, state: Any) -> None:
        type(self).built += 1

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (), {"best": 1.0}


def config(folder: Path, **changes: Any) -> Path:
    """A YAML as taming has them."""
    model = {"target": "taming.models.vqgan.VQModel", "params": {**SIZES, "lossconfig": {"target": "..."}}}
    file = folder / "config.yaml"
    file.write_text(yaml.safe_dump({"model": model | changes}))
    return file


@pytest.fixture
def weights(tmp_path: Path) -> dict[str, Tensor]:
    """Random weights by taming's names, with its 1 x 1 convolutions."""
    torch.manual_seed(0)
    model = build_vq_model(read_network(config(tmp_path)))
    found = {}
    for name, value in model.state_dict().items():
        projection = ".attn." in taming_name(name, 2) or ".attn_1." in taming_name(name, 2)
        found[taming_name(name, 2)] = value[..., None, None] if projection and value.ndim == 2 else value
    return found


def checkpoint(folder: Path, weights: dict[str, Tensor], **others: Any) -> Path:
    torch.save({"state_dict": {**weights, "loss.logvar": torch.zeros(())}, **others}, folder / "last.ckpt")
    return folder / "last.ckpt"


# ---- taming's own numbers -------------------------------------------------------------------------------------------


def test_codes_and_reconstructions_are_tamings(golden: Path, tmp_path: Path):
    folder = golden / "image_tokenizer"
    report = import_image_tokenizer(tmp_path, taming=folder / "taming_tiny.ckpt", config=folder / "taming_tiny.json")
    assert {key: report[key] for key in ("image_size", "grid", "codes", "code_dim")} == {
        "image_size": [64, 64],
        "grid": [16, 16],
        "codes": 128,
        "code_dim": 16,
    }
    expected = load_file(folder / "taming_tiny_io.safetensors")
    tokenizer = ImageTokenizer.from_pretrained(tmp_path)
    codes = tokenizer.encode(expected["input"])
    assert torch.equal(codes, expected["codes"].long().reshape(2, -1))
    with torch.no_grad():
        features = tokenizer.model.encode(expected["input"]).latents
        decoded = tokenizer.model.decode(features).sample
    torch.testing.assert_close(features, expected["pre_quant"], atol=1e-5, rtol=0)
    torch.testing.assert_close(decoded, expected["reconstruction"], atol=1e-4, rtol=0)
    torch.testing.assert_close(tokenizer.decode(codes), expected["reconstruction"].clamp(-1, 1), atol=1e-4, rtol=0)


def test_yaml_and_json_give_the_same_network(golden: Path, tmp_path: Path):
    file = golden / "image_tokenizer" / "taming_tiny.json"
    (tmp_path / "project.yaml").write_text(
        yaml.safe_dump({"model": {"params": json.loads(file.read_text())}, "data": {}})
    )
    assert read_network(tmp_path / "project.yaml") == read_network(file)


def test_every_weight_has_one_name_in_taming(golden: Path):
    folder = golden / "image_tokenizer"
    model = build_vq_model(read_network(folder / "taming_tiny.json"))
    names = [taming_name(name, 3) for name in model.state_dict()]
    assert len(set(names)) == len(names)
    assert set(names) == set(read_weights(folder / "taming_tiny.ckpt"))


# ---- checkpoints ----------------------------------------------------------------------------------------------------


def test_foreign_classes_in_a_checkpoint_are_not_run(weights: dict[str, Tensor], tmp_path: Path):
    state = {Foreign: {"best_model_score": torch.ones(()), "kept": Foreign()}}
    file = checkpoint(tmp_path, weights, callbacks=state, epoch=3)
    built = Foreign.built
    found = read_weights(file)
    assert Foreign.built == built
    assert found.keys() == weights.keys()
    assert all(torch.equal(found[name], weights[name]) for name in weights)


class Harmful:
    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path("harm"),)


def test_functions_in_a_checkpoint_are_not_run(
    weights: dict[str, Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    file = checkpoint(tmp_path, weights, callbacks=[Harmful()])
    with pytest.raises(ValueError, match=r"last\.ckpt can't be read as weights alone") as error:
        read_weights(file)
    assert "save" in str(error.value)
    assert not (tmp_path / "harm").exists()


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04 torn"])
def test_what_is_no_checkpoint_is_named(tmp_path: Path, content: bytes):
    (tmp_path / "a.ckpt").write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.ckpt can't be read as weights alone"):
        read_weights(tmp_path / "a.ckpt")
    with pytest.raises(FileNotFoundError):
        read_weights(tmp_path / "b.ckpt")


def test_a_checkpoint_without_state_dict(tmp_path: Path):
    torch.save({"model": {}, "step": 1}, tmp_path / "a.ckpt")
    with pytest.raises(ValueError, match=r"with `state_dict`, got \['model', 'step'\]"):
        read_weights(tmp_path / "a.ckpt")


def test_weights_of_another_network_are_named(weights: dict[str, Tensor], tmp_path: Path):
    network = read_network(config(tmp_path))
    name = "encoder.mid.attn_1.q.weight"
    lacking = {key: value for key, value in weights.items() if key != name}
    with pytest.raises(ValueError, match=rf"expects {name} of shape \[64, 64, 1, 1\], the checkpoint has none"):
        to_vq_model(network, lacking)
    with pytest.raises(ValueError, match=rf"expects {name} of shape \[64, 64, 1, 1\], the checkpoint has \[64, 64\]"):
        to_vq_model(network, {**weights, name: torch.zeros(64, 64)})
    with pytest.raises(ValueError, match=r"expects no quantize.embed_avg, the checkpoint has it of shape \[12, 4\]"):
        to_vq_model(network, {**weights, "quantize.embed_avg": torch.zeros(12, 4)})


# ---- configs --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"target": "taming.models.vqgan.GumbelVQ"}, "expected the config of a .*VQModel, got taming.*GumbelVQ"),
        ({"params": {"n_embed": 4}}, "ddconfig, n_embed and embed_dim.*KeyError: 'ddconfig'"),
        ({"params": None}, "got TypeError"),
        ({"params": {**SIZES, "ddconfig": SIZES["ddconfig"] | {"double_z": True}}}, "double_z = False, got True"),
        ({"params": {**SIZES, "ddconfig": SIZES["ddconfig"] | {"in_channels": 1}}}, "in_channels = 3, got 1"),
        ({"params": {**SIZES, "remap": "used.npy"}}, "remap = None, got used.npy"),
        ({"params": {**SIZES, "ddconfig": SIZES["ddconfig"] | {"ch": 40}}}, "multiples of the 32 groups"),
    ],
)
def test_configs_of_other_networks(tmp_path: Path, changes: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        read_network(config(tmp_path, **changes))


@pytest.mark.parametrize("text", ["a: [", "- 1", "", "\x00"])
def test_what_is_no_config_is_named(tmp_path: Path, text: str):
    (tmp_path / "x.yaml").write_text(text)
    with pytest.raises(ValueError, match=r"x\.yaml: expected a config of taming's VQGAN"):
        read_network(tmp_path / "x.yaml")


# ---- the command ----------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(weights: dict[str, Tensor], tmp_path: Path) -> Path:
    nn.init.normal_(weights["quantize.embedding.weight"])
    to_vq_model(read_network(config(tmp_path)), weights).save_pretrained(tmp_path / "vq" / "vqvae")
    return tmp_path


def test_a_vq_model_of_diffusers_is_copied(folder: Path):
    report = import_image_tokenizer(folder / "out", vq_model=str(folder / "vq"), subfolder="vqvae")
    first, second = (ImageTokenizer.from_pretrained(folder / name) for name in ("out", "vq/vqvae"))
    assert report["parameters"] == sum(weight.numel() for weight in second.model.parameters())
    images = torch.rand(2, 3, 32, 32) * 2 - 1
    assert torch.equal(first.encode(images), second.encode(images))
    import_image_tokenizer(folder / "half", vq_model=str(folder / "out"), half=True)
    half = load_file(folder / "half" / "diffusion_pytorch_model.safetensors")
    assert {value.dtype for value in half.values()} == {torch.float16}


def _damage(folder: Path, **changes: Tensor | None) -> None:
    file = folder / "vq" / "vqvae" / "diffusion_pytorch_model.safetensors"
    state = {key: value for key, value in {**load_file(file), **changes}.items() if value is not None}
    save_file(state, file, metadata={"format": "pt"})


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("quant_conv.weight", None, r"expected weight quant_conv.weight of shape \[4, 8, 1, 1\], found none"),
        ("quant_conv.bias", torch.zeros(5), r"expected weight quant_conv.bias of shape \[4\], found \[5\]"),
        ("extra.bias", torch.zeros(5), "found weight extra.bias, which a VQModel of its config.json does not have"),
        ("quant_conv.bias", torch.full((4,), float("nan")), r"expected finite weights, quant_conv.bias \[4\]"),
    ],
)
def test_a_vq_model_with_weights_of_another_is_refused(folder: Path, name: str, value: Tensor | None, message: str):
    _damage(folder, **{name: value})
    with pytest.raises(ValueError, match=message):
        import_image_tokenizer(folder / "out", vq_model=str(folder / "vq"), subfolder="vqvae")
    assert not (folder / "out").exists()


def test_arguments_that_do_not_go_together(tmp_path: Path):
    with pytest.raises(ValueError, match="expected one of --taming, --vq_model and --codebook, got none"):
        import_image_tokenizer(tmp_path)
    with pytest.raises(ValueError, match="got --taming and --vq_model"):
        import_image_tokenizer(tmp_path, taming=tmp_path, vq_model="x")
    for arguments in ({"taming": tmp_path}, {"vq_model": "x", "config": tmp_path}):
        with pytest.raises(ValueError, match="--taming, a checkpoint, and --config"):
            import_image_tokenizer(tmp_path, **arguments)


def test_the_command_line(
    weights: dict[str, Tensor], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(cli.FUNCTIONS, "import image-tokenizer", ("kyvo.importing:import_image_tokenizer", "-"))
    words = ["--taming", str(checkpoint(tmp_path, weights)), "--config", str(config(tmp_path))]
    cli.main(["import", "image-tokenizer", *words, "--out", str(tmp_path / "out"), "--half"])
    report = json.loads(capsys.readouterr().out)
    assert (report["image_size"], report["grid"], report["codes"]) == ([32, 32], [16, 16], 12)
    assert ImageTokenizer.from_pretrained(tmp_path / "out").size == (32, 32)
