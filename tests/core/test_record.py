"""Plain values into dataclasses."""

from dataclasses import dataclass
from typing import Literal

import pytest

from bestiary.core.record import record
from bestiary.errors import LayoutError


@dataclass(frozen=True, kw_only=True)
class Shape:
    layers: int
    eps: float = 1e-5
    order: Literal["pre", "post"] = "post"
    size: int | None = None
    stages: tuple[tuple[int, ...], ...] = ()
    gated: bool = False


def test_values_are_taken_and_lists_frozen():
    shape = record(Shape, {"layers": 2, "eps": 1, "stages": [[1, 2], [3]], "size": None}, "it")
    assert shape == Shape(layers=2, eps=1, stages=((1, 2), (3,)))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"layers": 2, "width": 3}, "it has no field width"),
        ({"eps": 1e-5}, "it lacks layers"),
        ({"layers": "2"}, "it has layers: '2', which should be int"),
        ({"layers": True}, "it has layers: True, which should be int"),
        ({"layers": 2.0}, "it has layers: 2.0, which should be int"),
        ({"layers": 2, "order": "sandwich"}, "it has order: 'sandwich'"),
        ({"layers": 2, "stages": [[1, "2"]]}, "it has stages"),
        ({"layers": 2, "gated": 1}, "it has gated: 1, which should be bool"),
        ({"layers": 2, "size": "big"}, "it has size: 'big'"),
    ],
)
def test_what_does_not_fit_is_named(values, message):
    with pytest.raises(LayoutError, match=message):
        record(Shape, values, "it")
