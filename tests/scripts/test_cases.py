"""The cases of the benchmark: their inputs, and the download with little data."""

import pytest

import bestiary
from bestiary.scripts.benchmark import Bench
from bestiary.scripts.cases import classify, download, embed, lora


def test_texts_are_the_same_every_time_and_as_long_as_promised() -> None:
    texts = embed.sample_texts()
    assert texts == embed.sample_texts()
    assert len(set(texts)) == 400
    lengths = [len(text.split()) for text in texts]
    assert min(lengths) >= 3 and max(lengths) <= 200


def test_images_are_the_same_every_time() -> None:
    images = classify.sample_images()
    assert images.shape == (16, 3, 224, 224)
    assert images.equal(classify.sample_images())


def test_the_models_of_the_cases_have_cards() -> None:
    assert {embed.MODEL, classify.MODEL} <= set(bestiary.list_models())


def test_blocks_ask_for_what_follows_in_answers() -> None:
    batch = lora.blocks(vocabulary=50)
    assert batch.tokens.shape == (lora.BLOCKS, 512) and batch.tokens.equal(lora.blocks(vocabulary=50).tokens)
    assert (batch.positions == 0).sum() == lora.BLOCKS * len(lora.EXAMPLES)
    asked = batch.following >= 0
    assert asked.sum() == lora.BLOCKS * 256  # the second half of each example
    assert batch.following[:, :-1][asked[:, :-1]].equal(batch.tokens[:, 1:][asked[:, :-1]])
    assert not (batch.following >= 0)[:, -1].any()


def test_a_small_download_goes_through_both(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "SIZE", 2_000_000)
    (row,) = download.download(Bench(rounds=1))
    assert row.ours > 0 and row.peer is not None and row.peer > 0
