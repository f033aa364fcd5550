"""Models that have no card: folders and repositories in a published layout, and GGUF files.

Their config.json, or the metadata of the file, says what they are. Out of it comes a card like any other, with the digests of
the files as they lie there, and the road goes on as for every card.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from bestiary.core.architecture import PublishedFolder
from bestiary.core.configmap import read_json
from bestiary.core.sharded import INDEX, check_shards, shards
from bestiary.errors import InputError, LayoutError
from bestiary.hub import frontmatter
from bestiary.hub.card import Card, File, SourceSpec, read_card
from bestiary.hub.lock import Pin
from bestiary.hub.names import is_repository, is_revision
from bestiary.hub.settings import Settings
from bestiary.hub.store import Store
from bestiary.hub.trust import Trust
from bestiary.table import architectures

if TYPE_CHECKING:
    from bestiary.hub.sources.huggingface import HuggingFaceSource

CONFIG = "config.json"
CARD = "README.md"  # where `.save` puts the card: hubs show this file
WEIGHTS = "model.safetensors"
WEIGHTS_INDEX = INDEX.format(WEIGHTS)
CHECKPOINT = "pytorch_model.bin"
GGUF = ".gguf"
BRIDGED = "bridged"  # what a card says under `checked` where transformers computes the model


class Recognised(NamedTuple):
    """What a config.json is of."""

    architecture: str
    layout: str
    config: Mapping[str, Any]  # fields of the architecture's config
    folder: PublishedFolder
    weights: tuple[str, ...] = (WEIGHTS, WEIGHTS_INDEX, CHECKPOINT)  # what they may be called, the best first
    checked: str = "parity"


Bridge = Callable[[Mapping[str, Any]], Recognised]  # what is made of a config.json that is not of the zoo; raises LayoutError


def folder_card(folder: Path, store: Store, bridge: Bridge | None = None) -> Card:
    """The card of a folder: the one that `.save` wrote, or one made from its config.json; or of a GGUF file.

    Raises InputError where there is no such folder, CardError, and LayoutError for a model that is not in the zoo.
    """
    if folder.suffix == GGUF and folder.is_file():
        return _gguf_card(folder, store)
    if not folder.is_dir():
        raise InputError(f"there is no folder {folder}\ngive a card's name, a folder that holds a model, or hf:owner/repo")
    path = folder / CARD
    if is_saved(path):
        return read_card(path)
    if (folder / CONFIG).exists() or not (files := sorted(folder.glob(f"*{GGUF}"))):
        return _made_card(folder, _recognised(folder, bridge), store)
    if len(files) > 1:
        raise InputError(f"{folder} holds {len(files)} GGUF files, such as {files[0].name}\ngive the path of one of them")
    return _gguf_card(files[0], store)


def repository_card(name: str, settings: Settings, trust: Trust, bridge: Bridge | None = None) -> Card:
    """The card of `hf:owner/repo[@revision]`, whose files are fetched into huggingface_hub's cache.

    Nobody has vouched for the bytes, so the lock file has to know them, or `trust` to allow taking them as they come.
    Raises what `folder_card` does, and OfflineError, SourceError, IntegrityError.
    """
    from bestiary.hub.sources.huggingface import HuggingFaceSource  # its library takes long to import

    address, _, revision = name.removeprefix("hf:").partition("@")
    revision = revision or "main"
    if not is_repository(address) or not is_revision(revision):
        raise InputError(f"{name[:80]!r} does not name a repository\nwrite hf:owner/repo, or hf:owner/repo@revision")
    pins = trust.pins(name, revision)
    source = HuggingFaceSource(SourceSpec(kind="hf", address=address, revision=revision), offline=settings.offline)
    folder = source.download(CONFIG).parent
    known = _recognised(folder, bridge)
    if pins and not trust.first_use:
        for file in pins:
            source.download(file)
    else:
        _download(source, known)
    store = Store(settings.home)
    card = _made_card(folder, known, store)
    used = {CONFIG, *known.folder.companions, *known.weights, *(file.name for file in card.files)}
    trust.settle(name, revision, {file: Pin(*store.digest(folder / file)) for file in used if (folder / file).is_file()})
    return replace(card, name=_card_name(address))


def _download(source: HuggingFaceSource, known: Recognised) -> None:
    """Fetch what there is of a model's files; one that it cannot do without is missed when they are read."""
    for file in known.folder.companions:
        source.find(file)
    weights = next(filter(None, map(source.find, known.weights)), None)
    if weights is not None and weights.name == WEIGHTS_INDEX:
        for file in shards(weights):
            source.download(file)


def is_saved(path: Path) -> bool:
    """Whether this is a card of ours; a README.md that some other hub wrote is not."""
    try:
        return "\nbestiary:" in path.read_text("utf-8")[: frontmatter.LARGEST_FILE].partition("\n---")[0]
    except (FileNotFoundError, UnicodeDecodeError):
        return False


def _made_card(folder: Path, known: Recognised, store: Store) -> Card:
    weights = _weights(folder, known.weights)
    try:
        description = known.folder.read(folder, _config(folder))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise _malformed(folder, known.layout, error) from error
    files = {**dict.fromkeys(weights, "weights"), **description.files}
    return Card(
        name=_card_name(str(folder.resolve())),
        task=description.task,
        license="unknown",
        architecture=known.architecture,
        config={**known.config, **description.config},
        layout=known.layout,
        files=tuple(_file(folder / name, name, role, store) for name, role in files.items()),
        sources=(SourceSpec(kind="path", address="."),),
        preprocess=description.preprocess,
        labels=description.labels,
        checked=known.checked,
        path=folder / CARD,
    )


def _gguf_card(path: Path, store: Store) -> Card:
    from bestiary.core.gguf import GgufFile
    from bestiary.text.gguf_config import describe_gguf

    file = GgufFile(path)
    described = describe_gguf(file)
    return Card(
        name=_card_name(path.stem),
        task="text-generation",
        license=str(file.get("general.license", "unknown")),
        architecture=described.architecture,
        config=described.config,
        layout="gguf",
        files=(_file(path, path.name, "weights", store),),
        sources=(SourceSpec(kind="path", address="."),),
        preprocess=described.preprocess,
        checked="parity",
        path=path.parent / CARD,
    )


def _weights(folder: Path, names: tuple[str, ...]) -> list[str]:
    """The files that hold the weights: the first there is of `names`, or those that it is the index of."""
    found = next((name for name in names if (folder / name).is_file()), None)
    if found is None:
        raise LayoutError(
            f"{folder} has no {' and no '.join(names)}\nthe model's weights should be in it; ask who made it for safetensors"
        )
    if found != WEIGHTS_INDEX:
        return [found]
    check_shards(folder / found)
    return shards(folder / found)


def _config(folder: Path) -> Mapping[str, Any]:
    content = read_json(folder / CONFIG)
    if not isinstance(content, dict):
        raise LayoutError(f"{folder / CONFIG} is not a JSON object\nfetch it again")
    return content


def _recognised(folder: Path, bridge: Bridge | None) -> Recognised:
    config = _config(folder)
    try:
        return _in_zoo(folder, config)
    except LayoutError:
        if bridge is None:
            raise
        return bridge(config)


def _in_zoo(folder: Path, config: Mapping[str, Any]) -> Recognised:
    known = []
    for architecture in architectures():
        for layout, published in architecture.folders.items():
            config_map = architecture.configs[layout]
            if config_map.recognises(config):
                try:
                    fields = config_map.read(config)
                except (AttributeError, KeyError, TypeError, ValueError) as error:
                    raise _malformed(folder, layout, error) from error
                return Recognised(architecture.name, layout, fields, published)
            known.append(f"{architecture.name} ({layout})")
    kind = config.get("model_type") or config.get("architecture") or "nothing that says what it is"
    raise LayoutError(
        f"{folder} holds {str(kind)[:80]}, which is not in the zoo\nthe zoo reads: {', '.join(known)}\n"
        "bridge=True (--bridge) computes it by transformers, if that knows it"
    )


def _malformed(folder: Path, layout: str, error: Exception) -> LayoutError:
    """What strangers write into JSON has no bounds."""
    return LayoutError(
        f"the JSON files in {folder} are not as {layout} writes them ({type(error).__name__}: {str(error)[:100]})\n"
        "fetch them again"
    )


def _file(path: Path, name: str, role: str, store: Store) -> File:
    if not path.is_file():
        raise LayoutError(f"{path.parent} has no {name}\nthe model's {role} should be in it")
    size, sha256 = store.digest(path)
    return File(name=name, size=size, sha256=sha256, role=role)


def _card_name(address: str) -> str:
    """The last part of a path, as cards are named."""
    name = Path(address).name.lower()
    return "".join(character if character.isascii() and character.isalnum() else "-" for character in name).strip("-") or "model"
