"""DETR, which asks an image a fixed number of queries, each for one object (Carion et al. 2020, arXiv:2005.12872)."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bestiary.core.architecture import Architecture
from bestiary.core.block import BlockSpec
from bestiary.core.context import Memory
from bestiary.core.convolution import with_frozen_norms
from bestiary.core.layers import MlpSpec, NormSpec
from bestiary.core.positioned import Positioned, PositionedAttentionSpec
from bestiary.errors import LayoutError
from bestiary.vision.detr_layout import CONFIG, FOLDER, transformers_layout
from bestiary.vision.resnet import VARIANTS as RESNETS
from bestiary.vision.resnet import ResNet, ResNetConfig

LONGEST_WAVE = 10000  # of the positions, over the shortest
BACKBONES = {name: replace(variant, num_classes=0) for name, variant in RESNETS.items()}


@dataclass(frozen=True, kw_only=True)
class DetrConfig:
    """The defaults are those of DETR-R50 on COCO."""

    backbone: ResNetConfig = BACKBONES["resnet50"]  # without a head
    layers: int = 6  # blocks of the encoder
    decoder_layers: int = 6  # blocks of the decoder
    width: int = 256  # size of a hidden state; divisible by 4
    heads: int = 8  # attention heads of a block
    hidden: int = 2048  # width of the MLP
    queries: int = 100  # objects that can be found in an image at most
    num_classes: int = 91  # of an object
    eps: float = 1e-5  # of every norm behind the backbone

    def __post_init__(self) -> None:
        if self.width % 4:
            raise LayoutError(f"a width of {self.width} has no sines and cosines for both sides\ntake a multiple of 4")
        if self.num_classes < 1:
            raise LayoutError("a detector of no classes finds nothing\nset num_classes to 1 or more")
        if self.backbone.num_classes:
            raise LayoutError("the backbone of a detector has no head\nset num_classes: 0 in it")


class Objects(NamedTuple):
    """What the queries to each of n images were answered."""

    logits: Tensor  # (n, queries, num_classes + 1), the last for there being no object
    boxes: Tensor  # (n, queries, 4): middle x, middle y, width, height, as shares of the image without its padding


class Detr(nn.Module):
    """Images to objects.

    >>> config = DetrConfig(backbone=ResNetConfig(block="basic", depths=(1, 1, 1, 1), num_classes=0), queries=10)
    >>> found = Detr(config).eval()(torch.randn(2, 3, 64, 96))
    >>> found.logits.shape, found.boxes.shape
    (torch.Size([2, 10, 92]), torch.Size([2, 10, 4]))
    """

    def __init__(self, config: DetrConfig):
        super().__init__()
        self.config = config
        self.backbone = with_frozen_norms(ResNet(config.backbone))
        self.projection = nn.Conv2d(self.backbone.outputs, config.width, 1)
        self.encoder = block(config, order="post").stack(config.layers)
        self.queries = nn.Embedding(config.queries, config.width)
        self.decoder = block(config, order="post_cross").stack(config.decoder_layers)
        self.norm = NormSpec(eps=config.eps).build(config.width)
        self.class_head = nn.Linear(config.width, config.num_classes + 1)
        self.box_head = nn.Sequential(
            *(nn.Linear(config.width, config.width), nn.ReLU(), nn.Linear(config.width, config.width), nn.ReLU()),
            nn.Linear(config.width, 4),
        )

    def forward(self, images: Tensor, mask: Tensor | None = None) -> Objects:
        """Objects in images (n, in_channels, h, w), normalised as the card's `preprocess` says.

        `mask` (n, h, w) is True where an image is, and not the padding to its right or below it; None where there is none.
        """
        maps = self.projection(self.backbone.features(images))  # (n, width, h / stride, w / stride)
        padding = None if mask is None else shrunk(mask, maps)  # (n, h / stride, w / stride)
        places = sine_positions(maps.new_ones(1, *maps.shape[2:]) if padding is None else padding, maps)
        padding = None if padding is None else padding.flatten(1)
        memory = Memory(self.encoder(maps.flatten(2).transpose(1, 2), Positioned(places, padding)), padding)
        queries = self.queries.weight.expand(images.shape[0], -1, -1)  # (n, queries, width)
        context = Positioned(queries, memory=memory, memory_embeddings=places)
        x = self.norm(self.decoder(torch.zeros_like(queries), context))
        return Objects(self.class_head(x), self.box_head(x).sigmoid())


def shrunk(mask: Tensor, maps: Tensor) -> Tensor:
    """A mask at the resolution of maps: (n, H, W) → (n, h, w); of the pixels that a place stands for the first decides."""
    return F.interpolate(mask[:, None].float(), maps.shape[2:])[:, 0] > 0.5


def sine_positions(mask: Tensor, maps: Tensor) -> Tensor:
    """Where in its image each place stands, as waves of many lengths: (n, h, w), (…, width, h, w) → (n, h · w, width).

    One half is for rows, the other for columns; both are counted within the mask, and as a share of all that are in it.
    """
    width = maps.shape[1]
    steps = torch.arange(width // 4, device=maps.device) / (width // 4)
    waves = []
    for side in (1, 2):
        counted = mask.float().cumsum(side)
        share = counted / (counted.narrow(side, -1, 1) + 1e-6)
        angles = 2 * math.pi * share[..., None] / LONGEST_WAVE**steps  # (n, h, w, width / 4)
        waves.append(torch.stack((angles.sin(), angles.cos()), dim=-1).flatten(3))
    return torch.cat(waves, dim=-1).flatten(1, 2).to(maps.dtype)


def block(config: DetrConfig, order: Literal["post", "post_cross"]) -> BlockSpec:
    attention = PositionedAttentionSpec(width=config.width, heads=config.heads)
    mlp = MlpSpec(width=config.width, hidden=config.hidden, activation="relu")
    return BlockSpec(attention=attention, mlp=mlp, norm=NormSpec(eps=config.eps), order=order, cross_attention=attention)


# Under the names of the authors. dc5: the last stage of the backbone is dilated, and its map twice as fine.
VARIANTS = {
    f"detr-resnet-{depth}{suffix}": DetrConfig(
        backbone=replace(BACKBONES[f"resnet{depth}"], output_stride=output_stride)
    )
    for depth in (50, 101)
    for suffix, output_stride in (("", 32), ("-dc5", 16))
}

ARCHITECTURE = Architecture(
    name="detr",
    config=DetrConfig,
    net=Detr,
    layouts={"transformers": transformers_layout},
    configs={"transformers": CONFIG},
    folders={"transformers": FOLDER},
    resized_by={"num_classes": ("class_head",)},
)
