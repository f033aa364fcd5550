"""Graphs as ONNX files, which onnxruntime and many other programs compute."""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bestiary.core.export.graph import Graph, Written, compared, traced
from bestiary.errors import InputError, LayoutError

ENDING = ".onnx"
LARGEST = 2_000_000_000  # bytes of weights in one file, whose format takes no more than 2 GiB; more lie in a file beside it

LOADING = '''\
<name>_session = onnxruntime.InferenceSession("<file>")

def <name>(**inputs):
    return <name>_session.run(None, inputs)
'''
IMPORTS = "import onnxruntime"


def write(graph: Graph, folder: Path) -> Written:
    """Write a graph into a folder and have onnxruntime compute it.

    Raises InputError where ONNX is not installed, LayoutError for what cannot be written or computes otherwise, and what
    `traced` does.
    """
    _check_installed()
    path, program = folder / f"{graph.name}{ENDING}", traced(graph)
    # Masks that want gradients, as T5's, would take another kernel on the way.
    with _quiet(), torch.no_grad():
        try:
            converted: Any = torch.onnx.export(
                program, (), dynamo=True, verbose=False, input_names=list(graph.inputs), output_names=list(graph.outputs)
            )
        except Exception as error:  # the converter raises of every kind
            reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
            raise LayoutError(f"the {graph.name} cannot be said in ONNX: {reason[:200]}\ntry torch.export") from error
        _name_axes(converted.model, graph)
        size = sum(tensor.nbytes for tensor in program.state_dict.values())
        converted.save(path, external_data=size > LARGEST)
    return Written(path.name, graph.inputs, graph.outputs, compared(graph, _Session(path)))


def _check_installed() -> None:
    try:
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise InputError(f"{error.name} is not installed, which ONNX needs\npip install 'bestiary[onnx]'") from error


def _name_axes(model: Any, graph: Graph) -> None:
    """Call free axes by their names where torch gave them numbers, as in "s12 + s7"."""
    names: dict[str, str] = {}
    for value, axes in zip(model.graph.inputs, graph.inputs.values(), strict=True):
        names |= {str(size): axis for size, axis in zip(value.shape, axes, strict=True) if isinstance(axis, str)}
    made = (value for node in model.graph.all_nodes() for value in node.outputs)
    for value in {*model.graph.inputs, *model.graph.outputs, *made}:
        for place, size in enumerate(value.shape or ()):
            if not isinstance(size, int) and size.value is not None:
                value.shape[place] = re.sub(r"\bs\d+\b", lambda found: names.get(found[0], found[0]), size.value)


class _Session:
    """onnxruntime on a file, from tensors to tensors."""

    def __init__(self, path: Path):
        import onnxruntime

        self.session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        self.names = [given.name for given in self.session.get_inputs()]

    def __call__(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        arrays = {name: value.cpu().numpy() for name, value in zip(self.names, inputs, strict=True)}
        return [torch.from_numpy(output) for output in self.session.run(None, arrays)]


@contextmanager
def _quiet() -> Iterator[None]:
    """Meanwhile the converter tells nothing of its own affairs."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
