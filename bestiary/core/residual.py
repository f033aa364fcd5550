"""Branches: joined with the input that they started from, and dropped now and then while training."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import count

from torch import Tensor, nn

from bestiary.errors import LayoutError


class DropPath(nn.Module):
    """While training, a branch is dropped for a random share `rate` of the batch (Huang et al. 2016, arXiv:1603.09382).

    What remains is scaled up, so that the mean stays. `rate` lies in [0, 1).
    """

    def __init__(self, rate: float):
        super().__init__()
        if not 0 <= rate < 1:
            raise LayoutError(f"drop_path: {rate:g} leaves nothing to train on\ngive 0 or more, and less than 1")
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.rate == 0:
            return x
        kept = x.new_empty(x.shape[0], *[1] * (x.dim() - 1)).bernoulli_(1 - self.rate)
        return x * kept / (1 - self.rate)

    def extra_repr(self) -> str:
        return f"rate={self.rate:g}"


def drop_paths(largest: float, depths: Sequence[int]) -> Iterator[list[float]]:
    """For the blocks of each stage, so many as `depths` says, how often training drops them: the deeper, the more often.

    >>> list(drop_paths(0.4, (2, 3)))
    [[0.0, 0.1], [0.2, 0.30000000000000004, 0.4]]
    """
    numbers, last = count(), max(sum(depths) - 1, 1)
    for depth in depths:
        yield [largest * next(numbers) / last for _ in range(depth)]


class Residual(nn.Module):
    """Joins a branch with the input it started from, and drops it now and then while training.

    At inference the sum is written over the branch.
    """

    def __init__(self, drop_path: float):
        super().__init__()
        self.drop = DropPath(drop_path)

    def forward(self, branch: Tensor, x: Tensor) -> Tensor:
        return x + self.drop(branch)

    def for_inference(self) -> nn.Module:
        return ResidualInPlace()


class ResidualInPlace(nn.Module):
    """What a Residual computes, without a further tensor for the sum."""

    def forward(self, branch: Tensor, x: Tensor) -> Tensor:
        return branch.add_(x)


class NoResidual(nn.Module):
    """The branch alone, where its shape is not that of the input."""

    def forward(self, branch: Tensor, x: Tensor) -> Tensor:
        return branch
