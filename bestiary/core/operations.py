"""Operations of a key map that change values. What merely lies otherwise is loaded as views of the file, without a copy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from bestiary.core.keymap import Operation, Rule, Tensors
from bestiary.errors import LayoutError

PROJECTIONS = ("query", "key", "value")  # in the order in which files fuse them


@dataclass(frozen=True)
class Transposed:
    """Matrices whose rows are our columns."""

    def load(self, theirs: Tensors) -> Tensors:
        return tuple(tensor.transpose(0, -1) for tensor in theirs)

    def save(self, ours: Tensors) -> Tensors:
        return tuple(tensor.transpose(0, -1) for tensor in ours)


@dataclass(frozen=True)
class Split:
    """One tensor of theirs that holds `parts` of ours, of equal size, one after the other."""

    parts: int

    def load(self, theirs: Tensors) -> Tensors:
        (fused,) = theirs
        if not fused.dim():
            raise LayoutError(f"a single number, not {self.parts} parts\nis the file whole, and of this architecture?")
        return fused.tensor_split(self.parts)

    def save(self, ours: Tensors) -> Tensors:
        return (torch.cat(ours),)


@dataclass(frozen=True)
class Joined:
    """`parts` tensors of theirs, of one shape, that are one of ours: one after the other along the side `dim`."""

    parts: int
    dim: int

    def load(self, theirs: Tensors) -> Tensors:
        shape, *others = {tuple(tensor.shape) for tensor in theirs}
        if others or len(shape) <= self.dim:
            raise LayoutError(f"not {self.parts} parts of one shape\nis the file whole, and of this architecture?")
        return (torch.cat(theirs, self.dim),)

    def save(self, ours: Tensors) -> Tensors:
        (whole,) = ours
        return whole.tensor_split(self.parts, self.dim)


@dataclass(frozen=True)
class Chain:
    """On loading one operation after the other, on saving the other way."""

    operations: tuple[Operation, ...]

    def load(self, theirs: Tensors) -> Tensors:
        for operation in self.operations:
            theirs = operation.load(theirs)
        return theirs

    def save(self, ours: Tensors) -> Tensors:
        for operation in reversed(self.operations):
            ours = operation.save(ours)
        return ours


@dataclass(frozen=True)
class Interleaved:
    """Heads of `width` rows each in which rotary pairs are neighbours; ours lie half a head apart."""

    width: int

    def load(self, theirs: Tensors) -> Tensors:
        if any(not tensor.dim() or len(tensor) % self.width for tensor in theirs):
            raise LayoutError(f"not a number of heads of {self.width} rows\ndoes the config fit the file?")
        return tuple(_swapped(tensor, (self.width // 2, 2)) for tensor in theirs)

    def save(self, ours: Tensors) -> Tensors:
        return tuple(_swapped(tensor, (2, self.width // 2)) for tensor in ours)


def _swapped(tensor: Tensor, sizes: tuple[int, int]) -> Tensor:
    return tensor.unflatten(0, (-1, *sizes)).transpose(1, 2).flatten(0, 2)


@dataclass(frozen=True)
class Shifted:
    """Numbers that are larger by `amount` in the file."""

    amount: float

    def load(self, theirs: Tensors) -> Tensors:
        return tuple(tensor - self.amount for tensor in theirs)

    def save(self, ours: Tensors) -> Tensors:
        return tuple(tensor + self.amount for tensor in ours)


@dataclass(frozen=True)
class Unsqueezed:
    """Tensors that have `sides` more sides, of length 1, at their end in the file, as the weight of a 1 × 1 convolution has."""

    sides: int

    def load(self, theirs: Tensors) -> Tensors:
        ones = (1,) * self.sides
        if any(tensor.shape[tensor.dim() - self.sides :] != ones for tensor in theirs):
            raise LayoutError(f"its last {self.sides} sides are not of length 1\ndoes the config fit the file?")
        return tuple(tensor.reshape(tensor.shape[: tensor.dim() - self.sides]) for tensor in theirs)

    def save(self, ours: Tensors) -> Tensors:
        return tuple(tensor.reshape(*tensor.shape, *[1] * self.sides) for tensor in ours)


@dataclass(frozen=True)
class Squeezed:
    """Tensors that lack `sides` sides, of length 1, at their beginning in the file."""

    sides: int

    def load(self, theirs: Tensors) -> Tensors:
        return tuple(tensor[(None,) * self.sides] for tensor in theirs)

    def save(self, ours: Tensors) -> Tensors:
        return tuple(tensor.reshape(tensor.shape[self.sides :]) for tensor in ours)


def transposed(theirs: str, ours: str) -> Rule:
    """A matrix that lies transposed in the file."""
    return Rule(((theirs,),), (ours,), Transposed())


def split(theirs: str, *ours: str) -> Rule:
    """Tensors of ours that are one in the file, end to end."""
    return Rule(((theirs,),), ours, Split(len(ours)))


def fused(theirs: str, ours: str, parts: Sequence[str]) -> tuple[Rule, Rule]:
    """Layers of ours whose weights are one tensor in the file, and whose biases another: `theirs` ends before `weight`."""
    weight, bias = (split(f"{theirs}{kind}", *(f"{ours}.{part}.{kind}" for part in parts)) for kind in ("weight", "bias"))
    return weight, bias


def joined(theirs: tuple[str, ...], ours: str, *, dim: int) -> Rule:
    """A tensor of ours that is several in the file, to be laid one after the other along a side."""
    return Rule((theirs,), (ours,), Joined(len(theirs), dim))


def split_transposed(theirs: str, *ours: str) -> Rule:
    """Matrices of ours that are one in the file, side by side and transposed."""
    return Rule(((theirs,),), ours, Chain((Transposed(), Split(len(ours)))))


def interleaved(theirs: str, ours: str, *, head_width: int) -> Rule:
    """Weight or bias of a projection to queries or keys in whose heads rotary pairs are neighbours."""
    return Rule(((theirs,),), (ours,), Interleaved(head_width))


def shifted(theirs: str, ours: str, *, amount: float) -> Rule:
    """A tensor that is larger by an amount in the file."""
    return Rule(((theirs,),), (ours,), Shifted(amount))


def unsqueezed(theirs: str, ours: str, *, sides: int) -> Rule:
    """A tensor that has as many more sides, of length 1, at its end in the file."""
    return Rule(((theirs,),), (ours,), Unsqueezed(sides))


def squeezed(theirs: str, ours: str, *, sides: int) -> Rule:
    """A tensor that lacks as many sides, of length 1, at its beginning in the file."""
    return Rule(((theirs,),), (ours,), Squeezed(sides))
