"""Search by vectors, whatever they are vectors of."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from heapq import nlargest
from typing import Any, TypeVar

from torch import Tensor

from bestiary.core.task import Report

Item = TypeVar("Item")


def nearest(queries: Tensor, corpus: Iterable[tuple[Sequence[Item], Tensor]], top: int) -> list[list[tuple[Item, float]]]:
    """For each of the queries (n, width) the `top` items with the largest dot products, best first, and these.

    The corpus comes in batches of items and their vectors (items, width). It is read once and only the best are kept, so it
    may be longer than memory.

    >>> import torch
    >>> nearest(torch.tensor([[1.0, 0.0]]), [(["east", "north"], torch.eye(2)), (["west"], torch.tensor([[-1.0, 0.0]]))], top=2)
    [[('east', 1.0), ('north', 0.0)]]
    """
    best: list[list[tuple[Item, float]]] = [[] for _ in queries]
    for items, vectors in corpus:
        if not items:
            continue
        values, places = (queries @ vectors.T).topk(min(top, len(items)))  # (queries, top)
        for row, (scores, indices) in enumerate(zip(values.tolist(), places.tolist(), strict=True)):
            found = zip(map(items.__getitem__, indices), scores, strict=True)
            best[row] = nlargest(top, [*best[row], *found], key=lambda match: match[1])
    return best


def similarity_report(what: str, inputs: Sequence[str], vectors: Tensor) -> Report:
    """What the command line shows of vectors (n, width): their dot products as a table, the vectors themselves as records."""
    similarity: list[list[Any]] = (vectors @ vectors.T).tolist()
    return Report(
        columns=[what, *(f"to {i + 1}" for i in range(len(inputs)))],
        rows=[[name, *(round(value, 4) for value in row)] for name, row in zip(inputs, similarity, strict=True)],
        records=[{what: name, "vector": vector.tolist()} for name, vector in zip(inputs, vectors, strict=True)],
    )
