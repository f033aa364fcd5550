"""The invertible map between our parameter names and those of a published layout.

A layout is a list of rules that a config expands completely BEFORE any tensor is read: no regular expressions, no guessing
by suffix. The same list reads a published file and writes it. An architecture file says, for example:

    [
        same("embeddings.word_embeddings.weight", "embedding.tokens.weight"),
        *each(config.layers, *linear("encoder.layer.{i}.attention.self.query", "blocks.{i}.attention.query")),
        ignored("embeddings.position_ids"),
    ]
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Protocol

import torch
from torch import Tensor

from bestiary.errors import LayoutError

Tensors = tuple[Tensor, ...]


class Operation(Protocol):
    """What happens to the values on the way: `load` goes from their tensors to ours, `save` back."""

    def load(self, theirs: Tensors) -> Tensors: ...

    def save(self, ours: Tensors) -> Tensors: ...


@dataclass(frozen=True)
class Same:
    """The values as they are."""

    def load(self, theirs: Tensors) -> Tensors:
        return theirs

    def save(self, ours: Tensors) -> Tensors:
        return ours


@dataclass(frozen=True)
class Rule:
    """One step of a map: these tensors of theirs are, after the operation, those of ours.

    `theirs` lists the spellings under which published files hold the tensors; the first is the one that is written, and a
    longer one goes before one that it contains. A rule without `ours` names keys that are knowingly left unread.
    """

    theirs: tuple[tuple[str, ...], ...]
    ours: tuple[str, ...]
    operation: Operation = Same()

    def renamed(self, their_names: Iterable[tuple[str, ...]], our_names: Iterable[str]) -> Rule:
        return replace(self, theirs=tuple(their_names), ours=tuple(our_names))


Spelling = str | tuple[str, ...]  # a name of theirs, or the names it has had, today's first


def _spellings(names: Spelling) -> tuple[str, ...]:
    return (names,) if isinstance(names, str) else names


def same(theirs: Spelling, ours: str) -> Rule:
    """One tensor, the same in both."""
    return Rule(tuple((name,) for name in _spellings(theirs)), (ours,))


@dataclass(frozen=True)
class Tied:
    """One tensor, of which there may be equal copies."""

    def load(self, theirs: Tensors) -> Tensors:
        first, *copies = theirs
        if not all(copy.dtype == first.dtype and torch.equal(copy, first) for copy in copies):
            raise LayoutError("not equal, though the config says that they are one weight\ndoes the config fit the file?")
        return (first,)

    def save(self, ours: Tensors) -> Tensors:
        return ours


def tied(theirs: tuple[str, ...], ours: str) -> Rule:
    """One tensor of ours that files hold under any of these names, or under several at once, equal.

    So it is with an embedding that is the head too; the first name is the one that is written.
    """
    counts = range(1, len(theirs) + 1)
    return Rule(tuple(names for count in counts for names in combinations(theirs, count)), (ours,), Tied())


def linear(theirs: Spelling, ours: str) -> tuple[Rule, Rule]:
    """Weight and bias of a linear layer or a convolution."""
    names = _spellings(theirs)
    weight, bias = (same(tuple(f"{name}.{kind}" for name in names), f"{ours}.{kind}") for kind in ("weight", "bias"))
    return weight, bias


def norm(theirs: str, ours: str) -> tuple[Rule, Rule]:
    """Scale and shift of a norm, which TensorFlow's and the oldest PyTorch files call gamma and beta."""
    return (
        same((f"{theirs}.weight", f"{theirs}.gamma"), f"{ours}.weight"),
        same((f"{theirs}.bias", f"{theirs}.beta"), f"{ours}.bias"),
    )


def ignored(*theirs: str) -> tuple[Rule, ...]:
    """Keys that may be in the file and are knowingly not read; they are not written either."""
    return tuple(Rule(((name,),), ()) for name in theirs)


def each(count: int, *rules: Rule) -> tuple[Rule, ...]:
    """The rules once for every layer, `{i}` in their names standing for 0 … count - 1."""
    return tuple(
        rule.renamed(
            (tuple(name.replace("{i}", str(i)) for name in names) for names in rule.theirs),
            (name.replace("{i}", str(i)) for name in rule.ours),
        )
        for i in range(count)
        for rule in rules
    )


def prefixed(prefixes: tuple[str, ...], rules: Iterable[Rule]) -> tuple[Rule, ...]:
    """The rules for files that put one of these before every name of theirs; the first prefix is the one that is written."""
    return tuple(
        rule.renamed(
            (tuple(prefix + name for name in names) for prefix in prefixes for names in rule.theirs),
            rule.ours,
        )
        for rule in rules
    )


def within(part: str, rules: Iterable[Rule]) -> tuple[Rule, ...]:
    """The rules of a net that is a part of ours, by that name."""
    return tuple(rule.renamed(rule.theirs, [f"{part}.{name}" for name in rule.ours]) for rule in rules)


@dataclass(frozen=True)
class Step:
    """A rule with the spelling that a given file uses."""

    theirs: tuple[str, ...]
    rule: Rule


def plan(rules: Sequence[Rule], theirs: Collection[str], ours: Collection[str], fresh: Collection[str] = ()) -> list[Step]:
    """What to do to read a file with the names `theirs` into a net with the names `ours`.

    `fresh` are names of ours that need not come from the file. Raises LayoutError, naming both sides, where the rules do not
    cover the net, the file lacks a tensor or holds it twice, or has one that no rule names.
    """
    check_covers(rules, ours)
    available, used, steps = set(theirs), set[str](), list[Step]()
    missing: list[str] = []
    for rule in rules:
        found = [names for names in rule.theirs if available.issuperset(names)]
        longest = max(found, key=len, default=())
        used.update(name for names in found for name in names)
        if not all(set(longest).issuperset(names) for names in found):
            raise LayoutError(
                f"the file holds {_both(rule)} twice: as {' and as '.join(map(', '.join, found))}\n"
                "remove one of the two from the file"
            )
        if rule.ours and all(name in fresh for name in rule.ours):
            continue
        if found and rule.ours:
            steps.append(Step(longest, rule))
        elif rule.ours:
            missing.append(_both(rule))
    if missing:
        raise LayoutError(_listing("the file lacks", missing, "is it whole, and of this architecture and config?"))
    left_over = sorted(available - used)
    if left_over:
        raise LayoutError(
            _listing("the file holds what the architecture has no place for:", left_over, "does the config fit the file?")
        )
    return steps


def check_covers(rules: Sequence[Rule], ours: Collection[str]) -> None:
    """Raise LayoutError unless the rules name every one of `ours` once, and nothing else."""
    named = [name for rule in rules for name in rule.ours]
    twice = sorted({name for name in named if named.count(name) > 1}) if len(set(named)) < len(named) else []
    wrong = twice + sorted(set(ours) ^ set(named))
    if wrong:
        raise LayoutError(_listing("the key map and the net disagree about", wrong, "mend the layout in the architecture's file"))


def load(steps: Iterable[Step], theirs: Mapping[str, Tensor]) -> Iterator[tuple[Step, dict[str, Tensor]]]:
    """Our tensors, one step at a time, so that no more than one need be held in two forms."""
    for step in steps:
        try:
            values = step.rule.operation.load(tuple(theirs[name] for name in step.theirs))
        except LayoutError as error:
            raise LayoutError(f"{', '.join(step.theirs)}: {error}") from None
        yield step, dict(zip(step.rule.ours, values, strict=True))


def save(rules: Sequence[Rule], ours: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors as the layout names and shapes them; the inverse of `load`."""
    check_covers(rules, ours)
    theirs: dict[str, Tensor] = {}
    for rule in rules:
        if rule.ours:
            values = rule.operation.save(tuple(ours[name] for name in rule.ours))
            theirs.update(zip(rule.theirs[0], values, strict=True))
    return theirs


def _both(rule: Rule) -> str:
    return f"{', '.join(rule.theirs[0])} (ours: {', '.join(rule.ours)})"


def _listing(what: str, names: Sequence[str], advice: str) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"{what} {', '.join(names[:3])}{more}\n{advice}"
