"""The embedder on its real weights: known answers, the reference library, odd inputs."""

import threading
import warnings

import pytest
import torch

import bestiary
from bestiary.core.task import Report

TEXTS = [
    "The cat sleeps on the warm windowsill.",
    "A kitten is napping in the sun.",
    "Stock markets fell sharply on Monday.",
    "",
    "Ärger mit Ümlauten, 猫 and emoji 🐈",
    "word " * 100,
]


@pytest.fixture(scope="module")
def embed():
    return bestiary.load("minilm-l6-v2")


@pytest.fixture(scope="module")
def vectors(embed):
    return embed(TEXTS)


def test_vectors_are_those_of_the_reference_library(embed, vectors, tmp_path_factory):
    from sentence_transformers import SentenceTransformer

    folder = tmp_path_factory.mktemp("upstream") / "minilm"
    embed.export(folder, layout="transformers")
    reference = SentenceTransformer(str(folder), device="cpu")
    assert reference.max_seq_length == 256
    assert (vectors - reference.encode(TEXTS, convert_to_tensor=True)).abs().max() < 1e-5


def test_known_similarities(vectors):
    similarity = vectors @ vectors.T
    assert torch.allclose(similarity.diagonal(), torch.ones(len(TEXTS)), atol=1e-6)
    # Sleeping cat and napping kitten; sleeping cat and falling markets.
    assert similarity[0, 1] == pytest.approx(0.5236, abs=1e-4)
    assert similarity[0, 2] == pytest.approx(0.0, abs=0.1)


def test_result_has_the_form_of_the_question(embed, vectors):
    assert vectors.shape == (len(TEXTS), 384) and vectors.dtype == torch.float32
    assert embed(TEXTS[0]).shape == (384,)
    assert embed([]).shape == (0, 384)
    assert embed(tuple(TEXTS[:2])).shape == (2, 384)


def test_a_text_has_one_vector_alone_or_among_others_in_any_order(embed, vectors):
    assert (torch.stack([embed(text) for text in TEXTS]) - vectors).abs().max() < 1e-6
    assert (embed(TEXTS[::-1]).flip(0) - vectors).abs().max() < 1e-6
    assert (embed(TEXTS, batch_size=2) - vectors).abs().max() < 1e-6


def test_an_iterator_streams(embed, vectors):
    read = []

    def texts():
        for text in TEXTS:
            read.append(text)
            yield text

    stream = embed(texts(), batch_size=2)
    assert read == []
    first = next(stream)
    assert len(read) == 2
    assert (torch.stack([first, *stream]) - vectors).abs().max() < 1e-6


def test_a_long_text_is_cut_and_that_is_said_once():
    embed = bestiary.load("minilm-l6-v2")
    with pytest.warns(UserWarning, match="over 256 tokens are cut"):
        cut = embed("word " * 400)
    assert torch.allclose(cut, embed("word " * 254), atol=1e-6)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        embed("word " * 400)


@pytest.mark.parametrize("given", [[1], ["a", None], [b"bytes"], [["nested"]]])
def test_what_is_not_a_text_is_refused(embed, given):
    with pytest.raises(bestiary.InputError, match=r"input \d is not a text"):
        embed(given)


def test_something_that_cannot_be_iterated_is_refused(embed):
    with pytest.raises(bestiary.InputError, match="not a text"):
        embed(3)


@pytest.mark.parametrize("size", [0, -1])
@pytest.mark.parametrize("texts", [["a"], iter(["a"])], ids=["list", "iterator"])
def test_a_batch_size_below_one_is_refused_at_once(embed, texts, size):
    with pytest.raises(bestiary.InputError, match=f"batch_size={size} "):
        embed(texts, batch_size=size)


def test_several_threads_may_ask_at_once(embed, vectors):
    answers = {}
    threads = [threading.Thread(target=lambda i=i: answers.update({i: embed(TEXTS)})) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all((answers[i] - vectors).abs().max() < 1e-6 for i in range(4))


def test_bf16_stays_near(vectors):
    cosines = (bestiary.load("minilm-l6-v2", precision="bf16")(TEXTS) * vectors).sum(1)
    assert cosines.min() > 0.999


def test_a_trained_net_answers_anew():
    embed = bestiary.load("minilm-l6-v2")
    before = embed(TEXTS[0])
    with torch.no_grad():
        embed.net.blocks[5].mlp.down.bias.add_(0.1 * torch.randn(384))
    assert not torch.allclose(embed(TEXTS[0]), before, atol=1e-3)


def test_report_for_the_command_line(embed):
    report = embed.report(["a cat", "a dog"])
    assert isinstance(report, Report)
    assert report.columns == ["text", "to 1", "to 2"]
    assert report.rows[0][:2] == ["a cat", 1.0]
    assert len(report.records[1]["vector"]) == 384
