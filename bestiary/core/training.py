"""What makes a step of training faster on a CPU, and changes nothing else."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from bestiary.core.rows import one_dnn_linear


def for_training(net: nn.Module) -> nn.Module:
    """The net itself, with linear layers that are trained faster on a CPU; parameters, names and results stay.

    >>> net = for_training(nn.Sequential(nn.Linear(4, 3)))
    >>> net(torch.ones(2, 4)).sum().backward()
    >>> net[0].weight.grad.shape
    torch.Size([3, 4])
    """
    for module in list(net.modules()):
        for name, child in module.named_children():
            if type(child) is nn.Linear and torch.backends.mkldnn.is_available():
                setattr(module, name, TrainedLinear(child))
    return net


class TrainedLinear(nn.Linear):
    """A linear layer that computes what it gives, and the gradient of what it is given, by oneDNN: (..., in) → (..., out).

    On the processor that it was measured on, an AMD EPYC, these two take a tenth less than by the library that torch takes
    itself. The gradient of the weight is left to torch.
    """

    def __init__(self, linear: nn.Linear):
        nn.Module.__init__(self)
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.weight, self.bias = linear.weight, linear.bias
        self.train(linear.training)

    def forward(self, x: Tensor) -> Tensor:
        if not trains_by_one_dnn(x, self.weight):
            return F.linear(x, self.weight, self.bias)
        return _Product.apply(x, self.weight, self.bias)


def trains_by_one_dnn(x: Tensor, weight: Tensor) -> bool:
    """Whether products of these are such as `TrainedLinear` computes faster: fp32 on a CPU."""
    return x.device.type == "cpu" and {x.dtype, weight.dtype} == {torch.float32} and not torch.is_autocast_enabled("cpu")


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        context.save_for_backward(x, weight)
        return one_dnn_linear(x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        x, weight = context.saved_tensors
        of_x, of_weight, of_bias = context.needs_input_grad
        rows = gradient.reshape(-1, gradient.shape[-1])  # (rows, out)
        return (
            one_dnn_linear(rows, weight.t(), None).view_as(x) if of_x else None,
            rows.t() @ x.reshape(-1, x.shape[-1]) if of_weight else None,
            rows.sum(0) if of_bias else None,
        )
