"""The sounds in a folder."""

from __future__ import annotations

import os
from pathlib import Path

from bestiary.core.folder import files_below
from bestiary.errors import InputError

# How names of files end that libsndfile reads, of those in use.
ENDINGS = (".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".au", ".caf", ".w64", ".rf64")


def sound_files(folder: str | os.PathLike[str]) -> list[Path]:
    """The files in a folder, at any depth, whose names end like a sound, in the order of their paths.

    What begins with a dot is left out. Raises InputError for what is no folder, and for one without sounds.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"{folder} is no folder\ngive one that holds sounds, or a list of sounds")
    files = files_below(folder, ENDINGS)
    if not files:
        raise InputError(f"there are no sounds in {folder}\ngive a folder that holds some, at any depth")
    return files
