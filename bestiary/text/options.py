"""How text is generated, as a person says it and as the core understands it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any, NamedTuple, TypedDict

from tokenizers import Tokenizer as Rules

from bestiary.core.generate import Limits
from bestiary.core.sampling import Sampling
from bestiary.errors import InputError


class Options(TypedDict, total=False):
    """What `generate` and its relatives take; what is left out has the value given here."""

    max_new_tokens: int  # 256; a text also ends where the model's context does
    min_new_tokens: int  # 0; the model may not end its text before
    temperature: float  # 0: always the likeliest token; 1: as probable as the model finds them
    top_k: int | None  # None; draw from so many of the likeliest tokens only
    top_p: float | None  # None; draw from the likeliest that together reach this probability
    min_p: float | None  # None; draw from those with at least this share of the likeliest's probability
    repetition_penalty: float  # 1; above, tokens that were there are less likely
    logit_bias: Mapping[int | str, float]  # none; added to the logits of tokens, by id or text
    seed: int | None  # None; with one, the same text comes each time
    stop: str | Sequence[str]  # none; the text ends before the first of these
    choices: Sequence[str] | None  # None; the text is one of these


class Plan(NamedTuple):
    """Options, checked and put in terms of tokens."""

    sampling: Sampling
    limits: Limits
    stops: tuple[str, ...]

    @classmethod
    def of(cls, options: Mapping[str, Any], rules: Rules, end_tokens: Sequence[int], context: int | None) -> Plan:
        """The plan for a model with this tokenizer, these tokens to end on and so many positions. Raises InputError."""
        known = Options.__annotations__
        if unknown := [name for name in options if name not in known]:
            raise InputError(f"generation has no option {unknown[0]}\nits options: {', '.join(known)}")
        drawn = {item.name: options[item.name] for item in fields(Sampling) if item.name in options}
        if "logit_bias" in drawn:
            drawn["logit_bias"] = {_token(key, rules): bias for key, bias in drawn["logit_bias"].items()}
        choices = options.get("choices")
        limits = Limits(
            end_tokens=frozenset(end_tokens),
            max_new_tokens=_count(options, "max_new_tokens", 256, at_least=1),
            min_new_tokens=_count(options, "min_new_tokens", 0, at_least=0),
            context=context,
            allowed=None if choices is None else OneOf(_encoded(choices, rules), end_tokens),
        )
        return cls(Sampling(**drawn), limits, _stops(options.get("stop", ())))


class OneOf:
    """Allows the tokens of a few sequences, so that one of them comes out whole."""

    def __init__(self, sequences: Sequence[Sequence[int]], end_tokens: Sequence[int]):
        self.sequences, self.end_tokens = [list(sequence) for sequence in sequences], end_tokens

    def __call__(self, new: Sequence[int]) -> Sequence[int]:
        """What may follow these new tokens; nothing where a sequence is whole and no longer one begins with it."""
        length = len(new)
        begun = [sequence for sequence in self.sequences if sequence[:length] == list(new)]
        following = sorted({sequence[length] for sequence in begun if len(sequence) > length})
        whole = any(len(sequence) == length for sequence in begun)
        return [*following, *self.end_tokens] if following and whole else following


def _count(options: Mapping[str, Any], name: str, default: int, *, at_least: int) -> int:
    value = options.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int) or value < at_least:
        raise InputError(f"{name}={value!r} is not a number of tokens\ngive {at_least} or more")
    return value


def _token(key: int | str, rules: Rules) -> int:
    tokens = [key] if isinstance(key, int) else rules.encode(key, add_special_tokens=False).ids
    if len(tokens) != 1 or not 0 <= tokens[0] < rules.get_vocab_size():
        raise InputError(f"logit_bias has {key!r}, which is not one token but {len(tokens)}\ngive ids, or texts of one token")
    return tokens[0]


def _encoded(choices: Sequence[str], rules: Rules) -> list[list[int]]:
    if isinstance(choices, str) or not choices or not all(isinstance(choice, str) and choice for choice in choices):
        raise InputError(f"choices={choices!r} are not texts to choose from\ngive a list of them, none empty")
    return [rules.encode(choice, add_special_tokens=False).ids for choice in choices]


def _stops(stop: str | Sequence[str]) -> tuple[str, ...]:
    stops = (stop,) if isinstance(stop, str) else tuple(stop)
    if not all(isinstance(text, str) and text for text in stops):
        raise InputError(f"stop={stop!r} is not a text to stop at\ngive one or more, none empty")
    return stops
