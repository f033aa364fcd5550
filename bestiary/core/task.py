"""What `bestiary.load` returns: a net with its card, its preprocessing and a call that takes what a person has."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeVar

import torch
from torch import nn

from bestiary.core.runtime import InferenceNet, for_inference
from bestiary.errors import InputError, LayoutError

Item = TypeVar("Item")


class Report(NamedTuple):
    """What the command line shows of a result."""

    columns: list[str]
    rows: list[list[Any]]  # for a person: one list of cells a row
    records: list[dict[str, Any]]  # for a program: the raw numbers
    results: Sequence[Any] = ()  # one for each input, where they have a `plot()` that draws them


class Provenance(Protocol):
    """Where one file of a model came from."""

    @property
    def file(self) -> Any: ...

    @property
    def path(self) -> Path: ...

    @property
    def origin(self) -> str: ...


class Saver(NamedTuple):
    """The two ways of writing a task to a folder; they know cards, which the core does not."""

    save: Callable[[Task, Path], None]
    export: Callable[[Task, Path, str], None]


class Task(ABC):
    """The base of every task object.

    `net` is a plain module to train, compile or take apart; calls run through `inference`, which follows its changes.
    `provenance` says for each file of the card, and each that was made of one, where its bytes lie and where they came from.
    """

    derive: Callable[[nn.Module], nn.Module] = staticmethod(for_inference)  # from the net to what computes calls

    def __init__(self, net: nn.Module, card: Any, provenance: Mapping[str, Provenance], saver: Saver):
        self.net = net
        self.card = card
        self.provenance = provenance
        self.inference = InferenceNet(net, self.derive)
        self._saver = saver

    @property
    def device(self) -> torch.device:
        return next(self.net.parameters()).device

    def to(self, device: torch.device | str) -> Task:
        """Move the net; returns the task itself."""
        self.net.to(device)
        return self

    def save(self, folder: str | Path) -> None:
        """Write weights, card and everything else that `bestiary.load(folder)` needs. Raises InputError, DiskFullError."""
        self._saver.save(self, Path(folder))

    def export(self, folder: str | Path, layout: str) -> None:
        """Write the folder that the upstream library of that layout loads. Raises LayoutError, InputError, DiskFullError."""
        self._saver.export(self, Path(folder), layout)

    def file(self, role: str) -> Path:
        """The verified file that has this role. Raises LayoutError where none has."""
        path = self.find(role)
        if path is None:
            raise LayoutError(f"{self.card.name} has no file of the role {role}\nname it among the files of the card")
        return path

    def find(self, role: str) -> Path | None:
        """The verified file that has this role, or None."""
        return next((source.path for source in self.provenance.values() if source.file.role == role), None)

    @abstractmethod
    def report(self, inputs: Sequence[str]) -> Report:
        """The answer to inputs typed on a command line."""


def batched(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """The items in lists of `size`, the last one shorter, read as they are asked for. Raises InputError for a size below 1."""
    if not isinstance(size, int) or size < 1:
        raise InputError(f"batch_size={size!r} is not a number of inputs\ngive 1 or more")
    source = iter(items)
    return iter(lambda: list(islice(source, size)), [])
