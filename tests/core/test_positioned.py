"""Attention with embeddings of positions against PyTorch's own, which is given them by hand."""

import pytest
import torch
from torch import nn

from bestiary.core.context import Memory
from bestiary.core.positioned import Positioned, PositionedAttentionSpec

SPEC = PositionedAttentionSpec(width=12, heads=3)


@pytest.fixture
def rows():
    """Rows and their embeddings, memory and its embeddings, and which rows of a memory are no padding."""
    torch.manual_seed(0)
    padding = torch.tensor([[True] * 5, [True, True, True, False, False]])
    return torch.randn(2, 4, 12), torch.randn(1, 4, 12), torch.randn(2, 5, 12), torch.randn(2, 5, 12), padding


def twin_of(attention):
    twin = nn.MultiheadAttention(12, 3, batch_first=True)
    parts = (attention.query, attention.key, attention.value)
    twin.in_proj_weight.data = torch.cat([part.weight for part in parts])
    twin.in_proj_bias.data = torch.cat([part.bias for part in parts])
    twin.out_proj.load_state_dict(attention.output.state_dict())
    return twin


@torch.no_grad()
def test_queries_and_keys_know_where_they_stand_and_values_do_not(rows):
    _, _, x, embeddings, padding = rows
    attention = SPEC.build()
    expected, _ = twin_of(attention)(x + embeddings, x + embeddings, x, key_padding_mask=~padding)
    torch.testing.assert_close(attention(x, Positioned(embeddings, padding)), expected)


@torch.no_grad()
def test_so_do_the_keys_of_a_memory(rows):
    x, embeddings, memory, memory_embeddings, padding = rows
    attention = SPEC.build_cross()
    expected, _ = twin_of(attention)(x + embeddings, memory + memory_embeddings, memory, key_padding_mask=~padding)
    context = Positioned(embeddings, memory=Memory(memory, padding), memory_embeddings=memory_embeddings)
    torch.testing.assert_close(attention(x, context), expected)
