"""From a name to a task object: card → verified files → safetensors → key map → net → task."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from torch import nn

from bestiary.core import runtime, weights
from bestiary.core.convert import convert_checkpoint
from bestiary.core.task import Saver, Task
from bestiary.errors import InputError, LicenseError
from bestiary.hub.card import Card
from bestiary.hub.fetch import Fetched, fetch
from bestiary.hub.lock import Lock, Pin
from bestiary.hub.progress import standard_progress
from bestiary.hub.registry import Registry
from bestiary.hub.settings import Settings
from bestiary.hub.store import Store
from bestiary.hub.trust import Trust
from bestiary.published import folder_card, repository_card
from bestiary.saving import export, save
from bestiary.table import find_architecture, find_task

LOCK = "bestiary.lock"  # in the working folder
CONVERTER = ("torch", 1)  # name and version of convert_checkpoint; a new version converts anew


def load(
    name: str | os.PathLike[str],
    *,
    device: str = "auto",
    precision: str | None = None,
    trust: str | None = None,
    accept_license: bool = False,
    lock: str | os.PathLike[str] = LOCK,
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
    target = runtime.pick_device(device)
    found = _find(os.fspath(name), settings, Trust(Lock(Path(lock)), trust == "first-use"), accept_license)
    card, dtype = found.card, runtime.pick_dtype(precision, found.card.precision, target)
    architecture = find_architecture(card.architecture)
    config = architecture.configure(card.config)
    net = weights.load(architecture, config, found.safetensors(settings), card.layout, dtype=dtype, device=target)
    return find_task(card.task)(net, card, found.files, Saver(save, export))


def build(name: str | os.PathLike[str], pretrained: bool = False, **changes: Any) -> nn.Module:
    """The bare net of a card, in training mode: with random weights, or the pretrained ones.

    `changes` are fields of the architecture's config. A change of those that size an end of the net (such as
    `num_classes=10`, or `in_channels=1`) leaves that end random; every other weight must come from the file.

    Raises what `load` does.

    >>> import bestiary
    >>> bestiary.build("efficientnet-lite0", num_classes=10).head.out_features
    10
    """
    settings, trust = Settings.read(), Trust(Lock(LOCK))
    card = _card(os.fspath(name), settings, trust)
    architecture = find_architecture(card.architecture)
    config = architecture.configure({**card.config, **changes})
    if not pretrained:
        return architecture.net(config)
    published = architecture.configure(card.config)
    resized = [field for field in architecture.resized_by if getattr(config, field) != getattr(published, field)]
    fresh = [part for field in resized for part in architecture.resized_by[field]]
    path = _fetch(card, settings, trust).safetensors(settings)
    return weights.load(architecture, config, path, card.layout, fresh=fresh).train()


class Found(NamedTuple):
    """A card and its verified files by name."""

    card: Card
    files: Mapping[str, Fetched]

    def safetensors(self, settings: Settings) -> Path:
        """The weights; what is in another format is converted once."""
        weights_file = self.files[self.card.file("weights").name]
        if weights_file.file.name.endswith(".safetensors"):
            return weights_file.path
        digest = weights_file.file.sha256
        assert digest is not None  # fetched files have one
        return Store(settings.home).converted(weights_file.path, digest, *CONVERTER, convert_checkpoint)


def _find(name: str, settings: Settings, trust: Trust, accept_license: bool) -> Found:
    card = _card(name, settings, trust)
    if card.accept_license and not accept_license:
        raise LicenseError(
            f"{card.name} wants its licence, {card.license}, accepted first\nread its card, then pass accept_license=True"
        )
    return _fetch(card, settings, trust)


def _card(name: str, settings: Settings, trust: Trust) -> Card:
    """The card of a name, of a folder or of a repository."""
    if name.startswith("hf:"):
        return repository_card(name, settings, trust)
    if "/" in name or os.sep in name:
        return folder_card(Path(name).expanduser(), Store(settings.home))
    return Registry.standard(settings).card(name)


def _fetch(card: Card, settings: Settings, trust: Trust) -> Found:
    """The files of a card. Those that it does not pin have to be what the lock file says."""
    if card.pinned:
        return Found(card, fetch(card, settings, progress=standard_progress()))
    revision = next(source.revision for source in card.sources if source.revision)
    pins = trust.pins(card.name, revision)
    known = (replace(file, **pins[file.name]._asdict()) if file.name in pins else file for file in card.files)
    card = replace(card, files=tuple(known))
    files = fetch(card, settings, progress=standard_progress())
    trust.settle(card.name, revision, {name: _pin(fetched) for name, fetched in files.items()})
    return Found(replace(card, files=tuple(fetched.file for fetched in files.values())), files)


def _pin(fetched: Fetched) -> Pin:
    size, sha256 = fetched.file.size, fetched.file.sha256
    assert size is not None and sha256 is not None  # fetched files have both
    return Pin(size, sha256)
