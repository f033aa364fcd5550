"""Sounds of one's own: folders of classes, tables of paths, what `datasets` has saved, and Asterisk's prompts where they lie."""

from __future__ import annotations

import os
from pathlib import Path

from bestiary.audio.datasets.prompts import open_installed
from bestiary.audio.datasets.recording import Recording
from bestiary.audio.folder import ENDINGS
from bestiary.core import tables
from bestiary.core.classfolders import TABLES, Opened, is_saved, names_below, open_classes, open_saved, open_tables, tables_in
from bestiary.core.media import is_text
from bestiary.errors import InputError

CLIPS = "clips"  # the folder where Common Voice keeps what its tables list


def open_path(path: str, split: str, column: str, *, streaming: bool) -> Opened:
    """The rows at a path: of a file, of those that a pattern finds, or of a folder; sounds are in `column`. Raises InputError."""
    place = Path(path).expanduser()
    if not place.is_dir():
        return _beside_clips(open_tables(tables.find_files(path), path, split, streaming=streaming), column)
    if (place / "asterisk" / "sounds").is_dir():
        return Opened(open_installed(place, split, path, streaming=streaming))
    if is_saved(place):
        return open_saved(place, path, split)
    names = sorted(names_below(place))
    if any(name.lower().endswith(TABLES) and "/" not in name for name in names):
        return _beside_clips(open_tables(tables_in(place, names, path), path, split, streaming=streaming), column)
    if sounds := [name for name in names if name.lower().endswith(ENDINGS)]:
        return open_classes(place, sounds, path, split, Recording)
    if any(name.lower().endswith(TABLES) for name in names):
        return _beside_clips(open_tables(tables_in(place, names, path), path, split, streaming=streaming), column)
    raise InputError(f"{path} holds no sounds\nwanted: a folder of sounds for each class, or a table of their paths and texts")


def _beside_clips(opened: Opened, column: str) -> Opened:
    """The same, with the folder that the paths lead from."""
    if opened.folder is None or not is_text(opened.rows, column):
        return opened
    first = next(iter(opened.rows.select_columns(column)))[column]
    clips = os.path.join(opened.folder, CLIPS)
    return opened._replace(folder=clips) if os.path.isfile(os.path.join(clips, first or "")) else opened
