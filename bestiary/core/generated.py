"""Rows that a function makes, as a table of Hugging Face `datasets` or as a stream: what no file holds row by row."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from bestiary.core.table_faults import causes_of, is_full, no_room
from bestiary.core.tables import quiet
from bestiary.errors import BestiaryError

if TYPE_CHECKING:
    from bestiary.core.tables import Rows


class Source(NamedTuple):
    """The verified files of one split of a data set, in the order of its card."""

    paths: tuple[str, ...]
    digests: tuple[str, ...]  # of these; what rows were made from
    members: tuple[str, ...]  # what of their archives belongs to the split
    split: str
    version: int  # of what makes the rows


def generated(
    make: Callable[..., Iterable[Mapping[str, Any]]], features: Mapping[str, Any], split: str, *, streaming: bool, **source: Any
) -> Rows:
    """The rows that `make(**source)` gives, written to a table that is mapped into memory, or made as one goes.

    A table is written once for each function and `source`, so that something in it has to change with the content: a digest, a
    time. A list in `source` holds shards, which the workers of a loader share. Raises what `make` does, and DiskFullError.
    """
    import datasets

    kind = datasets.IterableDataset if streaming else datasets.Dataset
    try:
        with quiet():
            return kind.from_generator(make, datasets.Features(features), gen_kwargs=source, split=datasets.NamedSplit(split))
    except Exception as error:  # `datasets` wraps what `make` raised
        for cause in causes_of(error):
            if isinstance(cause, BestiaryError):
                raise cause from None
            if is_full(cause):
                raise no_room(split) from error
        raise
