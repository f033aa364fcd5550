"""All cards there are: the shipped folder, the folders of `BESTIARY_CARDS`, and what installed packages add.

Cards of models lie in these folders, those of data sets in the folder `datasets` of each.

The file names are the registry. Names come from listing folders, one card is read when one is asked for, and there is no
index that could be stale.
"""

import os
import re
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Generic, TypeVar

from bestiary.errors import BestiaryError, CardError, InputError, UnknownDataset, UnknownModel
from bestiary.hub import dataset
from bestiary.hub.card import Bases, Card, read_card, read_part
from bestiary.hub.dataset import DatasetCard, read_dataset_card
from bestiary.hub.frontmatter import Plain
from bestiary.hub.records import BaseCard
from bestiary.hub.settings import Settings

ENTRY_POINTS = "bestiary.cards"
LONGEST_ANCESTRY = 8   # cards from one to the last of its bases

_CARD_FILE = re.compile(r"([a-z0-9][a-z0-9._-]{0,99}(?:@[0-9]{1,9})?)\.md")


AnyCard = TypeVar("AnyCard", bound=BaseCard)


class Cards(ABC, Generic[AnyCard]):
    """The cards of some folders, of one kind.

    In a folder, `name.md` is the card of `name` and `name@1.md` an older version of it; other files, such as README.md, are
    not cards.
    """

    kind: str                      # what an error calls them
    command: str                   # what lists them all
    unknown: type[BestiaryError]

    def __init__(self, folders: Iterable[Path]):
        self.folders = tuple(dict.fromkeys(folder.resolve() for folder in folders))

    def names(self) -> list[str]:
        """The names of all cards, sorted. Reads no card. Raises InputError for a folder that cannot be listed."""
        return sorted(name for name in self._listing() if "@" not in name)

    def card(self, name: str) -> AnyCard:
        """The card of that name, or `name@version`.

        Raises UnknownModel or UnknownDataset, which list the nearest names, and CardError where the card is malformed or two
        folders hold one of that name.
        """
        return self._card(name, self._listing())

    def cards(self) -> Iterator[AnyCard]:
        """All cards, in the order of their names. Raises as `card` does, at the first that is wrong."""
        listing = self._listing()
        return (self._card(name, listing) for name in sorted(listing) if "@" not in name)

    def _listing(self) -> dict[str, list[Path]]:
        listing: dict[str, list[Path]] = {}
        for folder in self.folders:
            try:
                with os.scandir(folder) as entries:
                    found = [match[1] for entry in entries if (match := _CARD_FILE.fullmatch(entry.name)) and entry.is_file()]
            except OSError as error:
                raise InputError(
                    f"{folder}: the folder of cards cannot be listed: {error.strerror}\n"
                    "correct BESTIARY_CARDS, or `cards` in the config file"
                ) from error
            for name in found:
                listing.setdefault(name, []).append(folder / f"{name}.md")
        return listing

    def _card(self, name: str, listing: Mapping[str, list[Path]]) -> AnyCard:
        path = _find(name, listing)
        if path is None:
            raise self.unknown(_no_such(name, listing, self.kind, self.command))
        card = self._read(path, listing)
        stem, _, older = path.stem.partition("@")
        if card.name != stem:
            raise CardError(f"{path}: bestiary.name: {card.name!r} is not the name of the file\nexpected: {stem}")
        if older and card.version != int(older):
            raise CardError(f"{path}: bestiary.version: {card.version} is not the version of the file\nexpected: {int(older)}")
        _check_version(name, path, card.version, self.unknown)
        return card

    @abstractmethod
    def _read(self, path: Path, listing: Mapping[str, list[Path]]) -> AnyCard: ...


class Registry(Cards[Card]):
    """The cards of models.

    >>> registry = Registry.standard(Settings.read())
    >>> registry.card("minilm-l6-v2").task
    'text-embedding'
    """

    kind, command, unknown = "model", "bestiary ls", UnknownModel

    @classmethod
    def standard(cls, settings: Settings) -> "Registry":
        """The registry of this installation. Raises InputError where an installed package announces cards it has not."""
        return cls(_standard_folders(settings))

    def search(self, query: str) -> list[Card]:
        """The cards that hold every word of the query, best first: by name, then task and architecture, tags, the text."""
        words = query.lower().split()
        scored = [(score, card) for card in self.cards() if (score := _score(card, words)) is not None]
        return [card for _, card in sorted(scored, key=lambda pair: (-pair[0], pair[1].name))]

    def _read(self, path: Path, listing: Mapping[str, list[Path]]) -> Card:
        return read_card(path, _bases((path,), listing))


class Datasets(Cards[DatasetCard]):
    """The cards of data sets.

    >>> datasets = Datasets.standard(Settings.read())
    >>> datasets.card("ag-news").labels
    ('World', 'Sports', 'Business', 'Sci/Tech')
    """

    kind, command, unknown = "data set", "bestiary ls --datasets", UnknownDataset

    @classmethod
    def standard(cls, settings: Settings) -> "Datasets":
        """The data sets of this installation. Raises InputError as `Registry.standard` does."""
        return cls(inner for folder in _standard_folders(settings) if (inner := folder / dataset.FOLDER).is_dir())

    def _read(self, path: Path, listing: Mapping[str, list[Path]]) -> DatasetCard:
        return read_dataset_card(path)


def _standard_folders(settings: Settings) -> list[Path]:
    return [_shipped(), *settings.cards, *_installed(sys.path)]


def _check_version(name: str, path: Path, version: Plain, unknown: type[BestiaryError]) -> None:
    stem, at, asked = name.partition("@")
    if at and "@" not in path.stem and asked != str(version):
        raise unknown(f"{stem} has no version {asked[:80]!r}\nthere is version {version}")


def _find(name: str, listing: Mapping[str, list[Path]]) -> Path | None:
    """The file of `name`, if there is one; for `name@2` that file or, as the latest version's own file has no number, `name`'s.

    What it finds for `name@2` may thus be another version, which only reading it tells: see `_check_version`.
    """
    paths = listing.get(name) or listing.get(name.partition("@")[0])
    if paths is None:
        return None
    if len(paths) > 1:
        raise CardError(
            f"two cards are called {name!r}: {paths[0]} and {paths[1]}\nexpected: one; rename or remove the other"
        )
    return paths[0]


def _no_such(name: str, listing: Iterable[str], kind: str, command: str) -> str:
    from difflib import get_close_matches  # 15 ms that only an error is worth

    near = get_close_matches(name[:100].lower(), list(listing), n=3, cutoff=0.4)
    nearest = f"nearest: {', '.join(near)}\n" if near else ""
    return f"no {kind} is called {name[:80]!r}\n{nearest}`{command}` lists all"


def _bases(ancestry: tuple[Path, ...], listing: Mapping[str, list[Path]]) -> Bases:
    """Reads the bases of the last of `ancestry`, and theirs; a card that comes round again is an error."""

    def part(name: str) -> Mapping[str, Plain]:
        path = _find(name, listing)
        if path is None:
            raise UnknownModel(_no_such(name, listing, Registry.kind, Registry.command))
        way = " → ".join(step.stem for step in (*ancestry, path))
        if path in ancestry:
            raise CardError(f"{ancestry[-1]}: bestiary.base: a circle: {way}\nexpected: a card that does not rest on this one")
        if len(ancestry) == LONGEST_ANCESTRY:
            raise CardError(f"{ancestry[-1]}: bestiary.base: too long a line: {way}\nexpected: at most {LONGEST_ANCESTRY} cards")
        found = read_part(path, _bases((*ancestry, path), listing))
        _check_version(name, path, found.get("version", 1), UnknownModel)
        return found

    return part


def _score(card: Card, words: Sequence[str]) -> int | None:
    """How well a card answers; None unless every word is found somewhere."""
    about = f"{card.task} {card.architecture} {card.license} {card.pipeline_tag} {' '.join(card.language)}"
    places = ((8, card.name), (4, about), (2, " ".join(card.tags)), (1, card.text))
    scores = [max((weight for weight, place in places if word in place.lower()), default=0) for word in words]
    return sum(scores) if all(scores) else None


def _shipped() -> Path:
    """The cards that come with Bestiary: inside the package in a wheel, beside it in a clone."""
    package = Path(__file__).parent.parent
    inside = package / "model_cards"
    return inside if inside.is_dir() else package.parent / "model_cards"


def _installed(search_path: Iterable[str]) -> Iterator[Path]:
    """The folders of cards of installed packages: the entry points of the group, each the name of a package.

    `importlib.metadata` finds the same in 70 ms, half of what a listing may take; looking for the few bytes takes four.
    """
    return map(_folder_of, dict.fromkeys(_entry_points(search_path)))


def _folder_of(package: str) -> Path:
    """Where a package lies. It is found, never imported: a listing runs no code of others."""
    from importlib.util import find_spec

    top, *below = package.split(".")
    spec = find_spec(top) if top.isidentifier() else None
    for root in (spec and spec.submodule_search_locations) or ():
        if (folder := Path(root, *below)).is_dir():
            return folder
    raise InputError(f"entry point {ENTRY_POINTS}: there is no package {package!r}\nreinstall what announces it")


def _entry_points(search_path: Iterable[str]) -> Iterator[str]:
    for folder in search_path:
        try:
            with os.scandir(folder or ".") as entries:
                metadata = sorted(entry.path for entry in entries if entry.name.endswith((".dist-info", ".egg-info")))
        except OSError:   # archives, and folders that are gone: Python skips them as well
            continue
        for distribution in metadata:
            try:
                declared = Path(distribution, "entry_points.txt").read_bytes()
            except OSError:   # most declare nothing
                continue
            if f"[{ENTRY_POINTS}]".encode() in declared:
                yield from _values(declared.decode("utf-8", "replace"), distribution)


def _values(declared: str, distribution: str) -> list[str]:
    from configparser import ConfigParser, Error

    parser = ConfigParser(delimiters=("=",), interpolation=None, strict=False)
    try:
        parser.read_string(declared)
    except Error as error:
        raise InputError(f"{distribution}: its entry_points.txt is malformed\nreinstall that package") from error
    return list(parser[ENTRY_POINTS].values())
