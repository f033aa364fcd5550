"""Attention in another precision than what surrounds it."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from bestiary.core.attention import Projections


class Cast(nn.Module):
    """A layer of fp32 with a result of another dtype: (...) → (...)."""

    def __init__(self, layer: nn.Module, dtype: torch.dtype):
        super().__init__()
        self.layer, self.dtype = layer, dtype

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x.float()).to(self.dtype)


def attending_in(dtype: torch.dtype, module: nn.Module, kind: type[Projections]) -> nn.Module:
    """A copy in which attention of that kind has queries, keys and values of this dtype, and what else is there is shared."""
    twin = copy.copy(module)
    if isinstance(module, kind):
        layers = {name: Cast(child, dtype) for name, child in module._modules.items() if isinstance(child, nn.Linear)}
        layers["output"].dtype = torch.float32
        twin._modules = {**module._modules, **layers}
    else:
        twin._modules = {name: child and attending_in(dtype, child, kind) for name, child in module._modules.items()}
    return twin
