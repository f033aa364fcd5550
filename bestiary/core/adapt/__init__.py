"""Adapters: a net is tuned by few weights beside its own, which stay as they are.

LoRA (Hu et al. 2021, arXiv:2106.09685) adds to the matrix of a layer the product of two narrow ones; DoRA (Liu et al. 2024,
arXiv:2402.09353) also learns the length of its rows. Both are computed by the library peft, of the extra `train`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from bestiary.core.adapt.files import Adapter, Factors, read_folder, write_adapter
from bestiary.core.adapt.published import in_our_names
from bestiary.core.keymap import Rule
from bestiary.core.rows import PackedLinear
from bestiary.core.runtime import Mergeable
from bestiary.errors import InputError, LayoutError

NAME = "default"  # what peft calls the one adapter of a net


def add_adapter(
    net: nn.Module,
    rank: int = 16,
    *,
    alpha: float | None = None,
    dropout: float = 0.0,
    targets: Sequence[str] = ("attention",),
    dora: bool = False,
    trained: Sequence[str] = (),
) -> nn.Module:
    """The net itself with an adapter that changes nothing yet; of its own weights none is trained any more.

    Args:
        rank: width of the two narrow matrices, 1 or more.
        alpha: their product counts alpha / rank; as much as rank if None.
        dropout: share of what the adapter reads that training drops, from 0 to below 1.
        targets: parts of the net whose linear layers, and convolutions that are not in groups, are adapted: "attention" (with
            "cross_attention"), "mlp", "convolution", or any other name that stands in the names of its layers.
        dora: whether to learn the length of rows as well.
        trained: parts of the net to be trained as a whole, such as a head that is new: "head".

    Raises InputError for a rank or dropout out of range, targets or trained that name no part, a net that has an adapter or
    is quantised, and where peft is not installed.

    >>> net = add_adapter(nn.Sequential(nn.ModuleDict({"mlp": nn.Linear(4, 3)})), rank=2, targets=["mlp"])
    >>> [name for name, parameter in net.named_parameters() if parameter.requires_grad]
    ['0.mlp.lora_A.default.weight', '0.mlp.lora_B.default.weight']
    """
    if rank < 1 or not 0 <= dropout < 1:
        raise InputError(f"an adapter of rank={rank}, dropout={dropout} makes no sense\nwanted: rank >= 1, 0 <= dropout < 1")
    _check_free(net)
    layers = [name for target in targets for name in _layers_of(net, target)]
    parts = dict(net.named_modules())
    for name in trained:
        if name not in parts or not any(True for _ in parts[name].parameters()):
            known = ", ".join(name for name, part in net.named_children() if any(True for _ in part.parameters()))
            raise InputError(f"{type(net).__name__} has no weights in {name!r} to be trained\nits parts with weights: {known}")
    how = {"lora_alpha": rank if alpha is None else alpha, "lora_dropout": dropout, "use_dora": dora}
    return _inject(net, trained, r=rank, target_modules=list(dict.fromkeys(layers)), **how)


def load_adapter(net: nn.Module, folder: Path, layouts: Mapping[str, Sequence[Rule]] | None = None) -> nn.Module:
    """The net itself with the adapter of a folder in peft's format, to be trained on or merged.

    The file names the layers as we do, or as one of the `layouts` does, whose rules say what they are here. Raises LayoutError
    for a file or an adapter_config.json that is not understood or does not fit the net, InputError as `add_adapter`.
    """
    return put_adapter(net, in_our_names(read_folder(folder), set(net.state_dict()), layouts or {}))


def put_adapter(net: nn.Module, adapter: Adapter) -> nn.Module:
    """The net itself with an adapter that has its names. Raises LayoutError where it does not fit."""
    _check_free(net)
    _check_fits(net, adapter)
    state = net.state_dict(keep_vars=True)
    parts = sorted({name.rpartition(".")[0] for name in adapter.whole if not name.endswith(".bias")})
    _inject(net, parts, target_modules=list(adapter.factors), **adapter.patterns())
    with torch.no_grad():
        for name, factors in adapter.factors.items():
            _fill(net.get_submodule(name), factors)
        for name, value in adapter.whole.items():
            state[name].copy_(value).requires_grad_(isinstance(state[name], nn.Parameter))
    return net


def save_adapter(net: nn.Module, folder: Path) -> list[Path]:
    """Write the adapter of a net, and the parts that are trained with it, in peft's format; returns the files.

    Names are ours: peft itself loads them onto the net. Raises InputError where the net has no adapter.
    """
    if not has_adapter(net):
        raise InputError(f"{type(net).__name__} has no adapter to save\nadd one by add_adapter, or save the model")
    config: Any = net.peft_config
    return write_adapter(net, config[NAME], folder)


def merge_adapter(net: nn.Module) -> nn.Module:
    """The net itself with its adapter added to its weights: plain layers with plain names. Raises InputError for NaN in it."""
    parts = {name: part for name, part in net.named_modules() if isinstance(part, Mergeable)}
    plain = {name: part.plain() for name, part in parts.items()}
    for name, layer in plain.items():
        owner, _, attribute = name.rpartition(".")
        setattr(net.get_submodule(owner), attribute, layer)
    if hasattr(net, "peft_config"):
        del net.peft_config
    still: list[Any] = [part for part in net.modules() if isinstance(part, StillBatchNorm)]
    for norm in still:
        norm.__class__ = nn.BatchNorm2d
    return net.requires_grad_()


def has_adapter(net: nn.Module) -> bool:
    """Whether an adapter is on the net."""
    return any(isinstance(part, Mergeable) for part in net.modules())


class StillBatchNorm(nn.BatchNorm2d):
    """A batch norm that training leaves alone: its statistics belong to the weights that are frozen."""

    def train(self, mode: bool = True) -> StillBatchNorm:
        super().train(False)
        return self


def _layers_of(net: nn.Module, target: str) -> list[str]:
    """The names of the layers in the parts of that name. Raises InputError, saying which parts there are, for none."""
    layers = {
        name: name.split(".")
        for name, part in net.named_modules()
        if isinstance(part, nn.Linear) or (isinstance(part, nn.Conv2d) and part.groups == 1)
    }
    found = [name for name, path in layers.items() if any(f"_{part}".endswith(f"_{target}") for part in path)]
    if not found:
        known = dict.fromkeys(part for path in layers.values() for part in path if not part.isdigit())
        usual = [part for part in ("attention", "mlp", "convolution") if part in known] or list(known)
        raise InputError(f"{type(net).__name__} has no layers in {target!r} to adapt\ntargets of its own: {', '.join(usual)}")
    return found


def _inject(net: nn.Module, trained: Sequence[str], **config: Any) -> nn.Module:
    try:
        from bestiary.core.adapt.layers import inject
    except ModuleNotFoundError as error:
        if error.name != "peft":
            raise
        raise InputError("adapters need peft, which is not installed\npip install 'bestiary[train]'") from error
    inject(net, NAME, **config)
    own: Any = net.peft_config
    own[NAME].modules_to_save = list(trained) or None
    for name in trained:
        for parameter in net.get_submodule(name).parameters():
            parameter.requires_grad = True
    beginnings = tuple(f"{name}." for name in trained)
    for name, part in net.named_modules():
        if type(part) is nn.BatchNorm2d and not name.startswith(beginnings):
            part.__class__ = StillBatchNorm  # the same layer in all else
            part.eval()
    return net


def _fill(layer: Any, factors: Factors) -> None:
    layer.lora_A[NAME].weight.copy_(factors.down)
    layer.lora_B[NAME].weight.copy_(factors.up)
    if factors.magnitude is not None:
        magnitude = layer.lora_magnitude_vector[NAME].weight
        magnitude.copy_(factors.magnitude.reshape(magnitude.shape))


def _check_free(net: nn.Module) -> None:
    if has_adapter(net):
        raise InputError(f"{type(net).__name__} has an adapter already\nmerge it first, by merge_adapter")
    if any(isinstance(part, PackedLinear) for part in net.modules()):
        raise InputError("quantised weights cannot be adapted\nload the model in fp32 or bf16")


def _check_fits(net: nn.Module, adapter: Adapter) -> None:
    """Raise LayoutError unless every tensor of an adapter in our names has its place in the net."""
    state, layers = net.state_dict(), dict(net.named_modules())
    if unknown := [name for name in (*(f"{name}.weight" for name in adapter.factors), *adapter.whole) if name not in state]:
        raise LayoutError(f"the adapter changes {unknown[0]}, which the net does not have\nis it of this model?")
    for name, factors in adapter.factors.items():
        weight = state[f"{name}.weight"]
        if not isinstance(layers[name], nn.Linear | nn.Conv2d):
            raise LayoutError(f"the adapter changes {name}, which is no linear layer\nit cannot be computed here")
        if not factors.fits(weight):
            raise LayoutError(
                f"the adapter of {name} is for {factors.outputs} × {factors.inputs} numbers, the net has {tuple(weight.shape)}\n"
                "is it of this model?"
            )
    for name, value in adapter.whole.items():
        if state[name].shape != value.shape:
            raise LayoutError(
                f"{name} has the shape {tuple(value.shape)} in the adapter, {tuple(state[name].shape)} in the net\n"
                "load the base with the head that the adapter has"
            )
