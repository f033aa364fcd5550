"""Vision Transformers: patches of an image as tokens of an encoder (Dosovitskiy et al. 2020, arXiv:2010.11929).

ViT, DeiT (Touvron et al. 2020, arXiv:2012.12877), MAE's encoder (He et al. 2021, arXiv:2111.06377) and DINOv2 (Oquab et al. 2023,
arXiv:2304.07193), with registers too (Darcet et al. 2023, arXiv:2309.16588), are one net; its config says how they differ.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bestiary.core.architecture import Architecture
from bestiary.core.attention import AttentionSpec
from bestiary.core.block import BlockSpec
from bestiary.core.context import Dense
from bestiary.core.layers import MlpSpec, NormSpec
from bestiary.errors import InputError, LayoutError
from bestiary.vision.backbone import Backbone
from bestiary.vision.published import TimmConfig, TimmFolder
from bestiary.vision.vit_layout import timm_layout, torchvision_layout, transformers_layout


@dataclass(frozen=True, kw_only=True)
class ViTConfig:
    """The defaults are those of ViT-B/16 on ImageNet-1k, but for the sizes that have none."""

    image: int = 224  # side of the square that the positions were learned for, in pixels
    patch: int = 16  # side of a patch
    layers: int = 12  # number of blocks
    width: int  # size of a hidden state
    heads: int  # attention heads of a block
    hidden: int  # width of the MLP
    mlp: Literal["plain", "gated"] = "plain"
    activation: str = "gelu"  # of the MLP, or of its gate
    class_tokens: int = 1  # learned tokens before those of the patches: 0, or 1 that answers for the image
    registers: int = 0  # learned tokens after these, to think with, which have no position
    positions: Literal["tokens", "patches"] = "tokens"  # what has a position: the class token and the patches, or those alone
    layer_scale: float | None = None  # what the scales of attention and MLP begin with; None: there are none
    eps: float = 1e-6  # of every norm; 1e-12 in files of transformers
    norm: Literal["tokens", "pooled"] = "tokens"  # what the last norm takes: every token, or what is pooled of them
    pooling: Literal["class", "mean", "class_mean"] = "class"  # what answers for an image, a key of POOLINGS
    num_classes: int = 1000  # 0: there is no head, and the net gives pooled features
    in_channels: int = 3  # colours of an image
    drop_path: float = 0.0  # share of the batch for which training drops the last block's branches; less before

    def __post_init__(self) -> None:
        if self.image % self.patch:
            raise LayoutError(f"{self.image} pixels are no whole number of patches of {self.patch}\ncorrect the config")
        if not self.class_tokens and self.pooling != "mean":
            raise LayoutError(f"pooling {self.pooling!r} needs a class token\nset class_tokens: 1, or pooling: mean")

    @property
    def grid(self) -> int:
        """Patches along a side."""
        return self.image // self.patch

    @property
    def prefix(self) -> int:
        """Tokens before those of the patches."""
        return self.class_tokens + self.registers


class PatchEmbedding(nn.Module):
    """Images (n, in_channels, h, w) as tokens (n, tokens, width): class token, registers, patches row by row."""

    def __init__(self, config: ViTConfig):
        super().__init__()
        self.config = config
        self.positioned = config.class_tokens if config.positions == "tokens" else 0  # class tokens that have a position
        self.patch = nn.Conv2d(config.in_channels, config.width, config.patch, config.patch)
        self.class_token = learned(config.class_tokens, config.width, deviation=1e-6)
        self.registers = learned(config.registers, config.width, deviation=1e-6)
        self.positions = learned(self.positioned + config.grid**2, config.width, deviation=0.02)

    def forward(self, images: Tensor) -> Tensor:
        assert self.positions is not None
        rows, columns = self.grid(images)
        x = self.patch(images).flatten(2).transpose(1, 2)  # (n, rows · columns, width)
        x = x + resized(self.positions[:, self.positioned :], self.config.grid, rows, columns)
        class_token: Tensor | None = self.class_token
        if class_token is not None and self.positioned:
            class_token = class_token + self.positions[:, : self.positioned]
        prefix = [part.expand(x.shape[0], -1, -1) for part in (class_token, self.registers) if part is not None]
        return torch.cat([*prefix, x], dim=1)

    def grid(self, images: Tensor) -> tuple[int, int]:
        """Rows and columns of patches. Raises InputError for a size that is not a multiple of theirs."""
        height, width = images.shape[-2:]
        side = self.config.patch
        if height % side or width % side or not height or not width:
            raise InputError(f"images of {height} × {width} pixels have no whole number of patches of {side}\nresize or pad them")
        return height // side, width // side


def learned(count: int, width: int, *, deviation: float) -> nn.Parameter | None:
    """So many learned rows, (1, count, width), or None for none."""
    return nn.Parameter(nn.init.normal_(torch.empty(1, count, width), std=deviation)) if count else None


def resized(positions: Tensor, grid: int, rows: int, columns: int) -> Tensor:
    """Positions of a square grid of patches for one of another shape: (1, grid², width) → (1, rows · columns, width).

    Bicubic, averaged over the area where the grid gets smaller, in fp32: as timm resizes them.
    """
    if (rows, columns) == (grid, grid):
        return positions
    maps = positions.unflatten(1, (grid, grid)).permute(0, 3, 1, 2).float()  # (1, width, grid, grid)
    maps = F.interpolate(maps, (rows, columns), mode="bicubic", antialias=True)
    return maps.flatten(2).transpose(1, 2).to(positions.dtype)


# What answers for an image, of its tokens (n, tokens, width), the first `prefix` of which are no patches.
POOLINGS: Mapping[str, Callable[[Tensor, int], Tensor]] = {
    "class": lambda x, prefix: x[:, 0],
    "mean": lambda x, prefix: x[:, prefix:].mean(1),
    "class_mean": lambda x, prefix: torch.cat([x[:, 0], x[:, prefix:].mean(1)], dim=-1),
}


class ViT(Backbone):
    """Images to the logits of classes.

    >>> net = ViT(ViTConfig(image=32, patch=8, layers=2, width=32, heads=4, hidden=64, num_classes=10)).eval()
    >>> images = torch.randn(2, 3, 32, 48)
    >>> net(images).shape, net.features(images).shape
    (torch.Size([2, 10]), torch.Size([2, 25, 32]))
    >>> net.intermediates(images, [-1], as_maps=True)[0].shape
    torch.Size([2, 32, 4, 6])
    """

    def __init__(self, config: ViTConfig):
        super().__init__()
        self.config = config
        self.embedding = PatchEmbedding(config)
        self.stages = nn.ModuleList(block(config, depth).build() for depth in range(config.layers))
        norm = NormSpec(eps=config.eps)
        self.norm = norm.build(config.width) if config.norm == "tokens" else nn.Identity()
        pooled = config.width * (2 if config.pooling == "class_mean" else 1)
        self.pooled_norm = norm.build(pooled) if config.norm == "pooled" else nn.Identity()
        self.head = nn.Linear(pooled, config.num_classes) if config.num_classes else nn.Identity()

    def embed(self, images: Tensor) -> Tensor:
        return self.embedding(images)  # (n, tokens, width)

    def through(self, stage: nn.Module, x: Tensor) -> Tensor:
        return stage(x, Dense(torch.arange(x.shape[1], device=x.device), causal=False, padding=None))

    def finish(self, x: Tensor) -> Tensor:
        return self.norm(x)

    def pool(self, features: Tensor) -> Tensor:
        return self.pooled_norm(POOLINGS[self.config.pooling](features, self.config.prefix))

    def normalize(self, x: Tensor) -> Tensor:
        return self.norm(x)

    def as_maps(self, x: Tensor, images: Tensor) -> Tensor:
        return x[:, self.config.prefix :].transpose(1, 2).unflatten(2, self.embedding.grid(images))


def block(config: ViTConfig, depth: int) -> BlockSpec:
    """A block; the deeper it lies, the more often training drops its branches."""
    return BlockSpec(
        attention=AttentionSpec(width=config.width, heads=config.heads),
        mlp=MlpSpec(width=config.width, hidden=config.hidden, activation=config.activation, kind=config.mlp),
        norm=NormSpec(eps=config.eps),
        order="pre_scaled",
        layer_scale=config.layer_scale,
        drop_path=config.drop_path * depth / max(config.layers - 1, 1),
    )


# Layers, width and heads of each published size; an MLP is four times as wide.
SIZES = {
    "tiny": (12, 192, 3),
    "small": (12, 384, 6),
    "base": (12, 768, 12),
    "large": (24, 1024, 16),
    "huge": (32, 1280, 16),
}
PLAIN = {  # patch and image
    "tiny": ((16, 224), (16, 384)),
    "small": ((8, 224), (16, 224), (16, 384), (32, 224), (32, 384)),
    "base": ((8, 224), (16, 224), (16, 384), (32, 224), (32, 384)),
    "large": ((14, 224), (16, 224), (16, 384), (32, 224), (32, 384)),
    "huge": ((14, 224),),
}


def sized(size: str, **fields: Any) -> ViTConfig:
    layers, width, heads = SIZES[size]
    return ViTConfig(layers=layers, width=width, heads=heads, **{"hidden": 4 * width, **fields})


def _variants() -> Iterator[tuple[str, ViTConfig]]:
    for size, shapes in PLAIN.items():
        for patch, image in shapes:
            yield f"vit_{size}_patch{patch}_{image}", sized(size, patch=patch, image=image)
    for size, image in (("tiny", 224), ("small", 224), ("base", 224), ("base", 384)):
        yield f"deit_{size}_patch16_{image}", sized(size, image=image)
    dino: dict[str, Any] = {"patch": 14, "image": 518, "layer_scale": 1e-5, "num_classes": 0}
    giant = ViTConfig(layers=40, width=1536, heads=24, hidden=4096, mlp="gated", activation="silu", **dino)
    for size, config in [*((size, sized(size, **dino)) for size in ("small", "base", "large")), ("giant", giant)]:
        yield f"vit_{size}_patch14_dinov2", config
        yield f"vit_{size}_patch14_reg4_dinov2", replace(config, registers=4, positions="patches")


VARIANTS = dict(_variants())  # under timm's names

ARCHITECTURE = Architecture(
    name="vit",
    config=ViTConfig,
    net=ViT,
    layouts={"timm": timm_layout, "torchvision": torchvision_layout, "transformers": transformers_layout},
    configs={"timm": TimmConfig(VARIANTS, pool="token")},
    folders={"timm": TimmFolder(stem="patch_embed.proj", head="head")},
    resized_by={"num_classes": ("head",), "in_channels": ("embedding.patch",)},
)
