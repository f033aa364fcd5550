"""What the metadata of a GGUF file say of a language model: its architecture, its config, where its texts end.

Keys are those of https://github.com/ggml-org/ggml/blob/master/docs/gguf.md. The reading is total: a key about the net that is
not known here is an error that names it. What llama.cpp knows by heart, since no key says it, stands here as well.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any, NamedTuple, NoReturn

import numpy
import torch
from torch import Tensor

from bestiary.core.gguf import GgufFile
from bestiary.core.mapped import short
from bestiary.core.rotary import Llama3
from bestiary.errors import LayoutError
from bestiary.text.gguf_tokenizer import end_tokens

Fields = dict[str, Any]


class Described(NamedTuple):
    """The part of a card that a GGUF file gives."""

    architecture: str
    config: Fields  # fields of the architecture's config
    preprocess: Fields  # of the task text-generation


class Keys:
    """The keys about the net, each to be asked for; `rest` are those that nobody asked for."""

    def __init__(self, file: GgufFile, architecture: str):
        self.file = file
        self.prefix = f"{architecture}."
        self.rest = {key for key in file if key.startswith(self.prefix)}

    def whole(self, key: str, default: int | None = None) -> int:
        return int(self._value(key, int, "a whole number above 0", default))

    def number(self, key: str, default: float | None = None) -> float:
        value = self._value(key, (int, float), "a number above 0", default)
        return float(str(numpy.float32(value)))  # 1e-05 for what is next to it in fp32

    def plain(self, key: str, *allowed: Any) -> None:
        """A key that may be absent, or say what is computed anyway."""
        value = self.value(key, allowed[0])
        if value not in allowed:
            self.refuse(f"{self.prefix}{key} is {short(value)}; what is computed is {' or '.join(map(str, allowed))}")

    def value(self, key: str, default: Any) -> Any:
        self.rest.discard(self.prefix + key)
        value = self.file.get(self.prefix + key, default)
        if not isinstance(value, (bool, int, float, str, type(None))):
            self.refuse(f"{self.prefix}{key} is a list; layers that differ in it are not in the zoo")
        return value

    def says(self, key: str) -> bool:
        return self.prefix + key in self.file

    def refuse(self, fault: str) -> NoReturn:
        raise LayoutError(f"{self.file.path} holds a model that is not in the zoo: {fault}\nload another file or model")

    def _value(self, key: str, kind: Any, expected: str, default: Any) -> Any:
        value = self.value(key, default)
        if isinstance(value, bool) or not isinstance(value, kind) or not 0 < value < math.inf:
            self.refuse(f"{self.prefix}{key} is {short(value)}, where {expected} was expected")
        return value


def describe_gguf(file: GgufFile) -> Described:
    """What a GGUF file is. Raises LayoutError that names the key for what the zoo does not compute."""
    architecture = file.get("general.architecture")
    if not isinstance(architecture, str) or architecture not in VARIANTS:
        raise LayoutError(
            f"{file.path} holds {short(architecture)}, which is not in the zoo\nof GGUF the zoo reads: {', '.join(VARIANTS)}"
        )
    keys = Keys(file, architecture)
    config = _common(keys)
    config |= _scaling(keys, config["theta"], config["head_width"] // 2)
    config |= VARIANTS[architecture](keys, config)
    if keys.rest:
        unknown = min(keys.rest)
        keys.refuse(f"{unknown} is {short(file[unknown])}, and {architecture} does not know it here")
    return Described(architecture, config, {"context": config["positions"], "end_tokens": end_tokens(file)})


def _common(keys: Keys) -> Fields:
    """What all decoders of the family say in the same words. The sizes are compared with those of tensors."""
    width, heads, hidden = keys.whole("embedding_length"), keys.whole("attention.head_count"), keys.whole("feed_forward_length")
    key_value_heads = keys.whole("attention.head_count_kv", heads)
    head_width = keys.whole("attention.key_length", width // heads or 1)
    layers = keys.whole("block_count")
    keys.plain("attention.value_length", head_width)
    keys.plain("rope.dimension_count", head_width)
    keys.plain("attention.causal", True)
    keys.plain("expert_count", 0)
    keys.plain("expert_used_count", 0)
    keys.plain("tensor_data_layout", "", "Meta AI original pth")
    if heads % key_value_heads or head_width % 2:
        keys.refuse(f"it has {heads} heads of {head_width} numbers for {key_value_heads} heads of keys and values")
    vocabulary = _rows(keys, "token_embd.weight", width)
    keys.plain("vocab_size", vocabulary)
    for name, rows, columns in (
        ("attn_q", heads * head_width, width),
        ("attn_k", key_value_heads * head_width, width),
        ("ffn_up", hidden, width),
        ("ffn_down", width, hidden),
    ):
        tensor = f"blk.{layers - 1}.{name}.weight"
        if (found := _rows(keys, tensor, columns)) != rows:
            keys.refuse(f"{tensor} has {found} rows, where its metadata ask for {rows}")
    return {
        "layers": layers,
        "width": width,
        "heads": heads,
        "key_value_heads": key_value_heads,
        "head_width": head_width,
        "hidden": hidden,
        "vocabulary": vocabulary,
        "positions": keys.whole("context_length"),
        "theta": keys.number("rope.freq_base", 10000.0),
        "eps": keys.number("attention.layer_norm_rms_epsilon"),
        "tied": "output.weight" not in keys.file.forms,
    }


def _rows(keys: Keys, name: str, columns: int) -> int:
    """How many rows of so many columns a tensor has."""
    form = keys.file.forms.get(name)
    if form is None or len(form.shape) != 2 or form.shape[1] != columns:
        keys.refuse(f"{name} is {form and list(form.shape)}, where rows of {columns} were expected")
    return form.shape[0]


def _scaling(keys: Keys, theta: float, pairs: int) -> Fields:
    """The scaling of rotary positions: by keys, or for Llama 3 by a tensor that divides the angles."""
    kind = keys.value("rope.scaling.type", "none")
    keys.value("rope.scaling.finetuned", None)  # how it was trained
    if "rope_freqs.weight" in keys.file.forms:
        return {"scaling": _llama3(keys, theta ** -(torch.arange(pairs) / pairs))}
    if kind == "linear":
        return {"scaling": {"kind": kind, "factor": keys.number("rope.scaling.factor")}}
    if kind == "yarn":
        factor = keys.number("rope.scaling.factor")
        scaling = {
            "kind": kind,
            "factor": factor,
            "slow": keys.number("rope.scaling.yarn_beta_slow", 1.0),
            "fast": keys.number("rope.scaling.yarn_beta_fast", 32.0),
            "trained": keys.whole("rope.scaling.original_context_length"),
            "magnitude": (0.1 * math.log(factor) + 1) * keys.number("rope.scaling.attn_factor", 1.0),
        }
        return {"scaling": scaling}
    if kind != "none":
        keys.refuse(f"{keys.prefix}rope.scaling.type is {short(kind)}; what is computed is none, linear or yarn")
    return {}


def _llama3(keys: Keys, plain: Tensor) -> Fields:
    """Llama 3.1's scaling, with the numbers that all its models have but for the factor, which the tensor tells."""
    divisors = keys.file.tensor("rope_freqs.weight").float()
    scaling = Llama3(factor=divisors.max().item(), slow=1.0, fast=4.0, trained=8192)
    wanted = plain / scaling.frequencies(plain, 0.0)
    if divisors.shape != wanted.shape or not torch.allclose(divisors, wanted, rtol=1e-4):
        keys.refuse("rope_freqs.weight scales positions in another way than Llama 3.1")
    return asdict(scaling)


def _llama(keys: Keys, config: Fields) -> Fields:
    if not keys.says("attention.sliding_window"):  # Mistral's files, which call themselves llama, have one
        return {}
    return {"windows": (keys.whole("attention.sliding_window") - 1,)}


def _qwen2(keys: Keys, config: Fields) -> Fields:
    return {"qkv_bias": True}


def _qwen3(keys: Keys, config: Fields) -> Fields:
    return {"query_key_norm": True}


def _gemma(keys: Keys, config: Fields) -> Fields:
    return {"norm": "rms_offset", "activation": "gelu_tanh", "embedding_scale": config["width"] ** 0.5}


def _gemma2(keys: Keys, config: Fields) -> Fields:
    window = keys.whole("attention.sliding_window", 4096) - 1  # the key counts the token itself
    return {
        **_gemma(keys, config),
        "order": "sandwich",
        "windows": (window, None),
        "softcap": keys.number("attn_logit_softcapping", 50.0),
        "logits_softcap": keys.number("final_logit_softcapping", 30.0),
        "query_scalar": _query_scalar(config, largest=46),
    }


def _gemma3(keys: Keys, config: Fields) -> Fields:
    window = keys.whole("attention.sliding_window") - 1
    keys.plain("attention.sliding_window_pattern", 6)
    capped = {"logits_softcap": keys.number("final_logit_softcapping")} if keys.says("final_logit_softcapping") else {}
    return {
        **_gemma(keys, config),
        **capped,
        "order": "sandwich",
        "query_key_norm": True,
        "windows": (*(window,) * 5, None),
        "local_theta": keys.number("rope.freq_base_swa", 10000.0),
        "query_scalar": _query_scalar(config, largest=62),
    }


def _query_scalar(config: Fields, largest: int) -> float:
    """The 27-billion models, known by their layers, divide the width by the heads though their heads are of another size."""
    return float(config["width"] // config["heads"] if config["layers"] == largest else config["head_width"])


# By `general.architecture`; the names are ours too.
VARIANTS: Mapping[str, Callable[[Keys, Fields], Fields]] = {
    "llama": _llama,
    "qwen2": _qwen2,
    "qwen3": _qwen3,
    "gemma": _gemma,
    "gemma2": _gemma2,
    "gemma3": _gemma3,
}
