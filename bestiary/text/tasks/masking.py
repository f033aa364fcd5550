"""Texts with a gap to the words that fill it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from tokenizers import Encoding
from torch import Tensor

from bestiary.core.context import look
from bestiary.core.labels import check_top
from bestiary.core.packing import pack
from bestiary.core.record import record
from bestiary.core.task import Report
from bestiary.errors import InputError, LayoutError
from bestiary.text.tasks.encoder import BATCH_SIZE, EncoderTask, answered


@dataclass(frozen=True, kw_only=True)
class MaskFillerPreprocess:
    """The keys of a card's `preprocess` for fill-mask."""

    max_length: int  # tokens that are read of a text, special ones included
    mask: str  # the token that stands for a gap


class Candidate(NamedTuple):
    """A token that may fill a gap, its probability, and the text with it in the gap."""

    token: str
    score: float
    text: str


class MaskFiller(EncoderTask):
    """Texts with a gap to candidates.

        fill = bestiary.load("bert-base-uncased")
        fill("Paris is the [MASK] of France.")[0].token     # "capital"
    """

    keys = ("mask",)

    def __init__(self, *arguments: Any):
        super().__init__(*arguments)
        preprocess = record(MaskFillerPreprocess, self.card.preprocess, f"preprocess of {self.card.name}")
        self.tokenizer = self._tokenizer(preprocess.max_length)
        self.mask = preprocess.mask
        self._mask_id = self.tokenizer.rules.token_to_id(self.mask)
        self._word = self.tokenizer.rules.encode("a", add_special_tokens=False).ids
        if self._mask_id is None:
            raise LayoutError(f"the tokenizer of {self.card.name} has no token {self.mask!r}\ncorrect `mask` in the card")

    def __call__(self, texts: str | Iterable[str], *, top: int = 5, batch_size: int = BATCH_SIZE) -> Any:
        """The `top` candidates for the gap of a text, best first; for a text with several gaps, such a list for each.

        A gap is the model's own mask token, `.mask`. Several gaps are filled each by itself, the others left open. A list of
        texts gives a list, an iterator an iterator that reads `batch_size` texts at a time. Raises InputError for what is not
        a text, and for a text without a gap among the tokens that the model reads.
        """
        check_top(top)
        return answered(texts, isinstance(texts, str), lambda batch: self._fill(batch, top), batch_size)

    def returns(self) -> Mapping[str, Any]:
        return {"gaps": list[list[Candidate]]}

    def record(self, result: Any) -> Mapping[str, Any]:
        return {"gaps": result if isinstance(result[0], list) else [result]}

    def report(self, inputs: Sequence[str]) -> Report:
        records = [
            {"input": text, "gap": gap, "rank": rank, **candidate._asdict()}
            for text, found in zip(inputs, self(list(inputs)), strict=True)
            for gap, candidates in enumerate(self.record(found)["gaps"], start=1)
            for rank, candidate in enumerate(candidates, start=1)
        ]
        rows = [[r["input"], r["gap"], r["rank"], r["token"], round(r["score"], 4)] for r in records]
        return Report(columns=["text", "gap", "rank", "token", "score"], rows=rows, records=records)

    def _fill(self, texts: Sequence[str], top: int) -> list[Any]:
        encodings = self.tokenizer.encode(texts)
        gaps = [[row for row, token in enumerate(encoding.ids) if token == self._mask_id] for encoding in encodings]
        for index, encoding in enumerate(encodings):
            if not gaps[index] or any(self._mask_id in rest.ids for rest in encoding.overflowing):
                raise InputError(
                    f"input {index} has no {self.mask}, or has one beyond the {self.tokenizer.max_length} tokens that are read\n"
                    f"write {self.mask} where a word is missing, in a shorter text"
                )
        found: list[Any] = [None] * len(texts)
        lengths = [len(encoding) for encoding in encodings]
        for group, scores in self._computed(lengths, lambda group: self._scores(group, encodings, gaps)):
            best, tokens = scores.topk(min(top, scores.shape[-1]))
            answers = zip(best.tolist(), tokens.tolist(), strict=True)
            for index in group:
                own = [self._candidates(texts[index], encodings[index], gap, *next(answers)) for gap in gaps[index]]
                found[index] = own[0] if len(own) == 1 else own
        return found

    def _scores(self, group: Sequence[int], encodings: Sequence[Encoding], gaps: Sequence[Sequence[int]]) -> Tensor:
        """Probabilities of the tokens at the gaps of some texts, one after the other: (gaps, vocabulary).

        Gaps are few and vocabularies large, so the head is not asked for other rows.
        """
        packed = pack([encodings[index].ids for index in group], self.device)
        starts = torch.tensor([0, *packed.mask.lengths]).cumsum(0).tolist()
        rows = [start + gap for start, index in zip(starts, group, strict=False) for gap in gaps[index]]
        net: Any = self.inference.derived()
        with torch.inference_mode():
            context = look(packed.mask, packed.tokens, packed.positions, causal=False)
            hidden_states = net.hidden_states(packed.tokens, context)[rows]
            return net.head(hidden_states, context).float().softmax(-1).cpu()

    def _candidates(
        self, text: str, encoding: Encoding, gap: int, scores: Sequence[float], tokens: Sequence[int]
    ) -> list[Candidate]:
        decode, found = self.tokenizer.rules.decode, []
        for token, score in zip(tokens, scores, strict=True):
            # What the token adds to a word before it: some join it, others begin with a space.
            added = decode([*self._word, token], skip_special_tokens=False)[len(decode(self._word)) :]
            name = decode([token], skip_special_tokens=False).strip()
            found.append(Candidate(name, score, _filled(text, encoding.offsets[gap], added)))
        return found


def _filled(text: str, gap: tuple[int, int], added: str) -> str:
    """The text with a gap filled, its spaces kept, but for a token that joins the word before it."""
    start, end = gap
    if added[:1].isspace() or start == 0 or not text[:start].strip():
        space = " " if text[start:end][:1].isspace() else ""  # some gaps take it in
        return text[:start] + space + added.strip() + text[end:]
    return text[:start].rstrip() + added + text[end:]
