"""The Mix Transformer, a hierarchical transformer in which nothing hangs on the size of an image (Xie et al. 2021,
arXiv:2105.15203, section 3.1): a classifier of images, and the encoder of SegFormer.

Within a stage hidden states are rows (n, h, w, width), which convolutions see as maps (n, width, h, w) without a copy.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from bestiary.core.architecture import Architecture
from bestiary.core.attention import AttentionSpec, CrossAttention
from bestiary.core.channels_last import AsMaps, AsRows, as_maps, as_rows
from bestiary.core.context import Dense, Memory
from bestiary.core.layers import Mlp, MlpSpec
from bestiary.core.residual import drop_paths
from bestiary.errors import LayoutError
from bestiary.vision.backbone import Backbone
from bestiary.vision.hierarchical import Block
from bestiary.vision.segformer_layout import MIT_CONFIG, MIT_FOLDER, mit_layout

EPS = 1e-5  # of every norm: transformers computes with it whatever `layer_norm_eps` says


@dataclass(frozen=True, kw_only=True)
class MixTransformerConfig:
    """The defaults are those of MiT-B0; each tuple has a number for every stage."""

    depths: tuple[int, ...] = (2, 2, 2, 2)  # blocks
    widths: tuple[int, ...] = (32, 64, 160, 256)  # size of a hidden state; those of the last stage are the features
    heads: tuple[int, ...] = (1, 2, 5, 8)  # attention heads of a block
    reductions: tuple[int, ...] = (8, 4, 2, 1)  # side of the squares of places that share a key and a value
    expansions: tuple[int, ...] = (4, 4, 4, 4)  # width of an MLP over that of a hidden state
    patches: tuple[int, ...] = (7, 3, 3, 3)  # side of a patch; odd
    strides: tuple[int, ...] = (4, 2, 2, 2)  # from one patch to the next, less than a side: they overlap
    num_classes: int = 1000  # 0: there is no head, and the net gives pooled features
    in_channels: int = 3  # colours of an image
    drop_path: float = 0.0  # share of the batch for which training drops the last block's branches; less before

    def __post_init__(self) -> None:
        stages = (self.depths, self.widths, self.heads, self.reductions, self.expansions, self.patches, self.strides)
        if len(set(map(len, stages))) != 1 or not self.depths:
            raise LayoutError(f"{', '.join(str(len(stage)) for stage in stages)} numbers make no stages\ncorrect the config")


class MixTransformer(Backbone):
    """Images to the logits of classes.

    >>> net = MixTransformer(MixTransformerConfig(num_classes=10)).eval()
    >>> images = torch.randn(2, 3, 64, 96)
    >>> net(images).shape, net.features(images).shape
    (torch.Size([2, 10]), torch.Size([2, 256, 2, 3]))
    """

    def __init__(self, config: MixTransformerConfig):
        super().__init__()
        self.config = config
        by_stage = drop_paths(config.drop_path, config.depths)
        self.stages = nn.ModuleList(Stage(config, number, rates) for number, rates in enumerate(by_stage))
        self.head = nn.Linear(config.widths[-1], config.num_classes) if config.num_classes else nn.Identity()

    @property
    def smallest(self) -> int:
        sizes, stride = [], 1
        for step, reduction in zip(self.config.strides, self.config.reductions, strict=True):
            stride *= step
            sizes.append(stride * (reduction - 1) + 1)  # a side of that many pixels has `reduction` places
        return max(sizes)

    def embed(self, images: Tensor) -> Tensor:
        return images  # each stage begins with an embedding of its own

    def finish(self, x: Tensor) -> Tensor:
        return x  # (n, widths[-1], h / 32, w / 32)

    def pool(self, features: Tensor) -> Tensor:
        return features.mean((2, 3))  # (n, widths[-1])


class Stage(nn.Sequential):
    """Patches that overlap, blocks, a norm: (n, inputs, h, w) → (n, width, h / stride, w / stride)."""

    def __init__(self, config: MixTransformerConfig, number: int, rates: list[float]):
        super().__init__()
        inputs = config.widths[number - 1] if number else config.in_channels
        width, patch = config.widths[number], config.patches[number]
        self.patch = nn.Conv2d(inputs, width, patch, config.strides[number], patch // 2)
        self.rows = AsRows()  # (n, h / stride, w / stride, width)
        self.patch_norm = nn.LayerNorm(width, EPS)
        self.blocks = nn.Sequential(*(block(config, number, rate) for rate in rates))
        self.norm = nn.LayerNorm(width, EPS)
        self.maps = AsMaps()


def block(config: MixTransformerConfig, stage: int, drop_path: float) -> Block:
    width = config.widths[stage]
    attention = ReducedAttention(width, config.heads[stage], config.reductions[stage])
    return Block(width, attention, MixMlp(width, config.expansions[stage] * width), eps=EPS, drop_path=drop_path)


class ReducedAttention(nn.Module):
    """Attention of every place to squares of places, section 3.1, equation 2: (n, h, w, width) → (n, h, w, width)."""

    def __init__(self, width: int, heads: int, reduction: int):
        super().__init__()
        self.reduction = Reduction(width, reduction) if reduction > 1 else nn.Identity()
        self.attention = CrossAttention(AttentionSpec(width=width, heads=heads))

    def forward(self, x: Tensor) -> Tensor:
        places, squares = x.flatten(1, 2), self.reduction(x).flatten(1, 2)  # (n, h · w, width), (n, h · w / reduction², width)
        positions = torch.arange(places.shape[1], device=x.device)
        context = Dense(positions, causal=False, padding=None, memory=Memory(squares))
        return self.attention(places, context).unflatten(1, x.shape[1:3])


class Reduction(nn.Module):
    """Squares of places as one each: (n, h, w, width) → (n, h / side, w / side, width); what is left at an edge is dropped."""

    def __init__(self, width: int, side: int):
        super().__init__()
        self.convolution = nn.Conv2d(width, width, side, side)
        self.norm = nn.LayerNorm(width, EPS)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(as_rows(self.convolution(as_maps(x))))


class MixMlp(Mlp):
    """An MLP in which neighbours meet, and so learn where they stand, section 3.1, equation 3: (n, h, w, width)."""

    def __init__(self, width: int, hidden: int):
        super().__init__(MlpSpec(width=width, hidden=hidden, activation="gelu"))
        self.depthwise = nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden)

    def forward(self, x: Tensor) -> Tensor:
        x = as_rows(self.depthwise(as_maps(self.up(x))))  # (n, h, w, hidden)
        return self.down(self.activation(x))


# Depths and widths of the stages of each published size.
SIZES = {
    "b0": ((2, 2, 2, 2), (32, 64, 160, 256)),
    "b1": ((2, 2, 2, 2), (64, 128, 320, 512)),
    "b2": ((3, 4, 6, 3), (64, 128, 320, 512)),
    "b3": ((3, 4, 18, 3), (64, 128, 320, 512)),
    "b4": ((3, 8, 27, 3), (64, 128, 320, 512)),
    "b5": ((3, 6, 40, 3), (64, 128, 320, 512)),
}
VARIANTS = {f"mit-{size}": MixTransformerConfig(depths=depths, widths=widths) for size, (depths, widths) in SIZES.items()}

ARCHITECTURE = Architecture(
    name="mit",
    config=MixTransformerConfig,
    net=MixTransformer,
    layouts={"transformers": mit_layout},
    configs={"transformers": MIT_CONFIG},
    folders={"transformers": MIT_FOLDER},
    resized_by={"num_classes": ("head",), "in_channels": ("stages.0.patch",)},
)
