"""Tokens to text while they come: whole characters, up to the first stop string."""

from __future__ import annotations

from collections.abc import Sequence

from tokenizers import Tokenizer as Rules
from tokenizers.decoders import DecodeStream


class TextStream:
    """The text of tokens that follow a prompt.

    `feed` gives what is certain: no part of a character, and nothing that may turn out to be the beginning of a stop string.
    """

    def __init__(self, rules: Rules, prompt: Sequence[int], stops: Sequence[str] = ()):
        self._rules = rules
        self._decode = DecodeStream(list(prompt), skip_special_tokens=True)
        self._stops = stops
        self._held = ""
        self.stopped = False  # whether a stop string has come

    def feed(self, token: int) -> str:
        """The text that this token makes certain, without the stop string and what follows it."""
        self._held += self._decode.step(self._rules, token) or ""
        found = [place for stop in self._stops if (place := self._held.find(stop)) >= 0]
        if found:
            self.stopped = True
            return self._give(min(found))
        return self._give(len(self._held) - max((_overlap(self._held, stop) for stop in self._stops), default=0))

    def finish(self) -> str:
        """What was held back, now that no more tokens come."""
        return "" if self.stopped else self._give(len(self._held))

    def _give(self, length: int) -> str:
        given, self._held = self._held[:length], self._held[length:]
        return given


def _overlap(text: str, stop: str) -> int:
    """How many last characters of the text begin the stop string.

    >>> _overlap("and so on\\nUs", "\\nUser:")
    3
    """
    return next((length for length in range(min(len(text), len(stop) - 1), 0, -1) if text.endswith(stop[:length])), 0)
