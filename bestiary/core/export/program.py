"""Graphs as programs of torch.export, which torch computes, compiles and embeds without the code of the net."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import torch

from bestiary.core.export.graph import Graph, Written, compared, traced

ENDING = ".pt2"

LOADING = '''\
<name>_program = torch.export.load("<file>").module()

def <name>(**inputs):
    with torch.inference_mode():
        return [output.numpy() for output in <name>_program(*map(torch.from_numpy, inputs.values()))]
'''
IMPORTS = "import torch"


def write(graph: Graph, folder: Path) -> Written:
    """Write a graph into a folder, read it again and compute it. Raises LayoutError for what cannot be, or computes otherwise."""
    path = folder / f"{graph.name}{ENDING}"
    content = BytesIO()  # as torch's own writer ends the process where a disk is full
    torch.export.save(traced(graph), content)
    path.write_bytes(content.getbuffer())
    program = torch.export.load(path).module()
    with torch.no_grad():
        difference = compared(graph, lambda inputs: program(*inputs))
    return Written(path.name, graph.inputs, graph.outputs, difference)
