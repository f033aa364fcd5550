"""Packed rows compute what padded batches compute."""

import pytest
import torch

from bestiary.core.attention import AttentionSpec
from bestiary.core.packing import Ragged, Run, batches, first_rows, mean_rows, pack
from bestiary.core.runtime import for_inference

LENGTHS = (5, 3, 3, 1)
CPU = torch.device("cpu")


@pytest.fixture
def attention():
    torch.manual_seed(0)
    return AttentionSpec(width=16, heads=4, key_bias=False).build().eval()


def test_sequences_lie_end_to_end():
    packed = pack([[7, 8], [9]], CPU)
    assert packed.tokens.tolist() == [7, 8, 9]
    assert packed.positions.tolist() == [0, 1, 0]
    assert packed.mask == Ragged((2, 1))


def test_neighbours_of_equal_length_are_one_run():
    assert list(Ragged(LENGTHS).runs()) == [Run(0, 1, 5), Run(5, 2, 3), Run(11, 1, 1)]


@pytest.mark.parametrize("lengths", [LENGTHS, (3, 5, 1, 3), (1,)])
def test_packed_attention_equals_padded(attention, lengths):
    sequences = [torch.randn(length, 16) for length in lengths]
    padded = torch.nn.utils.rnn.pad_sequence(sequences, batch_first=True)
    mask = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    expected = attention(padded, mask)[mask]
    for module in (attention, for_inference(attention)):
        assert torch.allclose(module(torch.cat(sequences), Ragged(lengths)), expected, atol=1e-6)


def test_padding_changes_nothing(attention):
    x = torch.randn(1, 4, 16)
    garbage = torch.cat([x, torch.full((1, 3, 16), 1e4)], dim=1)
    mask = torch.tensor([[True] * 4 + [False] * 3])
    assert torch.allclose(attention(garbage, mask)[:, :4], attention(x), atol=1e-6)


def test_pooling():
    rows = torch.arange(12.0).reshape(12, 1)
    assert mean_rows(rows, Ragged(LENGTHS)).flatten().tolist() == [2.0, 6.0, 9.0, 11.0]
    assert first_rows(rows, Ragged(LENGTHS)).flatten().tolist() == [0.0, 5.0, 8.0, 11.0]


@pytest.mark.parametrize("rows", [1, 6, 10, 1000])
def test_batches_hold_every_sequence_once_and_keep_their_bound(rows):
    lengths = [3, 1, 5, 3, 9, 2]
    found = list(batches(lengths, rows))
    assert sorted(index for batch in found for index in batch) == list(range(len(lengths)))
    assert all(len(batch) == 1 or sum(lengths[index] for index in batch) <= rows for batch in found)
    assert [lengths[index] for batch in found for index in batch] == sorted(lengths, reverse=True)
