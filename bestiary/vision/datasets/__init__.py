"""Images to learn from: data sets by name, repositories of Hugging Face, and files of one's own.

    from bestiary.vision import datasets

    datasets.load("openmoji", split="test", size=64)           # a card of model_cards/datasets
    datasets.load("./photos")                                  # a folder of images for each class, in train and val or not
    datasets.load("./scenes")                                  # a folder with boxes around things, as COCO's files tell them
    datasets.load("photos.csv", image="file", label="breed")   # csv, tsv, jsonl, parquet: paths of images, or their bytes
    datasets.load("shards/*.tar", streaming=True)              # tars in the form of webdataset
    datasets.load("hf:owner/repo", trust="first-use")

Rows are those of Hugging Face `datasets`, which a loader of torch takes as they are: `image`, an RGB image of PIL that is read
when its row is asked for, and `label`, a number whose name `rows.features["label"]` knows; or, of each thing in a scene, `boxes`
(left, top, right, bottom, in pixels), `labels`, and `crowd`, true for a box around many. What is to be done to images is said
by `rows.with_transform(...)`; of a stream, by `rows.map(...)`. No code of a data set is ever run, no archive unpacked to files.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from bestiary.core import tables
from bestiary.core.tables import LABEL
from bestiary.errors import InputError
from bestiary.hub.lock import LOCK
from bestiary.hub.settings import Settings
from bestiary.hub.trust import Trust
from bestiary.vision.datasets.carded import check_drawn, open_card
from bestiary.vision.datasets.formats import IMAGE
from bestiary.vision.datasets.local import open_path
from bestiary.vision.datasets.webdataset import TARS

if TYPE_CHECKING:
    from bestiary.core.tables import Rows
    from bestiary.vision.tasks.images import Errors

__all__ = ["load"]


def load(
    name: str | os.PathLike[str],
    split: str = "train",
    *,
    streaming: bool = False,
    columns: Sequence[str] | None = None,
    image: str = IMAGE,
    label: str = LABEL,
    size: int | None = None,
    errors: Errors = "raise",
    trust: str | None = None,
    accept_license: bool = False,
    lock: str | os.PathLike[str] = LOCK,
    offline: bool | None = None,
    home: str | os.PathLike[str] | None = None,
) -> Rows:
    """The rows of one split of a data set of images.

    Args:
        name: the name of a card; a file, a folder or a pattern (anything with a path separator, a `*` or the suffix of a
            format known); or "hf:owner/repo[/folder][@revision]", a repository of files in one of these formats.
        split: train, validation, test, or what else the data set has. A file of one's own is all `train`; those of a
            folder are what their names, or the folders at its top, say.
        streaming: an iterable that reads rows as one goes, instead of a table that knows its length.
        columns: only these.
        image, label: the columns to take for `image` and `label`. Paths are relative to the file that lists them, and may not
            leave its folder. Labels that are texts get numbers, in the order of the alphabet, the same in all splits.
        size: pixels of a side of what is drawn, as openmoji is (64).
        errors: "raise" stops at an image that cannot be read, and names it. "skip" leaves it out: a table is read through once
            for that, and a warning says which were skipped; of a stream, a warning names each when it gets there.
        trust, accept_license, lock, offline, home: as in `bestiary.load`.

    Raises:
        UnknownDataset, CardError, IntegrityError, OfflineError, SourceError, LicenseError, DiskFullError, InputError

    >>> rows = load("openmoji", split="test", size=32)
    >>> len(rows), rows[0]["image"].size, rows.features["label"].int2str(rows[0]["label"])
    (183, (32, 32), 'Symbols')
    """
    from bestiary.core import media  # `datasets` takes long to import
    from bestiary.vision.datasets.picture import Picture

    name = os.fspath(name)
    if errors not in ("raise", "skip"):
        raise InputError(f'errors={errors!r} is not known\ngive "raise" or "skip"')
    if _is_path(name):
        check_drawn(name, "files", size)
        opened = open_path(name, split, streaming=streaming)
    else:
        settings = Settings.read(home=home, offline=offline)
        opened = open_card(name, split, settings, Trust.given(trust, lock, accept_license), streaming=streaming, size=size)
    rows = tables.renamed(opened.rows, {IMAGE: image, LABEL: label}, name)
    rows = media.with_media(rows, Picture(), opened.folder, name)
    rows = media.with_classes(rows, opened.others, label, name)
    rows = media.streamed(rows) if streaming else rows
    rows = media.readable(rows, IMAGE) if errors == "skip" else rows
    return tables.pick_columns(rows, columns, name)


def _is_path(name: str) -> bool:
    if name.startswith("hf:"):
        return False
    return "/" in name or os.sep in name or "*" in name or name.lower().endswith((*tables.SUFFIXES, *TARS))
