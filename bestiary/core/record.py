"""Frozen dataclasses from the plain values of a card or a file, checked by name and type."""

from __future__ import annotations

import types
import typing
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from inspect import formatannotation
from typing import Any, TypeVar

from bestiary.errors import LayoutError

Kind = TypeVar("Kind")


def record(kind: type[Kind], values: Mapping[str, Any], whose: str) -> Kind:
    """A `kind` with these values; lists become tuples. `whose` says in a message what they are the values of.

    A mapping becomes the dataclass that its field's type names, among several the one of the same `kind`.

    Raises LayoutError that names a field which is unknown, absent, or of another type.

    >>> from bestiary.text.bert import BertConfig
    >>> record(BertConfig, {"layer": 6}, "the config of bert")
    Traceback (most recent call last):
    bestiary.errors.LayoutError: the config of bert has no field layer
    its fields: layers, width, heads, hidden, vocabulary, positions, segments, eps, head, num_classes, pooler
    """
    known = {item.name: item for item in fields(kind)}  # type: ignore[arg-type]
    required = [name for name, item in known.items() if item.default is MISSING and item.default_factory is MISSING]
    for what, names in (
        ("has no field", [name for name in values if name not in known]),
        ("lacks", [name for name in required if name not in values]),
    ):
        if names:
            raise LayoutError(f"{whose} {what} {', '.join(map(str, names))}\nits fields: {', '.join(known)}")
    kinds = typing.get_type_hints(kind)
    frozen = {name: _frozen(value, kinds[name], f"{name} in {whose}") for name, value in values.items()}
    for name, value in frozen.items():
        if not _fits(value, kinds[name]):
            raise LayoutError(f"{whose} has {name}: {values[name]!r}, which should be {formatannotation(kinds[name])}")
    return kind(**frozen)


def _frozen(value: Any, kind: Any, whose: str) -> Any:
    if isinstance(value, Mapping):
        for option in typing.get_args(kind) or (kind,):
            if is_dataclass(option) and getattr(option, "kind", None) == value.get("kind"):
                return record(option, value, whose)  # type: ignore[arg-type]
        return value
    return _tuples(value)


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, (list, tuple)) else value


def _fits(value: Any, kind: Any) -> bool:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        return any(_fits(value, option) for option in arguments)
    if origin is typing.Literal:
        return value in arguments
    if origin is Mapping:
        keys, values = arguments
        return isinstance(value, Mapping) and all(_fits(key, keys) and _fits(value[key], values) for key in value)
    if origin is tuple:
        if not isinstance(value, (tuple, list)):
            return False
        parts = arguments[:1] * len(value) if arguments[1:] == (...,) else arguments
        return len(parts) == len(value) and all(map(_fits, value, parts))
    if isinstance(value, bool):
        return kind in (bool, Any)
    return isinstance(value, (int, float) if kind is float else kind or type(None))
