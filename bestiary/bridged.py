"""Nets of transformers behind the calls of ours: token ids with a mask in, rows out.

They know neither packed rows nor our cache. Packed rows are padded on the way in and packed again on the way out; what a
decoder has read, transformers keeps in a cache of its own, one for each sequence.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from bestiary.core.cache import Cache, Continuing, Filling
from bestiary.core.context import Context, Mask, Packed
from bestiary.core.packing import Ragged, padded


class Answer(NamedTuple):
    """What a net of transformers gives for its inputs."""

    of: Callable[[Any], Tensor]  # from its output to (batch, length, ...), or to (batch, ...) where sequences answer
    rows: bool = True  # whether each row answers, or each sequence


def _hidden_states(output: Any) -> Tensor:
    return output.last_hidden_state


def _logits(output: Any) -> Tensor:
    return output.logits


def _spans(output: Any) -> Tensor:
    return torch.stack([output.start_logits, output.end_logits], -1)


ANSWERS = {
    "text-embedding": Answer(_hidden_states),
    "fill-mask": Answer(_logits),
    "text-classification": Answer(_logits, rows=False),
    "token-classification": Answer(_logits),
    "question-answering": Answer(_spans),
    "text-generation": Answer(_logits),
}


class BridgedNet(nn.Module):
    """A net of transformers, in `model`, that takes padded batches and packed rows alike.

    What lies between the hidden states and the logits differs from net to net, so `hidden_states` are the logits already.
    """

    def __init__(self, model: nn.Module, config: Any, answer: Answer):
        super().__init__()
        self.model = model
        self.config = config
        self.answer = answer

    def forward(
        self,
        tokens: Tensor,
        mask: Mask | None = None,
        positions: Tensor | None = None,
        segments: Tensor | None = None,
    ) -> Tensor:
        """Hidden states or logits, as the task asks: (..., width) for token ids (...), or (sequences, classes)."""
        ragged = mask.ragged if isinstance(mask, Packed) else mask
        if not isinstance(ragged, Ragged):
            return self._answer(tokens, mask, segments)
        batch, kept = padded(tokens, ragged)
        answer = self._answer(batch, kept, None if segments is None else padded(segments, ragged)[0])
        return answer[kept] if self.answer.rows else answer

    hidden_states = forward

    def head(self, logits: Tensor, context: Context | None = None) -> Tensor:
        return logits

    def _answer(self, tokens: Tensor, mask: Any, segments: Tensor | None) -> Tensor:
        inputs = {"attention_mask": None if mask is None else mask.long()}
        if segments is not None:
            inputs["token_type_ids"] = segments
        return self.answer.of(self.model(input_ids=tokens, **inputs))


class Read(NamedTuple):
    """The beginning of a sequence that transformers has in a cache of its own."""

    tokens: list[int]
    cache: Any


_READ: WeakKeyDictionary[Cache, list[Read]] = WeakKeyDictionary()  # what has been read of the sequences of a cache of ours


class BridgedDecoder(BridgedNet):
    """A causal one, which also reads on where a cache ends."""

    def forward(
        self,
        tokens: Tensor,
        mask: Mask | None = None,
        positions: Tensor | None = None,
        segments: Tensor | None = None,
    ) -> Tensor:
        """Logits (..., vocabulary) of what follows each of the token ids (...)."""
        if isinstance(mask, Filling):
            starts = [0] * len(mask.cache.lengths)
            return torch.cat(list(self._grown(tokens.split(mask.cache.lengths), starts, mask.cache)))
        if isinstance(mask, Continuing):
            news = [row[: end - start] for row, start, end in zip(tokens, mask.starts, mask.cache.lengths, strict=True)]
            logits = list(self._grown(news, mask.starts, mask.cache))
            return nn.utils.rnn.pad_sequence(logits, batch_first=True)
        return super().forward(tokens, mask, positions, segments)

    hidden_states = forward

    def _grown(self, news: Iterable[Tensor], starts: Iterable[int], cache: Cache) -> Iterator[Tensor]:
        """Logits after each new token of each sequence. Our cache holds the tokens, so that it may be cut and picked from."""
        before, after = _READ.get(cache, []), list[Read]()
        for row, (new, start) in enumerate(zip(news, starts, strict=True)):
            slots, _ = cache.room(0, new[:, None, None], new[:, None, None])  # (sequences, 1, capacity, 1)
            slots[row, 0, start : start + len(new), 0] = new
            tokens = slots[row, 0, : start + len(new), 0]
            read = _taken(before, tokens[:start].tolist())
            output = self.model(input_ids=tokens[None, len(read.tokens) :], past_key_values=read.cache, use_cache=True)
            if kept := getattr(output, "past_key_values", None):  # nets without attention have other ways, and are asked anew
                after.append(Read(tokens.tolist(), kept))
            yield output.logits[0, -len(new) :]
        _READ[cache] = after


def _taken(reads: list[Read], tokens: list[int]) -> Read:
    """The longest of these that `tokens` begin with, taken out: transformers goes on writing into it."""
    fitting = [index for index, read in enumerate(reads) if read.tokens == tokens[: len(read.tokens)]]
    if not fitting:
        return Read([], None)
    return reads.pop(max(fitting, key=lambda index: len(reads[index].tokens)))
