"""What `bestiary.load` returns: a net with its card, its preprocessing and a call that takes what a person has."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar

import torch
from torch import nn

from bestiary.core.runtime import InferenceNet, for_inference
from bestiary.errors import InputError, LayoutError

if TYPE_CHECKING:  # importing it takes long
    from bestiary.core.export.graph import Bundle, Written

Item = TypeVar("Item")


class Report(NamedTuple):
    """What the command line shows of a result."""

    columns: list[str]
    rows: list[list[Any]]  # for a person: one list of cells a row
    records: list[dict[str, Any]]  # for a program: the raw numbers
    results: Sequence[Any] = ()  # one for each input, where they have a `plot()` that draws them


class Vector(NamedTuple):
    """The type of a result that is a vector of so many numbers, fp32."""

    width: int


class Provenance(Protocol):
    """Where one file of a model came from."""

    @property
    def file(self) -> Any: ...

    @property
    def path(self) -> Path: ...

    @property
    def origin(self) -> str: ...


def weights_of(provenance: Mapping[str, Provenance]) -> dict[str, str]:
    """The sha256 of each file of weights, by its name."""
    return {name: str(entry.file.sha256) for name, entry in provenance.items() if entry.file.role == "weights"}


class Saver(NamedTuple):
    """The ways of a task to a folder, of an adapter also back, and to other models; they know cards, which the core does not."""

    save: Callable[[Task, Path], None]
    export: Callable[[Task, Path, str, bool], Sequence[Written]]
    save_adapter: Callable[[Task, Path], None]
    load_adapter: Callable[[Task, Path], None]
    load: Callable[[str], Task]  # another model that this one works with, by the name of its card


class Task(ABC):
    """The base of every task object.

    `net` is a plain module to train, compile or take apart; calls run through `inference`, which follows its changes.
    `provenance` says for each file of the card, and each that was made of one, where its bytes lie and where they came from.
    """

    derive: Callable[[nn.Module], nn.Module] = staticmethod(for_inference)  # from the net to what computes calls
    keys: Collection[str] = ()  # of a card's `preprocess` that are for this task, and mean nothing to others on the same net
    medium = "text"  # of what it takes: "text" or "image"
    forms: Sequence[Sequence[str]] = (("text",),)  # what an input may consist of, by the names of columns; usually of one part

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

    def export(self, folder: str | Path, layout: str, *, preprocessing: bool = False) -> Sequence[Written]:
        """Write a new folder for other programs, or nothing.

        `layout` is one of the architecture's, which its upstream library loads: transformers, timm, torchvision, gguf; or
        "gguf-f16"; or "onnx" or "torch.export": the net as a graph with free sizes, in fp32, with a README that shows how to use
        it, and `preprocessing` in the graph of images where that is asked for. Graphs are compared with the net and returned.

        Raises LayoutError, also for a graph that computes otherwise than the net, InputError, DiskFullError.
        """
        return self._saver.export(self, Path(folder), layout, preprocessing)

    def bundle(self, preprocessing: bool) -> Bundle:
        """The graphs that `export` writes. Raises LayoutError where there are none, and what they do."""
        raise LayoutError(f"the task {self.card.task} has no graphs\nexport {self.card.name} to a layout of weights")

    def save_adapter(self, folder: str | Path) -> None:
        """Write the adapter that `add_adapter` put on the net, in peft's format, with a card: `bestiary.load(folder)` adds it
        to its base. Raises InputError where there is none, DiskFullError."""
        self._saver.save_adapter(self, Path(folder))

    def load_adapter(self, folder: str | Path) -> Task:
        """Put the adapter of a folder onto the net, to be trained on; calls compute with it. Returns the task itself.

        It is one that `save_adapter` wrote, or one that peft wrote for the same model in transformers. Raises InputError,
        LayoutError where it does not fit, IntegrityError where it was trained on other weights.
        """
        self._saver.load_adapter(self, Path(folder))
        return self

    def file(self, role: str) -> Path:
        """The verified file that has this role. Raises LayoutError where none has."""
        path = self.find(role)
        if path is None:
            raise LayoutError(f"{self.card.name} has no file of the role {role}\nname it among the files of the card")
        return path

    def find(self, role: str) -> Path | None:
        """The verified file that has this role, or None."""
        return next((source.path for source in self.provenance.values() if source.file.role == role), None)

    @property
    @abstractmethod
    def at_once(self) -> int:
        """How many inputs a call computes at once where nothing else is said."""

    def answers(self, inputs: Sequence[Any], **options: Any) -> Sequence[Any]:
        """A result for each input, of whatever kind the task gives. An input of several parts is a tuple.

        `options` are those of the task's call. Raises InputError, for an input of which several parts may be given as well.
        """
        call: Any = self
        return call(list(inputs), **options)

    @abstractmethod
    def returns(self) -> Mapping[str, Any]:
        """What `record` gives: its keys, and the type of each.

        That is str, int, float, a NamedTuple of such types, list[...] of one of them, or a Vector.
        """

    @abstractmethod
    def record(self, result: Any) -> Mapping[str, Any]:
        """A result, one of `answers`, as a record to be kept in a table."""

    @abstractmethod
    def report(self, inputs: Sequence[str]) -> Report:
        """The answer to inputs typed on a command line."""


def batched(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """The items in lists of `size`, the last one shorter, read as they are asked for. Raises InputError for a size below 1."""
    if not isinstance(size, int) or size < 1:
        raise InputError(f"batch_size={size!r} is not a number of inputs\ngive 1 or more")
    source = iter(items)
    return iter(lambda: list(islice(source, size)), [])
