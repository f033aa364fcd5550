"""Adapters in files, in the format of peft: adapter_config.json and adapter_model.safetensors."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from bestiary.core.configmap import read_json
from bestiary.errors import InputError, LayoutError

CONFIG, WEIGHTS, PICKLE = "adapter_config.json", "adapter_model.safetensors", "adapter_model.bin"
PREFIX = "base_model.model."  # what peft puts before every name
KINDS = {".lora_A.weight": 0, ".lora_B.weight": 1, ".lora_magnitude_vector": 2, ".lora_magnitude_vector.weight": 2}

# Keys of adapter_config.json that say what to compute, and such as do not: how it was trained and what it was trained on, and
# which layers it has, which the file of weights says itself.
READ = {"peft_type", "r", "lora_alpha", "use_dora", "use_rslora", "rank_pattern", "alpha_pattern", "modules_to_save", "bias"}
FREE = {
    *("base_model_name_or_path", "revision", "task_type", "auto_mapping", "inference_mode", "peft_version", "lora_dropout"),
    *("target_modules", "exclude_modules", "layers_to_transform", "layers_pattern", "fan_in_fan_out", "ensure_weight_tying"),
    *("megatron_core", "qalora_group_size", "eva_config"),
}
UNSAID = {
    **{"r": 8, "lora_alpha": 8, "use_rslora": False, "use_dora": False, "bias": "none"},
    **{"rank_pattern": {}, "alpha_pattern": {}},
}
KINDS_OF_VALUES = {"r": (int,), "lora_alpha": (int, float), "rank_pattern": (dict,), "alpha_pattern": (dict,)}
BEGINNINGS = (True, False, "gaussian", "eva", "orthogonal")  # of init_lora_weights: those that leave the base as it is


class Factors(NamedTuple):
    """What is learned of one layer: its weight grows by scale · up · down."""

    down: Tensor  # (rank, inputs, ...)
    up: Tensor  # (outputs, rank, ...)
    magnitude: Tensor | None  # of DoRA: the length of each row, (outputs,) with sides of 1

    @property
    def rank(self) -> int:
        return len(self.down)

    @property
    def inputs(self) -> int:
        return self.down.shape[1]

    @property
    def outputs(self) -> int:
        return len(self.up)

    def fits(self, weight: Tensor) -> bool:
        """Whether they are for a weight of that shape."""
        sides = weight.dim() - 2
        shapes = (self.rank, *weight.shape[1:]), (weight.shape[0], self.rank, *[1] * sides)
        return (tuple(self.down.shape), tuple(self.up.shape)) == shapes


@dataclass(frozen=True)
class Adapter:
    """An adapter as it was read; names are those of the file or ours."""

    config: Mapping[str, Any]
    factors: Mapping[str, Factors]  # by the name of the layer
    alphas: Mapping[str, float]  # likewise
    whole: Mapping[str, Tensor]  # what was trained as a whole, by its own name

    def patterns(self) -> dict[str, Any]:
        """The same for peft: numbers that most layers have, and those of the others."""
        rank, alpha = self.config["r"], self.config["lora_alpha"]
        return {
            "r": rank,
            "lora_alpha": alpha,
            "rank_pattern": {name: factors.rank for name, factors in self.factors.items() if factors.rank != rank},
            "alpha_pattern": {name: own for name, own in self.alphas.items() if own != alpha},
            "use_rslora": self.config["use_rslora"],
            "use_dora": self.config["use_dora"],
            "bias": self.config["bias"],
        }


def read_folder(folder: Path) -> Adapter:
    """The adapter of a folder. Raises InputError where there is none, LayoutError also for one that is pickled."""
    if not (folder / CONFIG).is_file():
        raise InputError(f"{folder} has no {CONFIG}\ngive the folder of an adapter as peft writes it")
    if not (folder / WEIGHTS).is_file():
        pickled = f", but {PICKLE}, and reading a pickle may run any code" if (folder / PICKLE).is_file() else ""
        raise LayoutError(f"{folder} has no {WEIGHTS}{pickled}\nask for the adapter as safetensors: peft writes it so today")
    return read_adapter(folder / CONFIG, folder / WEIGHTS)


def read_adapter(config: Path, weights: Path) -> Adapter:
    """The adapter of two files. Raises LayoutError for one that is not LoRA, or has what is not computed here."""
    checked = _checked(read_json(config), config)
    try:
        tensors = load_file(weights)
    except SafetensorError as error:
        raise LayoutError(f"{weights} is not safetensors: {error}\nfetch it again") from error
    return _sorted(tensors, checked, weights)


def write_adapter(net: nn.Module, config: Any, folder: Path) -> list[Path]:
    """Write the adapter of peft's `config` that is on a net, and what is trained beside it."""
    parts = tuple(f"{name}." for name in config.modules_to_save or ())  # with what they hold beside weights
    state = {
        name.replace(".default", "").replace(".lora_magnitude_vector.weight", ".lora_magnitude_vector"): tensor.detach()
        for name, tensor in net.state_dict(keep_vars=True).items()
        if ".lora_" in name or tensor.requires_grad or name.startswith(parts)
    }
    tensors = {PREFIX + name: tensor.cpu().contiguous() for name, tensor in state.items()}
    values = {key: sorted(value) if isinstance(value, set) else value for key, value in config.to_dict().items()}
    save_file(tensors, folder / WEIGHTS, {"format": "pt"})
    (folder / CONFIG).write_text(json.dumps(values, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    return [folder / WEIGHTS, folder / CONFIG]


def _checked(config: Any, path: Path) -> Mapping[str, Any]:
    """The config with what it leaves unsaid. Raises LayoutError for a value that means what is not computed here."""
    if not isinstance(config, dict):
        raise LayoutError(f"{path} is not a JSON object\nfetch it again")
    if config.get("peft_type") != "LORA":
        raise LayoutError(f"{path} says peft_type: {config.get('peft_type')!r}\nthe zoo computes adapters of the type LORA")
    for key, value in config.items():
        usual = {"init_lora_weights": BEGINNINGS, "runtime_config": (value,)}.get(key, ())
        if key not in READ | FREE and value not in (None, False, {}, [], *usual):
            raise LayoutError(f"{path} says {key}: {str(value)[:80]!r}\nsuch adapters are not computed here; merge it by peft")
    filled = {**UNSAID, **{key: value for key, value in config.items() if value is not None}}
    for key, kind in KINDS_OF_VALUES.items():
        if not isinstance(filled[key], kind) or (key == "r" and filled[key] < 1):
            raise LayoutError(f"{path} says {key}: {str(filled[key])[:80]!r}, which makes no sense\nfetch it again")
    return filled


def _sorted(tensors: Mapping[str, Tensor], config: Mapping[str, Any], path: Path) -> Adapter:
    """The tensors by what they are."""
    found: dict[str, list[Tensor | None]] = {}
    whole: dict[str, Tensor] = {}
    for key, tensor in tensors.items():
        name = key.removeprefix(PREFIX)
        kind = next((kind for kind in KINDS if name.endswith(kind)), None)
        if kind is not None:
            found.setdefault(name.removesuffix(kind), [None, None, None])[KINDS[kind]] = tensor
        elif "lora_" in name:
            raise LayoutError(f"{path} holds {key}\nsuch adapters are not computed here; merge it by peft")
        else:
            whole[name.replace(".base_layer.", ".").replace(".modules_to_save.", ".")] = tensor
    if not found:
        raise LayoutError(f"{path} holds no adapter\nexpected: names that end in {', '.join(list(KINDS)[:2])}")
    factors = {}
    for name, (down, up, magnitude) in found.items():
        if down is None or up is None or (magnitude is None) == bool(config["use_dora"]):
            raise LayoutError(f"{path} holds only a part of the adapter of {name}\nis the file whole?")
        rank = _of(name, "rank_pattern", config)
        if min(down.dim(), up.dim()) < 2 or {len(down), up.shape[1]} != {rank}:
            shapes = f"{tuple(down.shape)} and {tuple(up.shape)}"
            raise LayoutError(f"{path}: the adapter of {name} is {shapes}, and {CONFIG} says r: {rank}\nfetch both again")
        factors[name] = Factors(down, up, magnitude)
    return Adapter(config, factors, {name: _of(name, "alpha_pattern", config) for name in factors}, whole)


def _of(name: str, pattern: str, config: Mapping[str, Any]) -> Any:
    """The number of a layer: of the first pattern that matches its name, else that of all."""
    usual = config[{"rank_pattern": "r", "alpha_pattern": "lora_alpha"}[pattern]]
    try:
        return next((number for key, number in config[pattern].items() if re.match(rf"(.*\.)?({key})$", name)), usual)
    except re.error as error:
        raise LayoutError(f"{CONFIG} has a {pattern} that is no pattern: {error}\nfetch it again") from error
