"""Ragged batches: sequences of different length laid end to end, so that no work is spent on padding.

Linear layers and norms do not care where one sequence ends and the next begins; only attention does, and it learns that from
the `Ragged` mask. The nets take packed rows as they take a padded batch; going between the two happens here, outside them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import NamedTuple

import torch
from torch import Tensor


@dataclass(frozen=True)
class Ragged:
    """The mask of packed rows: sequence k holds the `lengths[k]` rows after those of the sequences before it."""

    lengths: tuple[int, ...]

    def runs(self) -> Iterator[Run]:
        """Neighbours of equal length, which attention computes as one dense batch."""
        start = 0
        for length, group in groupby(self.lengths):
            count = sum(1 for _ in group)
            yield Run(start, count, length)
            start += count * length

    def positions(self, device: torch.device) -> Tensor:
        """The position of each row in its own sequence: (rows,)."""
        return torch.cat([torch.arange(length) for length in self.lengths]).to(device)


class Run(NamedTuple):
    """Some `sequences` of `length` rows each, from row `start` on."""

    start: int
    sequences: int
    length: int

    def of(self, rows: Tensor) -> Tensor:
        """These sequences as a dense batch, a view: (rows, ...) → (sequences, length, ...)."""
        return rows[self.start : self.start + self.sequences * self.length].unflatten(0, (self.sequences, self.length))


class PackedTokens(NamedTuple):
    """Token ids of several sequences end to end, the position of each in its own sequence, and the mask."""

    tokens: Tensor  # (rows,)
    positions: Tensor  # (rows,)
    mask: Ragged


def pack(sequences: Sequence[Sequence[int]], device: torch.device) -> PackedTokens:
    """Lay token sequences, none of them empty, end to end.

    >>> pack([[7, 8], [9]], torch.device("cpu")).positions
    tensor([0, 1, 0])
    """
    lengths = tuple(map(len, sequences))
    tokens = torch.tensor([token for sequence in sequences for token in sequence], device=device)
    mask = Ragged(lengths)
    return PackedTokens(tokens, mask.positions(device), mask)


def batches(lengths: Sequence[int], rows: int) -> Iterator[list[int]]:
    """Indices of sequences, longest first, in batches of at most `rows` rows (a longer sequence is a batch of its own).

    Longest first makes neighbours of equals, and lets memory run out at once if it must.

    >>> list(batches([3, 1, 5, 3], rows=6))
    [[2], [0, 3], [1]]
    """
    batch: list[int] = []
    filled = 0
    for index in sorted(range(len(lengths)), key=lambda index: -lengths[index]):
        if batch and filled + lengths[index] > rows:
            yield batch
            batch, filled = [], 0
        batch.append(index)
        filled += lengths[index]
    if batch:
        yield batch


def mean_rows(hidden_states: Tensor, mask: Ragged) -> Tensor:
    """The mean of the rows of each sequence: (rows, width) → (sequences, width)."""
    return torch.cat([run.of(hidden_states).mean(1) for run in mask.runs()])


def first_rows(hidden_states: Tensor, mask: Ragged) -> Tensor:
    """The first row of each sequence, where encoders keep their class token: (rows, width) → (sequences, width)."""
    return torch.cat([run.of(hidden_states)[:, 0] for run in mask.runs()])


def padded(rows: Tensor, mask: Ragged) -> tuple[Tensor, Tensor]:
    """Packed rows as a padded batch, with zeros for padding: (rows, ...) → (sequences, longest, ...), and its padding mask.

    >>> padded(torch.tensor([7, 8, 9]), Ragged((2, 1)))
    (tensor([[7, 8],
            [9, 0]]), tensor([[ True,  True],
            [ True, False]]))
    """
    lengths = torch.tensor(mask.lengths, device=rows.device)
    kept = torch.arange(max(mask.lengths), device=rows.device) < lengths[:, None]  # (sequences, longest)
    batch = rows.new_zeros(*kept.shape, *rows.shape[1:])
    batch[kept] = rows
    return batch, kept
