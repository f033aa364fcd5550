"""Operations of a key map that rearrange values. What they load are views of the file, so nothing is copied."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from bestiary.core.keymap import Operation, Rule, Tensors
from bestiary.errors import LayoutError


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


def transposed(theirs: str, ours: str) -> Rule:
    """A matrix that lies transposed in the file."""
    return Rule(((theirs,),), (ours,), Transposed())


def split(theirs: str, *ours: str) -> Rule:
    """Tensors of ours that are one in the file, end to end."""
    return Rule(((theirs,),), ours, Split(len(ours)))


def split_transposed(theirs: str, *ours: str) -> Rule:
    """Matrices of ours that are one in the file, side by side and transposed."""
    return Rule(((theirs,),), ours, Chain((Transposed(), Split(len(ours)))))
