"""How blocks are spread: in this process, or by Ray over the actors of a cluster. The parts are the same."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

from bestiary import errors
from bestiary.errors import BestiaryError, InputError
from bestiary.mapping.plan import Plan
from bestiary.mapping.worker import Advance, Worker


class Engine(Protocol):
    def run(self, plan: Plan, numbers: Sequence[int], advance: Advance) -> None:
        """Make the parts of these blocks."""


@dataclass(frozen=True)
class Local:
    """One process, one block after the other."""

    def run(self, plan: Plan, numbers: Sequence[int], advance: Advance) -> None:
        worker = Worker(plan)
        for number in numbers:
            worker(number, advance)


@dataclass(frozen=True, kw_only=True)
class Ray:
    """Actors of Ray Data, each with the model loaded once, on this machine or a cluster that shares its folders.

    Where Ray runs in this process already, it is used as it is, and left so. No usage statistics are sent.
    """

    concurrency: int | None = None  # how many actors; by default as many as the CPUs, or GPUs, are enough for
    cpus_per_worker: float = 1
    gpus_per_worker: float = 0
    address: str | None = None  # of a cluster, or "auto" for the one on this machine; RAY_ADDRESS if None, else a new one here

    def run(self, plan: Plan, numbers: Sequence[int], advance: Advance) -> None:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # read when Ray starts
        try:
            import ray.data
        except ImportError:
            raise InputError("the engine ray is not installed\npip install 'bestiary[scale]'") from None
        with _connected(self.address), _quiet():
            blocks = ray.data.from_items([{"number": number} for number in numbers], override_num_blocks=len(numbers))
            done = blocks.map_batches(
                Actor,
                fn_constructor_args=(plan,),
                batch_size=1,
                compute=ray.data.ActorPoolStrategy(size=self._actors(len(numbers))),
                num_cpus=self.cpus_per_worker,
                num_gpus=self.gpus_per_worker or None,
            )
            for part in done.iter_rows():
                if part["error"]:
                    raise getattr(errors, part["error"], BestiaryError)(part["message"])
                advance(part["inputs"])

    def _actors(self, most: int) -> int:
        import ray

        if self.concurrency is not None:
            return min(self.concurrency, most)
        there: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
        enough = [there.get("CPU", 0) / self.cpus_per_worker] if self.cpus_per_worker else []
        enough += [there.get("GPU", 0) / self.gpus_per_worker] if self.gpus_per_worker else []
        return max(1, min(most, *map(int, enough)))


class Actor:
    """A worker as Ray Data calls it, with batches of one number of a block.

    Of what is raised Ray passes on no more than the text, so errors of ours are answers: the name of their class, the message.
    """

    def __init__(self, plan: Plan):
        self.plan = plan

    @cached_property
    def worker(self) -> Worker:
        return Worker(self.plan)

    def __call__(self, batch: Any) -> Any:
        (number,) = map(int, batch["number"])
        start, stop = self.plan.bounds(number)
        try:
            self.worker(number, lambda count: None)
        except BestiaryError as error:
            return {"inputs": [0], "error": [type(error).__name__], "message": [str(error)]}
        return {"inputs": [stop - start], "error": [""], "message": [""]}


@contextmanager
def _connected(address: str | None) -> Iterator[None]:
    import ray

    if ray.is_initialized():
        yield
        return
    address = address or os.environ.get("RAY_ADDRESS") or "local"
    try:
        ray.init(
            address=address, include_dashboard=False if address == "local" else None, log_to_driver=False,
            logging_level=logging.ERROR,
        )  # fmt: skip
    except (ConnectionError, ValueError) as error:
        raise InputError(f"no Ray at {address}: {str(error).splitlines()[0]}\ncheck --address, or start one") from error
    try:
        yield
    finally:
        ray.shutdown()


@contextmanager
def _quiet() -> Iterator[None]:
    """Without Ray Data's own bars, and its log of what goes well: the caller shows how far it is."""
    import ray.data

    context, log = ray.data.DataContext.get_current(), logging.getLogger("ray.data")
    shown, level = context.enable_progress_bars, log.level
    context.enable_progress_bars = False
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        context.enable_progress_bars = shown
        log.setLevel(level)
