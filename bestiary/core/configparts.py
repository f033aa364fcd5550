"""Parts of a config.json of transformers that several architectures share and that take more than renaming a key."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from itertools import cycle, islice
from typing import Any

from bestiary.core.configmap import Fields
from bestiary.errors import LayoutError

LOCAL, GLOBAL = "sliding_attention", "full_attention"  # what transformers calls layers with a window and without


class Constant:
    """Fields of ours that every model of the kind has, and that its config.json leaves unsaid."""

    keys: tuple[str, ...] = ()

    def __init__(self, **fields: Any):
        self.fields = fields

    def read(self, published: Mapping[str, Any]) -> Fields:
        return dict(self.fields)

    def write(self, config: Any) -> Fields:
        return {}


class OneOf:
    """A key with any of these values, which all mean what the architecture computes; the first is the one that is written."""

    def __init__(self, key: str, *values: Any):
        self.keys = (key,)
        self.values = values

    def read(self, published: Mapping[str, Any]) -> Fields:
        (key,) = self.keys
        if key in published and published[key] not in self.values:
            raise LayoutError(
                f"config.json says {key}: {published[key]!r}\n"
                f"the zoo computes {' and '.join(map(repr, self.values))} only; this variant is not in it"
            )
        return {}

    def write(self, config: Any) -> Fields:
        return {self.keys[0]: self.values[0]}


class Activation:
    """An activation, by the name that transformers has for it."""

    names: Mapping[str, str] = {
        "gelu": "gelu",
        "gelu_pytorch_tanh": "gelu_tanh",
        "gelu_new": "gelu_tanh",
        "quick_gelu": "quick_gelu",
        "relu": "relu",
        "silu": "silu",
    }

    def __init__(self, key: str = "hidden_act", field: str = "activation"):
        self.keys = (key,)
        self.field = field

    def read(self, published: Mapping[str, Any]) -> Fields:
        (key,) = self.keys
        if (name := published[key]) not in self.names:
            raise LayoutError(
                f"config.json says {key}: {name!r}\nthe zoo computes {', '.join(self.names)}; this variant is not in it"
            )
        return {self.field: self.names[name]}

    def write(self, config: Any) -> Fields:
        ours = getattr(config, self.field)
        return {self.keys[0]: next((name for name, known in self.names.items() if known == ours), None)}


class Heads:
    """Heads, heads of keys and values (as many, where the file does not say) and their size (the width divided by the heads)."""

    keys = ("num_attention_heads", "num_key_value_heads", "head_dim")

    def read(self, published: Mapping[str, Any]) -> Fields:
        heads = published["num_attention_heads"]
        return {
            "heads": heads,
            "key_value_heads": published.get("num_key_value_heads") or heads,
            "head_width": published.get("head_dim") or published["hidden_size"] // heads,
        }

    def write(self, config: Any) -> Fields:
        return dict(zip(self.keys, (config.heads, config.key_value_heads, config.head_width), strict=True))


class Window:
    """The `sliding_window` of every layer. It counts the token itself; ours is the largest distance."""

    keys = ("sliding_window",)

    def read(self, published: Mapping[str, Any]) -> Fields:
        window = published["sliding_window"]
        return {"windows": (None if window is None else window - 1,)}

    def write(self, config: Any) -> Fields:
        (window, *_) = config.windows
        return {"sliding_window": None if window is None else window + 1}


class Windows:
    """`layer_types` and the `sliding_window` of the local ones.

    Where a file does not say the types, `types` makes them of it, from further keys: those in `says`.
    """

    def __init__(self, types: Callable[[Mapping[str, Any]], Sequence[str]], *says: str):
        self.keys = ("layer_types", "sliding_window", *says)
        self.types = types

    def read(self, published: Mapping[str, Any]) -> Fields:
        types, window = published.get("layer_types") or self.types(published), published["sliding_window"]
        if unknown := [kind for kind in types if kind not in (LOCAL, GLOBAL)]:
            raise LayoutError(
                f"config.json has a layer of type {unknown[0]!r}\n"
                f"the zoo computes {LOCAL} and {GLOBAL}; this variant is not in it"
            )
        if len(types) != published["num_hidden_layers"] or (window is None and LOCAL in types):
            raise LayoutError(
                f"config.json gives types for {len(types)} layers of {published['num_hidden_layers']}, and a window of {window}\n"
                "they do not fit; fetch the file again"
            )
        return {"windows": tuple(window - 1 if kind == LOCAL else None for kind in types)}

    def write(self, config: Any) -> Fields:
        windows = list(islice(cycle(config.windows), config.layers))
        return {
            "layer_types": [GLOBAL if window is None else LOCAL for window in windows],
            "sliding_window": next((window + 1 for window in windows if window is not None), None),
        }


class Rotary:
    """Theta and scaling of rotary positions: `rope_parameters`, in older files `rope_theta` beside `rope_scaling`."""

    keys = ("rope_parameters", "rope_theta", "rope_scaling")

    def read(self, published: Mapping[str, Any]) -> Fields:
        said = {"rope_theta": published["rope_theta"], **(published.get("rope_parameters") or {})}
        return dict(zip(("theta", "scaling"), _read({**said, **(published.get("rope_scaling") or {})}, published), strict=True))

    def write(self, config: Any) -> Fields:
        return {"rope_parameters": _write(config.theta, config.scaling)}


class RotaryByLayer:
    """The same for nets whose local layers have a theta of their own, which older files call `rope_local_base_freq`."""

    keys = (*Rotary.keys, "rope_local_base_freq")

    def read(self, published: Mapping[str, Any]) -> Fields:
        said = published.get("rope_parameters") or {}
        everywhere = {"rope_theta": published["rope_theta"], **(said.get(GLOBAL) or {}), **(published.get("rope_scaling") or {})}
        local = {"rope_theta": published["rope_local_base_freq"], **(said.get(LOCAL) or {})}
        if unknown := [key for key in said if key not in (LOCAL, GLOBAL)]:
            raise LayoutError(f"config.json has {unknown[0]} in rope_parameters\nwanted there: {LOCAL} and {GLOBAL}")
        theta, scaling = _read(everywhere, published)
        local_theta, local_scaling = _read(local, published)
        if local_scaling is not None:
            raise LayoutError(f"config.json scales the positions of {LOCAL}\nthe zoo scales {GLOBAL} only")
        return {"theta": theta, "scaling": scaling, "local_theta": local_theta}

    def write(self, config: Any) -> Fields:
        return {"rope_parameters": {GLOBAL: _write(config.theta, config.scaling), LOCAL: _write(config.local_theta, None)}}


# For each rope type that the zoo computes, the fields of our scaling of that kind and their keys.
_SCALINGS: Mapping[str, Mapping[str, str]] = {
    "default": {},
    "linear": {"factor": "factor"},
    "llama3": {
        "factor": "factor",
        "slow": "low_freq_factor",
        "fast": "high_freq_factor",
        "trained": "original_max_position_embeddings",
    },
    "yarn": {
        "factor": "factor",
        "slow": "beta_slow",
        "fast": "beta_fast",
        "trained": "original_max_position_embeddings",
        "magnitude": "attention_factor",
        "whole_pairs": "truncate",
    },
}


def _read(said: Mapping[str, Any], published: Mapping[str, Any]) -> tuple[float, Fields | None]:
    """Theta and scaling of one set of rotary parameters."""
    values = {key: value for key, value in said.items() if value is not None}
    old_kind = values.pop("type", "default")
    kind, theta = values.pop("rope_type", old_kind), values.pop("rope_theta")
    if kind not in _SCALINGS:
        raise LayoutError(
            f"config.json has the rope type {kind!r}\nthe zoo computes {', '.join(_SCALINGS)}; this variant is not in it"
        )
    fields = _SCALINGS[kind]
    if "trained" in fields:
        values.setdefault("original_max_position_embeddings", published["max_position_embeddings"])
    if "magnitude" in fields:
        magnitude = _magnitude(values.get("factor", 1), values.pop("mscale", None), values.pop("mscale_all_dim", None))
        values.setdefault("attention_factor", magnitude)
    if unknown := [key for key in values if key not in fields.values()]:
        raise LayoutError(
            f"config.json has {unknown[0]}: {values[unknown[0]]!r} among the rotary parameters\n"
            f"the zoo does not know it for the rope type {kind!r}; this variant is not in it"
        )
    scaling = {"kind": kind, **{ours: values[theirs] for ours, theirs in fields.items() if theirs in values}}
    return theta, scaling if kind != "default" else None


def _magnitude(factor: float, scale: float | None, scale_all: float | None) -> float:
    """YaRN's, where the file does not give it (arXiv:2309.00071, equation 15, and DeepSeek's variation of it)."""
    plain, scaled, scaled_all = (0.1 * weight * math.log(max(factor, 1)) + 1 for weight in (1, scale or 0, scale_all or 0))
    return scaled / scaled_all if scale and scale_all else plain


def _write(theta: float, scaling: Any) -> Fields:
    if scaling is None:
        return {"rope_type": "default", "rope_theta": theta}
    values = asdict(scaling)
    written = {theirs: values[ours] for ours, theirs in _SCALINGS[scaling.kind].items()}
    return {"rope_type": scaling.kind, "rope_theta": theta, **written}
