"""Attention: four projections around one function that picks the kernel."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bestiary.core.packing import Ragged
from bestiary.errors import LayoutError

Mask = Tensor | Ragged  # (batch, length) of bool, True where a token is, for a padded batch; lengths for packed rows


@dataclass(frozen=True, kw_only=True)
class AttentionSpec:
    """Multi-head attention (Vaswani et al. 2017, arXiv:1706.03762, section 3.2.2)."""

    width: int  # size of a hidden state
    heads: int  # attention heads; they divide the width between them
    query_bias: bool = True
    key_bias: bool = True
    value_bias: bool = True
    output_bias: bool = True

    def __post_init__(self) -> None:
        if self.width % self.heads:
            raise LayoutError(f"{self.heads} heads cannot divide a width of {self.width}\ncorrect the config")

    def build(self) -> Attention:
        return Attention(self)


class Attention(nn.Module):
    """Self-attention over a padded batch (batch, length, width) or packed rows (rows, width)."""

    def __init__(self, spec: AttentionSpec):
        super().__init__()
        self.head_width = spec.width // spec.heads
        self.query = nn.Linear(spec.width, spec.width, spec.query_bias)
        self.key = nn.Linear(spec.width, spec.width, spec.key_bias)
        self.value = nn.Linear(spec.width, spec.width, spec.value_bias)
        self.output = nn.Linear(spec.width, spec.width, spec.output_bias)

    def forward(self, x: Tensor, mask: Mask | None = None) -> Tensor:
        query, key, value = (self._heads(projection(x)) for projection in (self.query, self.key, self.value))
        return self.output(attend(query, key, value, mask).flatten(-2))  # (..., heads, head_width) → (..., width)

    def _heads(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (-1, self.head_width))  # (..., width) → (..., heads, head_width)

    def for_inference(self) -> FusedAttention:
        return FusedAttention(self)


class FusedAttention(nn.Module):
    """`Attention` at inference: one product gives query, key and value."""

    def __init__(self, attention: Attention):
        super().__init__()
        self.head_width = attention.head_width
        projections = (attention.query, attention.key, attention.value)
        self.weight = torch.cat([projection.weight.detach() for projection in projections])
        self.bias = torch.cat([_bias(projection) for projection in projections])
        self.output = attention.output

    def forward(self, x: Tensor, mask: Mask | None = None) -> Tensor:
        fused = F.linear(x, self.weight, self.bias)
        query, key, value = fused.unflatten(-1, (3, -1, self.head_width)).unbind(-3)  # each (..., heads, head_width)
        return self.output(attend(query, key, value, mask).flatten(-2))


def _bias(projection: nn.Linear) -> Tensor:
    weight = projection.weight.detach()
    return weight.new_zeros(len(weight)) if projection.bias is None else projection.bias.detach()


def attend(query: Tensor, key: Tensor, value: Tensor, mask: Mask | None) -> Tensor:
    """Scaled dot-product attention by the kernel that suits the mask; all of shape (..., length, heads, head_width)."""
    if isinstance(mask, Ragged):
        return _attend_runs(query, key, value, mask)
    return _attend_dense(query, key, value, None if mask is None else mask[:, None, None, :])


def _attend_dense(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
    query, key, value = (x.transpose(-3, -2) for x in (query, key, value))  # (batch, heads, length, head_width)
    return F.scaled_dot_product_attention(query, key, value, mask).transpose(-3, -2)


def _attend_runs(query: Tensor, key: Tensor, value: Tensor, mask: Ragged) -> Tensor:
    """Packed rows: one dense batch for every run of sequences of equal length."""
    attended = (_attend_dense(run.of(query), run.of(key), run.of(value), None) for run in mask.runs())
    return torch.cat([batch.flatten(0, 1) for batch in attended])
