"""EfficientNet, B0 to B7 (Tan & Le 2019, arXiv:1905.11946), and Lite0 to Lite4, its variants for small devices."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

from torch import Tensor, nn

from bestiary.core.architecture import Architecture
from bestiary.core.convolution import CONVOLUTIONS, ConvNorm, NoResidual, Residual, SqueezeExcite, conv_norm
from bestiary.core.keymap import Rule, linear
from bestiary.core.layers import ACTIVATIONS
from bestiary.vision.backbone import Backbone
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
    num_classes: int = 1000
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
        shape = scaled(config)
        self.stem = layer(config, config.in_channels, shape.stem, kernel=3, stride=2)
        self.stages = nn.ModuleList(build_stages(config, shape))
        self.top = layer(config, shape.stages[-1].channels, shape.top)
        self.dropout = nn.Dropout(config.dropout)
        self.head = nn.Linear(shape.top, config.num_classes)

    def embed(self, images: Tensor) -> Tensor:
        return self.stem(images)  # (n, stem, h / 2, w / 2)

    def finish(self, x: Tensor) -> Tensor:
        return self.top(x)  # (n, top, h / 32, w / 32)

    def pool(self, features: Tensor) -> Tensor:
        return self.dropout(features.mean((2, 3)))  # (n, top)


class MBConv(nn.Module):
    """The inverted bottleneck (Sandler et al. 2018, arXiv:1801.04381): wide within, narrow between blocks."""

    def __init__(self, config: EfficientNetConfig, stage: Stage, inputs: int, stride: int, drop_path: float):
        super().__init__()
        hidden, squeezed = inputs * stage.expansion, round(inputs * config.squeeze)
        activation = ACTIVATIONS[config.activation]
        self.expand = layer(config, inputs, hidden) if stage.expansion > 1 else nn.Identity()
        self.depthwise = layer(config, hidden, hidden, stage.kernel, stride, groups=hidden)
        self.excite = SqueezeExcite(hidden, squeezed, activation()) if squeezed else nn.Identity()
        self.project = ConvNorm(CONVOLUTIONS[config.padding](hidden, stage.channels, 1), nn.Identity(), eps=config.eps)
        self.join = Residual(drop_path) if stride == 1 and inputs == stage.channels else NoResidual()

    def forward(self, inputs: Tensor) -> Tensor:
        x = self.expand(inputs)  # (n, hidden, h, w)
        x = self.depthwise(x)  # (n, hidden, h / stride, w / stride)
        x = self.excite(x)
        x = self.project(x)  # (n, channels, h / stride, w / stride)
        return self.join(x, inputs)


def layer(config: EfficientNetConfig, inputs: int, outputs: int, kernel: int = 1, stride: int = 1, groups: int = 1) -> ConvNorm:
    """A convolution with the padding, norm and activation of the config."""
    convolution = CONVOLUTIONS[config.padding](inputs, outputs, kernel, stride, groups)
    return ConvNorm(convolution, ACTIVATIONS[config.activation](), eps=config.eps)


def build_stages(config: EfficientNetConfig, shape: Shape) -> Iterator[nn.Sequential]:
    """The blocks of each stage. The deeper a block lies, the more often training drops it."""
    inputs, depth, total = shape.stem, 0, sum(stage.repeats for stage in shape.stages)
    for stage in shape.stages:
        blocks = []
        for stride in [stage.stride] + [1] * (stage.repeats - 1):
            blocks.append(MBConv(config, stage, inputs, stride, drop_path=config.drop_path * depth / total))
            inputs, depth = stage.channels, depth + 1
        yield nn.Sequential(*blocks)


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


def rounded(channels: float) -> int:
    """The nearest multiple of 8, or the next where the nearest would take away more than a tenth."""
    nearest = max(8, int(channels + 4) // 8 * 8)
    return nearest if nearest >= 0.9 * channels else nearest + 8


def timm_layout(config: EfficientNetConfig) -> list[Rule]:
    """The keys of timm, which numbers the norms of a block in their order, so that the first is not always the same part's."""
    rules = [*conv_norm("conv_stem", "bn1", "stem")]
    for i, stage in enumerate(scaled(config).stages):
        parts = [("conv_pw", "expand"), ("conv_dw", "depthwise"), ("conv_pwl", "project")]
        if stage.expansion == 1:
            parts = [("conv_dw", "depthwise"), ("conv_pw", "project")]
        for j in range(stage.repeats):
            theirs, ours = f"blocks.{i}.{j}", f"stages.{i}.{j}"
            for number, (convolution, part) in enumerate(parts, start=1):
                rules += conv_norm(f"{theirs}.{convolution}", f"{theirs}.bn{number}", f"{ours}.{part}")
            if config.squeeze:
                rules += linear(f"{theirs}.se.conv_reduce", f"{ours}.excite.reduce")
                rules += linear(f"{theirs}.se.conv_expand", f"{ours}.excite.expand")
    return [*rules, *conv_norm("conv_head", "bn2", "top"), *linear("classifier", "head")]


def efficientnet_pytorch_layout(config: EfficientNetConfig) -> list[Rule]:
    """The keys of efficientnet-pytorch and efficientnet-lite-pytorch, which count the blocks through all stages."""
    rules = [*conv_norm("_conv_stem", "_bn0", "stem")]
    blocks = [(f"stages.{i}.{j}", stage) for i, stage in enumerate(scaled(config).stages) for j in range(stage.repeats)]
    for count, (ours, stage) in enumerate(blocks):
        theirs = f"_blocks.{count}"
        if stage.expansion > 1:
            rules += conv_norm(f"{theirs}._expand_conv", f"{theirs}._bn0", f"{ours}.expand")
        rules += conv_norm(f"{theirs}._depthwise_conv", f"{theirs}._bn1", f"{ours}.depthwise")
        rules += conv_norm(f"{theirs}._project_conv", f"{theirs}._bn2", f"{ours}.project")
        if config.squeeze:
            rules += linear(f"{theirs}._se_reduce", f"{ours}.excite.reduce")
            rules += linear(f"{theirs}._se_expand", f"{ours}.excite.expand")
    return [*rules, *conv_norm("_conv_head", "_bn1", "top"), *linear("_fc", "head")]


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
    layouts={"timm": timm_layout, "efficientnet-lite-pytorch": efficientnet_pytorch_layout},
    configs={"timm": TimmConfig(VARIANTS)},
    folders={"timm": TimmFolder(stem="conv_stem", head="classifier")},
    resized_by={"num_classes": ("head",), "in_channels": ("stem.convolution",)},
)
