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
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bestiary.core import tables
from bestiary.core.tables import LABEL, Files
from bestiary.hub.dataset import DatasetCard, check_medium
from bestiary.hub.emoji import read_emoji
from bestiary.hub.lock import LOCK
from bestiary.hub.progress import standard_progress
from bestiary.hub.registry import Datasets
from bestiary.hub.repository import repository_card
from bestiary.hub.settings import Settings
from bestiary.hub.trust import Trust

if TYPE_CHECKING:
    from bestiary.core.tables import Rows

TEXT = "text"  # the column of texts


def load(
    name: str | os.PathLike[str],
    split: str = "train",
    *,
    streaming: bool = False,
    columns: Sequence[str] | None = None,
    text: str = TEXT,
    label: str = LABEL,
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
        text, label: the columns to take for `text` and `label`.
        trust, accept_license, lock, offline, home: as in `bestiary.load`.

    Raises:
        UnknownDataset, CardError, IntegrityError, OfflineError, SourceError, LicenseError, DiskFullError, InputError

    >>> rows = load("openmoji", split="test")
    >>> len(rows), rows[0]["text"], rows.features["label"].int2str(rows[0]["label"])
    (183, 'keycap 2', 'Symbols')
    """
    name = os.fspath(name)
    if _is_path(name):
        files = tables.pick_split(tables.find_files(name), split, name)
        rows = tables.open_rows(files, split, streaming=streaming)
        return tables.pick_columns(tables.renamed(rows, {TEXT: text, LABEL: label}, name), columns, name)
    settings = Settings.read(home=home, offline=offline)
    agreed = Trust.given(trust, lock, accept_license)
    card = _repository(name, split, settings, agreed) if name.startswith("hf:") else Datasets.standard(settings).card(name)
    check_medium(card, "text")
    chosen = tables.pick_split(card.splits, split, name)
    wanted = [file for file in card.files if file.name in chosen.files]
    fetched = agreed.fetch(card, settings, standard_progress(), wanted)
    paths = tuple(str(fetched[file].path) for file in chosen.files)
    rows = _emoji(paths[0], split, card, streaming) if card.format == "emoji" else _table(card, paths, split, streaming)
    return tables.pick_columns(tables.renamed(rows, {TEXT: text, LABEL: label}, name), columns, card.name)


def _is_path(name: str) -> bool:
    if name.startswith("hf:"):
        return False
    return "/" in name or os.sep in name or "*" in name or Path(name).suffix.lower() in tables.SUFFIXES


def _table(card: DatasetCard, paths: tuple[str, ...], split: str, streaming: bool) -> Rows:
    return tables.name_columns(tables.open_rows(Files(card.format, paths), split, streaming=streaming), card.columns, card.labels)


def _emoji(path: str, split: str, card: DatasetCard, streaming: bool) -> Rows:
    from datasets import ClassLabel, Dataset, Features, Value

    text = Value("string")
    label = ClassLabel(names=list(card.labels or ()))
    rows = Dataset.from_list(
        [one.row() for one in read_emoji(Path(path)) if one.split == split],
        features=Features({"text": text, LABEL: label, "subgroup": text, "emoji": text, "code": text, "concept": text}),
    )
    return rows.to_iterable_dataset() if streaming else rows


def _repository(name: str, split: str, settings: Settings, trust: Trust) -> DatasetCard:
    def choose(names: Sequence[str]) -> Files:
        return tables.pick_split(tables.by_split(names, name), split, name)

    return repository_card(name, split, choose, settings, trust)
