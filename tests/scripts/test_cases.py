"""The cases of the benchmark: their inputs, and the download with little data."""

import pytest

import bestiary
from bestiary.scripts.benchmark import Bench
from bestiary.scripts.cases import classify, download, embed


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


def test_a_small_download_goes_through_both(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "SIZE", 2_000_000)
    (row,) = download.download(Bench(rounds=1))
    assert row.ours > 0 and row.peer is not None and row.peer > 0
