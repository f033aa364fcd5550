"""What is to be done, as every process that does a share of it is told."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any, TypedDict

from bestiary.core.task import Task
from bestiary.errors import InputError
from bestiary.hub.lock import LOCK
from bestiary.hub.progress import standard_progress
from bestiary.hub.settings import Settings
from bestiary.hub.trust import Trust
from bestiary.loading import card_of, is_path, load
from bestiary.mapping.inputs import Inputs
from bestiary.mapping.parts import Parts
from bestiary.table import find_task


class Loading(TypedDict, total=False):
    """How the model is loaded, as in `bestiary.load`."""

    device: str
    precision: str | None
    trust: str | None
    accept_license: bool
    lock: str | os.PathLike[str]
    offline: bool | None
    home: str | os.PathLike[str] | None
    bridge: bool


@dataclass(frozen=True)
class Model:
    """A model by name, wherever the process that loads it may run."""

    name: str
    loading: Loading

    @classmethod
    def of(cls, name: str | os.PathLike[str], loading: Loading) -> Model:
        name = os.fspath(name)
        lock = os.path.abspath(loading.get("lock", LOCK))
        return cls(os.path.abspath(os.path.expanduser(name)) if is_path(name) else name, {**loading, "lock": lock})

    def load(self) -> Task:
        return load(self.name, **self.loading)

    def described(self) -> Described:
        """What the model is, its files fetched but not loaded. Raises what `bestiary.load` does."""
        how = self.loading
        settings = Settings.read(home=how.get("home"), offline=how.get("offline"))
        agreed = Trust.given(how.get("trust"), how.get("lock", LOCK), how.get("accept_license", False))
        card = card_of(self.name, settings, agreed, bridge=how.get("bridge", False))
        files = agreed.fetch(card, settings, standard_progress())
        definition = replace(card, text="", metrics=(), sources=(), pinned=True).to_markdown()
        identity = {
            "name": card.name,
            "definition": sha256(definition.encode()).hexdigest(),
            "files": {name: fetched.file.sha256 for name, fetched in files.items()},
            "precision": how.get("precision"),
        }
        return Described(find_task(card.task), identity)


@dataclass(frozen=True)
class Described:
    """The class of a model's tasks, and what tells whether two runs have the same model, in plain values."""

    task: type[Task]
    identity: Mapping[str, Any]


@dataclass(frozen=True)
class Plan:
    """A model, its inputs in blocks of so many, and a folder for what it makes of each."""

    model: Model
    inputs: Inputs
    folder: Path
    options: Mapping[str, Any]  # of the task's call
    batch_size: int | None
    part_size: int

    @property
    def parts(self) -> Parts:
        return Parts(self.folder, -(-len(self.inputs) // self.part_size))

    def bounds(self, number: int) -> tuple[int, int]:
        """The number of the first input of a block, and of the first after it."""
        return number * self.part_size, min((number + 1) * self.part_size, len(self.inputs))

    def manifest(self, model: Mapping[str, Any]) -> Mapping[str, Any]:
        """What makes two runs one, as it makes their values.

        What a batch or a device changes in the last digit of them is not of it. Raises InputError for options of other kinds.
        """
        told = {"model": model, "input": self.inputs.identity(), "options": self.options, "part_size": self.part_size}
        try:
            return {"schema": 1, **json.loads(json.dumps(told))}
        except TypeError as error:
            raise InputError(f"options cannot be written down: {error}\ngive numbers, texts, and lists of these") from None
