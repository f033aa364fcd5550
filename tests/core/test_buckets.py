"""Batches of like length: every sequence once an epoch, the same for the same seed, fairly shared between processes."""

from collections import Counter
from itertools import chain
from random import Random

import pytest
from torch.utils.data import DataLoader

from bestiary.core.buckets import LengthBuckets, StreamBuckets, by_count, by_rows
from bestiary.errors import InputError

LENGTHS = [max(1, int(Random(seed).lognormvariate(3, 1))) for seed in range(1000)]


@pytest.mark.parametrize("cut", [by_count(32), by_rows(1024)], ids=["by count", "by rows"])
def test_every_sequence_comes_once(cut) -> None:
    sampler = LengthBuckets(LENGTHS, cut, pool=256)
    assert sorted(chain.from_iterable(sampler)) == list(range(1000))
    assert len(list(sampler)) == len(sampler)


def test_batches_keep_their_bounds() -> None:
    assert {len(batch) for batch in LengthBuckets(LENGTHS, by_count(32), pool=256)} == {32, 1000 % 256 % 32}
    for batch in LengthBuckets(LENGTHS, by_rows(512), pool=256):
        assert len(batch) == 1 or sum(LENGTHS[index] for index in batch) <= 512


def padding(batches) -> float:
    """Tokens of padded batches over those of their sequences."""
    return sum(len(b) * max(LENGTHS[i] for i in b) for b in batches) / sum(LENGTHS)


def test_little_is_padded() -> None:
    order = Random(0).sample(range(1000), 1000)
    plain = [order[start : start + 32] for start in range(0, 1000, 32)]
    for pool, left in {1000: 1 / 3, 256: 1 / 2}.items():
        assert padding(LengthBuckets(LENGTHS, by_count(32), pool=pool)) - 1 < (padding(plain) - 1) * left


def test_epochs_differ_and_repeat() -> None:
    def epoch(number: int, seed: int = 7) -> list[list[int]]:
        sampler = LengthBuckets(LENGTHS, by_count(32), seed=seed)
        sampler.set_epoch(number)
        return list(sampler)

    assert epoch(0) == epoch(0) == list(LengthBuckets(LENGTHS, by_count(32), seed=7))
    assert epoch(0) != epoch(1) and epoch(0) != epoch(0, seed=8)
    lengths = [LENGTHS[batch[0]] for batch in epoch(0)]
    assert lengths != sorted(lengths) and lengths != sorted(lengths, reverse=True)


def test_processes_share_the_batches_and_take_as_many_steps() -> None:
    whole = list(LengthBuckets(LENGTHS, by_count(32), seed=1))
    shares = [list(LengthBuckets(LENGTHS, by_count(32), seed=1, rank=rank, processes=3)) for rank in range(3)]
    assert len(whole) == 32 and [len(share) for share in shares] == [11, 11, 11]
    assert Counter(map(tuple, chain(*shares))) == Counter(map(tuple, [*whole, whole[0]]))


def test_more_processes_than_batches() -> None:
    shares = [list(LengthBuckets([5], by_count(2), rank=rank, processes=3)) for rank in range(3)]
    assert shares == [[[0]], [[0]], [[0]]]
    assert list(LengthBuckets([], by_count(2))) == []


def rows_of(lengths):
    return [{"tokens": [0] * length, "index": index} for index, length in enumerate(lengths)]


def first(rows):
    return [row["index"] for row in rows]


def test_a_stream_is_bucketed_a_pool_at_a_time() -> None:
    def run(seed: int) -> list[list[int]]:
        stream = StreamBuckets(iter(rows_of(LENGTHS)), by_rows(512), length=lambda row: len(row["tokens"]), pool=250, seed=seed)
        return list(DataLoader(stream, batch_size=None, collate_fn=first))

    batches = run(0)
    assert sorted(chain.from_iterable(batches)) == list(range(1000))
    assert [index // 250 for index in chain.from_iterable(batches)] == sorted(index // 250 for index in range(1000))
    assert batches == run(0) and batches != run(1)


@pytest.mark.parametrize("wrong", [lambda: by_rows(0), lambda: by_count(-1), lambda: LengthBuckets([1], by_count(1), pool=0)])
def test_sizes_below_one_are_errors(wrong) -> None:
    with pytest.raises(InputError, match="give 1 or more"):
        wrong()
