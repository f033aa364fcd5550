"""The config.json of transformers for each family of Vision Transformers, both ways."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

from bestiary.core.configclasses import count_classes, unnamed_classes
from bestiary.core.configmap import Fields, TransformersConfig
from bestiary.core.configparts import Activation, Constant
from bestiary.errors import LayoutError
from bestiary.vision.square import side
from bestiary.vision.vit_transformers import family


class Families:
    """One map for each model type. What a net is written as follows from its config; an MAE's encoder is a ViT."""

    def __init__(self, *maps: TransformersConfig):
        self.maps = {each.model_type: each for each in maps}

    def recognises(self, published: Mapping[str, Any]) -> bool:
        return published.get("model_type") in self.maps

    def read(self, published: Mapping[str, Any]) -> Fields:
        return self.maps[published["model_type"]].read(published)

    def write(self, config: Any) -> Fields:
        """Left out is, but for DINOv2, how positions are resized, and what is dropped in training.

        transformers takes the others to sizes that they did not learn only where a call asks for it, and drops nothing.
        """
        kind = family(config)
        said = config if kind.startswith("dinov2") else replace(config, antialias=False, drop_path=0.0)
        return self.maps[kind].write(said)


class Head(NamedTuple):
    """What follows the encoder of a class of transformers: how many outputs a config.json says it has, and how to say it."""

    count: Callable[[Mapping[str, Any]], int]
    say: Callable[[int], Fields]


NONE = Head(lambda published: 0, lambda count: {})
LABELS = Head(count_classes, unnamed_classes)
PROJECTION = Head(lambda published: published.get("projection_dim", 512), lambda count: {"projection_dim": count})


class SavedBy:
    """The class that a config.json was saved by: for each its head, and the fields of ours that it stands for."""

    keys = ("architectures",)

    def __init__(self, classes: Mapping[str, tuple[Head, Fields]]):
        self.classes = classes  # the first is meant where none is named

    def read(self, published: Mapping[str, Any]) -> Fields:
        names = published.get("architectures") or [next(iter(self.classes))]
        if len(names) != 1 or names[0] not in self.classes:
            raise LayoutError(f"config.json has architectures: {names!r}\nthe zoo computes one of {', '.join(self.classes)}")
        head, fields = self.classes[names[0]]
        return {**fields, "num_classes": head.count(published)}

    def write(self, config: Any) -> Fields:
        for name, (head, fields) in self.classes.items():
            if (head is NONE) == (config.num_classes == 0) and all(getattr(config, key) == fields[key] for key in fields):
                return {"architectures": [name], **head.say(config.num_classes)}
        raise LayoutError(
            f"transformers has no such head: {config.num_classes} classes, pooling {config.pooling!r}, "
            f"head_bias {config.head_bias}\nit has those of {', '.join(self.classes)}"
        )


class Square:
    """A size in pixels, which some files give as height and width."""

    def __init__(self, field: str, key: str):
        self.field = field
        self.keys = (key,)

    def read(self, published: Mapping[str, Any]) -> Fields:
        (key,) = self.keys
        return {self.field: side(published[key], f"config.json has {key}")}

    def write(self, config: Any) -> Fields:
        return {self.keys[0]: getattr(config, self.field)}


class DinoMlp:
    """The MLP of DINOv2, plain or gated, whose width is a multiple of the hidden states'; a gate is always a SiLU."""

    keys = ("mlp_ratio", "use_swiglu_ffn", *Activation().keys)

    def read(self, published: Mapping[str, Any]) -> Fields:
        hidden = int(published["hidden_size"] * published["mlp_ratio"])
        if not published["use_swiglu_ffn"]:
            return {"mlp": "plain", "hidden": hidden, **Activation().read(published)}
        return {"mlp": "gated", "hidden": (int(hidden * 2 / 3) + 7) // 8 * 8, "activation": "silu"}

    def write(self, config: Any) -> Fields:
        gated = config.mlp == "gated"
        says = {"hidden_act": "gelu"} if gated else Activation().write(config)
        return {"mlp_ratio": round(config.hidden / config.width * (1.5 if gated else 1)), "use_swiglu_ffn": gated, **says}


TRANSLATED = {
    "layers": "num_hidden_layers",
    "width": "hidden_size",
    "heads": "num_attention_heads",
    "eps": "layer_norm_eps",
    "in_channels": "num_channels",
}
MLP = {"hidden": "intermediate_size"}
PARTS = (Square("image", "image_size"), Square("patch", "patch_size"))
# What a file means that leaves it unsaid, but for the patch.
SIZES = {
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "image_size": 224,
    "patch_size": 16,
    "num_channels": 3,
}
TOWER = {**SIZES, "intermediate_size": 3072}
VIT = {**TOWER, "layer_norm_eps": 1e-12, "hidden_act": "gelu"}
DINOV2 = {
    **SIZES,
    **{"patch_size": 14, "layer_norm_eps": 1e-6, "hidden_act": "gelu", "mlp_ratio": 4},
    **{"use_swiglu_ffn": False, "layerscale_value": 1.0, "num_register_tokens": 4},
}
# Rates of dropout, the pooler and the decoder of pretraining, none of which is computed here.
IGNORED = frozenset(["hidden_dropout_prob", "attention_probs_dropout_prob", "attention_dropout", "drop_path_rate"])
POOLER = frozenset(["pooler_output_size", "pooler_act", "encoder_stride"])
DECODER = frozenset(
    ["mask_ratio", "norm_pix_loss"]
    + [f"decoder_{size}" for size in ("num_attention_heads", "hidden_size", "num_hidden_layers", "intermediate_size")]
)
BACKBONE = frozenset(["out_features", "out_indices", "stage_names", "apply_layernorm", "reshape_hidden_states", "use_mask_token"])


def _vit(model_type: str, fields: Fields, ignored: frozenset[str], **classes: tuple[Head, Fields]) -> TransformersConfig:
    return TransformersConfig(
        model_type,
        parts=(*PARTS, Activation(), SavedBy(classes), Constant(antialias=False, **fields)),
        fixed={"qkv_bias": True},
        ignored=IGNORED | ignored,
        defaults=VIT,
        writes={},
        **TRANSLATED,
        **MLP,
    )


def _dinov2(model_type: str, name: str, fields: Fields, writes: Fields, **translated: str) -> TransformersConfig:
    heads = {f"{name}Model": (NONE, {"pooling": "class"}), f"{name}ForImageClassification": (LABELS, {"pooling": "class_mean"})}
    return TransformersConfig(
        model_type,
        parts=(*PARTS, DinoMlp(), SavedBy(heads), Constant(**fields)),
        fixed={"qkv_bias": True},
        ignored=IGNORED | BACKBONE,
        defaults=DINOV2,
        writes=writes,
        layer_scale="layerscale_value",
        drop_path="drop_path_rate",
        **TRANSLATED,
        **translated,
    )


TRANSFORMERS_CONFIG = Families(
    _vit(
        "vit",
        {},
        POOLER,
        ViTModel=(NONE, {"pooling": "class"}),
        ViTForImageClassification=(LABELS, {"pooling": "class"}),
    ),
    _vit("vit_mae", {}, DECODER, ViTMAEModel=(NONE, {}), ViTMAEForPreTraining=(NONE, {})),
    _vit(
        "deit",
        {"class_tokens": 2},
        POOLER,
        DeiTModel=(NONE, {"pooling": "class"}),
        DeiTForImageClassification=(LABELS, {"pooling": "class"}),
        DeiTForImageClassificationWithTeacher=(LABELS, {"pooling": "distilled"}),
    ),
    _dinov2("dinov2", "Dinov2", {"antialias": False}, {"use_mask_token": False}),
    _dinov2("dinov2_with_registers", "Dinov2WithRegisters", {"antialias": True}, {}, registers="num_register_tokens"),
    TransformersConfig(
        "clip_vision_model",
        parts=(
            *(*PARTS, Activation()),
            SavedBy({"CLIPVisionModel": (NONE, {}), "CLIPVisionModelWithProjection": (PROJECTION, {"head_bias": False})}),
            Constant(antialias=False, patch_bias=False, embedding_norm="layer"),
        ),
        fixed={},
        ignored=IGNORED | {"projection_dim", "initializer_factor"},
        defaults={**TOWER, "patch_size": 32, "layer_norm_eps": 1e-5, "hidden_act": "quick_gelu"},
        writes={},
        **TRANSLATED,
        **MLP,
    ),
    TransformersConfig(
        "siglip_vision_model",
        parts=(
            *(*PARTS, Activation()),
            SavedBy({"SiglipVisionModel": (NONE, {})}),
            Constant(antialias=False, class_tokens=0, pooling="attention"),
        ),
        fixed={"vision_use_head": True},
        ignored=IGNORED,
        defaults={**TOWER, "layer_norm_eps": 1e-6, "hidden_act": "gelu_pytorch_tanh"},
        writes={},
        **TRANSLATED,
        **MLP,
    ),
)
