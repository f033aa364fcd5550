"""Cards: a model is its card, one Markdown file whose front matter says what the model is and which bytes make it.

A card is a valid Hugging Face model card. What stands outside the key `bestiary` is read by Hugging Face from this very
file, so it is never inherited: the licence belongs to the weights as their digest does. Keys of Hugging Face's that mean
nothing here are kept as they stand; a key inside `bestiary` that nobody knows is an error, as a misspelt one must be.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeAlias

from bestiary.errors import UnknownModel
from bestiary.hub import frontmatter, names, reading
from bestiary.hub.fields import Field
from bestiary.hub.frontmatter import Plain
from bestiary.hub.records import AdapterOf, Card, Component, File, Metric, SourceSpec

__all__ = ["AdapterOf", "Bases", "Card", "Component", "File", "Metric", "SourceSpec", "parse_card", "read_card", "read_part"]

Bases: TypeAlias = Callable[[str], Mapping[str, Plain]]
"""Gives the `bestiary` part of the card of that name, with what it inherits itself; raises UnknownModel."""

_NEVER_INHERITED = {
    "schema", "name", "version", "base", "files", "metrics", "checked", "precision", "pinned", "adapter_of", "accept_license",
}
_KEYS = (
    "schema", "name", "version", "base", "task", "architecture", "config", "layout", "files", "sources", "preprocess",
    "labels", "precision", "metrics", "checked", "pinned", "components", "adapter_of", "accept_license",
)
_CHECKED = "weights, parity or bridged"
_MEASURED = ("bf16", "fp16", "int8", "int4")   # fp32 is what they are measured against


def read_card(path: Path, bases: Bases | None = None) -> Card:
    """The card in a file.

    Raises CardError, naming file, key and expected form, where the card is not as CONTRIBUTING describes.
    """
    front, text = frontmatter.load(reading.content(path), str(path))
    return _card(front, text, str(path), bases, path)


def parse_card(text: str, origin: str | Path, bases: Bases | None = None) -> Card:
    """The card in a text; `origin` is what errors call it. Raises CardError."""
    front, body = frontmatter.load(text, str(origin))
    return _card(front, body, str(origin), bases, origin if isinstance(origin, Path) else None)


def read_part(path: Path, bases: Bases | None = None) -> Mapping[str, Plain]:
    """The `bestiary` part of a card, with what it inherits, for another card to inherit. Raises CardError."""
    front, _ = frontmatter.load(reading.content(path), str(path))
    return _inherited(Field(str(path), "", front).need("bestiary", "a mapping with what makes this model"), bases)


def _inherited(part: Field, bases: Bases | None) -> dict[str, Plain]:
    """The part with its base under it: mappings merged key by key, everything else replaced."""
    own = part.mapping()
    base = part.get("base")
    if base is None:
        return own
    name = base.text("the name of a card")
    if bases is None:
        raise base.error("a card that stands alone has no base", "every key written out in this card")
    try:
        given = bases(name)
    except UnknownModel as error:
        raise base.error(f"there is no card {name!r}", "the name of a card") from error
    return _merged({key: value for key, value in given.items() if key not in _NEVER_INHERITED}, own)


def _merged(under: Mapping[str, Plain], over: Mapping[str, Plain]) -> dict[str, Plain]:
    merged = {**under, **over}
    for key in under.keys() & over.keys():
        below, above = under[key], over[key]
        if isinstance(below, dict) and isinstance(above, dict):
            merged[key] = _merged(below, above)
    return merged


def _card(front: dict[str, Plain], text: str, origin: str, bases: Bases | None, path: Path | None) -> Card:
    top = Field(origin, "", front)
    part = top.need("bestiary", "a mapping with what makes this model")
    part = Field(origin, part.key, _inherited(part, bases)).only(_KEYS)
    common = reading.common(top, part, path)
    components = _components(part.get("components"), {file.name for file in common["files"]})
    return Card(
        **common,
        task=reading.word(part, "task"),
        pipeline_tag=reading.optional(top, "pipeline_tag", Field.text, None),
        metadata=reading.metadata(front, "pipeline_tag"),
        architecture="" if components and "architecture" not in part.mapping() else reading.word(part, "architecture"),
        config=reading.optional(part, "config", Field.mapping, {}),
        layout="" if components and "layout" not in part.mapping() else reading.word(part, "layout"),
        preprocess=reading.optional(part, "preprocess", Field.mapping, {}),
        labels=reading.optional(part, "labels", _labels, None),
        precision=reading.optional(part, "precision", _precision, {}),
        metrics=reading.optional(part, "metrics", lambda field: tuple(map(_metric, field.items())), ()),
        checked=part.need("checked", _CHECKED).text(_CHECKED, ("weights", "parity", "bridged").__contains__),
        components=components,
        adapter_of=reading.optional(part, "adapter_of", _adapter_of, None),
        text=text,
    )


def _labels(field: Field) -> str | tuple[str, ...]:
    if field.value == []:
        raise field.error("empty", "the name of a list of labels, or the labels")
    return field.texts() if isinstance(field.value, list) else field.text()


def _precision(field: Field) -> dict[str, dict[str, float]]:
    measured = field.only(_MEASURED).entries().items()
    return {name: {key: number.number() for key, number in entry.entries().items()} for name, entry in measured}


def _metric(field: Field) -> Metric:
    field.only(("dataset", "metric", "value", "command"))
    return Metric(
        dataset=field.need("dataset", "the data set").text(),
        metric=field.need("metric", "what was measured").text(),
        value=field.need("value", "a number").number(),
        command=field.need("command", "the command that measures it again").text("the command that measures it again"),
    )


def _adapter_of(field: Field) -> AdapterOf:
    name = field.only(("name", "sha256")).need("name", "the name of a card").text("the name of a card", names.is_card_name)
    wanted = f"{reading.SHA256}, or a list of such"
    digest = field.need("sha256", wanted)
    several = list(digest.items()) if isinstance(digest.value, list) else [digest]
    if not several:
        raise digest.error("empty", wanted)
    return AdapterOf(name=name, sha256=tuple(one.text(wanted, names.is_sha256) for one in several))


def _components(field: Field | None, files: set[str]) -> dict[str, Component]:
    return {name: _component(entry, files) for name, entry in field.entries().items()} if field else {}


def _component(field: Field, files: set[str]) -> Component:
    field.only(("architecture", "config", "layout", "files"))
    own = field.need("files", "names of files of this card")
    known = "one of " + ", ".join(sorted(files))
    named = tuple(item.text(known, files.__contains__) for item in own.items())
    if not named:
        raise own.error("empty", "at least one file")
    return Component(
        architecture=reading.word(field, "architecture"),
        config=reading.optional(field, "config", Field.mapping, {}),
        layout=reading.word(field, "layout"),
        files=named,
    )
