"""Attention whose queries and keys are made with embeddings of where they stand, at every layer anew, and values without."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from bestiary.core.attention import AttentionSpec, Projections
from bestiary.core.context import Dense, Memory


class Positioned(Dense):
    """A padded batch that knows, for each row and for each of the memory, an embedding of where it stands.

    Each kind is (batch, rows, width), or (1, rows, width) where all of a batch stand alike. `padding` (batch, rows) is True
    where a row is not padding, None where none is.
    """

    def __init__(
        self,
        embeddings: Tensor,
        padding: Tensor | None = None,
        memory: Memory | None = None,
        memory_embeddings: Tensor | None = None,
    ):
        super().__init__(torch.arange(embeddings.shape[1], device=embeddings.device), False, padding, memory=memory)
        self.embeddings = embeddings
        self.memory_embeddings = memory_embeddings


@dataclass(frozen=True, kw_only=True)
class PositionedAttentionSpec(AttentionSpec):
    """Attention as DETR has it (Carion et al. 2020, arXiv:2005.12872, appendix A.3), in blocks that are given `Positioned`."""

    def build(self) -> PositionedAttention:
        return PositionedAttention(self)

    def build_cross(self) -> PositionedCrossAttention:
        return PositionedCrossAttention(self)


class PositionedAttention(Projections):
    """Self-attention: (batch, rows, width) → (batch, rows, width)."""

    def forward(self, x: Tensor, context: Positioned) -> Tensor:
        placed = x + context.embeddings
        query, key = self.query_norm(self._heads(self.query(placed))), self.key_norm(self._heads(self.key(placed)))
        return self.output(context.attend(query, key, self._heads(self.value(x)), self.spec.score).flatten(-2))


class PositionedCrossAttention(Projections):
    """Attention of every row to the memory: (batch, rows, width) → (batch, rows, width)."""

    def forward(self, x: Tensor, context: Positioned) -> Tensor:
        assert context.memory is not None and context.memory_embeddings is not None, "cross-attention without a memory"
        memory = context.memory.hidden_states
        query = self.query_norm(self._heads(self.query(x + context.embeddings)))
        key = self.key_norm(self._heads(self.key(memory + context.memory_embeddings)))
        attended = context.attend_memory(query, (key, self._heads(self.value(memory))), self.spec.score)
        return self.output(attended.flatten(-2))
