"""Search by vectors, of whatever comes in batches."""

import pytest
import torch

from bestiary.core.similarity import nearest, similarity_report


@pytest.mark.parametrize("size", [1, 3, 10])
def test_the_nearest_are_those_of_the_whole_table_however_it_is_cut(size):
    torch.manual_seed(0)
    queries, vectors = torch.randn(2, 4), torch.randn(10, 4)
    corpus = ((range(start, min(start + size, 10)), vectors[start : start + size]) for start in range(0, 10, size))
    found = nearest(queries, corpus, top=4)
    for matches, products in zip(found, queries @ vectors.T, strict=True):
        scores, numbers = products.topk(4)
        assert [number for number, _ in matches] == numbers.tolist()
        assert [score for _, score in matches] == pytest.approx(scores.tolist())


def test_a_corpus_may_hold_fewer_than_are_asked_for_or_nothing():
    queries = torch.eye(2)
    assert nearest(queries, [([], torch.empty(0, 2)), (["one"], torch.tensor([[3.0, 4.0]]))], top=5) == [
        [("one", 3.0)],
        [("one", 4.0)],
    ]
    assert nearest(queries, [], top=5) == [[], []]
    assert nearest(torch.empty(0, 2), [(["one"], torch.ones(1, 2))], top=5) == []


def test_the_report_shows_each_beside_the_others():
    report = similarity_report("text", ["a", "b"], torch.tensor([[1.0, 0.0], [0.6, 0.8]]))
    assert report.columns == ["text", "to 1", "to 2"] and report.rows == [["a", 1.0, 0.6], ["b", 0.6, 1.0]]
    assert report.records[1] == {"text": "b", "vector": pytest.approx([0.6, 0.8])}
