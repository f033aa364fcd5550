"""Learning rates and weight decay for each part of a net that is tuned."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import nn

from bestiary.errors import InputError


def parameter_groups(net: nn.Module, *, lr: float, decay: float = 1.0, weight_decay: float = 0.0) -> list[dict[str, Any]]:
    """The parameters of a net in groups for an optimiser, the deeper ones with smaller learning rates.

    What stands behind the blocks, the head above all, has the learning rate `lr`; each block before it `decay` times that of
    the one behind it, and so has what stands before the blocks (Bao et al. 2021, arXiv:2106.08254, section 3.2). What lies
    between two blocks goes with the second. Norms, biases, layer scales, positions and tokens that are learned have no weight
    decay. Parameters that are not trained are left out. Each group says what it is in `name`.

    Raises InputError for a net without blocks, and for numbers that make no sense: lr and decay have to be above 0, decay at
    most 1, weight_decay not below 0.

    >>> from bestiary.vision.resnet import VARIANTS, ResNet
    >>> groups = parameter_groups(ResNet(VARIANTS["resnet18"]), lr=1e-3, decay=0.5, weight_decay=0.05)
    >>> [(group["name"], group["lr"], group["weight_decay"]) for group in groups[-3:]]
    [('block 7, not decayed', 0.0005, 0.0), ('end', 0.001, 0.05), ('end, not decayed', 0.001, 0.0)]
    """
    for name, value, fits in (
        ("lr", lr, lr > 0),
        ("decay", decay, 0 < decay <= 1),
        ("weight_decay", weight_decay, weight_decay >= 0),
    ):
        if not fits:
            raise InputError(f"{name}={value} makes no sense\nwanted: lr > 0, 0 < decay <= 1, weight_decay >= 0")
    blocks = list(blocks_of(net))
    groups: dict[tuple[int, bool], list[nn.Parameter]] = {}
    for layer, name, parameter in _by_layer(net, blocks):
        if parameter.requires_grad:
            groups.setdefault((layer, is_decayed(name, parameter)), []).append(parameter)
    names = ["beginning", *(f"block {number}" for number in range(len(blocks))), "end"]
    return [
        {
            "name": names[layer] if decayed else f"{names[layer]}, not decayed",
            "params": parameters,
            "lr": lr * decay ** (len(blocks) + 1 - layer),
            "weight_decay": weight_decay if decayed else 0.0,
        }
        for (layer, decayed), parameters in sorted(groups.items(), key=lambda group: (group[0][0], not group[0][1]))
    ]


def blocks_of(net: nn.Module) -> Iterator[nn.Module]:
    """The blocks of a net in their order, through all stages; of a net that is made of several, those of the first.

    Raises InputError for a net without any.
    """
    stacks = (getattr(part, name, None) for part in net.modules() for name in ("stages", "blocks"))
    stack = next((stack for stack in stacks if isinstance(stack, (nn.ModuleList, nn.Sequential))), None)
    if stack is None:
        raise InputError(f"{type(net).__name__} has no stages or blocks to tell deep from shallow by\nmake groups of your own")
    for stage in stack:
        inner: Any = getattr(stage, "blocks", stage)
        yield from inner if isinstance(inner, (nn.ModuleList, nn.Sequential)) else [stage]


def is_decayed(name: str, parameter: nn.Parameter) -> bool:
    """Whether weight decay is for a parameter of that name: for the weights of layers, not for what merely scales or shifts.

    What is learned outside of a layer, such as a class token, is no `weight` by name; tables of positions are for lookup.
    """
    *path, last = name.split(".")
    return parameter.dim() > 1 and last == "weight" and "positions" not in path


def _by_layer(net: nn.Module, blocks: list[nn.Module]) -> Iterator[tuple[int, str, nn.Parameter]]:
    """Each parameter once, with its name and its layer: 0 before the blocks, then one for each, then one for what follows.

    Nets register their parts in the order in which they compute.
    """
    number_of = {id(parameter): number for number, block in enumerate(blocks, start=1) for parameter in block.parameters()}
    named = list(net.named_parameters())
    last = max((place for place, (_, parameter) in enumerate(named) if id(parameter) in number_of), default=-1)
    passed = 0  # the blocks so far
    for place, (name, parameter) in enumerate(named):
        passed = number_of.get(id(parameter), passed)
        layer = passed
        if place > last:
            layer = len(blocks) + 1
        elif passed and id(parameter) not in number_of:
            layer = passed + 1  # between two blocks
        yield layer, name, parameter
