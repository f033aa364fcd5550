"""Texts to learn from: data sets by name, repositories of Hugging Face, and files of one's own.

    from bestiary.text import datasets

    datasets.load("openmoji", split="test")                    # a card of model_cards/datasets
    datasets.load("reviews.csv", columns=["text", "label"])    # csv, tsv, jsonl, parquet, txt
    datasets.load("./reviews")                                 # a folder with train.csv and test.csv
    datasets.load("hf:owner/repo", trust="first-use")

Rows are those of Hugging Face `datasets`: a table in a file mapped into memory, or a stream. No code of a data set is ever run.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from bestiary.core import tables
from bestiary.core.tables import Files
from bestiary.errors import InputError, OfflineError
from bestiary.hub.dataset import DatasetCard, Split
from bestiary.hub.emoji import read_emoji
from bestiary.hub.lock import LOCK
from bestiary.hub.names import is_relative_path, is_repository, is_revision
from bestiary.hub.progress import standard_progress
from bestiary.hub.records import File, SourceSpec
from bestiary.hub.registry import Datasets
from bestiary.hub.settings import Settings
from bestiary.hub.trust import Trust

if TYPE_CHECKING:
    from bestiary.core.tables import Rows

LABEL = "label"   # the column whose numbers a card's `labels` name

Found = TypeVar("Found")


def load(
    name: str | os.PathLike[str],
    split: str = "train",
    *,
    streaming: bool = False,
    columns: Sequence[str] | None = None,
    trust: str | None = None,
    accept_license: bool = False,
    lock: str | os.PathLike[str] = LOCK,
    offline: bool | None = None,
    home: str | os.PathLike[str] | None = None,
) -> Rows:
    """The rows of one split of a data set.

    Args:
        name: the name of a card; a file, a folder or a pattern (anything with a path separator, a `*` or the suffix of a
            format known); or "hf:owner/repo[/folder][@revision]", a repository of files in one of these formats.
        split: train, validation, test, or what else the data set has. A file of one's own is all `train`; those of a
            folder are what their names say.
        streaming: read the rows as one goes, an iterable, instead of converting them to a table first.
        columns: only these.
        trust, accept_license, lock, offline, home: as in `bestiary.load`.

    Raises:
        UnknownDataset, CardError, IntegrityError, OfflineError, SourceError, LicenseError, DiskFullError, InputError

    >>> rows = load("openmoji", split="test")
    >>> len(rows), rows[0]["text"], rows.features["label"].int2str(rows[0]["label"])
    (183, 'keycap 2', 'Symbols')
    """
    name = os.fspath(name)
    if _is_path(name):
        return tables.open_rows(_pick(tables.find_files(name), split, name), split, streaming=streaming, columns=columns)
    settings = Settings.read(home=home, offline=offline)
    agreed = Trust.given(trust, lock, accept_license)
    card = _repository(name, split, settings, agreed) if name.startswith("hf:") else Datasets.standard(settings).card(name)
    chosen = _pick(card.splits, split, name)
    wanted = [file for file in card.files if file.name in chosen.files]
    fetched = agreed.fetch(card, settings, standard_progress(), wanted)
    paths = tuple(str(fetched[file].path) for file in chosen.files)
    rows = _emoji(paths[0], split, card, streaming) if card.format == "emoji" else _table(card, paths, split, streaming)
    return tables.pick_columns(rows, columns, card.name)


def _is_path(name: str) -> bool:
    if name.startswith("hf:"):
        return False
    return "/" in name or os.sep in name or "*" in name or Path(name).suffix.lower() in tables.SUFFIXES


def _pick(splits: Mapping[str, Found], split: str, whose: str) -> Found:
    if split not in splits:
        raise InputError(f"{whose} has no split {split!r}\nits splits: {', '.join(splits)}")
    return splits[split]


def _table(card: DatasetCard, paths: tuple[str, ...], split: str, streaming: bool) -> Rows:
    """The rows of a card's files, their columns and labels named as the card does."""
    from datasets import ClassLabel, List

    rows = tables.open_rows(Files(card.format, paths), split, streaming=streaming)
    rows = rows.rename_columns({theirs: ours for ours, theirs in card.columns.items()})
    if card.labels and rows.features and LABEL in rows.features:
        kind = ClassLabel(names=list(card.labels))
        rows = rows.cast_column(LABEL, List(kind) if isinstance(rows.features[LABEL], List) else kind)
    return rows


def _emoji(path: str, split: str, card: DatasetCard, streaming: bool) -> Rows:
    from datasets import ClassLabel, Dataset, Features, Value

    text = Value("string")
    label = ClassLabel(names=list(card.labels or ()))
    rows = Dataset.from_list(
        [
            {"text": one.name, LABEL: one.group, "subgroup": one.subgroup, "emoji": one.characters, "code": one.code,
             "concept": one.concept}
            for one in read_emoji(Path(path)) if one.split == split
        ],
        features=Features({"text": text, LABEL: label, "subgroup": text, "emoji": text, "code": text, "concept": text}),
    )  # fmt: skip
    return rows.to_iterable_dataset() if streaming else rows


def _repository(name: str, split: str, settings: Settings, trust: Trust) -> DatasetCard:
    """The card of `hf:owner/repo[/folder][@revision]`, made from the names of its files. Nobody has pinned these.

    Offline the lock file says what there is.
    """
    address, _, revision = name.removeprefix("hf:").partition("@")
    revision = revision or "main"
    owner, _, rest = address.partition("/")
    repository, _, folder = rest.partition("/")
    named = is_repository(f"datasets/{owner}/{repository}") and (not folder or is_relative_path(folder))
    if not named or not is_revision(revision):
        raise InputError(f"{name[:80]!r} does not name a data set\nwrite hf:owner/repo, hf:owner/repo/folder, or ...@revision")
    source = SourceSpec(kind="hf", address=f"datasets/{owner}/{repository}", revision=revision)
    card_name = f"hf:{source.address}"
    pins = trust.pins(card_name, revision)
    if settings.offline and not pins:
        raise OfflineError(f"{name} has not been here before, and the network is switched off\nswitch it on and load it once")
    there = list(pins) if settings.offline else _listing(source)
    inside = [path for path in there if path == folder or path.startswith(f"{folder}/" if folder else "")]
    files = _pick(tables.by_split(inside, name), split, name)
    return DatasetCard(
        name=card_name,
        license="unknown",
        format=files.format,
        files=tuple(File(name=path, role="table") for path in files.names),
        splits={split: Split(files=files.names, rows=None)},
        sources=(source,),
        pinned=False,
    )


def _listing(source: SourceSpec) -> list[str]:
    from bestiary.hub.sources.huggingface import HuggingFaceSource  # its library takes long to import

    return list(filter(is_relative_path, HuggingFaceSource(source).listing()))
