"""Models that have no card: folders and repositories in a published layout.

Their config.json says what they are. Out of it comes a card like any other, with the digests of the files as they lie there,
and the road goes on as for every card.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from bestiary.core.architecture import Architecture
from bestiary.core.configmap import read_json
from bestiary.errors import InputError, LayoutError, SourceError
from bestiary.hub import frontmatter
from bestiary.hub.card import Card, File, SourceSpec, read_card
from bestiary.hub.lock import Pin
from bestiary.hub.names import is_repository, is_revision
from bestiary.hub.settings import Settings
from bestiary.hub.store import Store
from bestiary.hub.trust import Trust
from bestiary.table import architectures

CONFIG = "config.json"
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


def repository_card(name: str, settings: Settings, trust: Trust) -> Card:
    """The card of `hf:owner/repo[@revision]`, whose files are fetched into huggingface_hub's cache.

    Nobody has vouched for the bytes, so the lock file has to know them, or `trust` to allow taking them as they come.
    Raises what `folder_card` does, and OfflineError, SourceError, IntegrityError.
    """
    from bestiary.hub.sources.huggingface import HuggingFaceSource  # its library takes long to import

    address, _, revision = name.removeprefix("hf:").partition("@")
    revision = revision or "main"
    if not is_repository(address) or not is_revision(revision):
        raise InputError(f"{name[:80]!r} does not name a repository\nwrite hf:owner/repo, or hf:owner/repo@revision")
    trust.pins(name, revision)
    source = HuggingFaceSource(SourceSpec(kind="hf", address=address, revision=revision))
    folder = source.download(CONFIG, local_files_only=settings.offline).parent
    architecture, layout = _recognised(folder, _config(folder))
    for file in (*architecture.folders[layout].companions, WEIGHTS):
        with suppress(SourceError):  # some companions are optional; one that is not will be missed by name
            source.download(file, local_files_only=settings.offline)
    store = Store(settings.home)
    card = folder_card(folder, store)
    used = [path for path in (CONFIG, *architecture.folders[layout].companions, WEIGHTS) if (folder / path).is_file()]
    trust.settle(name, revision, {path: Pin(*store.digest(folder / path)) for path in used})
    return replace(card, name=_card_name(address))


def _is_saved(path: Path) -> bool:
    """Whether this is a card of ours; a README.md that some other hub wrote is not."""
    try:
        return "\nbestiary:" in path.read_text("utf-8")[: frontmatter.LARGEST_FILE].partition("\n---")[0]
    except (FileNotFoundError, UnicodeDecodeError):
        return False


def _made_card(folder: Path, store: Store) -> Card:
    config = _config(folder)
    architecture, layout = _recognised(folder, config)
    try:
        fields, description = architecture.configs[layout].read(config), architecture.folders[layout].read(folder, config)
    except (AttributeError, KeyError, TypeError, ValueError) as error:  # what strangers write into JSON has no bounds
        raise LayoutError(
            f"the JSON files in {folder} are not as {layout} writes them ({type(error).__name__}: {str(error)[:100]})\n"
            "fetch them again"
        ) from error
    files = {WEIGHTS: "weights", **description.files}
    return Card(
        name=_card_name(str(folder.resolve())),
        task=description.task,
        license="unknown",
        architecture=architecture.name,
        config=fields,
        layout=layout,
        files=tuple(_file(folder / name, name, role, store) for name, role in files.items()),
        sources=(SourceSpec(kind="path", address="."),),
        preprocess=description.preprocess,
        labels=description.labels,
        checked="parity",
        path=folder / CARD,
    )


def _config(folder: Path) -> Mapping[str, Any]:
    content = read_json(folder / CONFIG)
    if not isinstance(content, dict):
        raise LayoutError(f"{folder / CONFIG} is not a JSON object\nfetch it again")
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


def _card_name(address: str) -> str:
    """The last part of a path, as cards are named."""
    name = Path(address).name.lower()
    return "".join(character if character.isascii() and character.isalnum() else "-" for character in name).strip("-") or "model"
