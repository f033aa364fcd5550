"""Adapters as folders: what `task.save_adapter` writes, and how it comes back onto the model that it was trained on."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from torch import nn

from bestiary.core.adapt import load_adapter, merge_adapter, put_adapter, save_adapter
from bestiary.core.adapt.files import CONFIG, WEIGHTS, read_adapter
from bestiary.core.architecture import NATIVE, Architecture
from bestiary.core.keymap import Rule
from bestiary.core.task import Task, weights_of
from bestiary.errors import InputError, IntegrityError, LayoutError, UnknownModel
from bestiary.hub.card import AdapterOf, Card, File, SourceSpec, read_card
from bestiary.hub.fetch import Fetched
from bestiary.hub.registry import Registry
from bestiary.hub.settings import Settings
from bestiary.published import BRIDGED, CARD, is_saved
from bestiary.saving import new_folder, pinned
from bestiary.table import find_architecture

ROLES = {WEIGHTS: "adapter", CONFIG: "adapter_config"}


def save(task: Task, folder: Path) -> None:
    """Write the adapter of a task, and the parts that are trained with it, with a card that names its base.

    Raises InputError where there is none, or it is not on weights as a card has them; DiskFullError.
    """
    card = task.card
    if card.adapter_of is not None:
        raise InputError(f"{card.name} was an adapter itself, so what it gave has no card yet\nsave the model, and adapt that")
    with new_folder(folder) as stage:
        save_adapter(task.net, stage)
        config: Any = task.net.config
        card = replace(
            card,
            name=f"{card.name}-adapter",
            config=asdict(config),
            layout=NATIVE,
            files=tuple(pinned(File(name=name, role=role), stage) for name, role in ROLES.items()),
            sources=(SourceSpec(kind="path", address="."),),
            precision={},
            metrics=(),
            pinned=True,
            accept_license=False,
            adapter_of=AdapterOf(name=card.name, sha256=tuple(weights_of(task.provenance).values())),
        )
        (stage / CARD).write_text(card.to_markdown(), encoding="utf-8")


def load_onto(task: Task, folder: Path) -> None:
    """Put the adapter of a folder onto a task: one of ours, or one that peft wrote for a model of a layout of the zoo.

    Raises IntegrityError where its card says that it was trained on other weights, and what `load_adapter` does.
    """
    if task.card.checked == BRIDGED:
        raise InputError(f"{task.card.name} is computed by transformers\nuse peft itself on task.net")
    if is_saved(folder / CARD) and (known := read_card(folder / CARD)).adapter_of is not None:
        check_base(known, task.provenance)
    load_adapter(task.net, folder, _layouts(find_architecture(task.card.architecture), task.net))


def base_of(card: Card, settings: Settings) -> Card:
    """The card whose weights a card asks for: its own, or those that it adapts. Raises UnknownModel, CardError, LayoutError."""
    if card.adapter_of is None:
        return card
    try:
        base = Registry.standard(settings).card(card.adapter_of.name)
    except UnknownModel as error:
        raise UnknownModel(
            f"{card.name} is an adapter of {card.adapter_of.name}, of which there is no card here\n"
            "load that model and call its load_adapter(folder)"
        ) from error
    if base.architecture != card.architecture:
        raise LayoutError(f"{card.name} is of a {card.architecture}, {base.name} is a {base.architecture}\ncorrect the card")
    return base


def check_base(card: Card, files: Mapping[str, Any]) -> None:
    """Raise IntegrityError unless the weights among the files are those that an adapter was trained on."""
    assert card.adapter_of is not None
    if tuple(weights_of(files).values()) != card.adapter_of.sha256:
        raise IntegrityError(
            f"{card.name} was trained on other weights of {card.adapter_of.name} than these: "
            f"sha256 {', '.join(digest[:12] for digest in card.adapter_of.sha256)}…\n"
            "load the version that it is for"
        )


def merge(net: nn.Module, card: Card, files: Mapping[str, Fetched], random: Collection[str] = ()) -> nn.Module:
    """The net itself with the adapter among the files of its card added to its weights, in fp32.

    The parts that are `random` so far are to come from the adapter as well. Raises LayoutError where they do not.
    """
    config, tensors = (_path(card, files, role) for role in (ROLES[CONFIG], ROLES[WEIGHTS]))
    put_adapter(net.float(), read_adapter(config, tensors))
    beginnings = tuple(f"{name}." for name in random)
    trained = dict(net.named_parameters())
    if lacking := [name for name in trained if name.startswith(beginnings) and not trained[name].requires_grad]:
        raise LayoutError(f"{tensors.name}, the adapter of {card.name}, lacks {lacking[0]}\ndoes its config fit the base?")
    return merge_adapter(net)


def _path(card: Card, files: Mapping[str, Fetched], role: str) -> Path:
    return files[card.file(role).name].path


def _layouts(architecture: Architecture, net: nn.Module) -> dict[str, Sequence[Rule]]:
    """The key maps of the layouts that can say the net's config."""
    found: dict[str, Sequence[Rule]] = {}
    for layout in architecture.layouts:
        try:
            found[layout] = architecture.rules(layout, net.config, list(net.state_dict()))
        except LayoutError:
            continue
    return found
