"""How well a language model foretells texts."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from bestiary.core.evaluation import Evaluation, Progress, need_columns, read
from bestiary.core.packing import batches, pack
from bestiary.core.tables import column_names
from bestiary.core.task import batched
from bestiary.errors import InputError
from bestiary.hub.progress import counted
from bestiary.text.conversations import example_of, form_of
from bestiary.text.tasks.generation import LanguageModel
from bestiary.text.transforms import check_texts

if TYPE_CHECKING:
    from bestiary.core.tables import Rows

WINDOW = 2048  # tokens that are read at once, unless the model's context is shorter
ROWS = 256  # tokens whose logits are computed at once: of a large vocabulary, those of more take gigabytes
TEXTS = 64  # that are read side by side


class Window(NamedTuple):
    """Some tokens of a text, of which those at some places are foretold."""

    tokens: Sequence[int]
    foretold: Sequence[int]


class Text(NamedTuple):
    """A text as tokens; what is foretold of it is all but its first token, so many bytes of UTF-8."""

    tokens: Sequence[int]
    bytes: int


def evaluate_text_generation(
    task: LanguageModel,
    rows: Rows,
    *,
    batch_size: int | None = None,
    window: int = WINDOW,
    join: bool = False,
    progress: Progress = counted,
) -> Evaluation:
    """`perplexity` for a token of the column `text`, and `byte_perplexity`, which compares models of different tokenizers.

    Rows of conversations (`messages`, or `prompt` and `answer`) have the perplexity of what is answered alone, and no other.

    Perplexity is exp of the mean negative log-probability, here of every token but the first of each text; the byte's spreads
    the same sum over the bytes of these tokens. A text of more than `window` tokens, or than the model's context, is read in
    windows of that many, each half a window further than the one before it, and foretells what those before it have not: every
    token with at least half a window before it, but for those at the beginning. With `join` the rows are lines of one text.
    `batch_size` is how many texts are read side by side. Raises InputError for a window below 2, and where there is nothing to
    foretell.
    """
    form = form_of(column_names(rows), "the data")
    if form != ("text",):
        return _of_answers(task, rows, form, batch_size or TEXTS, progress)
    need_columns(rows, ["text"])
    if window < 2:
        raise InputError(f"a window of {window} tokens foretells nothing\ngive 2 or more")
    length = min(window, task.preprocess.context)
    stride = length - length // 2
    nats, tokens, size, count = 0.0, 0, 0, 0

    def lines() -> Iterator[str]:
        nonlocal count
        for (text,) in read(rows, ["text"], progress):
            count += 1
            yield text

    for texts in batched(_joined(lines()) if join else lines(), batch_size or TEXTS):
        encoded = _encoded(task, texts)
        tokens += sum(max(0, len(text.tokens) - 1) for text in encoded)
        size += sum(text.bytes for text in encoded)
        nats += _nats(task, [part for text in encoded for part in windows(text.tokens, length, stride)], length)
    if not tokens:
        raise InputError("no text has two tokens, so that there is nothing to foretell\ngive longer ones")
    return Evaluation(
        metrics={"perplexity": math.exp(nats / tokens), "byte_perplexity": math.exp(nats / size)},
        rows=count,
        counts={"tokens": tokens, "bytes": size, "window": length, "stride": stride},
    )


def _of_answers(task: LanguageModel, rows: Rows, form: Sequence[str], texts: int, progress: Progress) -> Evaluation:
    nats, tokens, count = 0.0, 0, 0
    context = task.preprocess.context
    for some in batched(read(rows, form, progress), texts):
        examples = [example_of(dict(zip(form, values, strict=True)), form, task) for values in some]
        learned = [(one.tokens[:context], one.labels[:context]) for one in examples]
        parts = [Window(ids, [at for at, label in enumerate(labels) if at and label >= 0]) for ids, labels in learned]
        nats += _nats(task, parts, context)
        tokens += sum(len(part.foretold) for part in parts)
        count += len(parts)
    if not tokens:
        raise InputError("there is no answer, so that there is nothing to foretell\ngive rows that have some")
    return Evaluation(metrics={"answer_perplexity": math.exp(nats / tokens)}, rows=count, counts={"tokens": tokens})


def windows(tokens: Sequence[int], length: int, stride: int) -> Iterator[Window]:
    """Windows of at most `length` tokens, each `stride` further on, in which every token but the first is foretold once.

    >>> [(window.tokens, window.foretold) for window in windows(range(6), 4, 2)]
    [(range(0, 4), range(1, 4)), (range(2, 6), range(2, 4))]
    """
    end = 1
    for start in range(0, max(1, len(tokens) - length + stride), stride):
        part = tokens[start : start + length]
        if start + len(part) > end:
            yield Window(part, range(end - start, len(part)))
        end = start + len(part)


def _joined(lines: Iterable[str]) -> Iterator[str]:
    """One text of lines, each of which ends with a line break, its own if it has one."""
    found = list(lines)
    check_texts(found)
    yield "".join(line if line.endswith("\n") else f"{line}\n" for line in found)


def _encoded(task: LanguageModel, texts: Sequence[str]) -> list[Text]:
    check_texts(texts)
    encoded = []
    for text, encoding in zip(texts, task.rules.encode_batch(list(texts)), strict=True):
        foretold = text[encoding.offsets[1][0] :] if len(encoding) > 1 else ""
        encoded.append(Text(encoding.ids, len(foretold.encode())))
    return encoded


@torch.inference_mode()
def _nats(task: LanguageModel, parts: Sequence[Window], length: int) -> float:
    """The sum of the negative log-probabilities of what is foretold in windows of at most that length."""
    net: Any = task.inference.derived()
    total = 0.0
    for group in batches([len(window.tokens) for window in parts], length):
        some = [parts[index] for index in group]
        packed = pack([window.tokens for window in some], task.device)
        hidden_states = net.hidden_states(packed.tokens, packed.mask)  # (rows, width)
        begin = torch.tensor([0, *packed.mask.lengths]).cumsum(0).tolist()
        places = [start + place for start, window in zip(begin, some, strict=False) for place in window.foretold]
        foretold = torch.tensor(places, device=task.device)
        for rows in foretold.split(ROWS):
            logits = net.head(hidden_states[rows - 1]).float()
            total -= float(logits.log_softmax(-1).gather(-1, packed.tokens[rows, None]).double().sum())
    return total

