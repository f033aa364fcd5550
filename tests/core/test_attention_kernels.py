"""Long attention in bf16 on a CPU, block by block, against the definition in fp64."""

import pytest
import torch

from bestiary.core import attention_kernels
from bestiary.core.attention_kernels import LONG, Score, attention

QUERIES, KEYS, HEADS = 700, LONG + 88, 2


def heads_of(length):
    return torch.randn(2, length, HEADS, 32, dtype=torch.bfloat16)


@pytest.fixture
def operands():
    torch.manual_seed(0)
    return heads_of(QUERIES), heads_of(KEYS), heads_of(KEYS)


def kept():
    mask = torch.ones(2, 1, 1, KEYS, dtype=torch.bool)
    mask[0, ..., 400:] = False
    return mask


MASKS = {
    "none": lambda: None,
    "keys": kept,
    "counts": lambda: torch.randint(4, (2, 1, 1, KEYS)) / 2,  # in fp32, as a memory has them
    "every query": lambda: torch.rand(1, HEADS, QUERIES, KEYS) > 0.5,
}


def by_definition(query, key, value, scale, mask):
    query, key, value = (x.double().transpose(1, 2) for x in (query, key, value))
    scores = query @ key.transpose(2, 3) * scale
    if mask is not None:
        scores = scores.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else scores + mask
    return (scores.softmax(-1) @ value).transpose(1, 2)


@pytest.mark.parametrize("scale", [None, 0.3])
@pytest.mark.parametrize("mask", MASKS)
@torch.inference_mode()
def test_blocks_are_the_attention(operands, mask, scale):
    mask = MASKS[mask]()
    found = attention(*operands, Score(scale=scale), mask)
    assert found.dtype == torch.bfloat16
    expected = by_definition(*operands, 32**-0.5 if scale is None else scale, mask)
    assert (found - expected).norm() < 0.015 * expected.norm()  # scores are rounded to bf16


@torch.inference_mode()
def test_blocks_leave_a_mask_as_it_is(operands):
    mask = MASKS["counts"]().bfloat16()
    before = mask.clone()
    attention(*operands, Score(), mask)
    assert torch.equal(mask, before)


def test_only_long_attention_without_training_goes_by_blocks(operands, monkeypatch):
    taken = []
    by_blocks = attention_kernels._by_blocks
    monkeypatch.setattr(attention_kernels, "_by_blocks", lambda *inputs: taken.append(len(taken)) or by_blocks(*inputs))
    query, key, value = operands
    attention(query, key, value, Score())  # gradients are on
    with torch.inference_mode():
        attention(query, key[:, : LONG - 1], value[:, : LONG - 1], Score())
        attention(query.float(), key.float(), value.float(), Score())
        attention(query, query, query, Score(), causal=True)
        assert not taken
        attention(query, key, value, Score())
    assert len(taken) == 1
