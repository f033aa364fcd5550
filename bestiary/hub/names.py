"""What a name, a path, a digest or an address may look like.

Cards, lock files, archives and settings are written by others. Whatever they hold that later becomes a path, an address
or an argument of a command passes one of these first, so that this is the only place to read to know what can get through.
"""

import re

_CARD_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,99}")
_WORD = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_REQUIREMENT = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?==[0-9][A-Za-z0-9.!+_-]*")
_DEBIAN = re.compile(r"[a-z0-9][a-z0-9+.-]+==(?:[0-9]{1,9}:)?[0-9][A-Za-z0-9.+~-]*")
_REPOSITORY = re.compile(r"(?:datasets/)?[A-Za-z0-9_][A-Za-z0-9._-]*/[A-Za-z0-9_][A-Za-z0-9._-]*")
_REVISION = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*(?:/[A-Za-z0-9_][A-Za-z0-9._-]*)*")
# A name and a password before the host, a query and a fragment have no place in a prefix that file names are added to.
_LOOPBACK = r"http://(?:localhost|127(?:\.[0-9]{1,3}){3}|\[::1\])"
_URL = re.compile(rf"(?:https://(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])|{_LOOPBACK})(?::[0-9]{{1,5}})?(?:/[!$-;=A-Z_a-z~%@]*)?")
_NOT_IN_FILE_NAMES = frozenset('\\:*?"<>|')   # Windows refuses them or, `\` and `:`, reads them as part of the path


def is_card_name(text: str) -> bool:
    """Small letters, digits, `.`, `_` and `-`, at most 100; a file system that ignores case cannot confuse two of them."""
    return _CARD_NAME.fullmatch(text) is not None


def is_word(text: str) -> bool:
    """Small letters, digits, `_` and `-`: a task, an architecture, a layout, a role."""
    return _WORD.fullmatch(text) is not None


def is_sha256(text: str) -> bool:
    """64 hexadecimal digits in small letters."""
    return _SHA256.fullmatch(text) is not None


def is_relative_path(text: str) -> bool:
    """A path that stays below the folder it is joined to, on every system: `model.safetensors`, `unet/model.safetensors`.

    Refused: absolute paths, `.` and `..` as parts, empty parts, backslashes, drives, control and other unprintable
    characters, parts that end in a space or a dot (Windows drops these and arrives at another name), over 255 characters.
    """
    return (
        0 < len(text) <= 255
        and text.isprintable()
        and _NOT_IN_FILE_NAMES.isdisjoint(text)
        and all(part and part[0] != " " and part[-1] not in " ." for part in text.split("/"))
    )


def is_url(text: str) -> bool:
    """An https address, or plain http to this very machine; no credentials, no query, no fragment."""
    return _URL.fullmatch(text) is not None


def is_requirement(text: str) -> bool:
    """One distribution at one version, `name==1.0`; nothing that pip could read as an option, a path or an address."""
    return _REQUIREMENT.fullmatch(text) is not None


def is_debian_package(text: str) -> bool:
    """One package of Debian at one version, `name==1:2.0-3`; nothing that apt-get could read as an option or a path."""
    return _DEBIAN.fullmatch(text) is not None


def is_repository(text: str) -> bool:
    """`owner/name` on a model hub, or `datasets/owner/name`."""
    return _REPOSITORY.fullmatch(text) is not None and ".." not in text


def is_revision(text: str) -> bool:
    """A commit, a tag or a branch of a repository."""
    return _REVISION.fullmatch(text) is not None and ".." not in text
