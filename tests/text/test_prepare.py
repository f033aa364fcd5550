"""Rows of tokens out of rows of texts: tables that are remembered, streams that stay streams."""

from pathlib import Path

import datasets as library
import pytest
from torch.utils.data import DataLoader

import bestiary
from bestiary.core.buckets import StreamBuckets, by_rows
from bestiary.errors import InputError
from bestiary.text import datasets
from bestiary.text.collate import IGNORED, Pad
from bestiary.text.prepare import blocks, cut_in_blocks, tokenise, tokenise_words


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library.config, "HF_DATASETS_CACHE", tmp_path / "cache")


@pytest.fixture(scope="module")
def tokenizer():
    return bestiary.load("minilm-l6-v2").tokenizer


@pytest.fixture
def folder(tmp_path: Path) -> str:
    """Two files of 500 rows each."""
    for part in "ab":
        rows = "".join(f'{{"text": "{part} {"word " * (index % 7)}{index}", "label": {index}}}\n' for index in range(500))
        (tmp_path / f"train-{part}.jsonl").write_text(rows)
    return str(tmp_path)


def test_texts_become_tokens(folder, tokenizer) -> None:
    texts = datasets.load(folder)
    rows = tokenise(texts, tokenizer)
    assert rows.column_names == ["label", "tokens", "length"] and len(rows) == 1000
    assert rows["tokens"][:3] == tokenizer(texts["text"][:3]) and rows["length"][:3] == [len(ids) for ids in rows["tokens"][:3]]
    assert rows.features["tokens"].feature.dtype == "int32"  # half of what Arrow takes for Python's integers
    written = Path(rows.cache_files[0]["filename"]).stat().st_mtime_ns
    again = tokenise(texts, tokenizer)
    assert Path(again.cache_files[0]["filename"]).stat().st_mtime_ns == written and again.cache_files == rows.cache_files


def test_a_stream_of_texts_reaches_batches_through_workers(folder, tokenizer) -> None:
    rows = tokenise(datasets.load(folder, streaming=True), tokenizer)
    assert isinstance(rows, library.IterableDataset)
    stream = StreamBuckets(rows, by_rows(256), length=lambda row: row["length"], pool=200)
    batches = list(DataLoader(stream, batch_size=None, collate_fn=Pad(padding=0), num_workers=2))
    labels = sorted(label for batch in batches for label in batch.labels.tolist())
    assert labels == sorted([*range(500), *range(500)])  # each worker read a file of its own
    assert all(int(batch.mask.sum()) <= 256 for batch in batches)


def test_the_row_without_a_text_is_named(tmp_path, tokenizer) -> None:
    (tmp_path / "rows.csv").write_text("text,label\nfine,1\n,0\n")
    rows = datasets.load(tmp_path / "rows.csv")
    with pytest.raises(InputError, match="row 1 has no text in 'text' but None"):
        tokenise(rows, tokenizer)
    with pytest.raises(InputError, match="no column 'review'\ntheir columns: text, label"):
        tokenise(rows, tokenizer, "review")


def test_labels_of_words_go_to_their_first_tokens(tokenizer) -> None:
    rows = library.Dataset.from_dict({"words": [["Angela", "visited", "Wolverhampton"], []], "label": [[1, 0, 5], []]})
    row, empty = tokenise_words(rows, tokenizer.rules)
    pieces = [tokenizer.rules.id_to_token(token) for token in row["tokens"]]
    assert pieces == ["[CLS]", "angela", "visited", "wolverhampton", "[SEP]"] or "##" in "".join(pieces)
    begins = [label for label in row["label"] if label != IGNORED]
    assert begins == [1, 0, 5] and row["label"][0] == row["label"][-1] == IGNORED and row["length"] == len(pieces)
    assert all((label == IGNORED) == (piece.startswith(("##", "["))) for piece, label in zip(pieces, row["label"], strict=True))
    assert empty["label"] == [IGNORED, IGNORED]


def test_words_and_labels_have_to_be_as_many(tokenizer) -> None:
    rows = library.Dataset.from_dict({"words": [["a"], ["a", "b"]], "label": [[1], [1]]})
    with pytest.raises(InputError, match="row 1 has 2 words and 1 labels"):
        tokenise_words(rows, tokenizer.rules)


@pytest.mark.parametrize("streaming", [False, True])
def test_documents_are_joined_and_cut(folder, tokenizer, streaming) -> None:
    rows = tokenise(datasets.load(folder, streaming=streaming), tokenizer)
    joined = [token for row in rows for token in [*row["tokens"], 0]]
    cut = [row["tokens"] for row in cut_in_blocks(rows, 64, end=0)]
    assert {len(block) for block in cut} == {64} and len(cut) == len(joined) // 64
    assert [token for block in cut for token in block] == joined[: len(cut) * 64]


def test_a_document_longer_than_many_blocks() -> None:
    assert sum(1 for _ in blocks([range(1_000_000)], 10, end=0)) == 100_000
    with pytest.raises(InputError, match="a block of 0 tokens"):
        list(blocks([[1]], 0, end=0))
