"""Cards: a model is its card, one Markdown file whose front matter says what the model is and which bytes make it.

A card is a valid Hugging Face model card. What stands outside the key `bestiary` is read by Hugging Face from this very
file, so it is never inherited: the licence belongs to the weights as their digest does. Keys of Hugging Face's that mean
nothing here are kept as they stand; a key inside `bestiary` that nobody knows is an error, as a misspelt one must be.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeAlias, TypeVar

from bestiary.errors import CardError, UnknownModel
from bestiary.hub import frontmatter, names
from bestiary.hub.fields import Field
from bestiary.hub.frontmatter import Plain
from bestiary.hub.records import SCHEMA, Card, Component, File, Metric, SourceSpec

__all__ = ["Bases", "Card", "Component", "File", "Metric", "SourceSpec", "parse_card", "read_card", "read_part"]

Bases: TypeAlias = Callable[[str], Mapping[str, Plain]]
"""Gives the `bestiary` part of the card of that name, with what it inherits itself; raises UnknownModel."""

_NEVER_INHERITED = {
    "schema", "name", "version", "base", "files", "metrics", "checked", "precision", "pinned", "accept_license",
}
_KEYS = (
    "schema", "name", "version", "base", "task", "architecture", "config", "layout", "files", "sources", "preprocess",
    "labels", "precision", "metrics", "checked", "pinned", "components", "adapter_of", "accept_license",
)
_SOURCE_KEYS = {
    "package": ("package", "sha256", "folder", "names"),
    "hf": ("hf", "revision", "names"),
    "url": ("url", "names"),
    "path": ("path", "names"),
}
_MEASURED = ("bf16", "fp16", "int8")   # fp32 is what they are measured against

_FILE_NAME = "a path below its folder, such as unet/model.safetensors"
_SHA256 = "64 hexadecimal digits in small letters"
_REVISION = "a commit, a tag or a branch"
_WORD = "a name of small letters, digits, '-' and '_'"
_CARD_NAME = "a name of small letters, digits, '.', '-' and '_'"

T = TypeVar("T")


def read_card(path: Path, bases: Bases | None = None) -> Card:
    """The card in a file.

    Raises CardError, naming file, key and expected form, where the card is not as CONTRIBUTING describes.
    """
    front, text = frontmatter.load(_content(path), str(path))
    return _card(front, text, str(path), bases, path)


def parse_card(text: str, origin: str | Path, bases: Bases | None = None) -> Card:
    """The card in a text; `origin` is what errors call it. Raises CardError."""
    front, body = frontmatter.load(text, str(origin))
    return _card(front, body, str(origin), bases, origin if isinstance(origin, Path) else None)


def read_part(path: Path, bases: Bases | None = None) -> Mapping[str, Plain]:
    """The `bestiary` part of a card, with what it inherits, for another card to inherit. Raises CardError."""
    front, _ = frontmatter.load(_content(path), str(path))
    return _inherited(Field(str(path), "", front).need("bestiary", "a mapping with what makes this model"), bases)


def _content(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(frontmatter.LARGEST_FILE + 1)
    except OSError as error:
        raise CardError(f"{path}: the card cannot be read: {error.strerror}\nexpected: a readable Markdown file") from error
    if len(content) > frontmatter.LARGEST_FILE:
        raise CardError(f"{path}: the card is too long\nexpected: at most {frontmatter.LARGEST_FILE} bytes")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise CardError(f"{path}: byte {error.start} is not UTF-8\nexpected: a text file in UTF-8") from error


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
    _check_schema(part)
    pinned = _optional(part, "pinned", Field.truth, True)
    files = _files(part.need("files", "at least one file"), pinned)
    sources = _sources(part.need("sources", "at least one source"), {file.name for file in files})
    if not pinned and all(source.revision is None for source in sources):
        raise part.need("pinned", "").error("nothing says what is meant", "a source with a revision, or pinned files")
    components = _components(part.get("components"), {file.name for file in files})
    return Card(
        name=part.need("name", "the name of the file without .md").text(_CARD_NAME, names.is_card_name),
        version=_optional(part, "version", Field.whole, 1),
        task=_word(part, "task"),
        license=top.need("license", "the licence of the weights, such as apache-2.0").text("the name of one licence"),
        accept_license=_optional(part, "accept_license", Field.truth, False),
        pipeline_tag=_optional(top, "pipeline_tag", Field.text, None),
        language=_optional(top, "language", _one_or_more, ()),
        tags=_optional(top, "tags", Field.texts, ()),
        metadata={key: front[key] for key in front if key not in ("license", "pipeline_tag", "language", "tags", "bestiary")},
        architecture="" if components and "architecture" not in part.mapping() else _word(part, "architecture"),
        config=_optional(part, "config", Field.mapping, {}),
        layout="" if components and "layout" not in part.mapping() else _word(part, "layout"),
        files=files,
        sources=sources,
        preprocess=_optional(part, "preprocess", Field.mapping, {}),
        labels=_optional(part, "labels", _labels, None),
        precision=_optional(part, "precision", _precision, {}),
        metrics=_optional(part, "metrics", lambda field: tuple(map(_metric, field.items())), ()),
        checked=part.need("checked", "weights or parity").text("weights or parity", ("weights", "parity").__contains__),
        pinned=pinned,
        components=components,
        adapter_of=_optional(part, "adapter_of", lambda field: field.text("the name of a card", names.is_card_name), None),
        text=text,
        path=path,
    )


def _optional(parent: Field, name: str, read: Callable[[Field], T], default: T) -> T:
    field = parent.get(name)
    return default if field is None else read(field)


def _word(parent: Field, name: str) -> str:
    return parent.need(name, _WORD).text(_WORD, names.is_word)


def _one_or_more(field: Field) -> tuple[str, ...]:
    return field.texts() if isinstance(field.value, list) else (field.text(),)


def _check_schema(part: Field) -> None:
    if (schema := _optional(part, "schema", Field.whole, SCHEMA)) != SCHEMA:
        raise part.need("schema", "").error(f"this Bestiary does not read schema {schema}", f"{SCHEMA}, or a newer Bestiary")


def _files(field: Field, pinned: bool) -> tuple[File, ...]:
    files = tuple(_file(name, entry.only(("size", "sha256", "role")), pinned) for name, entry in field.entries().items())
    if not files:
        raise field.error("empty", "at least one file")
    return files


def _file(name: str, field: Field, pinned: bool) -> File:
    if not names.is_relative_path(name):
        raise field.error("not a file name", _FILE_NAME)
    role = _word(field, "role")
    if not pinned and not {"size", "sha256"} & field.mapping().keys():
        return File(name=name, role=role)
    size = field.need("size", "bytes").whole()
    return File(name=name, size=size, sha256=field.need("sha256", _SHA256).text(_SHA256, names.is_sha256), role=role)


def _sources(field: Field, files: set[str]) -> tuple[SourceSpec, ...]:
    sources = tuple(_source(entry, files) for entry in field.items())
    if not sources:
        raise field.error("empty", "at least one source")
    return sources


def _source(field: Field, files: set[str]) -> SourceSpec:
    kinds = _SOURCE_KEYS.keys() & field.mapping().keys()
    if len(kinds) != 1:
        raise field.error("one kind of source has to be given", "one of package, hf, url, path")
    kind = kinds.pop()
    address = field.only(_SOURCE_KEYS[kind]).need(kind, "")
    renamed = _renamed(field.get("names"), files)
    match kind:
        case "package":
            return SourceSpec(
                kind=kind,
                address=address.text("one version of a distribution, name==1.0", names.is_requirement),
                sha256=field.need("sha256", f"the digest of the wheel, {_SHA256}").text(_SHA256, names.is_sha256),
                folder=_optional(field, "folder", lambda at: at.text("a folder inside the wheel", names.is_relative_path), ""),
                names=renamed,
            )
        case "hf":
            repository = address.text("owner/name", names.is_repository)
            revision = field.need("revision", _REVISION).text(_REVISION, names.is_revision)
            return SourceSpec(kind=kind, address=repository, revision=revision, names=renamed)
        case "url":
            prefix = address.text("https://..., or http:// to this machine, without credentials or query", names.is_url)
            return SourceSpec(kind=kind, address=prefix, names=renamed)
        case _:
            folder = address.text("'.' or a folder below the card's", lambda at: at == "." or names.is_relative_path(at))
            return SourceSpec(kind=kind, address=folder, names=renamed)


def _renamed(field: Field | None, files: set[str]) -> dict[str, str]:
    if field is None:
        return {}
    entries = field.only(sorted(files)).entries()
    return {name: entry.text(_FILE_NAME, names.is_relative_path) for name, entry in entries.items()}


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
        architecture=_word(field, "architecture"),
        config=_optional(field, "config", Field.mapping, {}),
        layout=_word(field, "layout"),
        files=named,
    )
