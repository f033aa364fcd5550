"""How well models of text do on labelled rows, those of `bestiary.text.datasets.load`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from bestiary.core.evaluation import (
    Classes,
    Evaluation,
    Match,
    Progress,
    classified,
    listed,
    metrics_of,
    need_columns,
    read,
)
from bestiary.core.tables import LABEL, column_names
from bestiary.errors import InputError
from bestiary.hub.progress import counted
from bestiary.text.perplexity import evaluate_text_generation
from bestiary.text.spans import Found, count_spans, label_of
from bestiary.text.tasks.answering import QuestionAnswerer
from bestiary.text.tasks.classification import SCORES, TextClassifier
from bestiary.text.tasks.embedding import Embedder
from bestiary.text.tasks.encoder import BATCH_SIZE
from bestiary.text.tasks.tagging import TokenClassifier

if TYPE_CHECKING:
    from bestiary.core.tables import Rows

__all__ = [
    "evaluate_question_answering",
    "evaluate_text_classification",
    "evaluate_text_embedding",
    "evaluate_text_generation",
    "evaluate_token_classification",
]

QUERIES = 256  # whose passages are ranked at once


def evaluate_text_classification(
    task: TextClassifier,
    rows: Rows,
    *,
    batch_size: int | None = None,
    match: Match = "names",
    progress: Progress = counted,
) -> Evaluation:
    """`accuracy`, `top5_accuracy` where there are more than five classes, and `macro_f1`, over rows of `text` and `label`.

    Where there is a column `pair` as well, each input is the two texts. Classes are matched by `match`, see
    `bestiary.core.evaluation.Classes`. Raises InputError for labels that are not the model's.
    """
    if task.scores is SCORES["logits"]:
        raise InputError(f"{task.card.name} gives a measure, no classes\nthere is no evaluation of that yet")
    columns = ["text", *(["pair"] if "pair" in column_names(rows) else [])]
    need_columns(rows, columns)
    classes = Classes(rows, task.labels, match, task.card.name)
    number = {name: index for index, name in enumerate(task.labels)}
    labels: list[int] = []

    def texts() -> Iterator[Any]:
        for *parts, label in read(rows, [*columns, LABEL], progress):
            labels.append(classes(label))
            yield tuple(parts) if len(parts) > 1 else parts[0]

    found = task(texts(), top=5, batch_size=batch_size or BATCH_SIZE)
    return classified([[number[label.name] for label in answer] for answer in found], labels, task.labels)


def evaluate_token_classification(
    task: TokenClassifier, rows: Rows, *, batch_size: int | None = None, progress: Progress = counted
) -> Evaluation:
    """`f1`, `precision` and `recall` of spans, over all labels together, and `accuracy` of the tags of words.

    Rows have `words` and one tag for each in `label`. A span is right where its words and its label are; which tags make spans
    says `bestiary.text.spans.spans_of`. Raises InputError for labels of spans that the model does not know.
    """
    need_columns(rows, ["words", LABEL])
    kind = getattr((rows.features or {}).get(LABEL), "feature", None)
    name_of = getattr(kind, "int2str", str)
    known = {label_of(tag) for tag in task.labels}
    expected: list[list[str]] = []

    def sentences() -> Iterator[Any]:
        for number, (words, tags) in enumerate(read(rows, ["words", LABEL], progress)):
            if not isinstance(words, list) or not isinstance(tags, list) or len(words) != len(tags):
                raise InputError(f"row {number} does not have a tag for each word\ngive lists of one length in words and {LABEL}")
            expected.append([name_of(tag) for tag in tags])
            _check_labels({label_of(tag) for tag in expected[-1]} - known, known, task.card.name)
            yield words

    answers = list(task.tags(sentences(), batch_size=batch_size or BATCH_SIZE))
    right = sum(a == b for a, b in zip(chain.from_iterable(answers), chain.from_iterable(expected), strict=True))
    if not (words := sum(map(len, expected))):
        raise InputError("there are no words to evaluate on\ngive a split that has some")
    classes = count_spans(answers, expected)
    every = Found(*(sum(counts) for counts in zip(*classes.values(), strict=True))) if classes else Found(0, 0, 0)
    return Evaluation(
        metrics={"f1": every.f1, "precision": every.precision, "recall": every.recall, "accuracy": right / words},
        rows=len(expected),
        counts={"words": words, "spans": every.there},
        classes={
            label: {"precision": one.precision, "recall": one.recall, "f1": one.f1, "spans": one.there}
            for label, one in classes.items()
        },
    )


def evaluate_text_embedding(
    task: Embedder, rows: Rows, *, batch_size: int | None = None, progress: Progress = counted
) -> Evaluation:
    """How near vectors are to those that they belong to.

    Of rows with a `text` and a `positive`, such as a question and its answer: `recall_at_1`, `recall_at_5` and `mrr`, the mean
    reciprocal rank, of each text's positive among the different positives of all rows. Other positives of the same text are no
    rivals; what is as near as the right one counts as nearer. Of rows with a `text`, an `other` and a `score`: `spearman`, the
    correlation of the ranks of their cosines and their scores.
    """
    there = column_names(rows)
    size = batch_size or BATCH_SIZE
    if {"other", "score"} <= {*there}:
        need_columns(rows, ["text"])
        return _correlation(task, list(read(rows, ["text", "other", "score"], progress)), size)
    if "positive" not in there:
        raise InputError(
            f"embeddings are evaluated on texts with a positive, or with an other and a score\nthe columns: {', '.join(there)}"
        )
    need_columns(rows, ["text"])
    return _retrieval(task, list(read(rows, ["text", "positive"], progress)), size)


def evaluate_question_answering(
    task: QuestionAnswerer, rows: Rows, *, batch_size: int | None = None, progress: Progress = counted
) -> Evaluation:
    """`f1` of the words that answer and right answer share, and `exact_match`, both as SQuAD counts them, as shares of 1.

    Rows have a `question`, a `context` and `answers`, as SQuAD has them: a mapping whose `text` lists the right answers
    (Rajpurkar et al. 2016, arXiv:1606.05250). The one that fits best counts.
    """
    columns = ["question", "context", "answers"]
    need_columns(rows, columns)
    squad = metrics_of("functional.text").squad
    asked: list[tuple[str, str]] = []
    expected: list[dict[str, Any]] = []
    for number, (question, context, answers) in enumerate(read(rows, columns, progress)):
        texts = answers.get("text") if isinstance(answers, dict) else None
        if not texts:
            raise InputError(f"row {number} has no answer\nwanted: answers: {{text: [...]}}; leave out questions without one")
        asked.append((question, context))
        expected.append({"answers": {"text": texts, "answer_start": [0] * len(texts)}, "id": str(number)})
    found = task(asked, batch_size=batch_size or BATCH_SIZE)
    given = [{"prediction_text": answer.text, "id": str(number)} for number, answer in enumerate(found)]
    result = squad(given, expected)
    return Evaluation(
        metrics={"f1": float(result["f1"]) / 100, "exact_match": float(result["exact_match"]) / 100}, rows=len(asked)
    )


def _check_labels(unknown: set[str | None], known: set[str | None], model: str) -> None:
    if unknown:
        names, own = (sorted(filter(None, labels)) for labels in (unknown, known))
        raise InputError(
            f"{model} does not know the label {listed(names)} of the data\nit knows {listed(own)}\n"
            "call the labels alike, or take a model that was tuned on such data"
        )


def _prompt(task: Embedder, name: str) -> str | None:
    return name if name in task.prompts else None


def _retrieval(task: Embedder, pairs: Sequence[tuple[str, str]], size: int) -> Evaluation:
    places = {passage: place for place, passage in enumerate(dict.fromkeys(positive for _, positive in pairs))}
    own: dict[str, list[int]] = {}
    for text, positive in pairs:
        own.setdefault(text, []).append(places[positive])
    queries = task([text for text, _ in pairs], prompt=_prompt(task, "query"), batch_size=size)
    passages = task(list(places), prompt=_prompt(task, "passage"), batch_size=size)
    right = [places[positive] for _, positive in pairs]
    ranks = _ranks(queries, passages, right, [own[text] for text, _ in pairs]).double()
    return Evaluation(
        metrics={
            "recall_at_1": float((ranks <= 1).double().mean()),
            "recall_at_5": float((ranks <= 5).double().mean()),
            "mrr": float((1 / ranks).mean()),
        },
        rows=len(pairs),
        counts={"passages": len(places)},
    )


def _ranks(queries: Tensor, passages: Tensor, right: Sequence[int], own: Sequence[Iterable[int]]) -> Tensor:
    """The rank of each query's right passage, (n,) from 1, among the passages that are not its own."""
    ranks = []
    for first in range(0, len(queries), QUERIES):
        scores = queries[first : first + QUERIES] @ passages.T  # (queries, passages)
        wanted = torch.tensor(right[first : first + QUERIES])
        scores_of_right = scores[torch.arange(len(scores)), wanted]
        for row, places in enumerate(own[first : first + QUERIES]):
            scores[row, list(places)] = -torch.inf
        ranks.append(1 + (scores >= scores_of_right[:, None]).sum(-1))
    return torch.cat(ranks)


def _correlation(task: Embedder, rows: Sequence[tuple[Any, ...]], size: int) -> Evaluation:
    if len(rows) < 2:
        raise InputError("ranks of one pair cannot correlate\ngive more rows")
    functional = metrics_of("functional")
    a, b = (task([row[part] for row in rows], batch_size=size) for part in (0, 1))
    cosines = torch.nn.functional.cosine_similarity(a, b).double()
    scores = torch.tensor([float(score) for *_, score in rows], dtype=torch.double)
    return Evaluation(metrics={"spearman": float(functional.spearman_corrcoef(cosines, scores))}, rows=len(rows))
