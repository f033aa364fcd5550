"""From a name to a task object: card → verified files → safetensors → key map → net → task."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from bestiary import adapters, conversion
from bestiary.core import runtime, weights
from bestiary.core.architecture import Architecture
from bestiary.core.quantise import quantise, quantise_for_decoding
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

HEADS = {"text-embedding": "none", "text-classification": "classes", "token-classification": "tokens"}  # of encoders of text


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
        name: a card's name; a folder, written by `.save` or `.save_adapter`, or in a published layout (anything with a path
            separator is a folder), or a GGUF file (anything that ends in .gguf); or "hf:owner/repo[@revision]", a repository
            in a published layout. The card of an adapter is loaded as its base with the adapter added to its weights.
        device: "cuda", "mps", "cpu", or "auto" for the best there is.
        precision: "fp32" (the default), "bf16", "fp16", or "fast": the fastest that the card lists as measured and the
            device computes natively. Also "int8", and on a CPU "int4": the matrices of a transformer in so many bits, for
            inference alone. Those that generate token by token read them faster, others multiply them faster.
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
    card = card_of(os.fspath(name), settings, agreed, bridge=bridge)
    task, precision = find_task(card.task), runtime.pick_precision(precision, card.precision, target)
    dtype = runtime.dtype_of(precision, target)
    if card.checked == BRIDGED:
        if precision in runtime.QUANTISED:
            raise InputError(f"precision={precision!r} is for nets of the zoo\ntake fp32, bf16 or fp16 over the bridge")
        if not bridge:
            raise InputError(f"{card.name} is not in the zoo, transformers computes it\npass bridge=True (--bridge)")
        return _bridged(task, card, agreed.fetch(card, settings, standard_progress()), dtype, target)
    architecture = find_architecture(card.architecture)
    config = architecture.configure(card.config)
    base = adapters.base_of(card, settings)
    files, store = agreed.fetch(base, settings, standard_progress()), Store(settings.home)
    parts = conversion.parts(files, store)
    if base is card:
        paths = conversion.safetensors(files, store)
        net = weights.load(architecture, config, paths, card.layout, dtype=dtype, device=target)
    else:
        net = _adapted(card, base, architecture, config, files, agreed, settings).to(target, dtype)
    if precision in runtime.QUANTISED:
        net = (quantise_for_decoding if task.derive is for_decoding else quantise)(net, precision)
    saver = SAVER._replace(load=partial(load, device=device, lock=lock, offline=offline, home=home))
    return task(net, card, {**files, **parts}, saver)


SAVER = Saver(save, export, adapters.save, adapters.load_onto, load)


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
    return _changed(card, architecture, config, trust.fetch(card, settings, standard_progress()), settings).train()


def load_for(
    name: str | os.PathLike[str],
    task: str,
    labels: Sequence[str] | None = None,
    *,
    pretrained: bool = True,
    config: Mapping[str, Any] | None = None,
    trust: str | None = None,
    accept_license: bool = False,
    lock: str | os.PathLike[str] = LOCK,
    offline: bool | None = None,
    home: str | os.PathLike[str] | None = None,
) -> Task:
    """A pretrained model as another task, or for other classes, in fp32: what fine-tuning begins with.

    Its head is random where the card's model has none for that task and these `labels`, the names of the classes; the rest is
    as in the file, or random as well where it is not to be `pretrained`: a net of another size, then, where `config` has fields
    of the architecture's config. The other arguments, and what it raises: see `load`.

    >>> classify = load_for("minilm-l6-v2", "text-classification", ["animal", "food"])
    >>> classify.net.head.output.out_features
    2
    """
    settings, agreed = Settings.read(home=home, offline=offline), Trust.given(trust, lock, accept_license)
    card = _card(os.fspath(name), settings, agreed)
    kind, architecture = find_task(task), find_architecture(card.architecture)
    changes: dict[str, Any] = {**(config or {}), **({} if labels is None else {"num_classes": len(labels)})}
    known = {field.name for field in fields(architecture.config)}
    if task in HEADS:
        changes["head"] = HEADS[task]
    if lacking := sorted(changes.keys() - known):
        what = f"{card.name} is a {architecture.name}, which has no {lacking[0]} to tune for {task}"
        raise InputError(f"{what}\ntake another model")
    wanted = [file for file in card.files if pretrained or file.role != "weights"]
    files, own = agreed.fetch(card, settings, standard_progress(), wanted), find_task(card.task).keys
    built = architecture.configure({**card.config, **changes})
    others = () if labels is None or card.labels == tuple(labels) else ("num_classes",)
    net = _changed(card, architecture, built, files, settings, others) if pretrained else architecture.build(built)
    card = replace(
        card,
        task=task,
        labels=card.labels if labels is None else tuple(labels),
        preprocess={key: value for key, value in card.preprocess.items() if card.task == task or key not in own},
        config=asdict(built),
        precision={},
        metrics=(),
    )
    parts = conversion.parts(files, Store(settings.home))
    return kind(net.float().eval(), card, {**files, **parts}, SAVER)


def _changed(
    card: Card,
    architecture: Architecture,
    config: Any,
    files: Mapping[str, Fetched],
    settings: Settings,
    others: Collection[str] = (),
) -> nn.Module:
    """The net of a config that differs from the card's in what sizes its ends, or means `others` by such a field.

    These ends are random, the rest is of the files.
    """
    if card.adapter_of is not None:
        raise InputError(f"{card.name} is an adapter, and not yet a model to be changed\nload it, save it, and take that folder")
    published = architecture.configure(card.config)
    fresh = _random_parts(architecture, config, published, others)
    unread = weights.names_in_file(architecture, published, card.layout, fresh) if fresh else ()
    paths = conversion.safetensors(files, Store(settings.home))
    return weights.load(architecture, config, paths, card.layout, fresh=fresh, unread=unread)


def _random_parts(architecture: Architecture, config: Any, published: Any, others: Collection[str] = ()) -> list[str]:
    """The parts of the net of a config that the published one says nothing of."""
    resized = [
        field for field in architecture.resized_by if field in others or getattr(config, field) != getattr(published, field)
    ]
    return [part for field in resized for part in architecture.resized_by[field]]


def _adapted(
    card: Card,
    base: Card,
    architecture: Architecture,
    config: Any,
    files: Mapping[str, Fetched],
    agreed: Trust,
    settings: Settings,
) -> nn.Module:
    """The net of the base, whose `files` these are, with the adapter of a card added to it; on the CPU, in fp32."""
    adapters.check_base(card, files)
    random = _random_parts(architecture, config, architecture.configure(base.config))
    net = _changed(base, architecture, config, files, settings)
    return adapters.merge(net, card, agreed.fetch(card, settings, standard_progress()), random)


def _bridged(
    task: type[Task], card: Card, files: Mapping[str, Fetched], dtype: torch.dtype, device: torch.device
) -> Task:
    from bestiary import bridge

    return task(bridge.load(card, files, dtype, device), card, files, SAVER._replace(save=bridge.save, export=bridge.export))


def card_of(name: str, settings: Settings, trust: Trust | None = None, *, bridge: bool = False) -> Card:
    """The card of what `load` takes by that name, with nothing downloaded but a repository's small files."""
    trust = trust or Trust(lock=Lock(LOCK))
    if not bridge:
        return _card(name, settings, trust)
    from bestiary.bridge import recognised  # imports transformers

    return _card(name, settings, trust, recognised)


def is_path(name: str) -> bool:
    """Whether `load` takes this for a folder or a file, not for a card's name or a repository."""
    return not name.startswith("hf:") and ("/" in name or os.sep in name or name.endswith(".gguf"))


def _card(name: str, settings: Settings, trust: Trust, bridge: Bridge | None = None) -> Card:
    """The card of a name, of a folder or GGUF file, or of a repository."""
    if name.startswith("hf:"):
        return repository_card(name, settings, trust, bridge)
    if is_path(name):
        return folder_card(Path(name).expanduser(), Store(settings.home), bridge)
    return Registry.standard(settings).card(name)
