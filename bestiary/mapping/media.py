"""What models take, as it is found in files and in the cells of tables."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from bestiary.core.folder import located
from bestiary.errors import InputError


class Medium(NamedTuple):
    """How inputs of one kind are read. Whatever reads them raises InputError."""

    plural: str
    endings: Callable[[], Collection[str]]  # how names of files end that hold one, in small letters
    of_file: Callable[[Path], Any]
    of_cell: Callable[[Any, str], Any]  # a cell of a table, and the folder that paths in it may not leave
    kinds: str  # what columns of such inputs hold, for messages
    fits: Callable[[pa.DataType], bool]


def _text_of_file(path: Path) -> str:
    """The text of a file, without the end of its last line."""
    try:
        return path.read_text(encoding="utf-8-sig").removesuffix("\n")
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}\ngive the path of a text") from None
    except UnicodeDecodeError:
        raise InputError(f"{path} is not UTF-8\nwrite it in UTF-8") from None


def _text_of_cell(cell: Any, folder: str) -> Any:
    if cell is None:
        raise InputError("there is no text in this row\nfill it in, or leave the row out")
    return cell


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_null(kind))


def _image_endings() -> Collection[str]:
    from bestiary.vision.folder import endings

    return endings()


def _image(image: Any, name: str = "the image") -> Any:
    from bestiary.vision.images import read_image

    return read_image(image, name)


def _sound_endings() -> Collection[str]:
    from bestiary.audio.folder import ENDINGS

    return ENDINGS


def _sound(sound: Any, name: str = "the sound") -> Any:
    """The sound as it was given, once it is sure that it is one: the task reads it at its own rate, in blocks if it is long."""
    from bestiary.audio.sound import check_sound

    check_sound(sound, name)
    return sound


def _of_cell(read: Callable[[Any, str], Any], what: str, cell: Any, folder: str) -> Any:
    """What is at a path, of bytes, or of a pair of both, as Hugging Face `datasets` keeps them."""
    path = cell.get("path") if isinstance(cell, dict) else cell
    content = cell.get("bytes") if isinstance(cell, dict) else cell
    if isinstance(content, bytes):
        return read(content, path if isinstance(path, str) else f"the {what}")
    if path is None:
        raise InputError(f"there is no {what} in this row\nfill it in, or leave the row out")
    return read(Path(located(folder, path)), f"the {what}")


def _is_file(kind: pa.DataType) -> bool:
    return _is_text(kind) or holds_bytes(kind)


def holds_bytes(kind: pa.DataType) -> bool:
    """Whether a column of this type holds files themselves, rather than texts or paths."""
    if pa.types.is_struct(kind):
        return {"bytes", "path"} >= {field.name for field in kind}
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


MEDIA: Mapping[str, Medium] = {
    "audio": Medium("sounds", _sound_endings, _sound, partial(_of_cell, _sound, "sound"), "paths or bytes of sounds", _is_file),
    "image": Medium("images", _image_endings, _image, partial(_of_cell, _image, "image"), "paths or bytes of images", _is_file),
    "text": Medium("texts", lambda: (".txt",), _text_of_file, _text_of_cell, "texts", _is_text),
}
