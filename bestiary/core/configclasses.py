"""The classes that a config.json of transformers counts and names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bestiary.core.configmap import Fields


class Classes:
    """The part of a config.json that says how many classes there are, without a name when it is written."""

    keys = ("id2label", "label2id", "num_labels")

    def read(self, published: Mapping[str, Any]) -> Fields:
        return {"num_classes": count_classes(published)}

    def write(self, config: Any) -> Fields:
        return unnamed_classes(config.num_classes)


def count_classes(published: Mapping[str, Any]) -> int:
    """How many there are: two, where nothing says it.

    >>> count_classes({"id2label": {"0": "cat", "1": "dog", "2": "owl"}}), count_classes({})
    (3, 2)
    """
    count: int = len(published.get("id2label") or ()) or published.get("num_labels", 2)
    return count


def names_of_classes(published: Mapping[str, Any]) -> tuple[str, ...] | None:
    """What they are called, in their order; None where nothing says it."""
    names = published.get("id2label")
    return tuple(names[number] for number in sorted(names, key=int)) if names else None


def named_classes(names: Sequence[str]) -> Fields:
    """The keys that say what they are called."""
    return {
        "id2label": {str(number): name for number, name in enumerate(names)},
        "label2id": {name: number for number, name in enumerate(names)},
    }


def unnamed_classes(count: int) -> Fields:
    """The same where nobody has named them, as transformers has it."""
    return named_classes([f"LABEL_{number}" for number in range(count)])
