"""What follows the blocks of a Vision Transformer: the pooling of its tokens and the head."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from bestiary.core.attention import AttentionSpec
from bestiary.core.context import Dense, Memory
from bestiary.core.layers import MlpSpec, NormSpec

if TYPE_CHECKING:
    from bestiary.vision.vit import ViTConfig

# What answers for an image, of its tokens (n, tokens, width), the first `prefix` of which are no patches.
POOLINGS: Mapping[str, Callable[[Tensor, int], Tensor]] = {
    "class": lambda x, prefix: x[:, 0],
    "distilled": lambda x, prefix: x[:, :2].flatten(1),  # two class tokens side by side
    "mean": lambda x, prefix: x[:, prefix:].mean(1),
    "class_mean": lambda x, prefix: torch.cat([x[:, 0], x[:, prefix:].mean(1)], dim=-1),
    "attention": lambda x, prefix: x[:, 0],  # what `AttentionPool` gives
}
# Width of what is pooled, over that of a token, where it is not the same.
WIDER = {"distilled": 2, "class_mean": 2}


class AttentionPool(nn.Module):
    """A learned probe attends to the patches (Lee et al. 2018, arXiv:1810.00825): (n, tokens, width) → (n, 1, width)."""

    def __init__(self, config: ViTConfig):
        super().__init__()
        width = config.width
        self.prefix = config.prefix
        self.probe = nn.Parameter(nn.init.normal_(torch.empty(1, 1, width), std=width**-0.5))
        self.attention = AttentionSpec(width=width, heads=config.heads).build_cross()
        self.norm = NormSpec(eps=config.eps).build(width)
        self.mlp = MlpSpec(width=width, hidden=config.hidden, activation=config.activation, kind=config.mlp).build()

    def forward(self, x: Tensor) -> Tensor:
        memory, nowhere = Memory(x[:, self.prefix :]), torch.zeros(1, dtype=torch.long, device=x.device)
        context = Dense(nowhere, causal=False, padding=None, memory=memory)
        x = self.attention(self.probe.expand(x.shape[0], -1, -1), context)
        return x + self.mlp(self.norm(x))


class DistilledHead(nn.Module):
    """A head for each of two class tokens, and the mean of their logits: (n, 2 · width) → (n, num_classes).

    The first token answers as the labels say, the second as a teacher did (Touvron et al. 2020, arXiv:2012.12877, section 4).
    Training needs both answers:

    >>> head = DistilledHead(width=32, num_classes=10)
    >>> logits, taught = head.both(torch.randn(4, 64))
    >>> logits.shape, taught.shape
    (torch.Size([4, 10]), torch.Size([4, 10]))
    """

    def __init__(self, width: int, num_classes: int):
        super().__init__()
        self.label = nn.Linear(width, num_classes)
        self.teacher = nn.Linear(width, num_classes)

    def both(self, pooled: Tensor) -> tuple[Tensor, Tensor]:
        """The logits of the one and of the other, each (n, num_classes)."""
        first, second = pooled.chunk(2, dim=-1)
        return self.label(first), self.teacher(second)

    def forward(self, pooled: Tensor) -> Tensor:
        logits, taught = self.both(pooled)
        return (logits + taught) / 2


def build_head(config: ViTConfig) -> nn.Module:
    """The head over what is pooled."""
    if not config.num_classes:
        return nn.Identity()
    if config.pooling == "distilled":
        return DistilledHead(config.width, config.num_classes)
    return nn.Linear(config.pooled_width, config.num_classes, config.head_bias)
