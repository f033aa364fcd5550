"""The layers that peft puts in the place of ours, with a faster way there and a way back."""

from __future__ import annotations

import copy
import warnings
from typing import Any

import torch
from peft import LoraConfig, inject_adapter_in_model
from peft.tuners import lora
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from bestiary.core.rows import one_dnn_linear
from bestiary.core.training import TrainedLinear, trains_by_one_dnn
from bestiary.errors import InputError


def inject(net: nn.Module, name: str, **config: Any) -> None:
    """Put an adapter of that name on the net; `config` is peft's."""
    asked = LoraConfig(**config)
    asked._register_custom_module({nn.Linear: AdaptedLinear, nn.Conv2d: AdaptedConvolution})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of ties, which peft looks for by the names of others
        inject_adapter_in_model(asked, net, name)


class AdaptedLinear(lora.Linear):
    """A linear layer with an adapter: (..., in) → (..., out)"""

    def forward(self, x: Tensor, *arguments: Any, **more: Any) -> Tensor:
        (name,) = self.active_adapters
        down: Any = self.lora_A[name].weight
        up: Any = self.lora_B[name].weight
        usual = isinstance(self.lora_dropout[name], nn.Identity) and name not in self.lora_variant
        if not usual or self.disable_adapters or not _is_frozen(self.base_layer) or not trains_by_one_dnn(x, down):
            return super().forward(x, *arguments, **more)
        return _Sum.apply(x, self.base_layer.weight, self.base_layer.bias, down, up, self.scaling[name])

    def plain(self) -> nn.Module:
        return _plain(self)


class AdaptedConvolution(lora.Conv2d):
    """A convolution with an adapter: (n, inputs, h, w) → (n, outputs, h', w')"""

    def plain(self) -> nn.Module:
        return _plain(self)


def _is_frozen(layer: nn.Module) -> bool:
    return isinstance(layer, TrainedLinear) and not any(parameter.requires_grad for parameter in layer.parameters())


@torch.no_grad()
def _plain(layer: Any) -> nn.Module:
    """The layer with its adapter merged: a new one, as the base keeps its weight."""
    base = layer.get_base_layer()
    precise = copy.deepcopy(layer).float()
    try:
        precise.merge(safe_merge=True)
    except ValueError as error:
        raise InputError("the adapter makes weights that are no numbers\ntake an earlier checkpoint of it") from error
    twin = copy.copy(base)
    weight = precise.get_base_layer().weight.to(base.weight.dtype)
    twin._parameters = {**base._parameters, "weight": nn.Parameter(weight, requires_grad=False)}
    twin.train(layer.training)
    return twin


class _Sum(torch.autograd.Function):
    """What a frozen layer gives and what its adapter adds, written into one tensor on both ways."""

    @staticmethod
    def forward(
        context: Any, x: Tensor, weight: Tensor, bias: Tensor | None, down: Tensor, up: Tensor, scale: float
    ) -> Tensor:
        rows = x.reshape(-1, x.shape[-1])
        narrow = rows @ down.t()  # (rows, rank)
        context.save_for_backward(rows, narrow, weight, down, up)
        context.scale = scale
        result = one_dnn_linear(rows, weight, bias).addmm_(narrow, up.t(), alpha=scale)
        return result.view(*x.shape[:-1], -1)

    @staticmethod
    @once_differentiable
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        rows, narrow, weight, down, up = context.saved_tensors
        of_result = gradient.reshape(-1, gradient.shape[-1])  # (rows, out)
        of_narrow = (of_result @ up).mul_(context.scale)
        of_x = None
        if context.needs_input_grad[0]:
            of_x = one_dnn_linear(of_result, weight.t(), None).addmm_(of_narrow, down)
            of_x = of_x.view(*gradient.shape[:-1], -1)
        of_up = (of_result.t() @ narrow).mul_(context.scale)
        return of_x, None, None, of_narrow.t() @ rows, of_up, None
