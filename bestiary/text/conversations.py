"""What language models are tuned on: conversations, or prompts and answers, as tokens of which the answers are learned."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from bestiary.errors import InputError
from bestiary.text.collate import IGNORED
from bestiary.text.tasks.generation import LanguageModel

FORMS = (("messages",), ("prompt", "answer"), ("text",))  # the columns that rows may have, the first that fit are taken


class Example(NamedTuple):
    """The tokens of a conversation, and the same as labels, with -100 for those that are not learned."""

    tokens: list[int]
    labels: list[int]

    @property
    def learned(self) -> int:
        return sum(label != IGNORED for label in self.labels[1:])  # the first token of a text is never asked for


def form_of(columns: Sequence[str], whose: str) -> tuple[str, ...]:
    """Which columns say what is to be learned. Raises InputError where none do."""
    for form in FORMS:
        if all(name in columns for name in form):
            return form
    known = "; or ".join(", ".join(form) for form in FORMS)
    raise InputError(f"{whose} has the columns {', '.join(columns)}\nwanted: {known}")


def example_of(row: Mapping[str, Any], form: Sequence[str], model: LanguageModel) -> Example:
    """A row as tokens. Of messages those of the assistant are learned, of a prompt and its answer the answer, of a text all.

    A model with a chat template is asked as it was trained to be. Raises InputError for messages that it refuses.
    """
    if form == ("text",):
        return _joined([(row["text"] + _end(model), True)], model)
    if form == ("prompt", "answer"):
        if model.find("chat_template") is None:
            return _joined([(row["prompt"], False), (row["answer"] + _end(model), True)], model)
        messages = [{"role": "user", "content": row["prompt"]}, {"role": "assistant", "content": row["answer"]}]
    else:
        messages = list(row["messages"])
    return _joined(list(_turns(messages, model)), model)


def fill_blocks(examples: Iterable[Example], length: int) -> list[list[Example]]:
    """Examples in blocks of at most `length` tokens together, the longest first, each where there is room.

    What is longer than a block is cut; an example of which nothing that is learned is left is left out.
    """
    blocks: list[list[Example]] = []
    room: list[int] = []
    for example in sorted(examples, key=lambda example: -len(example.tokens)):
        cut = Example(example.tokens[:length], example.labels[:length])
        if not cut.learned:
            continue
        place = next((place for place, left in enumerate(room) if left >= len(cut.tokens)), len(blocks))
        if place == len(blocks):
            blocks.append([])
            room.append(length)
        blocks[place].append(cut)
        room[place] -= len(cut.tokens)
    return blocks


def _turns(messages: Sequence[Mapping[str, Any]], model: LanguageModel) -> Iterator[tuple[str, bool]]:
    """The conversation in pieces: what is given, and what the assistant answers."""
    said = ""
    for number, message in enumerate(messages):
        if message.get("role") != "assistant":
            continue
        prompt = model.template(messages[:number]) if number else ""
        if not prompt.startswith(said):
            raise InputError("the chat template changes what was said before\nno model can learn from that: take another")
        answer = model.template.answer(messages[: number + 1])
        yield prompt[len(said) :], False
        yield answer, True
        said = prompt + answer
    if not said:
        raise InputError("a conversation has no message of the assistant: there is nothing to learn\nleave it out")


def _joined(pieces: Sequence[tuple[str, bool]], model: LanguageModel) -> Example:
    tokens: list[int] = []
    labels: list[int] = []
    for text, learned in pieces:
        plain = model.find("chat_template") is not None or bool(tokens)  # templates write special tokens themselves
        ids = model.rules.encode(text, add_special_tokens=not plain).ids
        tokens += ids
        labels += ids if learned else [IGNORED] * len(ids)
    return Example(tokens, labels)


def _end(model: LanguageModel) -> str:
    """The token that ends a text."""
    return model.rules.decode(list(model.preprocess.end_tokens[:1]), skip_special_tokens=False)
