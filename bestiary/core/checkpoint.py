"""Training in less memory: what was computed is not kept for the way back but computed again.

It is what Chen et al. 2016 (arXiv:1604.06174) describe; every part is kept by its input alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from functools import partial
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint


def recomputed(compute: Callable[..., Tensor], part: nn.Module, *inputs: Any) -> Tensor:
    """`compute(part, *inputs)`, whose gradients take a second computation and keep no more than the inputs.

    Results, gradients and the statistics of batch norms are those of a single one; what is dropped at random is dropped again.
    """
    norms = [norm for norm in part.modules() if isinstance(norm, _BatchNorm) and norm.training and norm.track_running_stats]
    # Only where there is something to keep, as torch.compile cannot trace such contexts.
    contexts: dict[str, Any] = {"context_fn": partial(_contexts, norms)} if norms else {}
    return checkpoint(compute, part, *inputs, use_reentrant=False, **contexts)


def steps(module: nn.Module) -> Iterator[nn.Module]:
    """The parts that a module is if it is a sequence of them, at any depth; else the module itself."""
    if type(module).forward is not nn.Sequential.forward:
        yield module
        return
    for part in module.children():
        yield from steps(part)


def _contexts(norms: list[_BatchNorm]) -> tuple[Any, Any]:
    return nullcontext(), _StatisticsKept(norms)


class _StatisticsKept:
    """While it lasts, batch norms that train learn nothing of what they see: they have seen it before."""

    def __init__(self, norms: list[_BatchNorm]):
        self.norms = norms

    def __enter__(self) -> None:
        self.before = [(norm, norm.momentum, norm.num_batches_tracked.clone()) for norm in self.norms]  # type: ignore[union-attr]
        for norm in self.norms:
            norm.momentum = 0.0

    def __exit__(self, *error: object) -> None:
        for norm, momentum, count in self.before:
            norm.momentum = momentum
            norm.num_batches_tracked.copy_(count)  # type: ignore[union-attr]
