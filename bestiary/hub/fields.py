"""A value of a card that knows where it stands, so that whoever finds it wrong can say so in one line."""

from collections.abc import Callable, Collection, Iterator
from typing import NamedTuple

from bestiary.errors import CardError
from bestiary.hub.frontmatter import Plain


class Field(NamedTuple):
    """One value at a dotted `key` of the file `origin`.

    Every method gives the value in one form, or raises CardError that names file, key and the form that is expected:

        >>> Field("zoo/cat.md", "bestiary.version", "two").whole()
        Traceback (most recent call last):
        bestiary.errors.CardError: zoo/cat.md: bestiary.version: 'two' cannot be used
        expected: a whole number, 1 or more
    """

    origin: str
    key: str
    value: Plain

    def error(self, problem: str, expected: str) -> CardError:
        return CardError(f"{self.origin}: {self.key}: {problem}\nexpected: {expected}")

    def wrong(self, expected: str) -> CardError:
        shown = repr(self.value)
        return self.error(f"{shown if len(shown) <= 60 else shown[:57] + '...'} cannot be used", expected)

    def text(self, expected: str = "text", allowed: Callable[[str], bool] = bool) -> str:
        if isinstance(self.value, str) and allowed(self.value):
            return self.value
        raise self.wrong(expected)

    def whole(self, least: int = 1) -> int:
        if isinstance(self.value, int) and not isinstance(self.value, bool) and self.value >= least:
            return self.value
        raise self.wrong(f"a whole number, {least} or more")

    def number(self) -> float:
        if isinstance(self.value, int | float) and not isinstance(self.value, bool):
            return float(self.value)
        raise self.wrong("a number")

    def truth(self) -> bool:
        if isinstance(self.value, bool):
            return self.value
        raise self.wrong("true or false")

    def items(self) -> Iterator["Field"]:
        if not isinstance(self.value, list):
            raise self.wrong("a list")
        return (Field(self.origin, f"{self.key}[{index}]", item) for index, item in enumerate(self.value))

    def texts(self) -> tuple[str, ...]:
        return tuple(item.text() for item in self.items())

    def mapping(self) -> dict[str, Plain]:
        if isinstance(self.value, dict):
            return self.value
        raise self.wrong("a mapping of keys to values")

    def entries(self) -> dict[str, "Field"]:
        return {name: Field(self.origin, self._below(name), value) for name, value in self.mapping().items()}

    def get(self, name: str) -> "Field | None":
        return Field(self.origin, self._below(name), self.mapping()[name]) if name in self.mapping() else None

    def need(self, name: str, expected: str) -> "Field":
        if name in self.mapping():
            return Field(self.origin, self._below(name), self.mapping()[name])
        raise Field(self.origin, self._below(name), None).error("missing", expected)

    def only(self, known: Collection[str]) -> "Field":
        """This mapping, with no keys but the known ones."""
        for name in self.mapping():
            if name not in known:
                raise Field(self.origin, self._below(name), None).error("no such key", "one of " + ", ".join(known))
        return self

    def _below(self, name: str) -> str:
        name = name if len(name) <= 80 else name[:77] + "..."
        return f"{self.key}.{name}" if self.key else name
