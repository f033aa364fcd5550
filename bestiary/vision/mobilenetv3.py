"""MobileNetV3, large and small, for phones (Howard et al. 2019, arXiv:1905.02244): a search found the shape of every block."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

from torch import Tensor, nn

from bestiary.core.architecture import Architecture
from bestiary.core.convolution import conv_norm
from bestiary.core.keymap import Rule, linear, same
from bestiary.core.layers import ACTIVATIONS
from bestiary.core.operations import unsqueezed
from bestiary.errors import LayoutError
from bestiary.vision.backbone import Backbone
from bestiary.vision.bottleneck import BottleneckSpec, LayerSpec, build_stages, rounded, timm_block, torchvision_block
from bestiary.vision.published import TimmConfig, TimmFolder

Activation = Literal["relu", "hard_swish"]


class Block(NamedTuple):
    """A line of the paper's tables."""

    kernel: int  # side of the depthwise kernel
    hidden: int  # channels within
    channels: int  # that it puts out
    excites: bool  # whether there is a squeeze-and-excite within
    activation: Activation
    stride: int


Blocks = tuple[tuple[int, int, int, bool, Activation, int], ...]  # the fields of each Block

# Tables 1 and 2 of the paper, a stage for each size of maps and number of channels.
LARGE: tuple[Blocks, ...] = (
    ((3, 16, 16, False, "relu", 1),),
    ((3, 64, 24, False, "relu", 2), (3, 72, 24, False, "relu", 1)),
    ((5, 72, 40, True, "relu", 2), (5, 120, 40, True, "relu", 1), (5, 120, 40, True, "relu", 1)),
    (
        (3, 240, 80, False, "hard_swish", 2),
        (3, 200, 80, False, "hard_swish", 1),
        (3, 184, 80, False, "hard_swish", 1),
        (3, 184, 80, False, "hard_swish", 1),
    ),
    ((3, 480, 112, True, "hard_swish", 1), (3, 672, 112, True, "hard_swish", 1)),
    ((5, 672, 160, True, "hard_swish", 2), (5, 960, 160, True, "hard_swish", 1), (5, 960, 160, True, "hard_swish", 1)),
)
SMALL: tuple[Blocks, ...] = (
    ((3, 16, 16, True, "relu", 2),),
    ((3, 72, 24, False, "relu", 2), (3, 88, 24, False, "relu", 1)),
    ((5, 96, 40, True, "hard_swish", 2), (5, 240, 40, True, "hard_swish", 1), (5, 240, 40, True, "hard_swish", 1)),
    ((5, 120, 48, True, "hard_swish", 1), (5, 144, 48, True, "hard_swish", 1)),
    ((5, 288, 96, True, "hard_swish", 2), (5, 576, 96, True, "hard_swish", 1), (5, 576, 96, True, "hard_swish", 1)),
)


@dataclass(frozen=True, kw_only=True)
class MobileNetV3Config:
    """The defaults are those of the large one."""

    stages: tuple[Blocks, ...] = LARGE
    stem: int = 16  # channels of the first convolution
    top: int = 960  # channels of the last one
    pooled: int = 1280  # what a linear layer between pooling and head makes of them
    activation: Activation = "hard_swish"  # of stem, top and that layer
    padding: Literal["symmetric", "same"] = "symmetric"  # of convolutions with a stride; same is TensorFlow's
    eps: float = 1e-5  # of every norm; 1e-3 in torchvision, and in weights that come from TensorFlow
    num_classes: int = 1000  # 0: there is no head, and the net gives pooled features
    in_channels: int = 3  # colours of an image
    dropout: float = 0.2  # share of the pooled features that training drops
    drop_path: float = 0.0  # share of the batch for which training drops the last block; less for those before


class MobileNetV3(Backbone):
    """Images to the logits of classes.

    >>> import torch
    >>> net = MobileNetV3(VARIANTS["mobilenetv3_small_100"]).eval()
    >>> images = torch.randn(2, 3, 224, 224)
    >>> net(images).shape, net.features(images).shape, net.pooled(images).shape
    (torch.Size([2, 1000]), torch.Size([2, 576, 7, 7]), torch.Size([2, 1024]))
    """

    def __init__(self, config: MobileNetV3Config):
        super().__init__()
        self.config = config
        ends, stages = layer_spec(config, config.activation), bottlenecks(config)
        self.stem = ends.build(config.in_channels, config.stem, kernel=3, stride=2)
        self.stages = nn.ModuleList(build_stages(stages, config.drop_path))
        self.top = ends.build(stages[-1][-1].outputs, config.top)
        self.widen = nn.Linear(config.top, config.pooled)
        self.activation = ACTIVATIONS[config.activation]()
        self.dropout = nn.Dropout(config.dropout)
        self.head = nn.Linear(config.pooled, config.num_classes) if config.num_classes else nn.Identity()

    def embed(self, images: Tensor) -> Tensor:
        return self.stem(images)  # (n, stem, h / 2, w / 2)

    def finish(self, x: Tensor) -> Tensor:
        return self.top(x)  # (n, top, h / 32, w / 32)

    def pool(self, features: Tensor) -> Tensor:
        x = features.mean((2, 3))  # (n, top); the layer behind costs a 49th of what it would before (section 5.1)
        return self.dropout(self.activation(self.widen(x)))  # (n, pooled)


def layer_spec(config: MobileNetV3Config, activation: Activation) -> LayerSpec:
    """What the convolutions of a part have in common."""
    return LayerSpec(padding=config.padding, activation=activation, eps=config.eps)


def bottlenecks(config: MobileNetV3Config) -> list[list[BottleneckSpec]]:
    """The blocks of each stage."""
    inputs, stages = config.stem, []
    for lines in config.stages:
        specs = []
        for block in (Block(*line) for line in lines):
            spec = BottleneckSpec(
                inputs=inputs,
                hidden=block.hidden,
                outputs=block.channels,
                kernel=block.kernel,
                stride=block.stride,
                layers=layer_spec(config, block.activation),
                squeezed=rounded(block.hidden / 4) if block.excites else 0,
                gate="hard_sigmoid",
            )
            specs.append(spec)
            inputs = block.channels
        stages.append(specs)
    return stages


def timm_layout(config: MobileNetV3Config) -> list[Rule]:
    """The keys of timm, to which top is a stage, and the layer behind the pooling a convolution of 1 × 1."""
    stages = bottlenecks(config)
    rules = [*conv_norm("conv_stem", "bn1", "stem")]
    for i, blocks in enumerate(stages):
        for j, block in enumerate(blocks):
            rules += timm_block(block, f"blocks.{i}.{j}", f"stages.{i}.{j}")
    top = f"blocks.{len(stages)}.0"
    rules += conv_norm(f"{top}.conv", f"{top}.bn1", "top")
    rules += [unsqueezed("conv_head.weight", "widen.weight", sides=2), same("conv_head.bias", "widen.bias")]
    return [*rules, *(linear("classifier", "head") if config.num_classes else ())]


def torchvision_layout(config: MobileNetV3Config) -> list[Rule]:
    """The keys of torchvision, which counts stem, blocks and top in one row."""
    if config.padding != "symmetric":
        raise LayoutError(f"torchvision has no MobileNetV3 with padding: {config.padding}\ntake the layout timm")
    blocks = [(f"stages.{i}.{j}", block) for i, stage in enumerate(bottlenecks(config)) for j, block in enumerate(stage)]
    rules = [*conv_norm("features.0.0", "features.0.1", "stem")]
    for number, (ours, block) in enumerate(blocks, start=1):
        rules += torchvision_block(block, f"features.{number}", ours)
    top = f"features.{len(blocks) + 1}"
    head = linear("classifier.3", "head") if config.num_classes else ()
    return [*rules, *conv_norm(f"{top}.0", f"{top}.1", "top"), *linear("classifier.0", "widen"), *head]


def scaled(config: MobileNetV3Config, width: float) -> MobileNetV3Config:
    """Fewer channels, or more, all but those of the stem and of the pooled features."""
    inputs, scaled_inputs, stages = config.stem, config.stem, list[Blocks]()
    for lines in config.stages:
        blocks: Blocks = ()
        for kernel, hidden, channels, excites, activation, stride in lines:
            scaled_hidden = rounded(scaled_inputs * hidden / inputs)  # as many times those of its input as before
            inputs, scaled_inputs = channels, rounded(channels * width)
            blocks += ((kernel, scaled_hidden, scaled_inputs, excites, activation, stride),)
        stages.append(blocks)
    return replace(config, stages=tuple(stages), top=rounded(config.top * width))


def minimal(config: MobileNetV3Config) -> MobileNetV3Config:
    """Made for accelerators that know the simplest layers alone: kernels of 3 × 3 and ReLU."""
    stages: tuple[Blocks, ...] = tuple(
        tuple((3, hidden, channels, False, "relu", stride) for _, hidden, channels, _, _, stride in lines)
        for lines in config.stages
    )
    return replace(config, stages=stages, activation="relu")


def tensorflow(config: MobileNetV3Config) -> MobileNetV3Config:
    """Computes what TensorFlow does."""
    return replace(config, padding="same", eps=1e-3)


# Under timm's names; the number is the width in hundredths. Those that begin with tf_ were published in weights of TensorFlow.
BASE = MobileNetV3Config()
SMALL_BASE = MobileNetV3Config(stages=SMALL, top=576, pooled=1024)
VARIANTS = {
    "mobilenetv3_large_100": BASE,
    "mobilenetv3_large_075": scaled(BASE, 0.75),
    "mobilenetv3_small_100": SMALL_BASE,
    "mobilenetv3_small_075": scaled(SMALL_BASE, 0.75),
    "mobilenetv3_small_050": scaled(SMALL_BASE, 0.5),
    "tf_mobilenetv3_large_100": tensorflow(BASE),
    "tf_mobilenetv3_large_075": tensorflow(scaled(BASE, 0.75)),
    "tf_mobilenetv3_large_minimal_100": tensorflow(minimal(BASE)),
    "tf_mobilenetv3_small_100": tensorflow(SMALL_BASE),
    "tf_mobilenetv3_small_075": tensorflow(scaled(SMALL_BASE, 0.75)),
    "tf_mobilenetv3_small_minimal_100": tensorflow(minimal(SMALL_BASE)),
}

ARCHITECTURE = Architecture(
    name="mobilenetv3",
    config=MobileNetV3Config,
    net=MobileNetV3,
    layouts={"timm": timm_layout, "torchvision": torchvision_layout},
    configs={"timm": TimmConfig(VARIANTS)},
    folders={"timm": TimmFolder(stem="conv_stem", head="classifier")},
    resized_by={"num_classes": ("head",), "in_channels": ("stem.convolution",)},
)
