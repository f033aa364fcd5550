"""Vision Transformers: patches of an image as tokens of an encoder (Dosovitskiy et al. 2020, arXiv:2010.11929).

ViT, DeiT (Touvron et al. 2020, arXiv:2012.12877), MAE's encoder (He et al. 2021, arXiv:2111.06377), DINOv2 (Oquab et al. 2023,
arXiv:2304.07193), with registers too (Darcet et al. 2023, arXiv:2309.16588), and the image towers of CLIP (Radford et al. 2021,
arXiv:2103.00020) and SigLIP (Zhai et al. 2023, arXiv:2303.15343; 2: Tschannen et al. 2025, arXiv:2502.14786) are one net; its
config says how they differ.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bestiary.core.architecture import Architecture
from bestiary.core.attention import AttentionSpec
from bestiary.core.block import BlockSpec
from bestiary.core.context import Dense
from bestiary.core.labels import check_classes
from bestiary.core.layers import MlpSpec, NormSpec
from bestiary.core.residual import drop_paths
from bestiary.errors import InputError, LayoutError
from bestiary.vision.backbone import Backbone
from bestiary.vision.published import TimmConfig, TimmFolder
from bestiary.vision.vit_folder import TransformersViT
from bestiary.vision.vit_head import POOLINGS, WIDER, AttentionPool, build_head
from bestiary.vision.vit_layout import timm_layout, torchvision_layout
from bestiary.vision.vit_published import TRANSFORMERS_CONFIG
from bestiary.vision.vit_transformers import transformers_layout
from bestiary.vision.vit_variants import variants


@dataclass(frozen=True, kw_only=True)
class ViTConfig:
    """The defaults are those of ViT-B/16 on ImageNet-1k, but for the sizes that have none."""

    image: int = 224  # side of the square that the positions were learned for, in pixels
    patch: int = 16  # side of a patch; what is left over of a square of that size, at its right and below, is not seen
    patch_bias: bool = True  # of the convolution that makes tokens of patches
    layers: int = 12  # number of blocks
    width: int  # size of a hidden state
    heads: int  # attention heads of a block
    hidden: int  # width of the MLP
    mlp: Literal["plain", "gated"] = "plain"
    activation: str = "gelu"  # of the MLP, or of its gate
    class_tokens: int = 1  # learned tokens before those of the patches: 0, 1 that answers for the image, or a second one, taught
    registers: int = 0  # learned tokens after these, to think with, which have no position
    positions: Literal["tokens", "patches"] = "tokens"  # what has a position: class tokens and patches, or patches alone
    antialias: bool = True  # of positions when they are resized, as timm has it; see `resized`
    embedding_norm: Literal["none", "layer"] = "none"  # of the tokens before the first block
    layer_scale: float | None = None  # what the scales of attention and MLP begin with; None: there are none
    eps: float = 1e-6  # of every norm; 1e-12 in files of transformers
    norm: Literal["tokens", "pooled"] = "tokens"  # what the last norm takes: every token, or what is pooled of them
    pooling: Literal["class", "distilled", "mean", "class_mean", "attention"] = "class"  # what answers for an image; see POOLINGS
    num_classes: int = 1000  # or size of the space shared with texts; 0: there is no head, and the net gives pooled features
    head_bias: bool = True  # of the head
    in_channels: int = 3  # colours of an image
    drop_path: float = 0.0  # share of the batch for which training drops the last block's branches; less before

    def __post_init__(self) -> None:
        if not 0 < self.patch <= self.image:
            raise LayoutError(f"{self.image} pixels hold no patch of {self.patch}\ncorrect the config")
        needed = {"class": 1, "class_mean": 1, "distilled": 2}.get(self.pooling, 0)
        if not needed <= self.class_tokens <= 2:
            raise LayoutError(
                f"pooling {self.pooling!r} needs {needed} class tokens, and has {self.class_tokens}\n"
                "set class_tokens to that, at most to 2, or pooling: mean"
            )

    @property
    def grid(self) -> int:
        """Patches along a side."""
        return self.image // self.patch

    @property
    def prefix(self) -> int:
        """Tokens before those of the patches."""
        return self.class_tokens + self.registers

    @property
    def pooled_width(self) -> int:
        """Size of what answers for an image."""
        return self.width * WIDER.get(self.pooling, 1)


class PatchEmbedding(nn.Module):
    """Images (n, in_channels, h, w) as tokens (n, tokens, width): class tokens, registers, patches row by row."""

    def __init__(self, config: ViTConfig):
        super().__init__()
        self.config = config
        self.positioned = config.class_tokens if config.positions == "tokens" else 0  # class tokens that have a position
        self.patch = nn.Conv2d(config.in_channels, config.width, config.patch, config.patch, bias=config.patch_bias)
        self.class_token = learned(config.class_tokens, config.width, deviation=1e-6)
        self.registers = learned(config.registers, config.width, deviation=1e-6)
        self.positions = learned(self.positioned + config.grid**2, config.width, deviation=0.02)
        self.norm = NormSpec(kind=config.embedding_norm, eps=config.eps).build(config.width)

    def forward(self, images: Tensor) -> Tensor:
        assert self.positions is not None
        rows, columns = self.grid(images)
        x = self.patch(images).flatten(2).transpose(1, 2)  # (n, rows · columns, width)
        x = x + resized(self.positions[:, self.positioned :], self.config, rows, columns)
        class_token: Tensor | None = self.class_token
        if class_token is not None and self.positioned:
            class_token = class_token + self.positions[:, : self.positioned]
        prefix = [part.expand(x.shape[0], -1, -1) for part in (class_token, self.registers) if part is not None]
        return self.norm(torch.cat([*prefix, x], dim=1))

    def grid(self, images: Tensor) -> tuple[int, int]:
        """Rows and columns of patches. Raises InputError for a size that is neither a multiple of theirs nor the learned one."""
        height, width = images.shape[-2:]
        side, learned_side = self.config.patch, self.config.image
        if (height % side or width % side) and not height == width == learned_side:
            raise InputError(f"images of {height} × {width} pixels have no whole number of patches of {side}\nresize or pad them")
        return height // side, width // side


def learned(count: int, width: int, *, deviation: float) -> nn.Parameter | None:
    """So many learned rows, (1, count, width), or None for none."""
    return nn.Parameter(nn.init.normal_(torch.empty(1, count, width), std=deviation)) if count else None


def resized(positions: Tensor, config: ViTConfig, rows: int, columns: int) -> Tensor:
    """Positions of the square grid of a config for one of another shape: (1, grid², width) → (1, rows · columns, width).

    Bicubic, in fp32. With antialiasing a smaller grid is averaged over the area, and the curve is a softer one. timm has it in
    every net, transformers in DINOv2 with registers alone, so the config says it: at 224 × 224 pixels, DINOv2, whose positions
    were learned at 518 × 518, gives other numbers with it than without.
    """
    if (rows, columns) == (config.grid, config.grid):
        return positions
    maps = positions.unflatten(1, (config.grid, config.grid)).permute(0, 3, 1, 2).float()  # (1, width, grid, grid)
    maps = F.interpolate(maps, (rows, columns), mode="bicubic", antialias=config.antialias)
    return maps.flatten(2).transpose(1, 2).to(positions.dtype)


class ViT(Backbone):
    """Images to the logits of classes.

    >>> net = ViT(ViTConfig(image=32, patch=8, layers=2, width=32, heads=4, hidden=64, num_classes=10)).eval()
    >>> images = torch.randn(2, 3, 32, 48)
    >>> net(images).shape, net.features(images).shape
    (torch.Size([2, 10]), torch.Size([2, 25, 32]))
    >>> net.intermediates(images, [-1], as_maps=True)[0].shape
    torch.Size([2, 32, 4, 6])
    """

    one_size = "positions were learned for one, and are fitted to others outside of a graph"

    def __init__(self, config: ViTConfig):
        super().__init__()
        self.config = config
        self.embedding = PatchEmbedding(config)
        (rates,) = drop_paths(config.drop_path, [config.layers])
        self.stages = nn.ModuleList(block(config, rate).build() for rate in rates)
        norm = NormSpec(eps=config.eps)
        self.norm = norm.build(config.width) if config.norm == "tokens" else nn.Identity()
        self.attention_pool = AttentionPool(config) if config.pooling == "attention" else nn.Identity()
        self.pooled_norm = norm.build(config.pooled_width) if config.norm == "pooled" else nn.Identity()
        self.head = build_head(config)

    @property
    def smallest(self) -> int:
        return self.config.patch

    def embed(self, images: Tensor) -> Tensor:
        return self.embedding(images)  # (n, tokens, width)

    def through(self, stage: nn.Module, x: Tensor) -> Tensor:
        return stage(x, Dense(torch.arange(x.shape[1], device=x.device), causal=False, padding=None))

    def finish(self, x: Tensor) -> Tensor:
        return self.norm(x)

    def pool(self, features: Tensor) -> Tensor:
        x = self.attention_pool(features)
        return self.pooled_norm(POOLINGS[self.config.pooling](x, self.config.prefix))

    def normalize(self, x: Tensor) -> Tensor:
        return self.norm(x)

    def as_maps(self, x: Tensor, images: Tensor) -> Tensor:
        return x[:, self.config.prefix :].transpose(1, 2).unflatten(2, self.embedding.grid(images))

    def replace_head(self, num_classes: int) -> None:
        """As for every net; both heads of a distilled one, and in place of a projection a head with a bias."""
        check_classes(num_classes)
        if not self.config.num_classes:
            return super().replace_head(num_classes)  # says why not
        self.config = replace(self.config, num_classes=num_classes, head_bias=True)
        self.head = build_head(self.config).to(next(self.head.parameters()))


def block(config: ViTConfig, drop_path: float) -> BlockSpec:
    return BlockSpec(
        attention=AttentionSpec(width=config.width, heads=config.heads),
        mlp=MlpSpec(width=config.width, hidden=config.hidden, activation=config.activation, kind=config.mlp),
        norm=NormSpec(eps=config.eps),
        order="pre_scaled",
        layer_scale=config.layer_scale,
        drop_path=drop_path,
    )


VARIANTS = {name: ViTConfig(**fields) for name, fields in variants()}  # under timm's names
TIMM_POOLINGS = {"class": "token", "distilled": "token", "mean": "avg", "attention": "map"}

ARCHITECTURE = Architecture(
    name="vit",
    config=ViTConfig,
    net=ViT,
    layouts={"timm": timm_layout, "torchvision": torchvision_layout, "transformers": transformers_layout},
    configs={
        "timm": TimmConfig(VARIANTS, pool=lambda variant: TIMM_POOLINGS[variant.pooling]),
        "transformers": TRANSFORMERS_CONFIG,
    },
    folders={
        "timm": TimmFolder(stem="patch_embed.proj", head="head", fixed_input_size=True),
        "transformers": TransformersViT(TRANSFORMERS_CONFIG),
    },
    resized_by={"num_classes": ("head",), "in_channels": ("embedding.patch",)},
)
