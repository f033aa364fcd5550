"""Heads: what the hidden states of an encoder are turned into."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bestiary.core.context import Context
from bestiary.core.keymap import Rule, ignored
from bestiary.core.layers import ACTIVATIONS, NormSpec, TiedHead
from bestiary.errors import LayoutError

HeadKind = Literal["none", "mask", "classes", "tokens", "spans"]
WITH_CLASSES = ("classes", "tokens")


@dataclass(frozen=True, kw_only=True)
class TransformSpec:
    """A layer before the logits: dense, activation, norm."""

    width: int  # size of a hidden state
    activation: str  # a name in ACTIVATIONS
    bias: bool = True
    norm: NormSpec | None = None

    def build(self) -> Transform:
        return Transform(self)


class Transform(nn.Module):
    """(..., width) → (..., width)"""

    def __init__(self, spec: TransformSpec):
        super().__init__()
        self.dense = nn.Linear(spec.width, spec.width, spec.bias)
        self.activation = ACTIVATIONS[spec.activation]()
        self.norm = nn.Identity() if spec.norm is None else spec.norm.build(spec.width)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.activation(self.dense(x)))


class EveryRow(nn.Module):
    """Each token answers for itself."""

    def forward(self, x: Tensor, context: Context) -> Tensor:
        return x


class FirstRow(nn.Module):
    """The class token answers for its sequence: (..., rows, width) → (sequences, width)"""

    def forward(self, x: Tensor, context: Context) -> Tensor:
        return context.first(x)


class MeanRow(nn.Module):
    """The mean of its tokens answers for a sequence: (..., rows, width) → (sequences, width)"""

    def forward(self, x: Tensor, context: Context) -> Tensor:
        return context.mean(x)


POOLINGS: Mapping[str, Callable[[], nn.Module]] = {"cls": FirstRow, "mean": MeanRow}


class Head(nn.Module):
    """Rows, a transform of each, logits."""

    def __init__(self, rows: nn.Module, transform: nn.Module, output: nn.Module):
        super().__init__()
        self.rows = rows
        self.transform = transform
        self.output = output

    def forward(self, x: Tensor, context: Context) -> Tensor:
        return self.output(self.transform(self.rows(x, context)))


class BiasedTiedHead(TiedHead):
    """Logits by the weight of an embedding and a bias of its own: (..., width) → (..., vocabulary)"""

    def __init__(self, embedding: nn.Embedding):
        super().__init__(embedding)
        self.bias = nn.Parameter(torch.zeros(embedding.num_embeddings))

    def reset_parameters(self) -> None:
        nn.init.zeros_(self.bias)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight, self.bias)


@dataclass(frozen=True, kw_only=True)
class HeadSpec:
    """What the heads of an architecture are made of; see HEADS for the kinds."""

    width: int  # size of a hidden state
    num_classes: int | None  # of sequences or of tokens
    mask: TransformSpec  # before the logits of masked tokens
    classes: TransformSpec  # before those of sequences
    tokens: TransformSpec | None = None  # before those of each token, and of spans
    pooling: str = "cls"  # what answers for a sequence, a key of POOLINGS

    def build(self, kind: HeadKind, embedding: nn.Embedding) -> nn.Module:
        if (kind in WITH_CLASSES) != (self.num_classes is not None):
            raise LayoutError(
                f"the head {kind!r} does not go with num_classes: {self.num_classes}\n"
                f"{' and '.join(WITH_CLASSES)} need a number of classes, other heads have none: leave it out, or None"
            )
        return HEADS[kind](self, embedding)

    def transform(self) -> nn.Module:
        return nn.Identity() if self.tokens is None else self.tokens.build()

    def classify(self) -> nn.Linear:
        assert self.num_classes is not None
        return nn.Linear(self.width, self.num_classes)


HEADS: Mapping[HeadKind, Callable[[HeadSpec, nn.Embedding], nn.Module]] = {
    "none": lambda spec, embedding: Head(EveryRow(), nn.Identity(), nn.Identity()),
    "mask": lambda spec, embedding: Head(EveryRow(), spec.mask.build(), BiasedTiedHead(embedding)),
    "classes": lambda spec, embedding: Head(POOLINGS[spec.pooling](), spec.classes.build(), spec.classify()),
    "tokens": lambda spec, embedding: Head(EveryRow(), spec.transform(), spec.classify()),
    "spans": lambda spec, embedding: Head(EveryRow(), spec.transform(), nn.Linear(spec.width, 2)),  # start and end
}
RESIZED_BY = {"num_classes": ("head.output",), "head": ("head",)}  # for Architecture: which modules hang on these fields


def head_rules(used: HeadKind, rules: Mapping[HeadKind, Sequence[Rule]]) -> list[Rule]:
    """The rules of the head in use; the keys of the others, which its file may hold as well, are named as ignored."""
    own = list(rules.get(used, ()))
    names = {kind: [name for rule in rules[kind] for spelling in rule.theirs for name in spelling] for kind in rules}
    read = set(names.get(used, ()))
    others = dict.fromkeys(name for kind in names for name in names[kind] if name not in read)
    return [*own, *ignored(*others)]
