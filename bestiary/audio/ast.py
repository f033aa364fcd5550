"""AST, the Audio Spectrogram Transformer: a spectrogram as the patches of a Vision Transformer (Gong et al. 2021,
arXiv:2104.01778)."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from bestiary.audio.ast_layout import TRANSFORMERS_CONFIG, AstFolder, transformers_layout
from bestiary.core.architecture import Architecture
from bestiary.core.attention import AttentionSpec
from bestiary.core.block import BlockSpec
from bestiary.core.checkpoint import recomputed
from bestiary.core.context import Dense
from bestiary.core.labels import check_classes
from bestiary.core.layers import MlpSpec, NormSpec
from bestiary.errors import InputError, LayoutError


@dataclass(frozen=True, kw_only=True)
class AstConfig:
    """The defaults are those of the net that was trained on AudioSet."""

    frames: int = 1024  # of a spectrogram, 10 ms each
    mels: int = 128  # bands of frequency
    patch: int = 16  # side of a patch, in bands and frames
    mel_stride: int = 10  # from one patch to the next; patches overlap where it is less than their side
    frame_stride: int = 10
    layers: int = 12  # number of blocks
    width: int = 768  # size of a hidden state; divisible by heads
    heads: int = 12  # attention heads of a block
    hidden: int = 3072  # width of the MLP
    activation: str = "gelu"  # of the MLP
    eps: float = 1e-12  # of every norm
    num_classes: int = 527  # 0: there is no head, and the net gives pooled features

    def __post_init__(self) -> None:
        if not (0 < self.patch <= min(self.mels, self.frames) and min(self.mel_stride, self.frame_stride) > 0):
            raise LayoutError(
                f"{self.mels} bands of {self.frames} frames hold no patch of {self.patch} with these strides\ncorrect the config"
            )

    @property
    def patches(self) -> int:
        """How many there are of a spectrogram."""
        rows, columns = (self.mels - self.patch) // self.mel_stride, (self.frames - self.patch) // self.frame_stride
        return (rows + 1) * (columns + 1)


class SpectrogramEmbedding(nn.Module):
    """Spectrograms (n, frames, mels) as tokens (n, 2 + patches, width): those of class and of teacher, then patches by band."""

    def __init__(self, config: AstConfig):
        super().__init__()
        self.patch = nn.Conv2d(1, config.width, config.patch, (config.mel_stride, config.frame_stride))
        self.class_tokens = nn.Parameter(nn.init.normal_(torch.empty(1, 2, config.width), std=1e-6))
        self.positions = nn.Parameter(nn.init.normal_(torch.empty(1, 2 + config.patches, config.width), std=0.02))

    def forward(self, spectrograms: Tensor) -> Tensor:
        x = self.patch(spectrograms.transpose(1, 2)[:, None])  # (n, width, rows, columns)
        x = x.flatten(2).transpose(1, 2)  # (n, patches, width)
        return torch.cat([self.class_tokens.expand(x.shape[0], -1, -1), x], dim=1) + self.positions


class Ast(nn.Module):
    """Spectrograms to the logits of classes.

    With `net.checkpoint = True` training computes the blocks again on the way back instead of keeping all that they computed.

    >>> net = Ast(AstConfig(frames=64, mels=32, layers=2, width=32, heads=4, hidden=64, num_classes=10)).eval()
    >>> spectrograms = torch.randn(2, 64, 32)
    >>> net(spectrograms).shape, net.features(spectrograms).shape, net.pooled(spectrograms).shape
    (torch.Size([2, 10]), torch.Size([2, 12, 32]), torch.Size([2, 32]))
    """

    checkpoint = False
    one_size = "positions were learned for one"

    def __init__(self, config: AstConfig):
        super().__init__()
        self.config = config
        self.embedding = SpectrogramEmbedding(config)
        norm = NormSpec(eps=config.eps)
        block = BlockSpec(
            attention=AttentionSpec(width=config.width, heads=config.heads),
            mlp=MlpSpec(width=config.width, hidden=config.hidden, activation=config.activation),
            norm=norm,
            order="pre",
        )
        self.blocks = block.stack(config.layers)
        self.norm = norm.build(config.width)
        self.head = build_head(config)

    def features(self, spectrograms: Tensor) -> Tensor:
        """Tokens (n, 2 + patches, width) of spectrograms (n, frames, mels). Raises InputError for another size."""
        size = (self.config.frames, self.config.mels)
        if spectrograms.dim() != 3 or spectrograms.shape[1:] != size:
            shape = tuple(spectrograms.shape)
            raise InputError(f"spectrograms of the shape {shape} are not what the net takes\ngive (n, {size[0]}, {size[1]})")
        x = self.embedding(spectrograms)
        context = Dense(torch.arange(x.shape[1], device=x.device), causal=False, padding=None)
        for block in self.blocks:
            x = recomputed(apply, block, x, context) if self.checkpoint and torch.is_grad_enabled() else block(x, context)
        return self.norm(x)

    def pooled(self, spectrograms: Tensor) -> Tensor:
        """One row (n, width) for each: the mean of what stands at the two class tokens."""
        return self.features(spectrograms)[:, :2].mean(1)

    def forward(self, spectrograms: Tensor) -> Tensor:
        """Logits (n, num_classes) of spectrograms (n, frames, mels), as the card's `preprocess` says."""
        return self.head(self.pooled(spectrograms))

    def replace_head(self, num_classes: int) -> None:
        """A new head for that many classes, with random weights. Raises InputError for fewer than one."""
        check_classes(num_classes)
        self.config = replace(self.config, num_classes=num_classes)
        self.head = build_head(self.config).to(self.embedding.positions)


def apply(block: nn.Module, *inputs: Any) -> Tensor:
    """What a block makes of its inputs."""
    result: Tensor = block(*inputs)
    return result


def build_head(config: AstConfig) -> nn.Module:
    """The head over what is pooled: a norm and a layer."""
    if not config.num_classes:
        return nn.Identity()
    norm, linear = NormSpec(eps=config.eps).build(config.width), nn.Linear(config.width, config.num_classes)
    return nn.Sequential(OrderedDict(norm=norm, linear=linear))


ARCHITECTURE = Architecture(
    name="ast",
    config=AstConfig,
    net=Ast,
    layouts={"transformers": transformers_layout},
    configs={"transformers": TRANSFORMERS_CONFIG},
    folders={"transformers": AstFolder()},
    resized_by={"num_classes": ("head",)},
)
