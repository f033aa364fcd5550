"""From rows of texts to rows of tokens: what is done to a data set once, before training.

Tables stay tables, mapped into memory and remembered by `datasets` between runs; streams stay streams.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

from bestiary.core.tables import column_names, quiet
from bestiary.errors import InputError
from bestiary.text.collate import IGNORED, LABEL, TOKENS

if TYPE_CHECKING:
    from tokenizers import Tokenizer as Rules

    from bestiary.core.tables import Rows

Tokenise: TypeAlias = Callable[[Sequence[str]], Sequence[Sequence[int]]]
"""From texts to the token ids of each; `bestiary.text.transforms.Tokenizer` is one."""

LENGTH = "length"


def tokenise(rows: Rows, tokenizer: Tokenise, column: str = "text") -> Rows:
    """The rows with `tokens` and their number, `length`, in place of the texts in a column.

    Raises InputError where there is no such column, and for a row whose text is missing.
    """
    _need(rows, column)
    return _map(rows, partial(_tokenise, tokenizer=tokenizer, column=column), [column], labels=None)


def tokenise_pairs(rows: Rows, tokenizer: Tokenise, column: str = "text", other: str = "positive") -> Rows:
    """The rows with the tokens of two columns of texts: of the first in `tokens`, of the other in its own place."""
    others = tokenise(rows, tokenizer, other).rename_column(TOKENS, other).remove_columns(LENGTH)
    return tokenise(others, tokenizer, column)


def tokenise_words(rows: Rows, rules: Rules, *, words: str = "words", label: str = LABEL) -> Rows:
    """The rows with `tokens`, `length` and one `label` for each token, from lists of words and of their labels.

    The first piece of a word has its label; other pieces and special tokens have -100, which a loss ignores. Rows are cut
    where the `rules` of a tokenizer cut. Raises InputError where a column is missing, or a row has more words than labels.
    """
    _need(rows, words)
    _need(rows, label)
    removed = list(dict.fromkeys([words, label]))
    return _map(rows, partial(_tokenise_words, rules=rules, words=words, label=label), removed, labels="int32")


def blocks(documents: Iterable[Sequence[int]], length: int, end: int) -> Iterator[list[int]]:
    """Documents laid end to end, an `end` token after each, and cut every `length` tokens; what is left over is dropped.

    >>> list(blocks([[1, 2], [3], [4, 5, 6]], length=3, end=0))
    [[1, 2, 0], [3, 0, 4], [5, 6, 0]]

    Raises InputError for a length below 1.
    """
    if length < 1:
        raise InputError(f"a block of {length} tokens cannot be cut\ngive 1 or more")
    rest: list[int] = []
    for document in documents:
        rest += [*document, end]
        whole = len(rest) // length * length
        yield from (rest[start : start + length] for start in range(0, whole, length))
        rest = rest[whole:]


def cut_in_blocks(rows: Rows, length: int, end: int) -> Rows:
    """Rows of `length` tokens each, cut from the `tokens` of these as `blocks` does: what a language model is trained on."""
    from datasets import Dataset, Features, IterableDataset, List, Value

    _need(rows, TOKENS)
    kind = Features({TOKENS: List(Value("int32"))})
    source = {"rows": rows.select_columns([TOKENS]), "length": length, "end": end}
    with quiet():
        if isinstance(rows, IterableDataset):
            return IterableDataset.from_generator(_block_rows, gen_kwargs=source, features=kind)
        return Dataset.from_generator(_block_rows, gen_kwargs=source, features=kind)


def _block_rows(rows: Iterable[Any], length: int, end: int) -> Iterator[dict[str, list[int]]]:
    return ({TOKENS: block} for block in blocks((row[TOKENS] for row in rows), length, end))


def _need(rows: Rows, column: str) -> None:
    if column not in (there := column_names(rows)):
        raise InputError(f"the rows have no column {column!r}\ntheir columns: {', '.join(there)}")


def _map(rows: Rows, function: Callable[..., Any], removed: list[str], labels: str | None) -> Rows:
    from datasets import Dataset, Features, List, Value

    options: dict[str, Any] = {"batched": True, "with_indices": True, "remove_columns": removed}
    if isinstance(rows, Dataset):
        made = {TOKENS: List(Value("int32")), LENGTH: Value("int32"), **({LABEL: List(Value(labels))} if labels else {})}
        kept = {name: kind for name, kind in rows.features.items() if name not in removed}
        options["features"] = Features(kept | made)
    with quiet():
        return rows.map(function, **options)


def _tokenise(batch: dict[str, list[Any]], indices: list[int], tokenizer: Tokenise, column: str) -> dict[str, list[Any]]:
    for index, text in zip(indices, batch[column], strict=True):
        if not isinstance(text, str):
            raise InputError(f"row {index} has no text in {column!r} but {text!r:.40}\ncorrect the row, or leave it out")
    tokens = tokenizer(batch[column])
    return {TOKENS: list(tokens), LENGTH: [len(ids) for ids in tokens]}


def _tokenise_words(
    batch: dict[str, list[Any]], indices: list[int], rules: Rules, words: str, label: str
) -> dict[str, list[Any]]:
    for index, row, labels in zip(indices, batch[words], batch[label], strict=True):
        if len(row) != len(labels):
            raise InputError(f"row {index} has {len(row)} words and {len(labels)} labels\ncorrect the row, or leave it out")
    encodings = rules.encode_batch(batch[words], is_pretokenized=True)
    return {
        TOKENS: [encoding.ids for encoding in encodings],
        LENGTH: [len(encoding.ids) for encoding in encodings],
        LABEL: [_spread(encoding.word_ids, labels) for encoding, labels in zip(encodings, batch[label], strict=True)],
    }


def _spread(word_ids: Sequence[int | None], labels: Sequence[int]) -> list[int]:
    """A label for each token: its word's, for the first token of a word."""
    before = [None, *word_ids[:-1]]
    pairs = zip(word_ids, before, strict=True)
    return [IGNORED if word is None or word == last else labels[word] for word, last in pairs]
