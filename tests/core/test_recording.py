"""What is recorded of attention is what it computed with."""

import pytest
import torch

from bestiary.core.attention import AttentionSpec
from bestiary.core.context import Dense
from bestiary.core.recording import Recording


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("spec", [{}, {"key_value_heads": 2}, {"softcap": 2.0, "scale": 0.3}, {"window": 1}], ids=str)
def test_recorded_probabilities_are_those_of_the_attention(spec, causal):
    torch.manual_seed(0)
    attention = AttentionSpec(width=16, heads=4, **spec).build()
    x, padding = torch.randn(2, 5, 16), torch.tensor([[True] * 5, [True] * 3 + [False] * 2])
    context = Recording(torch.arange(5), causal=causal, padding=padding)
    assert torch.equal(attention(x, context), attention(x, Dense(torch.arange(5), causal=causal, padding=padding)))
    (probabilities,) = context.probabilities
    assert probabilities.shape == (2, 4, 5, 5)
    torch.testing.assert_close(probabilities.sum(-1), torch.ones(2, 4, 5))
    assert probabilities[1, :, :3, 3:].max() == 0
    value = attention._heads(attention.value(x)).repeat_interleave(4 // attention.spec.kv_heads, dim=2)
    attended = torch.einsum("nhqk,nkhd->nqhd", probabilities, value).flatten(-2)
    torch.testing.assert_close(attention.output(attended), attention(x, context), atol=1e-5, rtol=1e-5)
