"""Models that have no card: folders and repositories in a published layout.

Their config.json says what they are. Out of it comes a card like any other, with the digests of the files as they lie there,
and the road goes on as for every card.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bestiary.core.architecture import Architecture
from bestiary.errors import InputError, LayoutError
from bestiary.hub import frontmatter
from bestiary.hub.card import Card, File, SourceSpec, read_card
from bestiary.hub.store import Store
from bestiary.table import architectures

CARD = "README.md"  # where `.save` puts the card: hubs show this file
WEIGHTS = "model.safetensors"


def folder_card(folder: Path, store: Store) -> Card:
    """The card of a folder: the one that `.save` wrote, or one made from its config.json.

    Raises InputError where there is no such folder, CardError, and LayoutError for a model that is not in the zoo.
    """
    if not folder.is_dir():
        raise InputError(f"there is no folder {folder}\ngive the name of a card, or a folder that holds a model")
    path = folder / CARD
    return read_card(path) if _is_saved(path) else _made_card(folder, store)


def _is_saved(path: Path) -> bool:
    """Whether this is a card of ours; a README.md that some other hub wrote is not."""
    try:
        return "\nbestiary:" in path.read_text("utf-8")[: frontmatter.LARGEST_FILE].partition("\n---")[0]
    except (FileNotFoundError, UnicodeDecodeError):
        return False


def _made_card(folder: Path, store: Store) -> Card:
    config = read_json(folder / "config.json")
    architecture, layout = _recognised(folder, config)
    description = architecture.folders[layout].read(folder, config)
    files = {WEIGHTS: "weights", **description.files}
    return Card(
        name=_card_name(folder),
        task=description.task,
        license="unknown",
        architecture=architecture.name,
        config=architecture.configs[layout].read(config),
        layout=layout,
        files=tuple(_file(folder / name, name, role, store) for name, role in files.items()),
        sources=(SourceSpec(kind="path", address="."),),
        preprocess=description.preprocess,
        labels=description.labels,
        checked="parity",
        path=folder / CARD,
    )


def read_json(path: Path) -> Mapping[str, Any]:
    """The object in a JSON file. Raises LayoutError."""
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise LayoutError(f"{path.parent} has no {path.name}\nit is not a model in a layout that the zoo reads") from None
    except (OSError, ValueError, RecursionError) as error:
        raise LayoutError(f"{path} cannot be read as JSON: {str(error)[:100]}\nfetch it again") from None
    if not isinstance(content, dict):
        raise LayoutError(f"{path} is not a JSON object\nfetch it again")
    return content


def _recognised(folder: Path, config: Mapping[str, Any]) -> tuple[Architecture, str]:
    known = []
    for architecture in architectures():
        for layout, config_map in architecture.configs.items():
            if config_map.recognises(config):
                return architecture, layout
            known.append(f"{architecture.name} ({layout})")
    kind = config.get("model_type") or config.get("architecture") or "nothing that says what it is"
    raise LayoutError(f"{folder} holds {str(kind)[:80]}, which is not in the zoo\nthe zoo reads: {', '.join(known)}")


def _file(path: Path, name: str, role: str, store: Store) -> File:
    if not path.is_file():
        raise LayoutError(f"{path.parent} has no {name}\nthe model's {role} should be in it")
    size, sha256 = store.digest(path)
    return File(name=name, size=size, sha256=sha256, role=role)


def _card_name(folder: Path) -> str:
    """The folder's name, as cards are named."""
    name = "".join(character if character.isascii() and character.isalnum() else "-" for character in folder.resolve().name)
    return name.lower().strip("-") or "model"
