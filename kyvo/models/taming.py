"""Checkpoints of taming-transformers' VQGAN as diffusers' `VQModel`: the same weights under other names."""

import re
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import TYPE_CHECKING, Any

import torch
import yaml
from torch import Tensor

from kyvo.models.image_vq import ImageNetwork, build_vq_model

if TYPE_CHECKING:
    from diffusers import VQModel

GROUPS = 32
"""Groups of every normalisation in taming's networks."""

_FIXED = {"double_z": False, "in_channels": 3, "out_ch": 3, "resamp_with_conv": True}
_NAMES = (
    ("mid_block.resnets.0", "mid.block_1"),
    ("mid_block.resnets.1", "mid.block_2"),
    ("mid_block.attentions.0", "mid.attn_1"),
    ("down_blocks", "down"),
    ("resnets", "block"),
    ("attentions", "attn"),
    ("downsamplers.0", "downsample"),
    ("upsamplers.0", "upsample"),
    ("conv_norm_out", "norm_out"),
    ("conv_shortcut", "nin_shortcut"),
    ("group_norm", "norm"),
    ("to_q", "q"),
    ("to_k", "k"),
    ("to_v", "v"),
    ("to_out.0", "proj_out"),
)


def read_network(file: str | Path) -> ImageNetwork:
    """The sizes in a config of taming's VQGAN.

    Args:
        file: YAML as taming's configs/custom_vqgan.yaml, or JSON; of JSON or YAML without `model`, the top level holds
            `ddconfig`, `n_embed` and `embed_dim`.

    Raises:
        ValueError: The file is no such config, or one of another network than an image `VQModel`.
    """
    try:
        # JSON is YAML as well.
        raw = yaml.safe_load(Path(file).read_text(encoding="utf-8"))
        model = raw.get("model", {"params": raw})
        target, params = model.get("target", "VQModel"), model["params"]
        sizes = params["ddconfig"]
        _refuse_others(file, target, {**sizes, "remap": params.get("remap")})
        return ImageNetwork(
            image_size=(sizes["resolution"], sizes["resolution"]),
            channels=tuple(sizes["ch"] * factor for factor in sizes["ch_mult"]),
            layers=sizes["num_res_blocks"],
            codes=params["n_embed"],
            code_dim=params["embed_dim"],
            latent_channels=sizes["z_channels"],
            groups=GROUPS,
            attention=tuple(sizes["attn_resolutions"]),
        )
    except (yaml.YAMLError, UnicodeDecodeError, AttributeError, KeyError, TypeError) as error:
        raise ValueError(
            f"{file}: expected a config of taming's VQGAN (model.params with ddconfig, n_embed and embed_dim), got "
            f"{type(error).__name__}: {error}"
        ) from error


def _refuse_others(file: str | Path, target: str, sizes: Mapping[str, Any]) -> None:
    if target.rpartition(".")[2] != "VQModel":
        raise ValueError(f"{file}: expected the config of a taming.models.vqgan.VQModel, got {target}")
    for name, expected in {**_FIXED, "remap": None}.items():
        if sizes.get(name, expected) != expected:
            raise ValueError(f"{file}: expected {name} = {expected}, got {sizes[name]}")


class _Inert:
    """Stands for a class or function that a pickle names and that must not run; takes whatever it is given."""

    def __new__(cls, *_: Any) -> "_Inert":
        return super().__new__(cls)

    def __setstate__(self, state: Any) -> None:
        pass


def read_weights(file: str | Path) -> dict[str, Tensor]:
    """The weights of a checkpoint by taming's names, without those of its loss (LPIPS and the discriminator).

    Nothing that the file names is imported or run: what is not a tensor, a number, a text or a plain container, as the
    state of Lightning's callbacks, is read as something inert.

    Args:
        file: A checkpoint as Lightning writes it, with a `state_dict`.

    Raises:
        ValueError: No such checkpoint, or one that can't be read in this way.
        FileNotFoundError: No such file.
    """
    raw = _load(file)
    state = raw.get("state_dict") if isinstance(raw, dict) else None
    if not isinstance(state, dict):
        found = list(raw)[:5] if isinstance(raw, dict) else type(raw).__name__
        raise ValueError(f"{file}: expected a checkpoint with `state_dict`, got {found}")
    return {name: value for name, value in state.items() if isinstance(value, Tensor) and not name.startswith("loss.")}


def _load(file: str | Path) -> Any:
    try:
        return torch.load(file, map_location="cpu", weights_only=True)
    except (UnpicklingError, EOFError, RuntimeError) as error:
        refused = error
    try:
        foreign = torch.serialization.get_unsafe_globals_in_checkpoint(str(file))
        with torch.serialization.safe_globals([(_Inert, name) for name in foreign]):
            return torch.load(file, map_location="cpu", weights_only=True)
    except (UnpicklingError, EOFError, RuntimeError, ValueError):
        raise ValueError(
            f"{file} can't be read as weights alone: expected a checkpoint of torch.save. If it is one that you trust, "
            'open it with the program that wrote it and save {"state_dict": ...} by itself'
        ) from refused


def taming_name(name: str, levels: int) -> str:
    """What taming calls a weight.

    Args:
        name: Name of a weight in a `VQModel`.
        levels: Number of resolutions, which taming counts from the finest in the decoder too.

    >>> taming_name("decoder.up_blocks.0.attentions.1.to_out.0.weight", 5)
    'decoder.up.4.attn.1.proj_out.weight'
    """
    for ours, theirs in _NAMES:
        name = name.replace(ours, theirs)
    return re.sub(r"up_blocks\.(\d+)", lambda found: f"up.{levels - 1 - int(found[1])}", name)


def to_vq_model(network: ImageNetwork, weights: Mapping[str, Tensor]) -> "VQModel":
    """A `VQModel` with the weights of a checkpoint: its codes are those of taming's network.

    Args:
        network: Sizes, from `read_network`.
        weights: From `read_weights`.

    Raises:
        ValueError: A weight is missing, has another shape or has no place in this network (the first one is named).
    """
    model = build_vq_model(network)
    left, state = dict(weights), {}
    for name, value in model.state_dict().items():
        theirs = taming_name(name, len(network.channels))
        # The projections of attention are convolutions of 1 x 1 there and linear here.
        is_projection = value.ndim == 2 and not name.startswith("quantize.")
        shape = [*value.shape, 1, 1] if is_projection else list(value.shape)
        found = left.pop(theirs, None)
        if found is None or list(found.shape) != shape:
            got = "none" if found is None else str(list(found.shape))
            raise ValueError(f"the config expects {theirs} of shape {shape}, the checkpoint has {got}")
        state[name] = found.reshape(value.shape).float()
    for name, value in left.items():
        raise ValueError(f"the config expects no {name}, the checkpoint has it of shape {list(value.shape)}")
    model.load_state_dict(state)
    return model.eval()
