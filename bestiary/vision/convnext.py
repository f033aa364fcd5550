"""ConvNeXt, a convolutional net with the proportions of a transformer (Liu et al. 2022, arXiv:2201.03545), and V2 (Woo et al.
2023, arXiv:2301.00808), in which the channels of a map compete.

Maps are (n, channels, h, w) in shape and channels-last in memory, so that the norms and linear layers, which work on rows of
channels, see them as (n, h, w, channels) without a copy.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor, nn

from bestiary.core.architecture import Architecture
from bestiary.core.channels_last import ChannelNorm, as_maps, as_rows
from bestiary.core.layers import GeluInPlace, LayerScale, Mlp, MlpSpec
from bestiary.core.residual import Residual, drop_paths
from bestiary.errors import LayoutError
from bestiary.vision.backbone import Backbone
from bestiary.vision.convnext_layout import timm_layout, torchvision_layout
from bestiary.vision.published import TimmConfig, TimmFolder


@dataclass(frozen=True, kw_only=True)
class ConvNeXtConfig:
    """The defaults are those of V1's tiny."""

    depths: tuple[int, ...] = (3, 3, 9, 3)  # blocks of each stage
    widths: tuple[int, ...] = (96, 192, 384, 768)  # channels of each stage; those of the last are the pooled features
    mlp: Literal["scaled", "competing"] = "scaled"  # of a block, a key of MLPS: V1's or V2's
    layer_scale: float = 1e-6  # what the scales of a scaled MLP begin with
    eps: float = 1e-6  # of every norm
    timm_mlp: Literal["linear", "convolution"] = "linear"  # as what timm's files hold its layers; both compute the same
    num_classes: int = 1000  # 0: there is no head, and the net gives pooled features
    in_channels: int = 3  # colours of an image
    dropout: float = 0.0  # share of the pooled features that training drops
    drop_path: float = 0.0  # share of the batch for which training drops the last block; less for those before

    def __post_init__(self) -> None:
        if len(self.depths) != len(self.widths) or not self.depths:
            raise LayoutError(f"{len(self.depths)} depths and {len(self.widths)} widths make no stages\ncorrect the config")


class ConvNeXt(Backbone):
    """Images to the logits of classes.

    >>> net = ConvNeXt(VARIANTS["convnextv2_atto"]).eval()
    >>> images = torch.randn(2, 3, 64, 96)
    >>> net(images).shape, net.features(images).shape
    (torch.Size([2, 1000]), torch.Size([2, 320, 2, 3]))
    """

    def __init__(self, config: ConvNeXtConfig):
        super().__init__()
        self.config = config
        first, last = config.widths[0], config.widths[-1]
        self.stem = nn.Sequential(nn.Conv2d(config.in_channels, first, 4, stride=4), ChannelNorm(first, config.eps))
        by_stage = drop_paths(config.drop_path, config.depths)
        self.stages = nn.ModuleList(Stage(config, number, rates) for number, rates in enumerate(by_stage))
        self.norm = nn.LayerNorm(last, config.eps)
        self.dropout = nn.Dropout(config.dropout)
        self.head = nn.Linear(last, config.num_classes) if config.num_classes else nn.Identity()

    @property
    def smallest(self) -> int:
        return 4 * 2 ** (len(self.config.widths) - 1)

    def embed(self, images: Tensor) -> Tensor:
        return self.stem(images)  # (n, widths[0], h / 4, w / 4)

    def finish(self, x: Tensor) -> Tensor:
        return x  # (n, widths[-1], h / 32, w / 32)

    def pool(self, features: Tensor) -> Tensor:
        return self.dropout(self.norm(features.mean((2, 3))))  # (n, widths[-1])


class Stage(nn.Sequential):
    """Blocks at one resolution, half that of the stage before: (n, inputs, h, w) → (n, width, h / 2, w / 2)."""

    def __init__(self, config: ConvNeXtConfig, number: int, rates: list[float]):
        super().__init__()
        inputs, width = config.widths[number - 1], config.widths[number]
        self.downsample: nn.Module = nn.Identity()  # the first stage has the resolution of the stem
        if number:
            self.downsample = nn.Sequential(ChannelNorm(inputs, config.eps), nn.Conv2d(inputs, width, 2, stride=2))
        self.blocks = nn.Sequential(*(Block(config, width, rate) for rate in rates))


class Block(nn.Module):
    """A depthwise convolution looks around, an MLP mixes the channels of each place: (n, width, h, w) → (n, width, h, w)."""

    def __init__(self, config: ConvNeXtConfig, width: int, drop_path: float):
        super().__init__()
        self.depthwise = nn.Conv2d(width, width, 7, padding=3, groups=width)
        self.norm = nn.LayerNorm(width, config.eps)
        self.mlp = MLPS[config.mlp](config, width)
        self.join = Residual(drop_path)

    def forward(self, inputs: Tensor) -> Tensor:
        x = as_rows(self.depthwise(inputs))  # (n, h, w, width)
        x = self.mlp(self.norm(x))
        return self.join(as_maps(x), inputs)


class ScaledMlp(Mlp):
    """V1: what the MLP gives is scaled, each channel by a number of its own: (n, h, w, width) → (n, h, w, width)."""

    def __init__(self, config: ConvNeXtConfig, width: int):
        super().__init__(MlpSpec(width=width, hidden=4 * width, activation="gelu"))
        self.scale = LayerScale(width, config.layer_scale)

    def forward(self, x: Tensor) -> Tensor:
        return self.scale(super().forward(x))

    def for_inference(self) -> nn.Module:
        """The scale as part of the layer before it."""
        scale = self.scale.weight
        down = with_values(self.down, self.down.weight * scale[:, None], self.down.bias * scale)
        return nn.Sequential(self.up, GeluInPlace(), down)


class CompetingMlp(Mlp):
    """V2: between the layers, channels that are strong in a map grow at the cost of weak ones: (n, h, w, width)."""

    def __init__(self, config: ConvNeXtConfig, width: int):
        super().__init__(MlpSpec(width=width, hidden=4 * width, activation="gelu"))
        self.response = ResponseNorm(4 * width, config.eps)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(self.response(self.activation(self.up(x))))

    def for_inference(self) -> nn.Module:
        """The shift of the norm as part of the layer behind it."""
        down = with_values(self.down, self.down.weight, self.down(self.response.bias))
        return nn.Sequential(self.up, GeluInPlace(), ResponseGain(self.response), down)


MLPS: Mapping[str, Callable[[ConvNeXtConfig, int], nn.Module]] = {"scaled": ScaledMlp, "competing": CompetingMlp}


class ResponseNorm(nn.Module):
    """Global response normalisation: each channel times its length over the map, relative to the other channels' mean.

    Takes and gives (n, h, w, channels). With weights of zero, as at first, it changes nothing.
    """

    def __init__(self, channels: int, eps: float):
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.zeros(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def reset_parameters(self) -> None:
        nn.init.zeros_(self.weight)
        nn.init.zeros_(self.bias)

    def gain(self, length: Tensor) -> Tensor:
        return 1 + self.weight * length / (length.mean(-1, keepdim=True) + self.eps)  # (n, 1, 1, channels)

    def forward(self, x: Tensor) -> Tensor:
        length = torch.linalg.vector_norm(x, dim=(1, 2), keepdim=True)  # has a gradient where a channel is zero
        return torch.addcmul(self.bias, x, self.gain(length))


class ResponseGain(nn.Module):
    """A `ResponseNorm` at inference, but for its shift. Writes over its input; sums squares, faster than `vector_norm`."""

    def __init__(self, norm: ResponseNorm):
        super().__init__()
        self.norm = norm

    def forward(self, x: Tensor) -> Tensor:
        precise = x.to(torch.promote_types(x.dtype, torch.float32))  # fp16 ends at 65504
        length = precise.square().sum((1, 2), keepdim=True).sqrt()
        return x.mul_(self.norm.gain(length.to(x.dtype)))


def with_values(layer: nn.Linear, weight: Tensor, bias: Tensor) -> nn.Linear:
    """A layer like another, with these values."""
    twin, values = copy.copy(layer), {"weight": weight, "bias": bias}
    twin._parameters = {name: nn.Parameter(value.detach(), requires_grad=False) for name, value in values.items()}
    return twin


# Depths, and the width of the first stage, which doubles from one to the next.
SMALL_SIZES = {"atto": ((2, 2, 6, 2), 40), "femto": ((2, 2, 6, 2), 48), "pico": ((2, 2, 6, 2), 64), "nano": ((2, 2, 8, 2), 80)}
SIZES = {"tiny": ((3, 3, 9, 3), 96), "small": ((3, 3, 27, 3), 96), "base": ((3, 3, 27, 3), 128), "large": ((3, 3, 27, 3), 192)}

# Under timm's names.
VARIANTS = {
    f"{family}_{size}": replace(
        base,
        depths=depths,
        widths=(width, 2 * width, 4 * width, 8 * width),
        timm_mlp="convolution" if size in SMALL_SIZES else "linear",
    )
    for family, base in (("convnext", ConvNeXtConfig()), ("convnextv2", ConvNeXtConfig(mlp="competing")))
    for size, (depths, width) in (SMALL_SIZES | SIZES).items()
}

ARCHITECTURE = Architecture(
    name="convnext",
    config=ConvNeXtConfig,
    net=ConvNeXt,
    layouts={"timm": timm_layout, "torchvision": torchvision_layout},
    configs={"timm": TimmConfig(VARIANTS)},
    folders={"timm": TimmFolder(stem="stem.0", head="head.fc")},
    resized_by={"num_classes": ("head",), "in_channels": ("stem.0",)},
)
