"""Records of results as columns of Arrow tables."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, get_args, get_origin, get_type_hints

import pyarrow as pa

from bestiary.core.task import Vector
from bestiary.errors import InputError

_PLAIN = {str: pa.string(), int: pa.int64(), float: pa.float32()}


def arrow_type(kind: Any) -> pa.DataType:
    """The type of a column for a type that `Task.returns` may name.

    >>> print(arrow_type(list[str]), arrow_type(Vector(384)))
    list<item: string> fixed_size_list<item: float>[384]
    """
    if isinstance(kind, Vector):
        return pa.list_(pa.float32(), kind.width)
    if get_origin(kind) is list:
        return pa.list_(arrow_type(*get_args(kind)))
    if kind in _PLAIN:
        return _PLAIN[kind]
    return pa.struct([(name, arrow_type(part)) for name, part in get_type_hints(kind).items()])


def result_fields(returns: Mapping[str, Any], kept: Collection[str]) -> list[pa.Field]:
    """The columns of results, beside the `kept` ones of the input: where one of these has a name already, after `result_`.

    Raises InputError where that name is taken as well.

    >>> [field.name for field in result_fields({"label": str, "score": float}, ["text", "label"])]
    ['result_label', 'score']
    """
    names = {name: f"result_{name}" if name in kept else name for name in returns}
    for name in names.values():
        if name in kept:
            raise InputError(f"the input has a column {name} already\nrename it, as the result needs the name")
    return [pa.field(names[name], arrow_type(kind)) for name, kind in returns.items()]


def with_results(kept: pa.Table, records: Sequence[Mapping[str, Any]], returns: Collection[str], schema: pa.Schema) -> pa.Table:
    """A table of this schema: the kept columns, and what the records hold under the keys that `returns` names."""
    fields = list(schema)[kept.num_columns :]
    arrays = [pa.array([one[key] for one in records], field.type) for key, field in zip(returns, fields, strict=True)]
    return pa.Table.from_arrays([*kept.columns, *arrays], schema=schema)
