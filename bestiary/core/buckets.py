"""Batches of sequences of like length: little padding, and packed rows whose neighbours are equal.

Sequences are drawn at random, a pool at a time; a pool is sorted by length, cut into batches, and the batches are shuffled.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from random import Random
from typing import Any, TypeAlias

import torch
from torch import distributed
from torch.utils.data import IterableDataset, Sampler, get_worker_info

from bestiary.core.packing import batches
from bestiary.core.task import batched
from bestiary.errors import InputError

POOL = 2048  # sequences; many batches, so that their order stays random, few enough to hold of a stream

Cut: TypeAlias = Callable[[Sequence[int]], Iterator[list[int]]]
"""From lengths to batches of their indices."""


def by_rows(rows: int) -> Cut:
    """Batches of at most `rows` tokens together: what packed rows cost. A longer sequence is a batch of its own."""
    return partial(batches, rows=_positive(rows, "rows"))


def by_count(size: int) -> Cut:
    """Batches of `size` sequences, the last of a pool perhaps smaller.

    >>> list(by_count(2)([3, 9, 5]))
    [[1, 2], [0]]
    """
    return partial(_counted, size=_positive(size, "batch size"))


class LengthBuckets(Sampler[list[int]]):
    """Batches of indices, for a DataLoader's `batch_sampler`.

    Every sequence comes once an epoch. Which ones meet depends on `seed` and the epoch alone, so call `set_epoch` before each,
    as with torch's own DistributedSampler. Where several processes train together each gets its share of the batches, all the
    same number of them: some of the first come again where they do not divide.

    >>> sampler = LengthBuckets([4, 9, 5, 8], by_count(2), seed=1)
    >>> sorted(map(sorted, sampler)), len(sampler)
    ([[0, 2], [1, 3]], 2)
    """

    def __init__(
        self,
        lengths: Sequence[int],
        cut: Cut,
        *,
        seed: int = 0,
        pool: int = POOL,
        rank: int | None = None,
        processes: int | None = None,
    ):
        together = distributed.is_available() and distributed.is_initialized()
        self.lengths = list(lengths)
        self.cut = cut
        self.seed = seed
        self.pool = _positive(pool, "pool")
        self.rank = rank if rank is not None else distributed.get_rank() if together else 0
        self.processes = processes if processes is not None else distributed.get_world_size() if together else 1
        self.set_epoch(0)

    def set_epoch(self, epoch: int) -> None:
        """Draw the batches of this epoch."""
        generator = torch.Generator().manual_seed(self.seed + epoch)
        order = torch.randperm(len(self.lengths), generator=generator).tolist()
        found = [
            [pool[index] for index in batch]
            for pool in batched(order, self.pool)
            for batch in self.cut([self.lengths[index] for index in pool])
        ]
        shuffled = [found[index] for index in torch.randperm(len(found), generator=generator).tolist()]
        missing = -len(shuffled) % self.processes
        shuffled += [shuffled[index % len(found)] for index in range(missing)] if found else []
        self._batches = shuffled[self.rank :: self.processes]

    def __iter__(self) -> Iterator[list[int]]:
        return iter(self._batches)

    def __len__(self) -> int:
        return len(self._batches)


class StreamBuckets(IterableDataset[list[Any]]):
    """Batches of rows of a stream, for a DataLoader with `batch_size=None`.

    Holds `pool` rows at a time. A stream of `datasets` gives each worker process files of its own.
    """

    def __init__(
        self, rows: Iterable[Any], cut: Cut, *, length: Callable[[Any], int], seed: int = 0, pool: int = POOL
    ):
        self.rows = rows
        self.cut = cut
        self.length = length
        self.seed = seed
        self.pool = _positive(pool, "pool")

    def __iter__(self) -> Iterator[list[Any]]:
        worker = get_worker_info()
        random = Random(f"{self.seed} {worker.id if worker else 0}")
        for pool in batched(self.rows, self.pool):
            found = list(self.cut([self.length(row) for row in pool]))
            random.shuffle(found)
            for batch in found:
                yield [pool[index] for index in batch]


def _counted(lengths: Sequence[int], size: int) -> Iterator[list[int]]:
    return batched(sorted(range(len(lengths)), key=lambda index: -lengths[index]), size)


def _positive(number: int, what: str) -> int:
    if number < 1:
        raise InputError(f"{number} is no {what}\ngive 1 or more")
    return number
