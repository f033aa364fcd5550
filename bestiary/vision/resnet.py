"""ResNet, nets of blocks that learn what to add to their input (He et al. 2015, arXiv:1512.03385), and two that came of it:
ResNeXt, with convolutions in groups (Xie et al. 2017, arXiv:1611.05431), and Wide ResNet, with more channels inside a block
(Zagoruyko & Komodakis 2016, arXiv:1605.07146).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple

from torch import Tensor, nn

from bestiary.core.architecture import Architecture
from bestiary.core.convolution import ConvNorm, conv_norm, symmetric
from bestiary.core.keymap import Rule, linear
from bestiary.core.residual import Residual, drop_paths
from bestiary.core.runtime import for_inference
from bestiary.vision.backbone import Backbone
from bestiary.vision.published import TimmConfig, TimmFolder


@dataclass(frozen=True, kw_only=True)
class ResNetConfig:
    """The defaults are ResNet-50's."""

    block: Literal["basic", "bottleneck"] = "bottleneck"  # what a stage is made of; see BLOCKS
    depths: tuple[int, ...] = (3, 4, 6, 3)  # number of blocks in each stage
    width: int = 64  # channels of the stem and, times a block's expansion, of the first stage; twice as many in each further one
    groups: int = 1  # into which the first 3 × 3 convolution of a block is divided; more in ResNeXt
    group_width: int = 64  # channels of a group in the first stage, twice as many in each further one; more in Wide ResNet
    output_stride: int = 32  # pixels of the image from one place of the last map to the next; 16 and 8 by dilation
    eps: float = 1e-5  # of every norm
    num_classes: int = 1000  # 0: there is no head, and the net gives pooled features
    in_channels: int = 3  # colours of an image
    dropout: float = 0.0  # share of the pooled features that training drops
    drop_path: float = 0.0  # share of the batch for which training drops the last block; less for those before


class ResNet(Backbone):
    """Images to the logits of classes.

    >>> import torch
    >>> net = ResNet(VARIANTS["resnet18"]).eval()
    >>> images = torch.randn(2, 3, 224, 224)
    >>> net(images).shape, net.features(images).shape
    (torch.Size([2, 1000]), torch.Size([2, 512, 7, 7]))
    """

    def __init__(self, config: ResNetConfig):
        super().__init__()
        self.config = config
        self.stem = ConvNorm(symmetric(config.in_channels, config.width, 7, 2), nn.ReLU(), eps=config.eps)
        self.max_pool = nn.MaxPool2d(3, stride=2, padding=1)
        self.stages = nn.ModuleList(build_stages(config))
        self.dropout = nn.Dropout(config.dropout)
        self.outputs = stage_shapes(config)[-1][-1].outputs
        self.head = nn.Linear(self.outputs, config.num_classes) if config.num_classes else nn.Identity()

    def embed(self, images: Tensor) -> Tensor:
        x = self.stem(images)  # (n, width, h / 2, w / 2)
        return self.max_pool(x)  # (n, width, h / 4, w / 4)

    def finish(self, x: Tensor) -> Tensor:
        return x  # (n, outputs, h / output_stride, w / output_stride)

    def pool(self, features: Tensor) -> Tensor:
        return self.dropout(features.mean((2, 3)))  # (n, outputs)


class Shape(NamedTuple):
    """The channels of a block, its stride and its dilation."""

    inputs: int
    hidden: int  # channels that every convolution but the last puts out
    outputs: int
    stride: int
    first_dilation: int = 1  # of the first 3 × 3 convolution
    dilation: int = 1  # of any further one

    @property
    def is_kept(self) -> bool:
        """Whether the output has the shape of the input, so that the two can be added."""
        return self.stride == 1 and self.inputs == self.outputs


class Block(nn.Module):
    """A branch of convolutions is added to the input: (n, inputs, h, w) → (n, outputs, h / stride, w / stride).

    At inference both the sum and its activation are written over what the branch gave.
    """

    expansion: ClassVar[int]  # channels that a block puts out over those of a basic one
    length: ClassVar[int]  # number of convolutions in the branch

    def __init__(self, config: ResNetConfig, shape: Shape, branch: nn.Sequential, drop_path: float):
        super().__init__()
        self.branch = branch
        self.shortcut: nn.Module = nn.Identity()
        if not shape.is_kept:
            self.shortcut = ConvNorm(symmetric(shape.inputs, shape.outputs, 1, shape.stride), nn.Identity(), eps=config.eps)
        self.join = Residual(drop_path)
        self.activation = nn.ReLU()

    def forward(self, inputs: Tensor) -> Tensor:
        x = self.branch(inputs)  # (n, outputs, h / stride, w / stride)
        return self.activation(self.join(x, self.shortcut(inputs)))

    def for_inference(self) -> nn.Module:
        return InPlaceBlock(self)


class BasicBlock(Block):
    """Two convolutions of 3 × 3."""

    expansion = 1
    length = 2

    def __init__(self, config: ResNetConfig, shape: Shape, drop_path: float):
        branch = nn.Sequential(
            ConvNorm(first_convolution(config, shape, shape.inputs), nn.ReLU(), eps=config.eps),
            ConvNorm(symmetric(shape.hidden, shape.outputs, 3, dilation=shape.dilation), nn.Identity(), eps=config.eps),
        )
        super().__init__(config, shape, branch, drop_path)


class Bottleneck(Block):
    """A convolution of 3 × 3 on few channels, to which one of 1 × 1 leads and from which another leads back.

    The stride lies on the 3 × 3 convolution, which thus sees every pixel; in the paper it lies on the one before, which then
    leaves three in four unseen.
    """

    expansion = 4
    length = 3

    def __init__(self, config: ResNetConfig, shape: Shape, drop_path: float):
        branch = nn.Sequential(
            ConvNorm(symmetric(shape.inputs, shape.hidden, 1), nn.ReLU(), eps=config.eps),
            ConvNorm(first_convolution(config, shape, shape.hidden), nn.ReLU(), eps=config.eps),
            ConvNorm(symmetric(shape.hidden, shape.outputs, 1), nn.Identity(), eps=config.eps),
        )
        super().__init__(config, shape, branch, drop_path)


def first_convolution(config: ResNetConfig, shape: Shape, inputs: int) -> nn.Conv2d:
    """The first 3 × 3 convolution of a block, on which its stride lies."""
    return symmetric(inputs, shape.hidden, 3, shape.stride, config.groups, shape.first_dilation)


BLOCKS: dict[str, type[BasicBlock] | type[Bottleneck]] = {"basic": BasicBlock, "bottleneck": Bottleneck}


class InPlaceBlock(nn.Module):
    """What a Block computes, without a further tensor for the sum and one for its activation."""

    def __init__(self, block: Block):
        super().__init__()
        self.branch = for_inference(block.branch)
        self.shortcut = for_inference(block.shortcut)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.branch(inputs).add_(self.shortcut(inputs)).relu_()


def build_stages(config: ResNetConfig) -> Iterator[nn.Sequential]:
    """The blocks of each stage."""
    block = BLOCKS[config.block]
    for shapes, rates in zip(stage_shapes(config), drop_paths(config.drop_path, config.depths), strict=True):
        yield nn.Sequential(*(block(config, shape, rate) for shape, rate in zip(shapes, rates, strict=True)))


def stage_shapes(config: ResNetConfig) -> list[list[Shape]]:
    """The shapes of the blocks of each stage.

    Every stage but the first begins with a stride of 2, as long as the output stride is not reached; then the further
    convolutions see places that lie twice as far apart instead (Yu & Koltun 2015, arXiv:1511.07122).

    >>> [(first.stride, next.inputs, next.dilation) for first, next, *_ in stage_shapes(ResNetConfig(output_stride=16))]
    [(1, 256, 1), (2, 512, 1), (2, 1024, 1), (1, 2048, 2)]
    """
    inputs, dilation, stages = config.width, 1, []
    for i, depth in enumerate(config.depths):
        hidden, outputs = config.groups * config.group_width * 2**i, config.width * BLOCKS[config.block].expansion * 2**i
        dilated = i > 0 and 4 * 2**i > config.output_stride
        before, dilation = dilation, dilation * 2 if dilated else dilation
        first = Shape(inputs, hidden, outputs, 1 if i == 0 or dilated else 2, before, dilation)
        stages.append([first, *[Shape(outputs, hidden, outputs, 1, dilation, dilation)] * (depth - 1)])
        inputs = outputs
    return stages


def layout(config: ResNetConfig) -> list[Rule]:
    """The keys of torchvision, which timm took over."""
    rules = [*conv_norm("conv1", "bn1", "stem")]
    for i, shapes in enumerate(stage_shapes(config)):
        for j, shape in enumerate(shapes):
            theirs, ours = f"layer{i + 1}.{j}", f"stages.{i}.{j}"
            for place in range(BLOCKS[config.block].length):
                rules += conv_norm(f"{theirs}.conv{place + 1}", f"{theirs}.bn{place + 1}", f"{ours}.branch.{place}")
            if not shape.is_kept:
                rules += conv_norm(f"{theirs}.downsample.0", f"{theirs}.downsample.1", f"{ours}.shortcut")
    return [*rules, *(linear("fc", "head") if config.num_classes else ())]


# Under the names that timm and torchvision share. 32x4d: 32 groups of 4 channels; _2: twice as wide within a block.
VARIANTS = {
    "resnet18": ResNetConfig(block="basic", depths=(2, 2, 2, 2)),
    "resnet34": ResNetConfig(block="basic"),
    "resnet50": ResNetConfig(),
    "resnet101": ResNetConfig(depths=(3, 4, 23, 3)),
    "resnet152": ResNetConfig(depths=(3, 8, 36, 3)),
    "resnext50_32x4d": ResNetConfig(groups=32, group_width=4),
    "resnext101_32x8d": ResNetConfig(depths=(3, 4, 23, 3), groups=32, group_width=8),
    "resnext101_64x4d": ResNetConfig(depths=(3, 4, 23, 3), groups=64, group_width=4),
    "wide_resnet50_2": ResNetConfig(group_width=128),
    "wide_resnet101_2": ResNetConfig(depths=(3, 4, 23, 3), group_width=128),
}

ARCHITECTURE = Architecture(
    name="resnet",
    config=ResNetConfig,
    net=ResNet,
    layouts={"timm": layout, "torchvision": layout},
    configs={"timm": TimmConfig(VARIANTS)},
    folders={"timm": TimmFolder(stem="conv1", head="fc")},
    resized_by={"num_classes": ("head",), "in_channels": ("stem.convolution",)},
)
