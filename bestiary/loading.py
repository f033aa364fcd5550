"""From a name to a task object: card → verified files → safetensors → key map → net → task."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from bestiary import conversion
from bestiary.core import runtime, weights
from bestiary.core.quantise import quantise
from bestiary.core.rows import for_decoding
from bestiary.core.task import Saver, Task
from bestiary.errors import InputError
from bestiary.hub.card import Card
from bestiary.hub.fetch import Fetched
from bestiary.hub.lock import LOCK, Lock
from bestiary.hub.progress import standard_progress
from bestiary.hub.registry import Registry
from bestiary.hub.settings import Settings
from bestiary.hub.store import Store
from bestiary.hub.trust import Trust
from bestiary.published import BRIDGED, Bridge, folder_card, repository_card
from bestiary.saving import export, save
from bestiary.table import find_architecture, find_task


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
    bridge: bool = False,
) -> Task:
    """A pretrained model, ready to be called.

    Args:
        name: a card's name; a folder, written by `.save` or in a published layout (anything with a path separator is a
            folder), or a GGUF file (anything that ends in .gguf); or "hf:owner/repo[@revision]", a repository in a
            published layout.
        device: "cuda", "mps", "cpu", or "auto" for the best there is.
        precision: "fp32" (the default), "bf16", "fp16", or "fast": the fastest that the card lists as measured and the
            device computes natively. Also "int8" and "int4", on a CPU, for models that generate token by token: their
            weights in so many bits, for inference alone.
        trust: "first-use" takes files that nothing pins yet, and pins them in the lock file.
        accept_license: agree to the licence of a card that asks for it.
        lock: the lock file, bestiary.lock in the working folder by default.
        offline: ask no source that needs the network. By default as the settings say.
        home: the folder of the store. By default as the settings say.
        bridge: have transformers compute a folder or a repository that is not in the zoo; its card says `checked: bridged`.

    Raises:
        UnknownModel, CardError, IntegrityError, OfflineError, SourceError, LicenseError, DiskFullError, LayoutError, InputError

    >>> import bestiary
    >>> bestiary.load("minilm-l6-v2")("a cat").shape
    torch.Size([384])
    """
    settings = Settings.read(home=home, offline=offline)
    target = runtime.pick_device(device)
    agreed = Trust.given(trust, lock, accept_license)
    if bridge:
        from bestiary.bridge import recognised  # imports transformers
    card = _card(os.fspath(name), settings, agreed, recognised if bridge else None)
    task, dtype = find_task(card.task), runtime.pick_dtype(precision, card.precision, target)
    if card.checked == BRIDGED:
        if precision in runtime.QUANTISED:
            raise InputError(f"precision={precision!r} is for nets of the zoo\ntake fp32, bf16 or fp16 over the bridge")
        if not bridge:
            raise InputError(f"{card.name} is not in the zoo, transformers computes it\npass bridge=True (--bridge)")
        return _bridged(task, card, agreed.fetch(card, settings, standard_progress()), dtype, target)
    if precision in runtime.QUANTISED and task.derive is not for_decoding:
        raise InputError(f"precision={precision!r} is for models that generate token by token\ntake fp32, bf16 or fp16")
    architecture = find_architecture(card.architecture)
    config = architecture.configure(card.config)
    files, store = agreed.fetch(card, settings, standard_progress()), Store(settings.home)
    paths, parts = conversion.safetensors(files, store), conversion.parts(files, store)
    net = weights.load(architecture, config, paths, card.layout, dtype=dtype, device=target)
    if precision in runtime.QUANTISED:
        net = quantise(net, precision)
    return task(net, card, {**files, **parts}, Saver(save, export))


def build(name: str | os.PathLike[str], pretrained: bool = False, **changes: Any) -> nn.Module:
    """The bare net of a card, in training mode: with random weights, or the pretrained ones.

    `changes` are fields of the architecture's config. A change of those that size an end of the net (such as
    `num_classes=10`, or `in_channels=1`) leaves that end random; every other weight must come from the file. Nets of images
    have no head with `num_classes=0`, and give pooled features.

    Raises what `load` does.

    >>> import bestiary
    >>> bestiary.build("efficientnet-lite0", num_classes=10).head.out_features
    10
    """
    settings, trust = Settings.read(), Trust(lock=Lock(LOCK))
    card = _card(os.fspath(name), settings, trust)
    architecture = find_architecture(card.architecture)
    config = architecture.configure({**card.config, **changes})
    if not pretrained:
        return architecture.build(config)
    published = architecture.configure(card.config)
    resized = [field for field in architecture.resized_by if getattr(config, field) != getattr(published, field)]
    fresh = [part for field in resized for part in architecture.resized_by[field]]
    paths = conversion.safetensors(trust.fetch(card, settings, standard_progress()), Store(settings.home))
    unread = weights.names_in_file(architecture, published, card.layout, fresh) if fresh else ()
    return weights.load(architecture, config, paths, card.layout, fresh=fresh, unread=unread).train()


def _bridged(
    task: type[Task], card: Card, files: Mapping[str, Fetched], dtype: torch.dtype, device: torch.device
) -> Task:
    from bestiary import bridge

    return task(bridge.load(card, files, dtype, device), card, files, Saver(bridge.save, bridge.export))


def _card(name: str, settings: Settings, trust: Trust, bridge: Bridge | None = None) -> Card:
    """The card of a name, of a folder or GGUF file, or of a repository."""
    if name.startswith("hf:"):
        return repository_card(name, settings, trust, bridge)
    if "/" in name or os.sep in name or name.endswith(".gguf"):
        return folder_card(Path(name).expanduser(), Store(settings.home), bridge)
    return Registry.standard(settings).card(name)
