"""How transformers publishes DETR: keys, config.json, and what lies beside."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bestiary.core.configclasses import Classes
from bestiary.core.configmap import Fields, TransformersConfig
from bestiary.core.configparts import OneOf
from bestiary.core.keymap import Rule, each, ignored, linear, norm, prefixed, same, within
from bestiary.errors import LayoutError
from bestiary.vision.processor import FILE, RESAMPLING, ProcessorFolder
from bestiary.vision.resnet import VARIANTS as RESNETS
from bestiary.vision.resnet import ResNetConfig
from bestiary.vision.resnet import layout as resnet_layout

if TYPE_CHECKING:
    from bestiary.vision.detr import DetrConfig

# Today's transformers calls some parts otherwise than its files do, which a file of plain `state_dict` shows.
PREFIXES = ("model.backbone.conv_encoder.model.", "model.backbone.model.")


def transformers_layout(config: DetrConfig) -> list[Rule]:
    decoder, ours = "model.decoder.layers.{i}", "decoder.{i}"
    return [
        *backbone(config.backbone),
        *linear("model.input_projection", "projection"),
        *each(config.layers, *block("model.encoder.layers.{i}", "encoder.{i}")),
        same("model.query_position_embeddings.weight", "queries.weight"),
        *each(
            config.decoder_layers,
            *block(decoder, ours),
            *attention(f"{decoder}.encoder_attn", f"{ours}.cross_attention"),
            *norm(f"{decoder}.encoder_attn_layer_norm", f"{ours}.cross_attention_norm"),
        ),
        *norm("model.decoder.layernorm", "norm"),
        *linear("class_labels_classifier", "class_head"),
        *(rule for i in range(3) for rule in linear(f"bbox_predictor.layers.{i}", f"box_head.{2 * i}")),
    ]


def backbone(config: ResNetConfig) -> Iterator[Rule]:
    """Its keys are those of timm; frozen norms count no batches, though some files do."""
    for rule in prefixed(PREFIXES, within("backbone", resnet_layout(config))):
        if rule.ours[0].endswith("num_batches_tracked"):
            yield from ignored(*(name for names in rule.theirs for name in names))
        else:
            yield rule


def block(theirs: str, ours: str) -> Iterator[Rule]:
    """What blocks of encoder and decoder have in common."""
    yield from attention(f"{theirs}.self_attn", f"{ours}.attention")
    yield from norm(f"{theirs}.self_attn_layer_norm", f"{ours}.attention_norm")
    for their, our in {"fc1": "up", "fc2": "down"}.items():
        for part in ("weight", "bias"):
            yield same((f"{theirs}.{their}.{part}", f"{theirs}.mlp.{their}.{part}"), f"{ours}.mlp.{our}.{part}")
    yield from norm(f"{theirs}.final_layer_norm", f"{ours}.mlp_norm")


def attention(theirs: str, ours: str) -> Iterator[Rule]:
    for their, our in {"q_proj": "query", "k_proj": "key", "v_proj": "value"}.items():
        yield from linear(f"{theirs}.{their}", f"{ours}.{our}")
    for part in ("weight", "bias"):
        yield same((f"{theirs}.out_proj.{part}", f"{theirs}.o_proj.{part}"), f"{ours}.output.{part}")


class Equal:
    """A field of ours that config.json has once for the encoder and once for the decoder."""

    def __init__(self, field: str, *keys: str):
        self.field = field
        self.keys = keys

    def read(self, published: Mapping[str, Any]) -> Fields:
        values = [published[key] for key in self.keys if key in published]
        if len(set(values)) > 1:
            raise LayoutError(f"config.json has several {' and '.join(self.keys)}\nthe zoo computes detr with one for both")
        return {self.field: values[0]} if values else {}

    def write(self, config: Any) -> Fields:
        return dict.fromkeys(self.keys, getattr(config, self.field))


class Variant:
    """timm's name of a ResNet, and the stride that it is dilated to; null for none."""

    keys = ("backbone", "output_stride")

    def read(self, published: Mapping[str, Any]) -> Fields:
        name = published.get("backbone")
        if name not in RESNETS:
            raise LayoutError(f"config.json has the backbone {name!r}\nthe zoo computes detr on one of {', '.join(RESNETS)}")
        return asdict(replace(RESNETS[name], num_classes=0, output_stride=published.get("output_stride") or 32))

    def write(self, config: ResNetConfig) -> Fields:
        free: Fields = {"num_classes": 0, "output_stride": config.output_stride, "in_channels": config.in_channels}
        names = [name for name, variant in RESNETS.items() if replace(variant, **free) == config]
        if not names:
            raise LayoutError("timm has no name for this backbone\nsave the net in our own layout: .save(folder)")
        return {"backbone": names[0], "output_stride": None if config.output_stride == 32 else config.output_stride}


BACKBONE_CONFIG = TransformersConfig(
    "timm_backbone",
    in_channels="num_channels",
    parts=(Variant(), OneOf("out_indices", [1, 2, 3, 4], [4], [-1], None)),
    fixed={"features_only": True},
    ignored=frozenset({"freeze_batch_norm_2d", "is_encoder_decoder", "out_features", "stage_names", "use_pretrained_backbone"}),
    writes={"use_pretrained_backbone": False},
)


class Backbone:
    """`backbone_config`; before it there were keys of its own for what it says."""

    keys = (
        *("backbone_config", "backbone", "backbone_kwargs", "use_timm_backbone", "use_pretrained_backbone"),
        *("dilation", "num_channels"),
    )

    def read(self, published: Mapping[str, Any]) -> Fields:
        said = published.get("backbone_config") or self.old(published)
        if not BACKBONE_CONFIG.recognises(said):
            raise LayoutError(
                f"config.json has a backbone of the kind {str(said.get('model_type'))[:80]!r}\n"
                "the zoo computes detr on the ResNets of timm; this variant is not in it"
            )
        return {"backbone": BACKBONE_CONFIG.read(said)}

    def old(self, published: Mapping[str, Any]) -> Fields:
        options = dict(published.get("backbone_kwargs") or {})
        channels = options.pop("in_chans", published.get("num_channels", 3))
        stride = {"output_stride": 16} if published.get("dilation") else {}
        name = published.get("backbone") or "resnet50"
        kind = "timm_backbone" if published.get("use_timm_backbone", True) else name
        return {"model_type": kind, "backbone": name, "num_channels": channels, **stride, **options}

    def write(self, config: DetrConfig) -> Fields:
        described = BACKBONE_CONFIG.write(config.backbone)
        return {
            "backbone_config": described,
            "dilation": config.backbone.output_stride == 16,
            "num_channels": config.backbone.in_channels,
        }


# What matters to training alone.
TRAINING = frozenset(
    ["dropout", "activation_dropout", "attention_dropout", "classifier_dropout", "encoder_layerdrop", "decoder_layerdrop"]
    + ["init_std", "init_xavier_std", "class_cost", "bbox_cost", "giou_cost", "eos_coefficient"]
    + [f"{name}_loss_coefficient" for name in ("bbox", "giou", "mask", "dice")]
)

CONFIG = TransformersConfig(
    "detr",
    layers="encoder_layers",
    decoder_layers="decoder_layers",
    width="d_model",
    queries="num_queries",
    parts=(
        Backbone(),
        Equal("heads", "encoder_attention_heads", "decoder_attention_heads"),
        Equal("hidden", "encoder_ffn_dim", "decoder_ffn_dim"),
        Classes(),
        OneOf("architectures", ["DetrForObjectDetection"], None),
    ),
    fixed={
        "activation_function": "relu",
        "auxiliary_loss": False,  # which transformers computes with another norm after every block
        "is_encoder_decoder": True,
        "position_embedding_type": "sine",
        "scale_embedding": False,
    },
    ignored=TRAINING | {"max_position_embeddings", "num_hidden_layers"},
    writes={},
)


EDGES = {"shortest_edge": 800, "longest_edge": 1333}  # where the file does not say it


class DetrFolder(ProcessorFolder):
    """The shorter side gets a size, as long as the longer keeps a limit."""

    def sizes(self, given: Mapping[str, Any], folder: Path) -> Fields:
        size = given["size"]  # older files have two numbers
        edges = size if isinstance(size, Mapping) else {"shortest_edge": size, "longest_edge": given["max_size"]}
        if set(edges) != set(EDGES):
            raise LayoutError(f"{folder / FILE} has size: {size!r}\nthe zoo takes {' and '.join(EDGES)} here")
        return {"size": edges["shortest_edge"], "longest": edges["longest_edge"]}

    def size(self, preprocess: Mapping[str, Any]) -> Fields:
        if preprocess.get("longest") is None:
            raise LayoutError(f"a {self.processor} has a limit for the longer side\nname `longest` in the card's preprocess")
        return dict(zip(EDGES, (preprocess["size"], preprocess["longest"]), strict=True))


FOLDER = DetrFolder(
    task="object-detection",
    processor="DetrImageProcessor",
    fit="shortest",
    defaults={
        **{"size": EDGES, "max_size": EDGES["longest_edge"], "resample": RESAMPLING["bilinear"]},
        **{"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]},
        **{"do_convert_annotations": True, "pad_size": None},  # of training, and of batches
    },
    fixed={"do_pad": True, "format": "coco_detection"},
)
