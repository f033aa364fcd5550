"""Adapters that were trained on the models of other libraries, in our names.

The key map of an architecture says which of our weights is which of theirs. Of a weight W' = W + up · down the rows belong to
`up` and the columns to `down`, so that what the map does to rows is done to `up` alone; where they lie transposed, the factors
do not.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from torch import Tensor

from bestiary.core.adapt.files import Adapter, Factors
from bestiary.core.keymap import Operation, Rule, Same
from bestiary.core.operations import Chain, Interleaved, Split, Transposed
from bestiary.errors import LayoutError


def in_our_names(adapter: Adapter, ours: Collection[str], layouts: Mapping[str, Sequence[Rule]]) -> Adapter:
    """The adapter for a net whose state has the names `ours`. Raises LayoutError where it fits neither it nor a layout."""
    if all(f"{name}.weight" in ours for name in adapter.factors) and all(name in ours for name in adapter.whole):
        return adapter
    problems = []
    for layout, rules in layouts.items():
        try:
            return _translated(adapter, rules)
        except _Unknown as error:
            problems.append(f"{layout} has no {error}")
    first = next(iter(adapter.factors))
    raise LayoutError(
        f"the adapter does not fit the net: {'; '.join(problems) or f'there is no {first}'}\n"
        "is it of this model, with the same head?"
    )


class _Unknown(Exception):
    """A name that a layout does not have."""


def _translated(adapter: Adapter, rules: Sequence[Rule]) -> Adapter:
    rule_of = {name: rule for rule in rules if rule.ours for spelling in rule.theirs for name in spelling}
    factors: dict[str, Factors] = {}
    alphas: dict[str, float] = {}
    for name, theirs in adapter.factors.items():
        rule = _rule(rule_of, f"{name}.weight")
        for our_name, own in zip(rule.ours, _parts(name, theirs, rule), strict=True):
            our_layer = our_name.removesuffix(".weight")
            factors[our_layer], alphas[our_layer] = own, adapter.alphas[name]
    return replace(adapter, factors=factors, alphas=alphas, whole=_whole(adapter.whole, rule_of))


def _rule(rule_of: Mapping[str, Rule], name: str) -> Rule:
    if name not in rule_of:
        raise _Unknown(name)
    return rule_of[name]


def _parts(name: str, theirs: Factors, rule: Rule) -> list[Factors]:
    """The factors of one layer of theirs for the one or several that it is of ours."""
    operation = _of_rows(name, rule.operation)
    ups = operation.load((theirs.up,))
    magnitudes: Sequence[Tensor | None] = [None] * len(ups)
    if theirs.magnitude is not None:
        magnitudes = operation.load((theirs.magnitude.flatten(),))
    return [Factors(theirs.down, up, magnitude) for up, magnitude in zip(ups, magnitudes, strict=True)]


def _of_rows(name: str, operation: Operation) -> Operation:
    """What an operation does to the rows of a weight as it is multiplied."""
    match operation:
        case Same() | Split() | Interleaved():
            return operation
        case Transposed():
            return Same()
        case Chain(operations):
            return Chain(tuple(_of_rows(name, one) for one in operations))
    raise LayoutError(f"the adapter changes {name}, which lies otherwise here\nsuch layers cannot be adapted; merge it by peft")


def _whole(theirs: Mapping[str, Tensor], rule_of: Mapping[str, Rule]) -> dict[str, Tensor]:
    """Tensors that replace those of the base, in our names."""
    found: dict[str, Tensor] = {}
    for name in theirs:
        rule = _rule(rule_of, name)
        spelling = max((names for names in rule.theirs if all(one in theirs for one in names)), key=len, default=None)
        if spelling is None:
            raise _Unknown(" and ".join(rule.theirs[0]))
        values = rule.operation.load(tuple(theirs[one] for one in spelling))
        found.update(zip(rule.ours, values, strict=True))
    return found
