"""One process at its share of the work: it loads the model once, and makes parts of blocks."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pyarrow as pa
import torch

from bestiary.core.task import batched
from bestiary.errors import InputError
from bestiary.mapping.columns import result_fields, with_results
from bestiary.mapping.inputs import Block
from bestiary.mapping.parts import PartWriter
from bestiary.mapping.plan import Plan

BATCHES_AHEAD = 2  # read while the one before them is computed

Advance = Callable[[int], None]  # told how many more inputs are done


class Worker:
    """A loaded model that makes parts. Raises what loading does, and InputError for options that the task does not take."""

    def __init__(self, plan: Plan):
        self.plan = plan
        self.task = plan.model.load()
        self.returns = self.task.returns()
        kept = plan.inputs.kept
        self.schema = pa.schema([*kept, *result_fields(self.returns, kept.names)])
        self.batch_size = self.task.at_once if plan.batch_size is None else plan.batch_size
        self._pool = ThreadPoolExecutor(max(2, torch.get_num_threads()))
        self._answers([])

    def __call__(self, number: int, advance: Advance) -> None:
        """Make the part of a block, tell how it goes, and leave nothing behind where that fails."""
        block = self.plan.inputs.read(*self.plan.bounds(number))
        with self.plan.parts.writing(number, self.schema) as part:
            start = 0
            for values in self._read_ahead(block.cells):
                self._write(part, block, start, values)
                start += len(values)
                advance(len(values))

    def _write(self, part: PartWriter, block: Block, start: int, values: Sequence[Any]) -> None:
        """Compute a batch of the block's inputs, from one on, and write the results; some inputs failed to be read already."""
        results = iter(self._answers([value for value in values if not isinstance(value, InputError)]))
        found = [value if isinstance(value, InputError) else next(results) for value in values]
        good = [place for place, result in enumerate(found) if not isinstance(result, InputError)]
        for place, result in enumerate(found):
            if isinstance(result, InputError):
                part.failures.append({**block.names[start + place], "reason": str(result).splitlines()[0]})
        records = [self.task.record(found[place]) for place in good]
        kept = block.kept.take([start + place for place in good]) if good else block.kept.slice(0, 0)
        part.write(with_results(kept, records, self.returns, self.schema))

    def _answers(self, values: list[Any]) -> Iterable[Any]:
        """A result for each value, or the error of one that has none: what failed is halved until those are alone."""
        try:
            return self.task.answers(values, batch_size=max(1, len(values)), **self.plan.options)
        except TypeError as error:
            if values:
                raise
            raise InputError(f"{self.plan.model.name} does not take these options: {error}\nleave them out") from None
        except InputError as error:
            if not values:
                raise
            if len(values) == 1:
                return [error]
            middle = len(values) // 2
            return [*self._answers(values[:middle]), *self._answers(values[middle:])]

    def _read_ahead(self, cells: Sequence[Any]) -> Iterator[list[Any]]:
        """Batches of what the task takes, or the error of what cannot be read, read in threads while others are computed."""
        ahead: deque[list[Future[Any]]] = deque()
        try:
            for batch in batched(cells, self.batch_size):
                ahead.append([self._pool.submit(self._open, cell) for cell in batch])
                if len(ahead) > BATCHES_AHEAD:
                    yield [future.result() for future in ahead.popleft()]
            while ahead:
                yield [future.result() for future in ahead.popleft()]
        finally:
            for future in (future for batch in ahead for future in batch):
                future.cancel()

    def _open(self, cell: Any) -> Any:
        try:
            return self.plan.inputs.open(cell)
        except InputError as error:
            return error
