"""The text of a prompt as it is written, token by token."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from bestiary.core.generate import Chosen, Generation
from bestiary.text.stream import TextStream


class Token(NamedTuple):
    """A token that was generated, and the logarithm of its probability by the model itself."""

    id: int
    log_probability: float


class Generated(NamedTuple):
    """A generated text with what it is made of."""

    text: str
    tokens: tuple[Token, ...]
    finish: str  # "end": the model ended it; "stop": a stop string came; "length": there was no more room


class Writer:
    """Writes a plain text."""

    def __init__(self, stream: TextStream):
        self.stream = stream
        self.text = ""
        self._taken = 0

    def write(self, choice: Chosen, *, ends: bool) -> None:
        self.text += self.stream.feed(choice.token)

    def close(self) -> None:
        """No more tokens come."""
        self.text += self.stream.finish()

    def take(self) -> str:
        """What has come since it was last taken."""
        piece, self._taken = self.text[self._taken :], len(self.text)
        return piece

    def result(self) -> Any:
        return self.text


class DetailedWriter(Writer):
    """Writes a text and remembers its tokens."""

    def __init__(self, stream: TextStream):
        super().__init__(stream)
        self.tokens: list[Token] = []
        self.finish = "length"

    def write(self, choice: Chosen, *, ends: bool) -> None:
        super().write(choice, ends=ends)
        self.tokens.append(Token(choice.token, choice.log_probability))
        if ends or self.stream.stopped:
            self.finish = "stop" if self.stream.stopped else "end"

    def result(self) -> Generated:
        return Generated(self.text, tuple(self.tokens), self.finish)


def write(generation: Generation, writers: Sequence[Writer]) -> Iterator[None]:
    """Grow sequences, each to its own writer; pauses after each step, and once more when all is written."""
    for step in generation:
        for choice in step:
            writer = writers[choice.sequence]
            if not writer.stream.stopped:
                writer.write(choice, ends=choice.sequence in generation.ended)
            if writer.stream.stopped:
                generation.stop(choice.sequence)
        yield
    for writer in writers:
        writer.close()
    yield
