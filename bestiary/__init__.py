"""Bestiary: a model zoo on PyTorch.

    import bestiary

    bestiary.load("efficientnet-lite0")("cat.jpg")      # labels and scores
    bestiary.load("minilm-l6-v2")(["a cat", "a dog"])   # unit vectors, (2, 384)

Importing this module imports neither torch nor anything else that is heavy: listing and searching stay instant.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bestiary.errors import (
    BestiaryError,
    CardError,
    DiskFullError,
    InputError,
    IntegrityError,
    LayoutError,
    LicenseError,
    OfflineError,
    SourceError,
    UnknownDataset,
    UnknownModel,
)

if TYPE_CHECKING:
    from bestiary.hub.card import Card
    from bestiary.hub.registry import Registry
    from bestiary.loading import build, load

__version__ = "0.1.0"

__all__ = [
    "BestiaryError",
    "CardError",
    "DiskFullError",
    "InputError",
    "IntegrityError",
    "LayoutError",
    "LicenseError",
    "OfflineError",
    "SourceError",
    "UnknownDataset",
    "UnknownModel",
    "build",
    "card",
    "list_models",
    "load",
    "search",
]


def list_models(pattern: str = "*", *, task: str | None = None) -> list[str]:
    """The names of all models, or of those that match a shell pattern and are for a task such as "text-embedding"."""
    from fnmatch import fnmatchcase

    registry = _registry()
    names = [name for name in registry.names() if fnmatchcase(name, pattern)]
    return names if task is None else [name for name in names if registry.card(name).task == task]


def search(query: str) -> list[Card]:
    """The cards that have the words of the query, best first."""
    return _registry().search(query)


def card(name: str) -> Card:
    """The card of a model. Raises UnknownModel, which lists the nearest names."""
    return _registry().card(name)


def _registry() -> Registry:
    from bestiary.hub.registry import Registry
    from bestiary.hub.settings import Settings

    return Registry.standard(Settings.read())


def __getattr__(name: str) -> Any:
    if name in ("load", "build"):  # these import torch
        from bestiary import loading

        return getattr(loading, name)
    raise AttributeError(f"module 'bestiary' has no attribute {name!r}")
