"""Generation: a decoding net reads prompts once and then grows each by a token at a time.

It serves any net that decodes, text and speech alike: one with `hidden_states(tokens, mask)` and a `head` that makes logits of
them, for which `core/cache.py` keeps keys and values.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from bestiary.core.cache import Cache
from bestiary.core.context import Mask
from bestiary.core.packing import pack
from bestiary.core.sampling import Sampling, draw
from bestiary.core.step import MOST, Step

REUSED = 8  # tokens that prompts must share with an earlier call for its cache to be taken up


class DecodingNet(Protocol):
    """A causal net, or the decoder of one that has an encoder too."""

    head: Callable[[Tensor], Tensor]  # (..., width) → logits (..., vocabulary)

    def hidden_states(self, tokens: Tensor, mask: Mask | None = None) -> Tensor:
        """(sequences, length) or packed (rows,) → (..., width)"""
        ...


class Past(NamedTuple):
    """What a call leaves for the next one that begins with the same tokens."""

    net: DecodingNet
    tokens: Sequence[int]
    cache: Cache  # of one sequence, with keys and values of those tokens


class Decoder:
    """A decoding net beside the cache of what it has read."""

    def __init__(self, net: DecodingNet, cache: Cache, device: torch.device):
        self.net, self.cache, self.device = net, cache, device
        self.step: Step | None = getattr(net, "step", None)

    @classmethod
    @torch.inference_mode()
    def resume(
        cls, net: DecodingNet, past: Past | None, prompts: Sequence[Sequence[int]], room: int, device: torch.device
    ) -> Decoder:
        """A decoder for these prompts and `room` tokens more, whose cache holds what they have in common with the past."""
        capacity = max(map(len, prompts)) + room
        if past is not None and past.net is net:
            shared = common_prefix([past.tokens, *(prompt[:-1] for prompt in prompts)])  # the last is read for its logits
            if shared >= REUSED:
                cache = past.cache
                cache.rewind([shared])
                cache.select([0] * len(prompts))
                cache.reserve(capacity)
                return cls(net, cache, device)
        return cls(net, Cache(sequences=len(prompts), capacity=capacity), device)

    @torch.inference_mode()
    def logits(self, sequences: Sequence[Sequence[int]], last: int = 1) -> Tensor:
        """Read what the cache lacks of each sequence; logits after its last tokens, (sequences, last, vocabulary)."""
        unread = [tokens[length:] for tokens, length in zip(sequences, self.cache.lengths, strict=True)]
        if self.step is not None and last == 1 and self._further(unread):
            return self.step([token for (token,) in unread], self.cache)
        ragged = len({len(tokens) for tokens in unread}) > 1
        if ragged and self.cache.memory is None and not any(self.cache.lengths):
            hidden_states = self._packed(unread, last)
        else:
            hidden_states = self._padded(unread, last)
        return self.net.head(hidden_states)

    def _further(self, unread: Sequence[Sequence[int]]) -> bool:
        """Whether a single token follows what was read of each sequence."""
        return len(unread) <= MOST and {len(tokens) for tokens in unread} == {1} and min(self.cache.lengths) > 0

    def _packed(self, unread: Sequence[Sequence[int]], last: int) -> Tensor:
        packed = pack(unread, self.device)
        hidden_states = self.net.hidden_states(packed.tokens, self.cache.filling(packed.mask, self.device))
        ends = torch.tensor(packed.mask.lengths, device=self.device).cumsum(0)
        return hidden_states[ends[:, None] + torch.arange(-last, 0, device=self.device)]

    def _padded(self, unread: Sequence[Sequence[int]], last: int) -> Tensor:
        lengths = [len(tokens) for tokens in unread]
        longest = max(lengths)
        tokens = torch.tensor([[*tokens, *[0] * (longest - len(tokens))] for tokens in unread], device=self.device)
        read = self.cache.lengths
        context = self.cache.continuing(longest, self.device)
        # What padding writes into the cache lies beyond the end of its sequence, and is overwritten before it is seen.
        self.cache.rewind([before + length for before, length in zip(read, lengths, strict=True)])
        hidden_states = self.net.hidden_states(tokens, context)
        if longest == last == min(lengths):
            return hidden_states
        ends = torch.tensor(lengths, device=self.device)
        places = ends[:, None] + torch.arange(-last, 0, device=self.device)
        return hidden_states[torch.arange(len(unread), device=self.device)[:, None], places]


def common_prefix(sequences: Sequence[Sequence[int]]) -> int:
    """How many first tokens all the sequences share.

    >>> common_prefix([[1, 2, 3], [1, 2, 4, 5]])
    2
    """
    length = 0
    for tokens in zip(*sequences, strict=False):
        if len(set(tokens)) > 1:
            break
        length += 1
    return length


Allowed = Callable[[Sequence[int]], Sequence[int]]  # new tokens of a sequence so far → those that may follow; none: it ends
Guide = Callable[[Tensor, Sequence[Sequence[int]]], Tensor]  # logits (rows, vocabulary), new tokens of each → what is chosen from


class Limits(NamedTuple):
    """When a sequence ends."""

    end_tokens: frozenset[int] = frozenset()
    max_new_tokens: int = 256
    min_new_tokens: int = 0  # before so many, no end token is chosen
    context: int | None = None  # tokens of a whole sequence at most
    allowed: Allowed | None = None
    guide: Guide | None = None  # rules that are easier said of logits than of tokens; it leaves its input as it is

    def guided(self, logits: Tensor, beginnings: Sequence[Sequence[int]]) -> Tensor:
        """Logits (rows, vocabulary) after the new tokens of each row, with what may not follow out of reach."""
        early = [row for row, new in enumerate(beginnings) if len(new) < self.min_new_tokens]
        if self.guide is not None:
            logits = self.guide(logits, beginnings)
        if self.allowed is None and not early:
            return logits
        logits = logits.clone()
        if self.allowed is not None:
            for row, new in enumerate(beginnings):
                _keep_only(logits[row], self.allowed(new))
        for row in early:
            for token in self.end_tokens:
                logits[row, token] = float("-inf")
        return logits

    def ends(self, new: Sequence[int]) -> bool:
        """Whether a sequence with these new tokens has come to an end of its own."""
        return new[-1] in self.end_tokens or (self.allowed is not None and not self.allowed(new))

    def full(self, new: Sequence[int], prompt: int) -> bool:
        """Whether there is no room for more after a prompt of that length."""
        return len(new) >= self.max_new_tokens or prompt + len(new) == self.context


class Chosen(NamedTuple):
    """A token that a sequence has grown by."""

    sequence: int
    token: int
    logits: Tensor  # (vocabulary,), the net's own

    @property
    def log_probability(self) -> float:
        """Of the token by the net itself, before temperature and whatever else guided the choice."""
        return float(self.logits.float().log_softmax(-1)[self.token])


class Generation:
    """Prompts as they grow; iterate over it for the tokens of each step.

    `growing` lists the sequences that go on, `ended` those that came to an end of their own. A step may hold several tokens of
    a sequence, in their order. `stop` keeps a sequence from growing on.
    """

    def __init__(self, decoder: Decoder, prompts: Sequence[Sequence[int]], sampling: Sampling, limits: Limits):
        self.decoder, self.sampling, self.limits = decoder, sampling, limits
        self.prompts = prompts
        self.sequences = [list(prompt) for prompt in prompts]
        self.growing = list(range(len(prompts)))
        self.ended: set[int] = set()
        self.dice = sampling.dice(len(prompts))

    def __iter__(self) -> Iterator[list[Chosen]]:
        while self.growing:
            rows = list(self.growing)
            yield self.step()
            kept = [row for row, sequence in enumerate(rows) if sequence in self.growing]
            if 0 < len(kept) < len(rows):
                self.keep(kept)

    def stop(self, sequence: int) -> None:
        if sequence in self.growing:
            self.growing.remove(sequence)

    def past(self) -> Past:
        """What to hand to the next call, of a single sequence."""
        (sequence,) = self.sequences
        return Past(self.decoder.net, sequence[: self.decoder.cache.lengths[0]], self.decoder.cache)

    def step(self) -> list[Chosen]:
        """Grow every sequence that is growing."""
        logits = self.read()
        tokens = self.choose(logits)
        chosen = [Chosen(sequence, token, row) for sequence, token, row in zip(self.growing, tokens, logits, strict=True)]
        for choice in chosen:
            self.grow(choice)
        return chosen

    def read(self) -> Tensor:
        """The net's own logits after the last token of each growing sequence: (growing, vocabulary)."""
        return self.decoder.logits([self.sequences[sequence] for sequence in self.growing])[:, -1]

    def keep(self, rows: Sequence[int]) -> None:
        """Go on with these rows of the cache; the others have ended."""
        self.decoder.cache.select(rows)

    @torch.inference_mode()
    def choose(self, logits: Tensor) -> list[int]:
        """A token for each growing sequence."""
        histories = [self.sequences[sequence] for sequence in self.growing]
        logits = self.guided(logits, histories)
        if self.sampling.temperature == 0:
            return logits.argmax(-1).tolist()
        return draw(self.sampling.probabilities(logits), [self.dice[sequence] for sequence in self.growing])

    def guided(self, logits: Tensor, histories: Sequence[Sequence[int]]) -> Tensor:
        """Logits of the growing sequences, whose tokens so far are `histories`, with what may not follow out of reach."""
        beginnings = [history[len(self.prompts[sequence]) :] for sequence, history in zip(self.growing, histories, strict=True)]
        return self.limits.guided(self.sampling.adjusted(logits, histories), beginnings)

    def grow(self, choice: Chosen) -> None:
        """Take a token up, and see whether its sequence ends with it."""
        tokens = self.sequences[choice.sequence]
        tokens.append(choice.token)
        prompt = len(self.prompts[choice.sequence])
        if self.limits.ends(tokens[prompt:]):
            self.ended.add(choice.sequence)
            self.stop(choice.sequence)
        elif self.limits.full(tokens[prompt:], prompt):
            self.stop(choice.sequence)


def _keep_only(logits: Tensor, tokens: Sequence[int]) -> None:
    """Put all but these tokens out of reach."""
    kept = list(tokens)
    values = logits[kept]
    logits.fill_(float("-inf"))
    logits[kept] = values
