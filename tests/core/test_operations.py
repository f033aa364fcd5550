"""Operations of a key map: what they load is what they saved, and shares the file's memory."""

import pytest
import torch

from bestiary.core.keymap import load, plan, save
from bestiary.core.operations import split, split_transposed, transposed
from bestiary.errors import LayoutError

MATRICES = {name: torch.randn(3, 4) for name in ("query", "key", "value")}
VECTORS = {name: torch.randn(3) for name in MATRICES}


def read(rule, theirs):
    return {name: value for _, part in load(plan([rule], theirs, rule.ours), theirs) for name, value in part.items()}


@pytest.mark.parametrize(
    ("rule", "ours", "shape"),
    [
        (transposed("fused", "query"), {"query": MATRICES["query"]}, (4, 3)),
        (split("fused", *VECTORS), VECTORS, (9,)),
        (split("fused", *MATRICES), MATRICES, (9, 4)),
        (split_transposed("fused", *MATRICES), MATRICES, (4, 9)),
    ],
    ids=["transposed", "split vectors", "split", "split transposed"],
)
def test_what_is_written_is_read_again_without_a_copy(rule, ours, shape):
    theirs = save([rule], ours)
    assert theirs["fused"].shape == shape
    again = read(rule, theirs)
    assert list(again) == list(ours) and all(torch.equal(again[name], ours[name]) for name in ours)
    assert all(tensor.untyped_storage().data_ptr() == theirs["fused"].untyped_storage().data_ptr() for tensor in again.values())


def test_parts_follow_one_another():
    theirs = {"fused": torch.arange(6).reshape(2, 3)}
    parts = read(split_transposed("fused", "query", "key", "value"), theirs)
    assert [part.tolist() for part in parts.values()] == [[[0, 3]], [[1, 4]], [[2, 5]]]


def test_a_single_number_has_no_parts():
    with pytest.raises(LayoutError, match="fused: a single number, not 2 parts"):
        read(split("fused", "query", "key"), {"fused": torch.tensor(1.0)})
