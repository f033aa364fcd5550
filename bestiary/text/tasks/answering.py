"""Questions about a text to the parts of it that answer them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, get_type_hints

import torch
from tokenizers import Encoding
from torch import Tensor

from bestiary.core.record import record
from bestiary.core.task import Report
from bestiary.errors import InputError
from bestiary.text.tasks.encoder import BATCH_SIZE, EncoderTask, answered, of_rows
from bestiary.text.transforms import check_texts

Asked = tuple[str, str]  # a question, and the text that it is about


@dataclass(frozen=True, kw_only=True)
class QuestionAnswererPreprocess:
    """The keys of a card's `preprocess` for question-answering."""

    max_length: int  # tokens of a window with its question; longer texts are read in windows that overlap by a fourth
    no_answer: float | None = None  # none is given where its logit is so much above the best answer's; null: always one


class Answer(NamedTuple):
    """A part of the text, text[start:end], and its probability; where there is no answer, an empty one at 0."""

    text: str
    start: int
    end: int
    score: float


class Candidate(NamedTuple):
    """The best span of one window, by the sum of the logits of its ends."""

    logit: float
    start: int
    end: int


class QuestionAnswerer(EncoderTask):
    """Questions to answers, which are parts of a text (Devlin et al. 2018, arXiv:1810.04805, sections 4.2 and 4.3).

        answer = bestiary.load(folder)
        answer("Who wrote it?", "It was written by Ada.")       # Answer("Ada", 18, 21, 0.98)
    """

    keys = ("no_answer",)
    forms = (("question", "context"),)

    def __init__(self, *arguments: Any):
        super().__init__(*arguments)
        preprocess = record(QuestionAnswererPreprocess, self.card.preprocess, f"preprocess of {self.card.name}")
        self.overlap = preprocess.max_length // 4
        self.tokenizer = self._tokenizer(preprocess.max_length)
        self.tokenizer.rules.enable_truncation(preprocess.max_length, stride=self.overlap, strategy="only_second")
        self.no_answer = preprocess.no_answer

    def __call__(
        self,
        questions: str | Asked | Iterable[str | Asked],
        context: str | None = None,
        *,
        no_answer: float | None = None,
        max_answer_tokens: int = 30,
        batch_size: int = BATCH_SIZE,
    ) -> Any:
        """The answer to a question about `context`, or a list of them for a list of questions.

        Without a `context`, each question comes with its own, as a tuple of two. A context of any length is read whole.
        `no_answer`, the card's unless given, is how much the logit of no answer has to be above that of the best for an empty
        answer; models that were not trained to leave questions open give no meaning to it. An iterator is answered by an
        iterator, reading `batch_size` questions at a time. Raises InputError.
        """
        threshold = self.no_answer if no_answer is None else no_answer
        one = isinstance(questions, str) or (context is None and isinstance(questions, tuple))

        def compute(batch: list[Any]) -> list[Answer]:
            asked = [_asked(question, context, index) for index, question in enumerate(batch)]
            return self._answer(asked, threshold, max_answer_tokens)

        return answered(questions, one, compute, batch_size)

    def returns(self) -> Mapping[str, Any]:
        return get_type_hints(Answer)

    def record(self, result: Answer) -> Mapping[str, Any]:
        return result._asdict()

    def report(self, inputs: Sequence[str]) -> Report:
        """Questions are typed first; the last input is the text that they are about."""
        *questions, context = inputs
        if not questions:
            raise InputError("there is no question\ngive questions, then the text that they are about")
        answers = zip(questions, self(questions, context), strict=True)
        records = [{"question": question, **self.record(answer)} for question, answer in answers]
        rows = [[r["question"], r["text"], r["start"], r["end"], round(r["score"], 4)] for r in records]
        return Report(columns=["question", "answer", "start", "end", "score"], rows=rows, records=records)

    def _answer(self, asked: Sequence[Asked], threshold: float | None, longest: int) -> list[Answer]:
        check_texts([part for pair in asked for part in pair])
        self._check_questions(asked)
        windows = [[first, *first.overflowing] for first in self.tokenizer.rules.encode_batch(list(asked))]
        logits = iter(self._logits([window for own in windows for window in own], of_rows))
        return [
            _best(context, [(window, next(logits)) for window in own], threshold, longest)
            for (_, context), own in zip(asked, windows, strict=True)
        ]

    def _check_questions(self, asked: Sequence[Asked]) -> None:
        rules, longest = self.tokenizer.rules, self.tokenizer.max_length
        room = longest - self.overlap - rules.num_special_tokens_to_add(True) - 1
        for question in {question for question, _ in asked}:
            try:
                fits = len(rules.encode(question, add_special_tokens=False)) <= room
            except Exception:  # tokenizers raises nothing narrower, here for a question that is a window by itself
                fits = False
            if not fits:
                raise InputError(
                    f"a question has more than {room} tokens, which leaves its text too few of {longest}\n"
                    f"shorten it: {question[:60]!r}"
                )


def _asked(question: Any, context: str | None, index: int) -> Asked:
    if context is not None:
        return question, context
    if not (isinstance(question, tuple) and len(question) == 2):
        raise InputError(f"question {index} comes without a text\ngive the text as well: answer(question, text)")
    return question


def _best(context: str, windows: Sequence[tuple[Encoding, Tensor]], threshold: float | None, longest: int) -> Answer:
    """The span with the highest logits in all windows, its probability among all starts and ends."""
    ends, nothing, candidates = [], [], []
    for window, logits in windows:
        inside = torch.tensor([sequence == 1 for sequence in window.sequence_ids])
        ends.append(torch.cat([logits[:1], logits[inside]]))  # the class token stands for no answer
        nothing.append(float(logits[0].sum()))
        if inside.any():
            candidates.append(_candidate(window, logits.masked_fill(~inside[:, None], float("-inf")), longest))
    certainty = torch.cat(ends).logsumexp(0).sum()
    no_answer = min(nothing)
    best = max(candidates, default=Candidate(float("-inf"), 0, 0))
    if not candidates or (threshold is not None and no_answer - best.logit > threshold):
        return Answer("", 0, 0, float((no_answer - certainty).exp()))
    start, end = best.start, best.end
    while start < end and context[start].isspace():  # some tokens begin with the space before them
        start += 1
    return Answer(context[start:end], start, end, float((best.logit - certainty).exp()))


def _candidate(window: Encoding, logits: Tensor, longest: int) -> Candidate:
    starts, ends = logits.unbind(-1)
    sums = starts[:, None] + ends  # (starts, ends)
    allowed = torch.ones_like(sums, dtype=torch.bool).triu().tril(longest - 1)
    best = sums.masked_fill(~allowed, float("-inf")).flatten().argmax()
    start, end = divmod(int(best), len(ends))
    return Candidate(float(sums[start, end]), window.offsets[start][0], window.offsets[end][1])
