"""Losses over a vocabulary, which never hold all logits at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from bestiary.core.layers import Tied

AT_ONCE = 128  # rows whose logits are held at once; few enough for them to stay in the cache of a CPU


def next_token_loss(net: Any, tokens: Tensor, mask: Any, positions: Tensor | None, labels: Tensor) -> Tensor:
    """The mean cross-entropy of a decoder over the rows that have a label: a scalar, fp32.

    `labels` (...) say for each of the `tokens` (...) which one follows it, a negative one that nothing is learned there: no
    logits are made of such a row. `mask` and `positions` are what the net takes.
    """
    return vocabulary_loss(net.hidden_states(tokens, mask, positions), net.head, labels)


def vocabulary_loss(hidden_states: Tensor, head: nn.Module, labels: Tensor) -> Tensor:
    """The mean cross-entropy of the logits that `head` makes of hidden states, over the rows with a label: a scalar, fp32.

    `hidden_states` are (..., width), `labels` (...), negative where there is none; the loss of no label at all is 0. Logits are
    computed for some rows at a time, and their gradients at once with them, so that memory holds neither as a whole.

    >>> head = nn.Linear(8, 50)
    >>> rows = torch.randn(3, 8, requires_grad=True)
    >>> vocabulary_loss(rows, head, torch.tensor([7, -100, 9])).backward()
    >>> rows.grad.abs().sum(1) > 0
    tensor([ True, False,  True])
    """
    labelled = labels >= 0
    rows, targets = hidden_states[labelled], labels[labelled].long()  # (n, width), (n,)
    weights = list(_weights(head))
    if torch.is_grad_enabled() and (rows.requires_grad or weights):
        loss: Tensor = _Loss.apply(head, rows, targets, *weights)
        return loss
    losses = [_summed(head, *part) for part in zip(rows.split(AT_ONCE), targets.split(AT_ONCE), strict=True)]
    return torch.stack(losses).sum() / max(1, len(rows))


def _weights(head: nn.Module) -> Iterator[Tensor]:
    """What of a head is trained, the weight included that it shares with an embedding."""
    parts = list(head.modules())
    tied = (part.weight for part in parts if isinstance(part, Tied))
    own = (parameter for part in parts for parameter in part.parameters(recurse=False))
    yield from (weight for weight in (*own, *tied) if weight.requires_grad)


def _summed(head: Callable[[Tensor], Tensor], rows: Tensor, targets: Tensor) -> Tensor:
    return F.cross_entropy(head(rows).float(), targets, reduction="sum")


class _Loss(torch.autograd.Function):
    """The mean over rows, with the gradients of rows and weights already computed on the way there."""

    @staticmethod
    def forward(context: Any, head: nn.Module, rows: Tensor, targets: Tensor, *weights: Tensor) -> Tensor:
        total, count = rows.new_zeros((), dtype=torch.float32), max(1, len(rows))
        of_rows, of_weights = [], [torch.zeros_like(weight) for weight in weights]
        for some, their_targets in zip(rows.split(AT_ONCE), targets.split(AT_ONCE), strict=True):
            with torch.enable_grad():
                some = some.detach().requires_grad_()
                loss = _summed(head, some, their_targets) / count
                gradient, *others = torch.autograd.grad(loss, (some, *weights))
            total += loss.detach()
            of_rows.append(gradient)
            for whole, part in zip(of_weights, others, strict=True):
                whole += part
        context.save_for_backward(torch.cat(of_rows), *of_weights)
        return total

    @staticmethod
    @once_differentiable
    def backward(context: Any, scale: Tensor) -> tuple[Tensor | None, ...]:
        of_rows, *of_weights = (gradient * scale for gradient in context.saved_tensors)
        return None, of_rows, None, *of_weights
