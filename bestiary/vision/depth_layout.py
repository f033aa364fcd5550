"""How transformers publishes Depth Anything: keys, config.json, and what lies beside."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from bestiary.core.configmap import Fields, TransformersConfig
from bestiary.core.keymap import Rule, each, ignored, linear, prefixed, same, within
from bestiary.errors import LayoutError
from bestiary.vision.processor import RESAMPLING, ProcessorFolder
from bestiary.vision.vit_published import TRANSFORMERS_CONFIG as ENCODER_CONFIG
from bestiary.vision.vit_transformers import transformers_layout as encoder_layout

if TYPE_CHECKING:
    from bestiary.vision.depth import DepthConfig

STAGE = "stage"  # what the encoder's layers are called, which transformers counts from 1


def transformers_layout(config: DepthConfig) -> list[Rule]:
    last = len(config.widths) - 1  # theirs count fusions from the coarsest, ours from the finest
    unused = [f"neck.fusion_stage.layers.0.residual_layer1.convolution{number}" for number in (1, 2)]
    return [
        *prefixed(("backbone.",), within("encoder", encoder_layout(config.encoder))),
        *each(
            last + 1,
            *linear("neck.reassemble_stage.layers.{i}.projection", "reassembly.{i}.projection"),
            same("neck.convs.{i}.weight", "reassembly.{i}.convolution.weight"),
        ),
        *(
            rule
            for i, scale in enumerate(config.scales)
            if scale != 1
            for rule in linear(f"neck.reassemble_stage.layers.{i}.resize", f"reassembly.{i}.resize")
        ),
        *fusion("neck.fusion_stage.layers.0", "coarsest", {"residual_layer2": "refine"}),
        *(
            rule
            for i in range(last)
            for rule in fusion(
                f"neck.fusion_stage.layers.{last - i}",
                f"fusions.{i}",
                {"residual_layer1": "adapt", "residual_layer2": "refine"},
            )
        ),
        *ignored(*(f"{name}.{part}" for name in unused for part in ("weight", "bias"))),  # in files, for nothing comes in there
        *linear("head.conv1", "head.first"),
        *linear("head.conv2", "head.second"),
        *linear("head.conv3", "head.last"),
    ]


def fusion(theirs: str, ours: str, units: Mapping[str, str]) -> Sequence[Rule]:
    return [
        *linear(f"{theirs}.projection", f"{ours}.projection"),
        *(
            rule
            for their_unit, unit in units.items()
            for number, name in ((1, "first"), (2, "second"))
            for rule in linear(f"{theirs}.{their_unit}.convolution{number}", f"{ours}.{unit}.{name}")
        ),
    ]


PLACES = ("out_indices", "out_features")
# What is said of an encoder only where it stands within another net; absent is as good.
WITHIN = {"apply_layernorm": True, "reshape_hidden_states": False, "is_encoder_decoder": False}


class Encoder:
    """`backbone_config`, and what must agree with it: which layers are read, and sizes that stand beside it again."""

    keys = ("backbone_config", "patch_size", "reassemble_hidden_size")

    def read(self, published: Mapping[str, Any]) -> Fields:
        given = published["backbone_config"]
        if given.get("model_type") != "dinov2":
            raise LayoutError(f"config.json has an encoder {given.get('model_type')!r}\nthe zoo computes depth on dinov2 only")
        for key, value in WITHIN.items():
            if given.get(key, value) != value:
                raise LayoutError(f"config.json says {key}: {given[key]!r}\nthe zoo computes depth with {value!r} only")
        alone = {key: value for key, value in given.items() if key not in (*PLACES, *WITHIN)}
        encoder = ENCODER_CONFIG.read(alone)
        beside = published.get("patch_size", 14), published.get("reassemble_hidden_size", 384)
        if beside != (own := (encoder["patch"], encoder["width"])):
            raise LayoutError(
                f"config.json has patch_size and reassemble_hidden_size {beside}, its encoder {own}\n"
                "they do not fit; fetch the file again"
            )
        names = given.get("out_features") or [f"{STAGE}{index}" for index in given["out_indices"]]
        return {"encoder": encoder, "layers": tuple(int(name.removeprefix(STAGE)) - 1 for name in names)}

    def write(self, config: Any) -> Fields:
        encoder = config.encoder
        indices = [layer + 1 for layer in config.layers]
        places = dict(zip(PLACES, (indices, [f"{STAGE}{index}" for index in indices]), strict=True))
        return {
            "backbone_config": {**ENCODER_CONFIG.write(encoder), **WITHIN, **places},
            "patch_size": encoder.patch,
            "reassemble_hidden_size": encoder.width,
        }


class Output:
    """What the output is multiplied by, which a file of relative depth may leave open."""

    keys = ("depth_estimation_type", "max_depth")

    def read(self, published: Mapping[str, Any]) -> Fields:
        return {
            "output": published.get("depth_estimation_type") or "relative",
            "largest": float(published.get("max_depth") or 1),
        }

    def write(self, config: Any) -> Fields:
        largest = int(config.largest)
        return {"depth_estimation_type": config.output, "max_depth": largest}


CONFIG = TransformersConfig(
    "depth_anything",
    widths="neck_hidden_sizes",
    scales="reassemble_factors",
    fusion_width="fusion_hidden_size",
    head_width="head_hidden_size",
    parts=(Encoder(), Output()),
    fixed={
        "head_in_index": -1,
        "backbone": None,
        "use_pretrained_backbone": False,
        "use_timm_backbone": False,
        "backbone_kwargs": None,
    },
    ignored=frozenset(),
    writes={"architectures": ["DepthAnythingForDepthEstimation"]},
)

FOLDER = ProcessorFolder(
    task="depth-estimation",
    processor="DPTImageProcessor",
    fit="multiple",
    keys={"multiple": "ensure_multiple_of"},
    fixed={"keep_aspect_ratio": True, "do_pad": False, "size_divisor": None},
    defaults={
        "size": {"height": 384, "width": 384},
        "resample": RESAMPLING["bicubic"],
        "image_mean": [0.5, 0.5, 0.5],
        "image_std": [0.5, 0.5, 0.5],
        "ensure_multiple_of": 1,
    },
)
