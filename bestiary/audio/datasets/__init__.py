"""Sounds to learn from: data sets by name, repositories of Hugging Face, and files of one's own.

    from bestiary.audio import datasets

    datasets.load("telephone-prompts", split="test")            # a card of model_cards/datasets
    datasets.load("./calls")                                    # a folder with tables of paths and texts
    datasets.load("./noises")                                   # a folder of sounds for each class
    datasets.load("calls.tsv", audio="path", text="sentence")   # csv, tsv, jsonl, parquet: paths of sounds, or their bytes
    datasets.load("hf:owner/repo", trust="first-use")

Rows are those of Hugging Face `datasets`, which a loader of torch takes as they are: `audio`, a mapping of `array` (samples,) and
`sampling_rate` that is read when its row is asked for, and what models take as it is; `text`, what is said; `language`; or
`label`, a number whose name `rows.features["label"]` knows. No code of a data set is ever run, no archive unpacked to files.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from bestiary.core import tables
from bestiary.core.tables import LABEL
from bestiary.errors import InputError
from bestiary.hub.lock import LOCK
from bestiary.hub.settings import Settings
from bestiary.hub.trust import Trust

if TYPE_CHECKING:
    from bestiary.core.tables import Rows

__all__ = ["load"]

TEXT = "text"  # the column of what is said


def load(
    name: str | os.PathLike[str],
    split: str = "train",
    *,
    streaming: bool = False,
    columns: Sequence[str] | None = None,
    audio: str = "audio",
    text: str = TEXT,
    label: str = LABEL,
    rate: int | None = None,
    errors: Literal["raise", "skip"] = "raise",
    trust: str | None = None,
    accept_license: bool = False,
    lock: str | os.PathLike[str] = LOCK,
    offline: bool | None = None,
    home: str | os.PathLike[str] | None = None,
) -> Rows:
    """The rows of one split of a data set of sounds.

    Args:
        name: the name of a card; a file, a folder or a pattern (anything with a path separator, a `*` or the suffix of a
            format known); or "hf:owner/repo[/folder][@revision]", a repository of tables that hold their sounds.
        split: train, validation, test, or what else the data set has. A file of one's own is all `train`; those of a
            folder are what their names, or the folders at its top, say.
        streaming: an iterable that reads rows as one goes, instead of a table that knows its length.
        columns: only these.
        audio, text, label: the columns to take for `audio`, `text` and `label`. Paths are relative to the file that lists them,
            or to a folder `clips` beside it, and may not leave that folder. Labels that are texts get numbers, in the order of
            the alphabet, the same in all splits.
        rate: Hz of the samples, whatever the files have; 16,000 where none is asked for.
        errors: "raise" stops at a sound that cannot be read, and names it. "skip" leaves it out: a table is read through once
            for that, and a warning says which were skipped; of a stream, a warning names each when it gets there.
        trust, accept_license, lock, offline, home: as in `bestiary.load`.

    Raises:
        UnknownDataset, CardError, IntegrityError, OfflineError, SourceError, LicenseError, DiskFullError, InputError
    """
    from bestiary.audio.datasets.carded import open_card  # `datasets` takes long to import
    from bestiary.audio.datasets.local import open_path
    from bestiary.audio.datasets.recording import AUDIO, Recording
    from bestiary.core import media

    name = os.fspath(name)
    if errors not in ("raise", "skip"):
        raise InputError(f'errors={errors!r} is not known\ngive "raise" or "skip"')
    if _is_path(name):
        opened = open_path(name, split, audio, streaming=streaming)
    else:
        settings = Settings.read(home=home, offline=offline)
        opened = open_card(name, split, settings, Trust.given(trust, lock, accept_license), streaming=streaming)
    rows = tables.renamed(opened.rows, {AUDIO: audio, TEXT: text, LABEL: label}, name)
    rows = media.with_media(rows, Recording(sampling_rate=rate), opened.folder, name)
    rows = media.with_classes(rows, opened.others, label, name)
    rows = media.streamed(rows) if streaming else rows
    rows = media.readable(rows, AUDIO) if errors == "skip" else rows
    return tables.pick_columns(rows, columns, name)


def _is_path(name: str) -> bool:
    if name.startswith("hf:"):
        return False
    return "/" in name or os.sep in name or "*" in name or name.lower().endswith(tuple(tables.SUFFIXES))
