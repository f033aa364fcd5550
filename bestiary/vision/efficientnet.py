"""EfficientNet, B0 to B7 (Tan & Le 2019, arXiv:1905.11946), and Lite0 to Lite4, its variants for small devices."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

from torch import Tensor, nn

from bestiary.core.architecture import Architecture
from bestiary.core.convolution import conv_norm
from bestiary.core.keymap import Rule, linear
from bestiary.errors import LayoutError
from bestiary.vision.backbone import Backbone
from bestiary.vision.bottleneck import BottleneckSpec, LayerSpec, build_stages, rounded, timm_block, torchvision_block
from bestiary.vision.published import TimmConfig, TimmFolder


class Stage(NamedTuple):
    """A run of blocks of one shape."""

    kernel: int  # side of the depthwise kernel
    stride: int  # of the first block; the others have 1
    expansion: int  # channels inside a block over those of its input
    channels: int  # that a block puts out
    repeats: int  # number of blocks


@dataclass(frozen=True, kw_only=True)
class EfficientNetConfig:
    """The defaults are B0's."""

    width_multiplier: float = 1.0  # of every number of channels, which is then rounded to a multiple of 8
    depth_multiplier: float = 1.0  # of every stage's repeats, rounded up
    ends: Literal["scaled", "fixed"] = "scaled"  # fixed: stem, top and the repeats of first and last stage stay as they are
    squeeze: float = 0.25  # channels of a squeeze-and-excite over those of the block's input; 0: there is none
    activation: Literal["silu", "relu6"] = "silu"
    padding: Literal["symmetric", "same"] = "symmetric"  # of convolutions with a stride; same is TensorFlow's
    eps: float = 1e-5  # of every norm; 1e-3 in weights that come from TensorFlow
    num_classes: int = 1000  # 0: there is no head, and the net gives pooled features
    in_channels: int = 3  # colours of an image
    dropout: float = 0.2  # share of the pooled features that training drops
    drop_path: float = 0.2  # share of the batch for which training drops the last block; less for those before
    stem: int = 32  # channels of the first convolution
    top: int = 1280  # channels of the last one, which are the pooled features
    stages: tuple[tuple[int, int, int, int, int], ...] = (  # the fields of each Stage
        (3, 1, 1, 16, 1),
        (3, 2, 6, 24, 2),
        (5, 2, 6, 40, 2),
        (3, 2, 6, 80, 3),
        (5, 1, 6, 112, 3),
        (5, 2, 6, 192, 4),
        (3, 1, 6, 320, 1),
    )


class EfficientNet(Backbone):
    """Images to the logits of classes.

    >>> import torch
    >>> net = EfficientNet(VARIANTS["efficientnet_lite0"]).eval()
    >>> images = torch.randn(2, 3, 224, 224)
    >>> net(images).shape, net.features(images).shape
    (torch.Size([2, 1000]), torch.Size([2, 1280, 7, 7]))
    """

    def __init__(self, config: EfficientNetConfig):
        super().__init__()
        self.config = config
        shape, layers = scaled(config), layer_spec(config)
        self.stem = layers.build(config.in_channels, shape.stem, kernel=3, stride=2)
        self.stages = nn.ModuleList(build_stages(bottlenecks(config), config.drop_path))
        self.top = layers.build(shape.stages[-1].channels, shape.top)
        self.dropout = nn.Dropout(config.dropout)
        self.head = nn.Linear(shape.top, config.num_classes) if config.num_classes else nn.Identity()

    def embed(self, images: Tensor) -> Tensor:
        return self.stem(images)  # (n, stem, h / 2, w / 2)

    def finish(self, x: Tensor) -> Tensor:
        return self.top(x)  # (n, top, h / 32, w / 32)

    def pool(self, features: Tensor) -> Tensor:
        return self.dropout(features.mean((2, 3)))  # (n, top)


def layer_spec(config: EfficientNetConfig) -> LayerSpec:
    """What the convolutions have in common."""
    return LayerSpec(padding=config.padding, activation=config.activation, eps=config.eps)


def bottlenecks(config: EfficientNetConfig) -> list[list[BottleneckSpec]]:
    """The blocks of each stage."""
    shape, stages = scaled(config), []
    inputs = shape.stem
    for stage in shape.stages:
        blocks = []
        for stride in [stage.stride] + [1] * (stage.repeats - 1):
            block = BottleneckSpec(
                inputs=inputs,
                hidden=inputs * stage.expansion,
                outputs=stage.channels,
                kernel=stage.kernel,
                stride=stride,
                layers=layer_spec(config),
                squeezed=round(inputs * config.squeeze),
                squeeze_activation=config.activation,
            )
            blocks.append(block)
            inputs = stage.channels
        stages.append(blocks)
    return stages


class Shape(NamedTuple):
    """What a config comes to when its multipliers are applied."""

    stem: int
    stages: tuple[Stage, ...]
    top: int


def scaled(config: EfficientNetConfig) -> Shape:
    """The channels and repeats of every part of the net.

    >>> scaled(VARIANTS["efficientnet_b4"]).stages[1]
    Stage(kernel=3, stride=2, expansion=6, channels=32, repeats=4)
    """
    stages = [Stage(*stage) for stage in config.stages]
    width, depth = config.width_multiplier, config.depth_multiplier
    width_of_ends, depth_of_ends = (width, depth) if config.ends == "scaled" else (1.0, 1.0)
    depths = [depth_of_ends, *[depth] * (len(stages) - 2), depth_of_ends]
    return Shape(
        stem=rounded(config.stem * width_of_ends),
        stages=tuple(
            stage._replace(channels=rounded(stage.channels * width), repeats=math.ceil(stage.repeats * depth))
            for stage, depth in zip(stages, depths, strict=True)
        ),
        top=rounded(config.top * width_of_ends),
    )


def timm_layout(config: EfficientNetConfig) -> list[Rule]:
    """The keys of timm."""
    rules = [*conv_norm("conv_stem", "bn1", "stem")]
    for i, blocks in enumerate(bottlenecks(config)):
        for j, block in enumerate(blocks):
            rules += timm_block(block, f"blocks.{i}.{j}", f"stages.{i}.{j}")
    return [*rules, *conv_norm("conv_head", "bn2", "top"), *(linear("classifier", "head") if config.num_classes else ())]


def torchvision_layout(config: EfficientNetConfig) -> list[Rule]:
    """The keys of torchvision, which counts stem, stages and top in one row."""
    if (config.padding, config.activation, config.squeeze) != ("symmetric", "silu", 0.25):
        raise LayoutError(
            "torchvision computes EfficientNet with padding: symmetric, activation: silu, squeeze: 0.25 alone\n"
            "take the layout timm"
        )
    stages = bottlenecks(config)
    rules = [*conv_norm("features.0.0", "features.0.1", "stem")]
    for i, blocks in enumerate(stages):
        for j, block in enumerate(blocks):
            rules += torchvision_block(block, f"features.{i + 1}.{j}", f"stages.{i}.{j}")
    top = f"features.{len(stages) + 1}"
    return [*rules, *conv_norm(f"{top}.0", f"{top}.1", "top"), *(linear("classifier.1", "head") if config.num_classes else ())]


def efficientnet_pytorch_layout(config: EfficientNetConfig) -> list[Rule]:
    """The keys of efficientnet-pytorch and efficientnet-lite-pytorch, which count the blocks through all stages."""
    rules = [*conv_norm("_conv_stem", "_bn0", "stem")]
    blocks = [(f"stages.{i}.{j}", block) for i, stage in enumerate(bottlenecks(config)) for j, block in enumerate(stage)]
    for count, (ours, block) in enumerate(blocks):
        theirs = f"_blocks.{count}"
        if block.expands:
            rules += conv_norm(f"{theirs}._expand_conv", f"{theirs}._bn0", f"{ours}.expand")
        rules += conv_norm(f"{theirs}._depthwise_conv", f"{theirs}._bn1", f"{ours}.depthwise")
        rules += conv_norm(f"{theirs}._project_conv", f"{theirs}._bn2", f"{ours}.project")
        if block.squeezed:
            rules += linear(f"{theirs}._se_reduce", f"{ours}.excite.reduce")
            rules += linear(f"{theirs}._se_expand", f"{ours}.excite.expand")
    return [*rules, *conv_norm("_conv_head", "_bn1", "top"), *(linear("_fc", "head") if config.num_classes else ())]


# Width, depth and dropout of each published size.
SIZES = {
    "b0": (1.0, 1.0, 0.2),
    "b1": (1.0, 1.1, 0.2),
    "b2": (1.1, 1.2, 0.3),
    "b3": (1.2, 1.4, 0.3),
    "b4": (1.4, 1.8, 0.4),
    "b5": (1.6, 2.2, 0.4),
    "b6": (1.8, 2.6, 0.5),
    "b7": (2.0, 3.1, 0.5),
}
LITE_SIZES = {f"lite{number}": SIZES[f"b{number}"] for number in range(4)} | {"lite4": (1.4, 1.8, 0.3)}


def _family(prefix: str, base: EfficientNetConfig, sizes: dict[str, tuple[float, float, float]]) -> dict[str, EfficientNetConfig]:
    return {
        prefix + size: replace(base, width_multiplier=width, depth_multiplier=depth, dropout=dropout)
        for size, (width, depth, dropout) in sizes.items()
    }


# Under timm's names. Those that begin with tf_ compute what TensorFlow does, in whose weights they were published.
B0 = EfficientNetConfig()
LITE0 = EfficientNetConfig(ends="fixed", squeeze=0.0, activation="relu6")
VARIANTS = {
    **_family("efficientnet_", B0, SIZES),
    **_family("tf_efficientnet_", replace(B0, padding="same", eps=1e-3), SIZES),
    **_family("efficientnet_", LITE0, LITE_SIZES),
    **_family("tf_efficientnet_", replace(LITE0, padding="same", eps=1e-3), LITE_SIZES),
}

ARCHITECTURE = Architecture(
    name="efficientnet",
    config=EfficientNetConfig,
    net=EfficientNet,
    layouts={"timm": timm_layout, "torchvision": torchvision_layout, "efficientnet-lite-pytorch": efficientnet_pytorch_layout},
    configs={"timm": TimmConfig(VARIANTS)},
    folders={"timm": TimmFolder(stem="conv_stem", head="classifier")},
    resized_by={"num_classes": ("head",), "in_channels": ("stem.convolution",)},
)
