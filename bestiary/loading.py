"""From a name to a task object: card → verified files → safetensors → key map → net → task.

The two tables say which architectures and tasks there are. An installed package adds architectures of its own by the entry
point group `bestiary.architectures`, whose values look like those of the table. A card can only name an entry, never a path.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from torch import nn

from bestiary import published, saving
from bestiary.core import runtime, weights
from bestiary.core.architecture import Architecture
from bestiary.core.convert import convert_checkpoint
from bestiary.core.task import Task
from bestiary.errors import CardError, InputError, IntegrityError, LicenseError
from bestiary.hub.card import Card, read_card
from bestiary.hub.fetch import Fetched, fetch
from bestiary.hub.lock import Lock, Pin
from bestiary.hub.registry import Registry
from bestiary.hub.settings import Settings
from bestiary.hub.store import Store

ARCHITECTURES = {
    "bert": "bestiary.text.bert:ARCHITECTURE",
    "efficientnet": "bestiary.vision.efficientnet:ARCHITECTURE",
}
TASKS = {
    "image-classification": "bestiary.vision.tasks:ImageClassifier",
    "text-embedding": "bestiary.text.tasks:Embedder",
}
CONVERTER = ("torch", 1)  # name and version of convert_checkpoint; a new version converts anew


def load(
    name: str | os.PathLike[str],
    *,
    device: str = "auto",
    precision: str | None = None,
    trust: str | None = None,
    accept_license: bool = False,
    lock: str | os.PathLike[str] | None = None,
    offline: bool | None = None,
    home: str | os.PathLike[str] | None = None,
) -> Task:
    """A pretrained model, ready to be called.

    Args:
        name: a card's name; a folder, written by `.save` or in a published layout (anything with a path separator is a
            folder); or "hf:owner/repo[@revision]", a repository in a published layout.
        device: "cuda", "mps", "cpu", or "auto" for the best there is.
        precision: "fp32" (the default), "bf16", "fp16", or "fast": the fastest that the card lists as measured and the
            device computes natively.
        trust: "first-use" takes files that nothing pins yet, and pins them in the lock file.
        accept_license: agree to the licence of a card that asks for it.
        lock: the lock file, bestiary.lock in the working folder by default.
        offline: ask no source that needs the network. By default as the settings say.
        home: the folder of the store. By default as the settings say.

    Raises:
        UnknownModel, CardError, IntegrityError, OfflineError, SourceError, LicenseError, DiskFullError, LayoutError, InputError

    >>> import bestiary
    >>> bestiary.load("minilm-l6-v2")("a cat").shape
    torch.Size([384])
    """
    if trust not in (None, "first-use"):
        raise InputError(f'trust={trust!r} is not known\nit is None or "first-use"')
    settings = Settings.read(home=home, offline=offline)
    pins = Lock(lock or "bestiary.lock")
    chosen_device = runtime.pick_device(device)
    card, files = _find(name, settings, pins, trust, accept_license)
    dtype = runtime.pick_dtype(precision, card.precision, chosen_device)
    architecture = find_architecture(card.architecture, card)
    net = weights.load(
        architecture,
        architecture.configure(card.config),
        _safetensors(card, files, settings),
        card.layout,
        dtype=dtype,
        device=chosen_device,
    )
    return _task(card)(net, card, files, saving.saver(architecture))


def build(name: str | os.PathLike[str], pretrained: bool = False, **changes: Any) -> nn.Module:
    """The bare net of a card, in training mode: with random weights, or the pretrained ones.

    `changes` are fields of the architecture's config. A change of those that size an end of the net (such as
    `num_classes=10`, or `in_channels=1`) leaves that end random; every other weight must come from the file.

    Raises what `load` does.

    >>> import bestiary
    >>> bestiary.build("efficientnet-lite0", num_classes=10).head.out_features
    10
    """
    settings = Settings.read()
    card = _card(name, settings)
    architecture = find_architecture(card.architecture, card)
    config = architecture.configure({**card.config, **changes})
    if not pretrained:
        return architecture.net(config)
    card, files = _find(name, settings, Lock("bestiary.lock"), None, False)
    before = architecture.configure(card.config)
    fresh = [
        part
        for field, parts in architecture.resized_by.items()
        if getattr(config, field) != getattr(before, field)
        for part in parts
    ]
    path = _safetensors(card, files, settings)
    return weights.load(architecture, config, path, card.layout, fresh=fresh).train()


class Found(NamedTuple):
    """A card and its verified files by name."""

    card: Card
    files: Mapping[str, Fetched]


def _find(name: str, settings: Settings, lock: Lock, trust: str | None, accept_license: bool) -> Found:
    card = _card(name, settings)
    if card.accept_license and not accept_license:
        raise LicenseError(f"{card.name} asks for its licence, {card.license}, to be accepted\nread the card, then pass accept_license=True")
    files = fetch(card, settings, progress=standard_progress())
    return Found(card, files)


def _card(name: str, settings: Settings) -> Card:
    """The card of a name, or of a folder."""
    if os.sep in name or "/" in name:
        return folder_card(Path(name).expanduser(), Store(settings.home))
    return Registry.standard(settings).card(name)


def _weights(found: Found, settings: Settings) -> Path:
    """The weights as safetensors; another format is converted once."""
    file = found.files[found.card.file("weights").name]
    if file.path.suffix == ".safetensors":
        return file.path
    return Store(settings.home).converted(file.path, file.file.sha256, *CONVERTER, convert_checkpoint)
