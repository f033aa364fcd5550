"""Attention: query, key, value and output projections around what the context computes."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from bestiary.core.attention_kernels import Score
from bestiary.core.context import Context, Projected
from bestiary.core.layers import NormSpec, joined
from bestiary.core.rotary import RotarySpec
from bestiary.errors import LayoutError


@dataclass(frozen=True, kw_only=True)
class AttentionSpec:
    """Multi-head attention (Vaswani et al. 2017, arXiv:1706.03762, section 3.2.2).

    With fewer `key_value_heads` than heads, neighbouring heads share keys and values (Ainslie et al. 2023, arXiv:2305.13245).
    """

    width: int  # size of a hidden state
    heads: int  # of the queries
    key_value_heads: int | None = None  # as many as heads if None; a divisor of them
    head_width: int | None = None  # width / heads if None
    query_bias: bool = True
    key_bias: bool = True
    value_bias: bool = True
    output_bias: bool = True
    query_norm: NormSpec | None = None  # of each head, before the rotation
    key_norm: NormSpec | None = None
    rotary: RotarySpec | None = None
    scale: float | None = None  # of the dot products; head_width ** -0.5 if None
    window: int | None = None  # the largest distance at which a query sees a key
    softcap: float | None = None  # scores s become softcap · tanh(s / softcap)

    def __post_init__(self) -> None:
        if self.heads < 1 or (self.head_width is None and self.width % self.heads):
            raise LayoutError(f"{self.heads} heads cannot divide a width of {self.width}\ncorrect the config")
        if self.heads % self.kv_heads:
            raise LayoutError(f"{self.heads} heads cannot share {self.kv_heads} of keys and values\ncorrect the config")

    @property
    def kv_heads(self) -> int:
        return self.heads if self.key_value_heads is None else self.key_value_heads

    @property
    def per_head(self) -> int:
        return self.width // self.heads if self.head_width is None else self.head_width

    @property
    def score(self) -> Score:
        return Score(self.scale, self.window, self.softcap)

    def build(self) -> Projections:
        return Attention(self)

    def build_cross(self) -> Projections:
        return CrossAttention(self)


class Projections(nn.Module):
    """The four linear layers, and the norms of queries and keys, that both kinds of attention have."""

    def __init__(self, spec: AttentionSpec):
        super().__init__()
        self.spec = spec
        queries, keys = spec.heads * spec.per_head, spec.kv_heads * spec.per_head
        self.query = nn.Linear(spec.width, queries, spec.query_bias)
        self.key = nn.Linear(spec.width, keys, spec.key_bias)
        self.value = nn.Linear(spec.width, keys, spec.value_bias)
        self.output = nn.Linear(queries, spec.width, spec.output_bias)
        self.query_norm = _norm(spec.query_norm, spec.per_head)
        self.key_norm = _norm(spec.key_norm, spec.per_head)

    def _heads(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (-1, self.spec.per_head))  # (..., heads · head_width) → (..., heads, head_width)


def _norm(spec: NormSpec | None, width: int) -> nn.Module:
    return nn.Identity() if spec is None else spec.build(width)


class Attention(Projections):
    """Self-attention: every row to those of its own sequence that the context lets it see; (..., width) → (..., width)."""

    def __init__(self, spec: AttentionSpec):
        super().__init__(spec)
        self.rotary = None if spec.rotary is None else spec.rotary.build()

    def forward(self, x: Tensor, context: Context) -> Tensor:
        query, key, value = self._project(x)  # each (..., heads, head_width)
        query, key = self.query_norm(query), self.key_norm(key)
        if self.rotary is not None:
            rotation = context.rotation(self.rotary.spec, x.dtype)
            query, key = self.rotary(query, rotation), self.rotary(key, rotation)
        return self.output(context.attend(query, key, value, self.spec.score).flatten(-2))

    def _project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return self._heads(self.query(x)), self._heads(self.key(x)), self._heads(self.value(x))

    def for_inference(self) -> FusedAttention:
        return FusedAttention(self)


class CrossAttention(Projections):
    """Attention of every row to the context's memory: (batch, length, width) → (batch, length, width)."""

    def forward(self, x: Tensor, context: Context) -> Tensor:
        query = self.query_norm(self._heads(self.query(x)))
        attended = context.attend_memory(query, context.recall(self._project), self.spec.score)
        return self.output(attended.flatten(-2))

    def _project(self, memory: Tensor) -> Projected:
        return self.key_norm(self._heads(self.key(memory))), self._heads(self.value(memory))

    def for_inference(self) -> FusedCrossAttention:
        return FusedCrossAttention(self)


class FusedCrossAttention(CrossAttention):
    """`CrossAttention` at inference: one product gives keys and values of the memory."""

    def __init__(self, attention: CrossAttention):
        nn.Module.__init__(self)
        self.spec = attention.spec
        self.query, self.output = attention.query, attention.output
        self.memory = joined([attention.key, attention.value])
        self.query_norm, self.key_norm = attention.query_norm, attention.key_norm

    def _project(self, memory: Tensor) -> Projected:
        key, value = self._heads(self.memory(memory)).chunk(2, dim=-2)
        return self.key_norm(key), value

    def for_inference(self) -> FusedCrossAttention:
        return self


class FusedAttention(Attention):
    """`Attention` at inference: one product gives query, key and value, and one rotation turns the first two."""

    def __init__(self, attention: Attention):
        nn.Module.__init__(self)
        self.spec = attention.spec
        self.projection = joined([attention.query, attention.key, attention.value])
        self.output = attention.output
        self.query_norm, self.key_norm, self.rotary = attention.query_norm, attention.key_norm, attention.rotary

    def forward(self, x: Tensor, context: Context) -> Tensor:
        spec = self.spec
        turned, value = self._heads(self.projection(x)).split((spec.heads + spec.kv_heads, spec.kv_heads), dim=-2)
        if spec.query_norm is not None or spec.key_norm is not None:
            query, key = turned.split((spec.heads, spec.kv_heads), dim=-2)
            turned = torch.cat([self.query_norm(query), self.key_norm(key)], dim=-2)
        if self.rotary is not None:
            turned = self.rotary(turned, context.rotation(self.rotary.spec, x.dtype))
        query, key = turned.split((spec.heads, spec.kv_heads), dim=-2)
        return self.output(context.attend(query, key, value, spec.score).flatten(-2))

    def for_inference(self) -> FusedAttention:
        return self
