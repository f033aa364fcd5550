"""How the parts are read that cards of models and cards of data sets have in common."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from bestiary.errors import CardError
from bestiary.hub import frontmatter, names
from bestiary.hub.fields import Field
from bestiary.hub.frontmatter import Plain
from bestiary.hub.records import SCHEMA, File, SourceSpec

_SOURCE_KEYS = {
    "package": ("package", "sha256", "folder", "names"),
    "debian": ("debian", "sha256"),
    "hf": ("hf", "revision", "names"),
    "url": ("url", "names"),
    "path": ("path", "names"),
}
_FILE_NAME = "a path below its folder, such as unet/model.safetensors"
SHA256 = "64 hexadecimal digits in small letters"
_REVISION = "a commit, a tag or a branch"
_WORD = "a name of small letters, digits, '-' and '_'"
_CARD_NAME = "a name of small letters, digits, '.', '-' and '_'"

T = TypeVar("T")


def content(path: Path) -> str:
    """The text of a card's file. Raises CardError where it cannot be read, is too long, or is not UTF-8."""
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


def optional(parent: Field, name: str, read: Callable[[Field], T], default: T) -> T:
    field = parent.get(name)
    return default if field is None else read(field)


def word(parent: Field, name: str) -> str:
    return parent.need(name, _WORD).text(_WORD, names.is_word)


def common(top: Field, part: Field, path: Path | None) -> dict[str, Any]:
    """The fields of `BaseCard` but for the text; `top` is the whole front matter, `part` what stands under `bestiary`."""
    if (schema := optional(part, "schema", Field.whole, SCHEMA)) != SCHEMA:
        raise part.need("schema", "").error(f"this Bestiary does not read schema {schema}", f"{SCHEMA}, or a newer Bestiary")
    pinned = optional(part, "pinned", Field.truth, True)
    files = _files(part.need("files", "at least one file"), pinned)
    sources = _sources(part.need("sources", "at least one source"), {file.name for file in files})
    if not pinned and all(source.revision is None for source in sources):
        raise part.need("pinned", "").error("nothing says what is meant", "a source with a revision, or pinned files")
    none: tuple[str, ...] = ()
    return {
        "name": part.need("name", "the name of the file without .md").text(_CARD_NAME, names.is_card_name),
        "version": optional(part, "version", Field.whole, 1),
        "license": top.need("license", "the licence of the files, such as apache-2.0").text("the name of one licence"),
        "accept_license": optional(part, "accept_license", Field.truth, False),
        "language": optional(top, "language", _one_or_more, none),
        "tags": optional(top, "tags", Field.texts, none),
        "files": files,
        "sources": sources,
        "pinned": pinned,
        "path": path,
    }


def metadata(front: Mapping[str, Plain], *own: str) -> dict[str, Plain]:
    """The keys of the front matter that mean nothing here: neither the common ones nor the card's `own`."""
    return {key: value for key, value in front.items() if key not in ("license", "language", "tags", "bestiary", *own)}


def _one_or_more(field: Field) -> tuple[str, ...]:
    return field.texts() if isinstance(field.value, list) else (field.text(),)


def _files(field: Field, pinned: bool) -> tuple[File, ...]:
    files = tuple(_file(name, entry.only(("size", "sha256", "role")), pinned) for name, entry in field.entries().items())
    if not files:
        raise field.error("empty", "at least one file")
    return files


def _file(name: str, field: Field, pinned: bool) -> File:
    if not names.is_relative_path(name):
        raise field.error("not a file name", _FILE_NAME)
    role = word(field, "role")
    if not pinned and not {"size", "sha256"} & field.mapping().keys():
        return File(name=name, role=role)
    size = field.need("size", "bytes").whole()
    return File(name=name, size=size, sha256=field.need("sha256", SHA256).text(SHA256, names.is_sha256), role=role)


def _sources(field: Field, files: set[str]) -> tuple[SourceSpec, ...]:
    sources = tuple(_source(entry, files) for entry in field.items())
    if not sources:
        raise field.error("empty", "at least one source")
    return sources


def _source(field: Field, files: set[str]) -> SourceSpec:
    kinds = _SOURCE_KEYS.keys() & field.mapping().keys()
    if len(kinds) != 1:
        raise field.error("one kind of source has to be given", "one of " + ", ".join(_SOURCE_KEYS))
    kind = kinds.pop()
    address = field.only(_SOURCE_KEYS[kind]).need(kind, "")
    renamed = _renamed(field.get("names"), files)
    match kind:
        case "package":
            return SourceSpec(
                kind=kind,
                address=address.text("one version of a distribution, name==1.0", names.is_requirement),
                sha256=field.need("sha256", f"the digest of the wheel, {SHA256}").text(SHA256, names.is_sha256),
                folder=optional(field, "folder", lambda at: at.text("a folder inside the wheel", names.is_relative_path), ""),
                names=renamed,
            )
        case "debian":
            return SourceSpec(
                kind=kind,
                address=address.text("one version of a package of Debian, name==1.0-1", names.is_debian_package),
                sha256=field.need("sha256", f"the digest of the archive, {SHA256}").text(SHA256, names.is_sha256),
            )
        case "hf":
            repository = address.text("owner/name, or datasets/owner/name", names.is_repository)
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
