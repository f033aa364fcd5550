"""Depth of every pixel of one image, by a DPT head (Ranftl et al. 2021, arXiv:2103.13413) on what a Vision Transformer sees.

On DINOv2 it is Depth Anything (Yang et al. 2024, arXiv:2401.10891), and its V2 (arXiv:2406.09414), which reads other layers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch.nn.functional as F
from torch import Tensor, nn

from bestiary.core.architecture import Architecture
from bestiary.errors import LayoutError
from bestiary.vision.depth_layout import CONFIG, FOLDER, transformers_layout
from bestiary.vision.vit import ViT, ViTConfig

# From what the last layer gives to a number from 0, or to one from 0 to 1.
OUTPUTS: Mapping[str, Callable[[], nn.Module]] = {"relative": nn.ReLU, "metric": nn.Sigmoid}


@dataclass(frozen=True, kw_only=True)
class DepthConfig:
    """The defaults are those of Depth Anything small. A tuple has a number for every map, the finest first."""

    encoder: ViTConfig  # without a head
    layers: tuple[int, ...] = (8, 9, 10, 11)  # of the encoder, counted from 0, that a map is made of
    widths: tuple[int, ...] = (48, 96, 192, 384)  # channels of a map
    scales: tuple[float, ...] = (4, 2, 1, 0.5)  # its resolution over that of the patches: a whole number, or 1 over one
    fusion_width: int = 64  # channels of the maps when they are fused
    head_width: int = 32  # channels before the last layer
    output: Literal["relative", "metric"] = "relative"  # without a unit, larger where nearer; in metres, larger where farther
    largest: float = 1.0  # what the output is multiplied by: the depth, in metres, that a metric net ends at

    def __post_init__(self) -> None:
        if len({len(self.layers), len(self.widths), len(self.scales)}) != 1 or len(self.layers) < 2:
            raise LayoutError(
                f"layers {self.layers}, widths {self.widths} and scales {self.scales} make no maps\ncorrect the config"
            )


class DepthNet(nn.Module):
    """Images to depth.

    >>> import torch
    >>> encoder = ViTConfig(image=56, patch=14, layers=4, width=32, heads=4, hidden=64, num_classes=0)
    >>> net = DepthNet(DepthConfig(encoder=encoder, layers=(0, 1, 2, 3), widths=(8, 8, 16, 16), fusion_width=8)).eval()
    >>> net(torch.randn(2, 3, 56, 84)).shape
    torch.Size([2, 56, 84])
    """

    one_size = ViT.one_size

    def __init__(self, config: DepthConfig):
        super().__init__()
        self.config = config
        self.encoder = ViT(config.encoder)
        shapes = zip(config.widths, config.scales, strict=True)
        self.reassembly = nn.ModuleList(Reassembly(config, channels, scale) for channels, scale in shapes)
        self.coarsest = Fusion(config.fusion_width)
        self.fusions = nn.ModuleList(JoiningFusion(config.fusion_width) for _ in config.widths[1:])
        self.head = DepthHead(config)

    def forward(self, images: Tensor) -> Tensor:
        """Depth (n, h, w) of images (n, in_channels, h, w) of whole patches, normalised as the card's `preprocess` says."""
        seen = self.encoder.intermediates(images, self.config.layers, normalized=True, as_maps=True)  # (n, width, rows, columns)
        finest, *others = (part(x) for part, x in zip(self.reassembly, seen, strict=True))  # (n, fusion_width, scale · rows, …)
        finer = [finest, *others[:-1]]
        x = self.coarsest(others[-1], sides(finer[-1]))
        for place in reversed(range(len(finer))):
            x = self.fusions[place](x, finer[place], sides(finer[place - 1]) if place else doubled(finest))
        return self.head(x, sides(images))  # x is (n, fusion_width, 2 · scales[0] · rows, …)


def sides(x: Tensor) -> list[int]:
    """Height and width."""
    return list(x.shape[2:])


def doubled(x: Tensor) -> list[int]:
    return [2 * side for side in x.shape[2:]]


def enlarged(x: Tensor, size: list[int]) -> Tensor:
    """Maps at another resolution, bilinear, whose corners stay where they are."""
    return F.interpolate(x, size, mode="bilinear", align_corners=True)


class Reassembly(nn.Module):
    """What a layer of the encoder saw, as a map to fuse: (n, width, rows, columns) → (n, fusion_width, scale · rows, …)."""

    def __init__(self, config: DepthConfig, channels: int, scale: float):
        super().__init__()
        self.projection = nn.Conv2d(config.encoder.width, channels, 1)
        self.resize = resizing(channels, scale)
        self.convolution = nn.Conv2d(channels, config.fusion_width, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.convolution(self.resize(self.projection(x)))


def resizing(channels: int, scale: float) -> nn.Module:
    """What learns to make a map larger or smaller."""
    if scale == 1:
        return nn.Identity()
    if scale < 1:
        return nn.Conv2d(channels, channels, 3, round(1 / scale), padding=1)
    return nn.ConvTranspose2d(channels, channels, int(scale), int(scale))


class ResidualUnit(nn.Module):
    """Two convolutions, each behind its activation, beside the map that they start from: (n, channels, h, w), as before."""

    def __init__(self, channels: int):
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(F.relu(self.first(F.relu(x))))


class Fusion(nn.Module):
    """A map refined and enlarged: (n, channels, h, w) → (n, channels, *size)."""

    def __init__(self, channels: int):
        super().__init__()
        self.refine = ResidualUnit(channels)
        self.projection = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor, size: list[int]) -> Tensor:
        # The reference enlarges first, which gives the same and makes the projection four times the work.
        return enlarged(self.projection(self.refine(x)), size)


class JoiningFusion(Fusion):
    """The same, after a finer map `joined` has come in."""

    def __init__(self, channels: int):
        super().__init__(channels)
        self.adapt = ResidualUnit(channels)

    def forward(self, x: Tensor, joined: Tensor, size: list[int]) -> Tensor:  # type: ignore[override]
        return super().forward(x + self.adapt(joined), size)


class DepthHead(nn.Module):
    """The fused map as depth at the size of the images: (n, fusion_width, h, w) → (n, *size)."""

    def __init__(self, config: DepthConfig):
        super().__init__()
        self.first = nn.Conv2d(config.fusion_width, config.fusion_width // 2, 3, padding=1)
        self.second = nn.Conv2d(config.fusion_width // 2, config.head_width, 3, padding=1)
        self.last = nn.Conv2d(config.head_width, 1, 1)
        self.output = OUTPUTS[config.output]()
        self.largest = config.largest

    def forward(self, x: Tensor, size: list[int]) -> Tensor:
        x = enlarged(self.first(x), size)  # (n, fusion_width / 2, h, w)
        x = self.last(F.relu(self.second(x)))
        return self.largest * self.output(x).squeeze(1)


def _variants() -> Mapping[str, DepthConfig]:
    """Under the reference's names, without the -hf that its repositories end in."""
    encoders = {"small": (12, 384, 6), "base": (12, 768, 12), "large": (24, 1024, 16)}
    shapes = {"small": ((48, 96, 192, 384), 64), "base": ((96, 192, 384, 768), 128), "large": ((256, 512, 1024, 1024), 256)}
    variants = {}
    for size, (layers, width, heads) in encoders.items():
        learned: dict[str, Any] = {"image": 518, "patch": 14, "antialias": False, "layer_scale": 1.0, "num_classes": 0}
        encoder = ViTConfig(layers=layers, width=width, heads=heads, hidden=4 * width, **learned)
        widths, fusion_width = shapes[size]
        last = DepthConfig(encoder=encoder, layers=tuple(range(layers - 4, layers)), widths=widths, fusion_width=fusion_width)
        variants[f"depth-anything-{size}"] = last
        spread = (4, 11, 17, 23) if size == "large" else (2, 5, 8, 11)
        variants[f"depth-anything-v2-{size}"] = replace(last, layers=spread)
    return variants


VARIANTS = _variants()

ARCHITECTURE = Architecture(
    name="depth",
    config=DepthConfig,
    net=DepthNet,
    layouts={"transformers": transformers_layout},
    configs={"transformers": CONFIG},
    folders={"transformers": FOLDER},
)
