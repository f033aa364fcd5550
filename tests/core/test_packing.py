"""Packed rows compute what padded batches compute."""

import pytest
import torch

from bestiary.core.packing import Ragged, Run, batches, first_rows, mean_rows, pack, padded

LENGTHS = (5, 3, 3, 1)
CPU = torch.device("cpu")


def test_sequences_lie_end_to_end():
    packed = pack([[7, 8], [9]], CPU)
    assert packed.tokens.tolist() == [7, 8, 9]
    assert packed.positions.tolist() == [0, 1, 0]
    assert packed.mask == Ragged((2, 1))
    assert packed.mask.positions(CPU).tolist() == [0, 1, 0]


def test_neighbours_of_equal_length_are_one_run():
    assert list(Ragged(LENGTHS).runs()) == [Run(0, 1, 5), Run(5, 2, 3), Run(11, 1, 1)]


def test_pooling():
    rows = torch.arange(12.0).reshape(12, 1)
    assert mean_rows(rows, Ragged(LENGTHS)).flatten().tolist() == [2.0, 6.0, 9.0, 11.0]
    assert first_rows(rows, Ragged(LENGTHS)).flatten().tolist() == [0.0, 5.0, 8.0, 11.0]


def test_packed_rows_become_a_padded_batch():
    sequences = [torch.randn(length, 2) for length in LENGTHS]
    batch, mask = padded(torch.cat(sequences), Ragged(LENGTHS))
    assert torch.equal(batch, torch.nn.utils.rnn.pad_sequence(sequences, batch_first=True))
    assert mask.sum(1).tolist() == list(LENGTHS) and mask[:, 0].all()


@pytest.mark.parametrize("rows", [1, 6, 10, 1000])
def test_batches_hold_every_sequence_once_and_keep_their_bound(rows):
    lengths = [3, 1, 5, 3, 9, 2]
    found = list(batches(lengths, rows))
    assert sorted(index for batch in found for index in batch) == list(range(len(lengths)))
    assert all(len(batch) == 1 or sum(lengths[index] for index in batch) <= rows for batch in found)
    assert [lengths[index] for batch in found for index in batch] == sorted(lengths, reverse=True)
