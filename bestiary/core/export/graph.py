"""A net as a function of tensors alone, traced into a graph, and what is written compared with what the net computes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from bestiary.errors import InputError, LayoutError

TOLERANCE = 1e-4  # of the largest difference, over the largest value or over 1

Axes = tuple[int | str, ...]  # the sizes of a tensor; those that are names are free
Sizes = Mapping[str, int]  # of the free axes, by name
Computes = Callable[[Sequence[Tensor]], Sequence[Tensor]]  # what was written: inputs in their order → outputs in theirs


@dataclass(frozen=True, kw_only=True)
class Graph:
    """What is to be written of a net.

    `net` takes the inputs in their order, and gives a tuple of the outputs. `inputs_of` makes inputs of some sizes. The first
    of the `sizes` is what is traced; at the others, which have to differ from it and be two at least, what was written has to
    compute what the net does.
    """

    name: str  # of its file, without the ending
    net: nn.Module
    inputs: Mapping[str, Axes]
    outputs: Mapping[str, Axes]
    ranges: Mapping[str, tuple[int, int | None]]  # of each free axis: least and most
    inputs_of: Callable[[Sizes], Sequence[Tensor]]
    sizes: Sequence[Sizes]


class Bundle(NamedTuple):
    """Everything of a task that is to be written: its graphs, and what people need besides to use them alone."""

    graphs: Sequence[Graph]
    example: str  # lines of Python that call each graph by its name, with arrays of numpy by the names of its inputs
    remarks: Sequence[str] = ()  # sentences on what the graphs do not do


class Written(NamedTuple):
    """A graph that was written, and found to compute what its net does."""

    file: str
    inputs: Mapping[str, Axes]
    outputs: Mapping[str, Axes]
    difference: float  # the largest found, over the largest value or over 1
    remarks: Sequence[str] = ()  # sentences on what it does not do


def traced(graph: Graph) -> ExportedProgram:
    """The program of a graph, with its free axes.

    Raises InputError for weights that are not of fp32, LayoutError for a net that cannot be traced so.
    """
    other = next((tensor.dtype for tensor in graph.net.parameters() if tensor.dtype != torch.float32), None)
    if other is not None:
        raise InputError(f"the weights are of {other}, and graphs are written in fp32\nload the model in fp32 to export it")
    axes = {name: Dim(name, min=least, max=most) for name, (least, most) in graph.ranges.items()}
    shapes = [{place: axes[axis] for place, axis in enumerate(sizes) if axis in axes} for sizes in graph.inputs.values()]
    inputs = Positional(graph.net)
    try:
        with torch.no_grad():
            return torch.export.export(inputs, tuple(graph.inputs_of(graph.sizes[0])), dynamic_shapes=(tuple(shapes),))
    except Exception as error:  # torch raises of every kind
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise LayoutError(
            f"the {graph.name} cannot be traced with free {', '.join(axes)}: {reason[0][:200]}\nexport it to a layout of weights"
        ) from error


class Positional(nn.Module):
    """A net whose inputs are told apart by their place alone, however many there are."""

    def __init__(self, net: nn.Module):
        super().__init__()
        self.net = net

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        return self.net(*inputs)


def compared(graph: Graph, computes: Computes) -> float:
    """The largest difference of what was written from what the net computes, relative as in Written.

    Raises LayoutError where it is above TOLERANCE, is no number, or a shape is another.
    """
    worst = 0.0
    for sizes in graph.sizes:
        inputs = graph.inputs_of(sizes)
        with torch.no_grad():
            expected = graph.net(*inputs)
        for name, ours, theirs in zip(graph.outputs, expected, computes(inputs), strict=True):
            difference = _difference(ours.cpu(), theirs.cpu())
            if not difference <= TOLERANCE:
                said = ", ".join(f"{axis} {size}" for axis, size in sizes.items())
                raise LayoutError(
                    f"the exported {graph.name} gives {name} off by {difference:.1e} at {said}; {TOLERANCE:.0e} is allowed\n"
                    "nothing was written; export to a layout of weights instead"
                )
            worst = max(worst, difference)
    return worst


def _difference(ours: Tensor, theirs: Tensor) -> float:
    if ours.shape != theirs.shape:
        return float("inf")
    if not ours.numel():
        return 0.0
    ours, theirs = ours.double(), theirs.double()
    return float((ours - theirs).abs().max() / ours.abs().max().clamp(min=1))
