"""Attention in another precision than what surrounds it."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from bestiary.core.attention import Projections
from bestiary.core.runtime import replaced


class Cast(nn.Module):
    """A layer of fp32 with a result of another dtype: (...) → (...)."""

    def __init__(self, layer: nn.Module, dtype: torch.dtype):
        super().__init__()
        self.layer, self.dtype = layer, dtype

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x.float()).to(self.dtype)


def attending_in(dtype: torch.dtype, module: nn.Module, kind: type[Projections]) -> nn.Module:
    """A copy in which attention of that kind has queries, keys and values of this dtype, and what else is there is shared."""

    def cast(part: nn.Module) -> nn.Module | None:
        if not isinstance(part, kind):
            return None
        twin = copy.copy(part)
        linears = {name: child for name, child in part._modules.items() if isinstance(child, nn.Linear)}
        casts = {name: Cast(child, torch.float32 if name == "output" else dtype) for name, child in linears.items()}
        twin._modules = {**part._modules, **casts}
        return twin

    return replaced(module, cast)
