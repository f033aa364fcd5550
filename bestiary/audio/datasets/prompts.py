"""Asterisk's prompts as Debian packs them: recordings of a voice in each of several languages, and what it says.

    usr/share/asterisk/sounds/en_US_f_Allison/digits/1.wav      a recording; the folder begins with its language
    usr/share/doc/asterisk-core-sounds-en/core-sounds-en.txt.gz   lines of names and texts
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bestiary.core.archives import members, unpack
from bestiary.core.generated import Source, generated
from bestiary.core.tables import LABEL, UnknownSplit
from bestiary.errors import InputError
from bestiary.hub.splitting import split_of

if TYPE_CHECKING:
    from bestiary.core.tables import Rows

LANGUAGES = ("en", "es", "fr")  # of the packages that there are
SPLITS = ("train", "validation", "test")  # of all languages; a language is a split, too, of all its recordings

_TEXTS = re.compile(r"(?:.*/)?core-sounds-([a-z]{2})\.txt\.gz")
_SOUND = re.compile(r"(?:.*/)?asterisk/sounds/([a-z]{2})_[^/]+/(.+)\.wav")
_NOTE = re.compile(r"\[[^\]]*\]$|<[^>]*>$|\([^)]*\)$")  # what is not said stands in brackets at the end, or is all there is

Members = Iterable[tuple[str, Callable[[], bytes]]]  # names of files and what reads them


def asterisk(source: Source) -> Iterator[dict[str, Any]]:
    """The rows of packages, those of texts before those of sounds."""
    return _rows(chain.from_iterable(map(members, source.paths)), source.split)


def columns(label: Any) -> dict[str, Any]:
    """The features of what is in a row beside the sound."""
    from datasets import Value

    return {"text": Value("string"), "language": Value("string"), LABEL: label}


def open_installed(share: Path, split: str, whose: str, *, streaming: bool) -> Rows:
    """The rows of what the packages have put below a folder, /usr/share where they are installed. Raises InputError."""
    from datasets import ClassLabel

    from bestiary.audio.datasets.recording import AUDIO, Recording

    files = sorted(share.glob("doc/asterisk-core-sounds-*/core-sounds-*.txt.gz"))
    if not files:
        raise InputError(f"{whose} has no texts of its prompts\ninstall asterisk-core-sounds-en, too, or -es, or -fr")
    if split not in (*SPLITS, *LANGUAGES):
        raise UnknownSplit(f"{whose} has no split {split!r}\nits splits: {', '.join((*SPLITS, *LANGUAGES))}")
    files += sorted(share.glob("asterisk/sounds/*_*/**/*.wav"))
    features = {AUDIO: Recording(), **columns(ClassLabel(names=list(LANGUAGES)))}
    stamps = tuple((str(file), file.stat().st_mtime_ns) for file in files)
    return generated(_installed, features, split, streaming=streaming, stamps=stamps, wanted=split)


def _installed(stamps: tuple[tuple[str, int], ...], wanted: str) -> Iterator[dict[str, Any]]:
    return _rows(((name, Path(name).read_bytes) for name, _ in stamps), wanted)


def _rows(files: Members, split: str) -> Iterator[dict[str, Any]]:
    texts: dict[str, dict[str, str]] = {}
    for name, read in files:
        if found := _TEXTS.fullmatch(name):
            texts[found[1]] = read_texts(unpack(io.BytesIO(read()), name).decode())
        elif found := _SOUND.fullmatch(name):
            language, key = found.groups()
            if language not in texts:
                raise InputError(f"nothing tells what the prompts in {language!r} say\ngive the packages of texts first")
            text = texts[language].get(key, "")
            if text and split in (language, split_of(words_of(text))):
                sound = {"path": f"{language}/{key}.wav", "bytes": read()}
                yield {"audio": sound, "text": text, "language": language, LABEL: language}


def read_texts(lines: str) -> dict[str, str]:
    """What each recording says, by its name; of a name that comes twice, the first. Beeps, noises and silence say nothing.

    >>> read_texts("; Sounds\\n\\nbeep: [a tone]\\nletters/at: at [@]\\nvm-intro:  Please leave a message.")
    {'letters/at': 'at', 'vm-intro': 'Please leave a message.'}
    """
    texts: dict[str, str] = {}
    for line in lines.splitlines():
        name, colon, text = line.partition(":")
        said = _NOTE.sub("", text.strip()).strip(" “”")
        if colon and said and not line.startswith(";"):
            texts.setdefault(name.strip(), " ".join(said.split()))
    return texts


def words_of(text: str) -> str:
    """The words alone, in small letters: what decides in which split a text is, whatever its language."""
    return " ".join(re.findall(r"\w+", text.casefold()))
