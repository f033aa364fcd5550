"""From a weights file into a net and back.

A net is built on the meta device, where nothing is allocated, and its parameters are then set to the tensors of the mapped
file: without a copy where dtype and device fit, cast or moved one at a time where not. Every parameter and buffer is filled,
or loading fails.
"""

from __future__ import annotations

import gc
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from bestiary.core import keymap
from bestiary.core.architecture import Architecture
from bestiary.core.keymap import Rule
from bestiary.core.sharded import SHARD_SIZE, ShardedTensors, write_shards
from bestiary.errors import LayoutError


@torch.inference_mode(False)  # or what is loaded in that mode could be neither trained nor followed in its changes
def load(
    architecture: Architecture,
    config: Any,
    path: Path | Sequence[Path],
    layout: str,
    *,
    dtype: torch.dtype | None = None,
    device: torch.device | str = "cpu",
    fresh: Collection[str] = (),
    unread: Collection[str] = (),
) -> nn.Module:
    """The net of `config` with the weights of a safetensors file, or of several that share them, in evaluation mode.

    `dtype` is what floating-point tensors become (None: what the file holds). The modules named in `fresh` are initialised at
    random; only their tensors may be absent from the file or differ in shape. Names of the file that are in `unread` may be
    there for nothing. Raises LayoutError.
    """
    paths = [path] if isinstance(path, Path) else path
    with _without_garbage_collection():
        with torch.device("meta"), _WithoutRandomValues():
            net = architecture.build(config)
        names = list(net.state_dict())
        random = {name for name in names if name.startswith(tuple(f"{module}." for module in fresh))}
        rules = [*architecture.rules(layout, config, names), *keymap.ignored(*unread)]
        try:
            fill(net, ShardedTensors(paths), rules, dtype=dtype, device=device, fresh=random)
        except LayoutError as error:
            raise LayoutError(f"{paths[0].name}, read as {architecture.name} in layout {layout}: {error}") from None
        for name in fresh:
            initialise(net.get_submodule(name), dtype=dtype, device=device)
    unset = [name for name, tensor in [*net.named_parameters(), *net.named_buffers()] if tensor.is_meta]
    if unset:
        raise LayoutError(f"{architecture.name} leaves {', '.join(unset[:3])} without a value\nmend the architecture's file")
    return net.eval()


def names_in_file(architecture: Architecture, config: Any, layout: str, modules: Collection[str]) -> set[str]:
    """What a file of this layout may call the tensors of these modules of the net of `config`."""
    with torch.device("meta"), _WithoutRandomValues():
        names = list(architecture.build(config).state_dict())
    beginnings = tuple(f"{module}." for module in modules)
    rules = [rule for rule in architecture.rules(layout, config, names) if any(name.startswith(beginnings) for name in rule.ours)]
    return {name for rule in rules for spelling in rule.theirs for name in spelling}


def fill(
    net: nn.Module,
    tensors: ShardedTensors,
    rules: Sequence[Rule],
    *,
    dtype: torch.dtype | None,
    device: torch.device | str,
    fresh: Collection[str] = (),
) -> None:
    """Set every tensor of the net's state, but for those in `fresh`, to what the rules make of `tensors`."""
    state = net.state_dict(keep_vars=True)
    for step, ours in keymap.load(keymap.plan(rules, list(tensors), list(state), fresh), tensors):
        mapped = False
        for name, value in ours.items():
            if value.shape != state[name].shape:
                raise LayoutError(
                    f"{', '.join(step.theirs)} has the shape {tuple(value.shape)}\n"
                    f"the config asks for {tuple(state[name].shape)} in {name}: does it fit the file?"
                )
            converted = value.to(device, dtype if value.is_floating_point() else None)
            mapped |= converted is value
            _assign(net, name, converted)
        if not mapped:
            for name in step.theirs:
                tensors.release(name)


def save(net: nn.Module, path: Path, rules: Sequence[Rule], *, shard_size: int = SHARD_SIZE) -> list[Path]:
    """Write the net's state as a safetensors file in the layout of the rules, or as several where it is large.

    Returns the files of tensors; `write_shards` says how they are named.
    """
    state = {name: tensor.detach().cpu() for name, tensor in net.state_dict().items()}
    # Older releases of transformers insist on the metadata.
    return write_shards(path, keymap.save(rules, state), {"format": "pt"}, shard_size=shard_size)


def initialise(module: nn.Module, *, dtype: torch.dtype | None, device: torch.device | str) -> None:
    """Give a module that is on the meta device its random initial values."""
    module.to_empty(device=device)
    for part in module.modules():
        if callable(reset := getattr(part, "reset_parameters", None)):
            reset()
    module.to(dtype)


def _assign(net: nn.Module, name: str, value: Tensor) -> None:
    path, _, attribute = name.rpartition(".")
    owner = net.get_submodule(path)
    if attribute in owner._parameters:
        owner._parameters[attribute] = nn.Parameter(value, requires_grad=value.is_floating_point())
    else:
        owner._buffers[attribute] = value


class _WithoutRandomValues(TorchFunctionMode):
    """Leaves normal_ out, which gives nothing on meta, and to do so imports a thousand modules in two seconds."""

    def __torch_function__(
        self, function: Any, types: Any, arguments: tuple[Any, ...] = (), keywords: dict[str, Any] | None = None
    ) -> Any:
        keywords = keywords or {}
        if getattr(function, "__name__", "") == "normal_":
            return arguments[0] if arguments else keywords["tensor"]
        return function(*arguments, **keywords)


@contextmanager
def _without_garbage_collection() -> Iterator[None]:
    """A collection in the middle would walk every object that imports have left, and free nothing."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
