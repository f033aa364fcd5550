"""What a person has set: in the environment, and in a config file under it.

    # config.toml
    home = "/data/bestiary"                 # BESTIARY_HOME         where verified files are kept
    cards = ["~/cards"]                     # BESTIARY_CARDS        folders of more cards, separated as PATH is
    offline = false                         # BESTIARY_OFFLINE      1 or 0
    mirrors = ["https://models.example/"]   # BESTIARY_MIRRORS      separated by commas
    cache_limit = "20GB"                    # BESTIARY_CACHE_LIMIT  bytes, or a number with a unit
"""

import os
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bestiary.errors import InputError
from bestiary.hub import names

_SIZE = re.compile(r"([0-9]{1,18}(?:\.[0-9]{1,6})?)\s*([kmgt]i?b?|b)?", re.IGNORECASE)
_A_SIZE = "bytes, or a size such as 20GB"
_POWERS = {"b": 0, "k": 1, "m": 2, "g": 3, "t": 4}
_TRUTHS = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}


@dataclass(frozen=True, kw_only=True)
class Settings:
    home: Path                       # the store
    cards: tuple[Path, ...] = ()     # folders of more cards
    offline: bool = False            # ask no source that needs the network
    mirrors: tuple[str, ...] = ()    # https addresses or folders that keep files as sha256/<digest>
    cache_limit: int | None = None   # bytes the store may take; None: no limit

    @classmethod
    def read(cls, environment: Mapping[str, str] | None = None, *, config: Path | None = None, **overrides: Any) -> "Settings":
        """The settings in force: `overrides` win over the environment, which wins over the config file.

        `environment` is the process's own unless given, `config` the file in the user's config folder, which need not exist.
        An override that is None, like a variable that is empty, counts as not given. Raises InputError, naming the file or
        the variable, for anything that cannot be understood.
        """
        from platformdirs import user_cache_path, user_config_path

        environment = os.environ if environment is None else environment
        values = _from_file(config or user_config_path("bestiary", appauthor=False) / "config.toml")
        values.update(_from_environment(environment))
        values.update({key: value for key, value in overrides.items() if value is not None})
        if "home" in values:
            values["home"] = _read("home", _folder, str(values["home"]), Path())
        return cls(**{"home": user_cache_path("bestiary", appauthor=False), **values})


def parse_size(text: str) -> int:
    """Bytes in "20GB", "512 MiB", "1.5G" or "4096"; with an i the unit is a power of 1024. Raises ValueError."""
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise ValueError(_A_SIZE)
    unit = (match[2] or "b").lower()
    size = float(match[1]) * (1024 if "i" in unit else 1000) ** _POWERS[unit[0]]
    return int(size)


def _from_environment(environment: Mapping[str, str]) -> dict[str, Any]:
    values = {}
    for key, read in _READERS.items():
        variable = f"BESTIARY_{key.upper()}"
        if text := environment.get(variable, ""):
            given = text.split(_SEPARATORS[key]) if key in _SEPARATORS else text
            values[key] = _read(variable, read, given, Path())
    return values


def _from_file(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text("utf-8")
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: the config file cannot be read: {error}\nmake it a readable TOML file") from error
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    try:
        given = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{path}: not valid TOML: {error}\ncorrect it there") from error
    for key in given:
        if key not in _READERS:
            raise InputError(f"{path}: {key!r}: no such key\nexpected: one of {', '.join(_READERS)}")
    return {key: _read(f"{path}: {key}", _READERS[key], value, path.parent) for key, value in given.items()}


def _read(origin: str, read: Callable[[Any, Path], Any], given: object, folder: Path) -> Any:
    try:
        return read(given, folder)
    except (ValueError, RuntimeError) as error:   # RuntimeError: ~ of a user who has no home
        shown = repr(given)
        raise InputError(f"{origin}: {shown[:60]} cannot be used\nexpected: {error}") from error


# Each reads one setting as text of the environment or as a value of the config file, whose relative paths start from its
# folder. What it expects is the text of the ValueError it raises otherwise.

def _folder(given: object, folder: Path) -> Path:
    if not isinstance(given, str) or not given.strip() or "\0" in given:
        raise ValueError("a folder")
    return (folder / Path(given).expanduser()).absolute()


def _folders(given: object, folder: Path) -> tuple[Path, ...]:
    if not isinstance(given, list):
        raise ValueError("a list of folders")
    return tuple(_folder(item, folder) for item in given if item != "")


def _truth(given: object, folder: Path) -> bool:
    if isinstance(given, bool):
        return given
    if isinstance(given, str) and given.strip().lower() in _TRUTHS:
        return _TRUTHS[given.strip().lower()]
    raise ValueError("true or false")


def _mirrors(given: object, folder: Path) -> tuple[str, ...]:
    if not isinstance(given, list) or not all(isinstance(item, str) for item in given):
        raise ValueError("a list of addresses and folders")
    return tuple(_mirror(item.strip(), folder) for item in given if item.strip())


def _mirror(given: str, folder: Path) -> str:
    if "://" not in given:
        return str(_folder(given, folder))
    if not names.is_url(given):
        raise ValueError("https://..., http:// to this machine, or a folder")
    return given


def _size(given: object, folder: Path) -> int:
    if isinstance(given, str):
        return parse_size(given)
    if isinstance(given, int) and not isinstance(given, bool) and given >= 0:
        return given
    raise ValueError(_A_SIZE)


_READERS: dict[str, Callable[[Any, Path], Any]] = {
    "home": _folder, "cards": _folders, "offline": _truth, "mirrors": _mirrors, "cache_limit": _size,
}
_SEPARATORS = {"cards": os.pathsep, "mirrors": ","}
