"""Which rows each step of a run takes. It follows from the seed and the number of the step, and from nothing else.

So a run that was killed goes on with the very rows that it would have taken, each changed at random in the very way that it
would have been; and several processes take together what one would take alone.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.utils.data import Dataset, Sampler

from bestiary.core.tuning.recipe import Recipe
from bestiary.errors import BestiaryError


class Draw(NamedTuple):
    """The rows of one batch."""

    rows: tuple[int, ...]
    seeds: tuple[int, ...]  # for what is random about each of them
    seed: int  # for what is random about the batch as a whole
    share: float = 1.0  # what the mean over this batch counts for in the mean over its step; 1 where all batches are alike


class Batch(NamedTuple):
    """What a net is given of a draw."""

    inputs: Any  # or the error that came up while it was made
    draw: Draw


class Batches(Dataset[Batch]):
    """Rows of a data set by the batch, for a DataLoader without a batch size of its own.

    `collate` makes a batch of rows and of a seed for each of them.
    """

    def __init__(self, rows: Any, collate: Callable[[Sequence[Any], Sequence[int]], Any]):
        self.rows = rows
        self.collate = collate

    def __getitem__(self, draw: Draw) -> Batch:
        many = getattr(self.rows, "__getitems__", None)  # tables of `datasets` read several rows at once
        try:
            rows = many(list(draw.rows)) if many else [self.rows[row] for row in draw.rows]
            return Batch(self.collate(rows, draw.seeds), draw)
        except BestiaryError as error:  # raised in a worker it would come out wrapped in a traceback
            return Batch(error, draw)


@dataclass(frozen=True)
class Place:
    """Which of the processes that train together this is."""

    rank: int = 0
    processes: int = 1

    @classmethod
    def here(cls) -> Place:
        """As torchrun says in the environment."""
        return cls(int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1")))


class Order(Sampler[Draw]):
    """The draws of a run, those of this process: epoch after epoch, all rows in another order each time.

    A step takes as many rows as all its batches have together, and where an epoch ends within a step, the rest from the next.
    Of a step each process takes its part. `weights` says how much there is to learn from each row, where rows are not alike:
    the tokens of an answer, say.

    >>> order = Order(4, batch_size=2, epochs=1)
    >>> len(order), sorted(row for draw in order for row in draw.rows)
    (2, [0, 1, 2, 3])
    """

    def __init__(
        self,
        count: int,
        *,
        batch_size: int,
        epochs: int,
        accumulate: int = 1,
        repeats: int = 1,
        seed: int = 0,
        weights: Sequence[float] | None = None,
        place: Place | None = None,
    ):
        self.count, self.batch_size, self.accumulate, self.repeats, self.seed = count, batch_size, accumulate, repeats, seed
        self.place = place or Place.here()
        self.weights = None if weights is None else np.asarray(weights, np.float64)
        self.step_rows = batch_size * accumulate * self.place.processes
        self.steps_of_epoch = -(-count // self.step_rows)
        self.steps = epochs * self.steps_of_epoch
        self.start = 0  # the batch to begin with
        self._epoch = lru_cache(maxsize=2)(self._shuffled)

    @classmethod
    def of(cls, recipe: Recipe, count: int, **more: Any) -> Order:
        """As a recipe asks, over so many rows."""
        size, batches = recipe.batch_size, recipe.accumulate
        return cls(count, batch_size=size, epochs=recipe.epochs, accumulate=batches, seed=recipe.seed, **more)

    def __len__(self) -> int:
        return self.steps * self.accumulate

    def __iter__(self) -> Iterator[Draw]:
        return map(self.draw, range(self.start, len(self)))

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_epoch"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._epoch = lru_cache(maxsize=2)(self._shuffled)

    def draw(self, number: int) -> Draw:
        """The batch of that number, counted over the whole run."""
        step, part = divmod(number, self.accumulate)
        begin = step * self.step_rows + (part * self.place.processes + self.place.rank) * self.batch_size
        places = range(begin, begin + self.batch_size)
        rows = tuple(map(self._row, places))
        seeds = tuple(mixed(self.seed, 0, place) for place in places)
        return Draw(rows, seeds, mixed(self.seed, 1, begin), self._share(step, rows))

    def _share(self, step: int, rows: Sequence[int]) -> float:
        if self.weights is None:
            return 1.0
        begin = step * self.step_rows
        all_rows = [self._row(place) for place in range(begin, begin + self.step_rows)]
        batches, total = self.accumulate * self.place.processes, self.weights[all_rows].sum()
        return float(self.weights[list(rows)].sum() * batches / total) if total else 1.0

    def _row(self, place: int) -> int:
        epoch, within = divmod(place, self.count)
        return int(self._epoch(epoch)[within])

    def _shuffled(self, epoch: int) -> np.ndarray[Any, Any]:
        generator = torch.Generator().manual_seed(mixed(self.seed, 2, epoch))
        order = torch.randperm(self.count, generator=generator).repeat_interleave(self.repeats)
        return order[: self.count].numpy()


class Through(Sampler[Draw]):
    """Every row once, in order, `batch_size` at a time, those of this process: for validation.

    >>> [draw.rows for draw in Through(5, 2)]
    [(0, 1), (2, 3), (4,)]
    """

    def __init__(self, count: int, batch_size: int, place: Place | None = None):
        self.place = place or Place.here()
        self.count, self.batch_size = count, batch_size

    def __len__(self) -> int:
        return len(self._begins())

    def __iter__(self) -> Iterator[Draw]:
        for begin in self._begins():
            rows = tuple(range(begin, min(begin + self.batch_size, self.count)))
            yield Draw(rows, rows, 0)

    def _begins(self) -> range:
        return range(self.place.rank * self.batch_size, self.count, self.batch_size * self.place.processes)


def mixed(*numbers: int) -> int:
    """One number for several, far from those for their neighbours."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> 1)
