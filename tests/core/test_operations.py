"""Operations of a key map: what they load is what they saved, and shares the file's memory."""

import pytest
import torch

from bestiary.core.keymap import load, plan, save
from bestiary.core.operations import fused, interleaved, joined, shifted, split, split_transposed, squeezed, transposed
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
        (squeezed("fused", "row", sides=2), {"row": VECTORS["query"][None, None]}, (3,)),
    ],
    ids=["transposed", "split vectors", "split", "split transposed", "squeezed"],
)
def test_what_is_written_is_read_again_without_a_copy(rule, ours, shape):
    theirs = save([rule], ours)
    assert theirs["fused"].shape == shape
    again = read(rule, theirs)
    assert list(again) == list(ours) and all(torch.equal(again[name], ours[name]) for name in ours)
    assert all(tensor.untyped_storage().data_ptr() == theirs["fused"].untyped_storage().data_ptr() for tensor in again.values())


def test_weights_and_biases_are_fused_each_for_themselves():
    weight, bias = fused("qkv.", "attention", ("query", "key", "value"))
    theirs = {"qkv.weight": torch.cat(list(MATRICES.values())), "qkv.bias": torch.cat(list(VECTORS.values()))}
    for rule, ours in ((weight, MATRICES), (bias, VECTORS)):
        (kind,) = rule.theirs[0]
        found = read(rule, {kind: theirs[kind]})
        assert all(torch.equal(found[f"attention.{part}.{kind.removeprefix('qkv.')}"], ours[part]) for part in ours)


def test_parts_follow_one_another():
    theirs = {"fused": torch.arange(6).reshape(2, 3)}
    parts = read(split_transposed("fused", "query", "key", "value"), theirs)
    assert [part.tolist() for part in parts.values()] == [[[0, 3]], [[1, 4]], [[2, 5]]]


def test_a_single_number_has_no_parts():
    with pytest.raises(LayoutError, match="fused: a single number, not 2 parts"):
        read(split("fused", "query", "key"), {"fused": torch.tensor(1.0)})


def test_parts_of_a_file_are_joined_along_a_side():
    rule, whole = joined(("first", "second"), "both", dim=1), torch.arange(6).reshape(1, 2, 3)
    theirs = save([rule], {"both": whole})
    assert {name: part.tolist() for name, part in theirs.items()} == {"first": [[[0, 1, 2]]], "second": [[[3, 4, 5]]]}
    assert torch.equal(read(rule, theirs)["both"], whole)
    for first in (torch.zeros(1, 2, 3), torch.zeros(3)):
        with pytest.raises(LayoutError, match="first, second: not 2 parts of one shape"):
            read(rule, {"first": first, "second": torch.zeros(3)})
    with pytest.raises(LayoutError, match="the file lacks first, second"):
        read(rule, {"second": torch.zeros(1, 1, 3)})


def test_neighbours_in_the_file_lie_half_a_head_apart_here():
    """Two heads of six rows: pairs (0, 1), (2, 3), (4, 5) of theirs are rows (0, 3), (1, 4), (2, 5) of ours."""
    rule = interleaved("projection", "query", head_width=6)
    rows = torch.arange(12)
    ours = read(rule, {"projection": rows})["query"]
    assert ours.tolist() == [0, 2, 4, 1, 3, 5, 6, 8, 10, 7, 9, 11]
    assert torch.equal(save([rule], {"query": ours})["projection"], rows)
    matrix = torch.randn(12, 3)
    assert torch.equal(read(rule, {"projection": matrix})["query"], matrix[ours])


@pytest.mark.parametrize("shape", [(), (8, 3)])
def test_rows_that_are_no_heads_are_refused(shape):
    with pytest.raises(LayoutError, match="projection: not a number of heads of 6 rows"):
        read(interleaved("projection", "query", head_width=6), {"projection": torch.zeros(shape)})


def test_what_is_larger_in_the_file():
    rule = shifted("whole", "distance", amount=1)
    assert read(rule, {"whole": torch.tensor([1.5, 1.0])})["distance"].tolist() == [0.5, 0.0]
    assert save([rule], {"distance": torch.tensor([0.5, 0.0])})["whole"].tolist() == [1.5, 1.0]
