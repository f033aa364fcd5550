"""Batches for training, on a real tokenizer and through real worker processes."""

import warnings

import pytest
import torch
from torch.utils.data import DataLoader

import bestiary
from bestiary.core.buckets import LengthBuckets, by_count
from bestiary.core.packing import Ragged
from bestiary.errors import InputError
from bestiary.text.collate import IGNORED, MaskTokens, NextToken, Pack, Pad

ROWS = [{"tokens": [5, 6], "label": 0}, {"tokens": [7, 8, 9], "label": 1}, {"tokens": [4], "label": 2}]
TAGGED = [{"tokens": [5, 6], "label": [1, 2]}, {"tokens": [7, 8, 9], "label": [3, IGNORED, 4]}]


@pytest.fixture(scope="module")
def embed():
    return bestiary.load("minilm-l6-v2")


@pytest.fixture(scope="module")
def rules(embed):
    return embed.tokenizer.rules


def test_padded() -> None:
    batch = Pad(padding=0)(ROWS)
    assert batch.tokens.tolist() == [[5, 6, 0], [7, 8, 9], [4, 0, 0]] and batch.tokens.dtype == torch.long
    assert batch.mask.tolist() == [[True, True, False], [True, True, True], [True, False, False]]
    assert batch.labels is not None and batch.labels.tolist() == [0, 1, 2]
    assert Pad(padding=0)(TAGGED).labels.tolist() == [[1, 2, IGNORED], [3, IGNORED, 4]]
    assert Pad(padding=0)([{"tokens": [1]}]).labels is None


def test_packed() -> None:
    batch = Pack()(ROWS)
    assert batch.tokens.tolist() == [7, 8, 9, 5, 6, 4] and batch.positions.tolist() == [0, 1, 2, 0, 1, 0]
    assert batch.mask == Ragged((3, 2, 1)) and batch.labels.tolist() == [1, 0, 2]
    assert Pack()(TAGGED).labels.tolist() == [3, IGNORED, 4, 1, 2]
    assert Pack()([{"tokens": [1], "label": 0.5}]).labels.tolist() == [0.5]


def test_both_give_a_net_the_same_to_do(embed) -> None:
    rows = [{"tokens": ids, "label": index} for index, ids in enumerate(embed.tokenizer(["a cat", "the dog of a king", "it"]))]
    padded, packed = Pad(padding=0)(rows).to("cpu"), Pack()(rows).to("cpu")
    with torch.no_grad():
        beside = embed.net(padded.tokens, padded.mask)[padded.mask]
        packed_rows = embed.net(packed.tokens, packed.mask, packed.positions).split(list(packed.mask.lengths))
    order = packed.labels.tolist()
    again = torch.cat([packed_rows[order.index(index)] for index in range(3)])
    assert torch.allclose(beside, again, atol=1e-5)


def test_next_token() -> None:
    batch = NextToken(Pack())([{"tokens": [5, 6]}, {"tokens": [7, 8, 9]}])
    assert batch.tokens.tolist() == [7, 8, 9, 5, 6] and batch.labels.tolist() == [8, 9, IGNORED, 6, IGNORED]
    answers = NextToken(Pad(0))([{"tokens": [1, 2, 3], "label": [IGNORED, IGNORED, 3]}])
    assert answers.labels.tolist() == [[IGNORED, 3, IGNORED]]


@pytest.mark.parametrize("collate", [Pad(padding=0), Pack()])
@pytest.mark.parametrize(
    ("row", "complaint"),
    [({"tokens": [], "label": 1}, "row 0 of a batch has no tokens"), ({"tokens": [1], "label": [1, 2]}, "1 tokens and 2 labels")],
)
def test_rows_that_cannot_be_learned(collate, row, complaint) -> None:
    with pytest.raises(InputError, match=complaint):
        collate([row])


def as_rows(rules, texts):
    return [{"tokens": rules.encode(text).ids} for text in texts]


def test_masking_keeps_the_shares_of_bert(rules) -> None:
    rows = as_rows(rules, ["the quick brown fox jumps over the lazy dog while nobody looks"] * 3000)
    mask_token, vocabulary = rules.token_to_id("[MASK]"), rules.get_vocab_size()
    torch.manual_seed(0)
    original, batch = Pack()(rows), MaskTokens.of(rules, Pack())(rows)
    ordinary = (original.tokens != rules.token_to_id("[CLS]")) & (original.tokens != rules.token_to_id("[SEP]"))
    chosen = batch.labels != IGNORED
    assert not (chosen & ~ordinary).any() and batch.tokens[~chosen].equal(original.tokens[~chosen])
    assert batch.labels[chosen].equal(original.tokens[chosen])
    count = int(chosen.sum())
    assert abs(count / int(ordinary.sum()) - 0.15) < 0.006  # more than three standard deviations of 36,000 draws
    hidden = int((batch.tokens[chosen] == mask_token).sum())
    kept = int((batch.tokens[chosen] == original.tokens[chosen]).sum())
    assert abs(hidden / count - 0.8) < 0.02 and abs(kept / count - 0.1) < 0.015
    random = batch.tokens[chosen & (batch.tokens != mask_token) & (batch.tokens != original.tokens)]
    assert len(set(random.tolist())) > 0.9 * len(random) and int(random.max()) > vocabulary / 2
    special = [token for token, added in rules.get_added_tokens_decoder().items() if added.special]
    assert not torch.isin(random, torch.tensor(special)).any()


def test_whole_words_are_hidden_together(rules) -> None:
    rows = as_rows(rules, ["unbelievably", "antidisestablishmentarianism of tokenizers"] * 200)
    assert len(rows[0]["tokens"]) > 3  # of several pieces
    torch.manual_seed(0)
    batch = MaskTokens.of(rules, Pad(padding=0), whole_words=True, share=0.4)(rows)
    pieces = batch.labels[::2, 1 : len(rows[0]["tokens"]) - 1] != IGNORED  # the one word of every other row
    assert pieces.any() and pieces.all(1).equal(pieces.any(1))
    apart = MaskTokens.of(rules, Pad(padding=0), share=0.4)(rows).labels[::2, 1 : len(rows[0]["tokens"]) - 1] != IGNORED
    assert not apart.all(1).equal(apart.any(1))


def test_the_seed_decides_the_masks(rules) -> None:
    rows = as_rows(rules, ["the quick brown fox jumps over the lazy dog"] * 64)
    mask = MaskTokens.of(rules, Pack())

    def epoch(seed: int, workers: int) -> list[list[int]]:
        generator = torch.Generator().manual_seed(seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of forking beside threads
            loader = DataLoader(rows, batch_size=16, collate_fn=mask, num_workers=workers, generator=generator)
            return [batch.labels.tolist() for batch in loader]

    first = epoch(0, workers=2)
    assert first == epoch(0, workers=2) and first != epoch(1, workers=2)
    assert len({tuple(labels) for labels in first}) == 4  # workers do not draw the same
    torch.manual_seed(3)
    alone = mask(rows).labels
    torch.manual_seed(3)
    assert mask(rows).labels.equal(alone)


def test_a_tokenizer_without_a_mask_and_a_share_that_is_none(rules) -> None:
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel

    with pytest.raises(InputError, match="no mask token"):
        MaskTokens.of(Tokenizer(WordLevel({"a": 0}, unk_token="a")), Pack())
    for share in (0, 1, -0.5):
        with pytest.raises(InputError, match="is no share"):
            MaskTokens.of(rules, Pack(), share=share)


def test_batches_come_through_worker_processes(rules) -> None:
    rows = [{"tokens": [1] * (1 + index % 9), "label": index} for index in range(100)]
    sampler = LengthBuckets([len(row["tokens"]) for row in rows], by_count(8), seed=1)
    loader = DataLoader(rows, batch_sampler=sampler, collate_fn=Pack(), num_workers=2)
    seen = [label for batch in loader for label in batch.labels.tolist()]
    assert sorted(seen) == list(range(100))
