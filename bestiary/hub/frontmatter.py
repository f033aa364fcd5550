"""The front matter of a Markdown file: YAML between two lines of `---`, read into plain values and written back.

Cards come from strangers, so this reads the part of YAML that JSON also has, in YAML's notation. Numbers, `true`, `false`
and `null` are what JSON calls so; any other plain scalar is text (`no` is Norwegian, `2024-01-01` is no date). Keys are
text and stand once. Anchors, aliases and tags are refused, and with them every way a small file can grow in memory or
become an object. Built on libyaml's events: 0.1 ms a card, where composing and constructing takes three times that.
"""

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

import yaml

from bestiary.errors import CardError

Plain: TypeAlias = "bool | int | float | str | list[Plain] | dict[str, Plain] | None"

LARGEST_FILE = 1 << 20           # bytes; a card is for people to read
LARGEST_FRONT_MATTER = 1 << 18   # characters; room for ten thousand labels
DEEPEST = 16                     # collections within collections

_FENCED = re.compile(r"---[ \t]*\n(.*?)^---[ \t]*(?:\n|\Z)", re.DOTALL | re.MULTILINE)
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_WORDS: dict[str, Plain] = {"": None, "~": None, "null": None, "true": True, "false": False}

# PyYAML without libyaml is fifteen times slower and otherwise the same.
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_Dumper: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


def load(text: str, origin: str) -> tuple[dict[str, Plain], str]:
    """The front matter of `text` as plain values, and the Markdown after it.

    `origin` names the file in errors. Raises CardError, with the line, for anything but one YAML mapping within the limits
    of this module.
    """
    text = text.replace("\r\n", "\n")
    fenced = _FENCED.match(text)
    if fenced is None:
        raise CardError(f"{origin}: no front matter\nexpected: YAML between two lines of '---', the first at the top of the file")
    if len(fenced[1]) > LARGEST_FRONT_MATTER:
        raise CardError(f"{origin}: the front matter is too long\nexpected: at most {LARGEST_FRONT_MATTER} characters")
    try:
        front = _Reading(fenced[1], origin, _Loader).mapping()
    except yaml.YAMLError:
        # Versions of libyaml give up at different depths and in different words; what is wrong is told the same everywhere.
        front = _Reading(fenced[1], origin, yaml.SafeLoader).checked()
    return front, text[fenced.end():].strip()


def dump(front: Mapping[str, object], body: str) -> str:
    """A Markdown file that `load` reads back as the same values and the same text."""
    head = yaml.dump(front, Dumper=_Writing, sort_keys=False, allow_unicode=True, default_flow_style=None, width=160)
    return f"---\n{head}---\n\n{body}\n" if body else f"---\n{head}---\n"


def scalar(text: str) -> Plain:
    """What a plain, unquoted scalar means. Raises ValueError for a number that is too large to be one."""
    if text in _WORDS:
        return _WORDS[text]
    number = _NUMBER.fullmatch(text)
    if number is None:
        return text
    value = float(text)
    if not math.isfinite(value):
        raise ValueError("not finite")
    if number[1] is not None or number[2] is not None:
        return value
    if abs(value) >= 2**63:
        raise ValueError("more than 64 bits")
    return int(text)


class _Reading:
    """One pass over the events of one front matter."""

    def __init__(self, text: str, origin: str, loader: Any):
        self.origin = origin
        self.events: Iterator[Any] = yaml.parse(text, Loader=loader)
        self.trail: list[str] = []                          # the keys that lead to where the reading is

    def checked(self) -> dict[str, Plain]:
        """`mapping`, with what YAML has against the text as a CardError."""
        try:
            return self.mapping()
        except yaml.MarkedYAMLError as error:
            line = f" line {error.problem_mark.line + 2}:" if error.problem_mark else ""
            raise CardError(f"{self.origin}:{line} not valid YAML: {error.problem}\nexpected: a YAML mapping") from error
        except yaml.YAMLError as error:                     # the reader's own: characters that YAML has no place for
            raise CardError(f"{self.origin}: the front matter holds a control character\nexpected: plain text") from error

    def mapping(self) -> dict[str, Plain]:
        next(self.events)                                   # the stream begins
        if not isinstance(next(self.events), yaml.DocumentStartEvent):
            raise CardError(f"{self.origin}: the front matter is empty\nexpected: `license:` and `bestiary:` at least")
        start = next(self.events)
        value = self.value(start)
        next(self.events)                                   # the document ends
        extra = next(self.events)
        if not isinstance(extra, yaml.StreamEndEvent):
            raise self.error(extra, "a second document", "one YAML mapping")
        if not isinstance(value, dict):
            raise self.error(start, "not a mapping", "one YAML mapping")
        return value

    def value(self, event: Any) -> Plain:
        if event.anchor is not None:                        # of an alias, too
            raise self.error(event, "an anchor or an alias", "the value written out in full")
        if event.tag is not None:
            raise self.error(event, "a tag", "plain values; their type follows from how they are written")
        if isinstance(event, yaml.ScalarEvent):
            return self.scalar(event)
        if len(self.trail) == DEEPEST:
            raise self.error(event, "collections nested too deep", f"at most {DEEPEST} levels")
        if isinstance(event, yaml.SequenceStartEvent):
            return [self.below(str(index), item) for index, item in enumerate(self.until(yaml.SequenceEndEvent))]
        entries: dict[str, Plain] = {}
        for key in self.until(yaml.MappingEndEvent):
            if not isinstance(key, yaml.ScalarEvent) or not key.value.isprintable() or key.anchor or key.tag:
                raise self.error(key, "a key that is not one line of text", "keys that are names")
            if key.value in entries:
                raise self.error(key, f"{key.value[:80]!r} stands twice", "each key once")
            entries[key.value] = self.below(key.value, next(self.events))
        return entries

    def below(self, key: str, event: Any) -> Plain:
        self.trail.append(key)
        value = self.value(event)
        self.trail.pop()
        return value

    def until(self, end: type) -> Iterator[Any]:
        while not isinstance(event := next(self.events), end):
            yield event

    def scalar(self, event: Any) -> Plain:
        text: str = event.value
        if not text.isprintable() and _CONTROL.search(text):
            raise self.error(event, "a control character", "plain text")
        quoted = not event.implicit[0]
        try:
            return text if quoted else scalar(text)
        except ValueError as error:
            raise self.error(event, "a number that is too large", "a number that 64 bits hold, or text in quotes") from error

    def error(self, event: Any, problem: str, expected: str) -> CardError:
        line = event.start_mark.line + 2                    # counted from 1, and the fence is the first
        key = f" {'.'.join(self.trail)[:80]}:" if self.trail else ""
        return CardError(f"{self.origin}: line {line}:{key} {problem}\nexpected: {expected}")


class _Writing(_Dumper):  # type: ignore[misc]
    def ignore_aliases(self, data: object) -> bool:
        return True

    def text(self, text: str) -> Any:
        try:
            plain = scalar(text) == text
        except ValueError:
            plain = False
        return self.represent_scalar("tag:yaml.org,2002:str", text, style=None if plain else "'")


# PyYAML leaves `1e-5` bare, a text for it and a number for us and for YAML 1.2.
_Writing.add_representer(str, _Writing.text)
