"""A task as graphs in a folder: the files, what people need besides them, and a README with an example that runs."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from bestiary.core.export import onnx, program
from bestiary.core.export.example import filled
from bestiary.core.export.graph import Bundle, Graph, Written
from bestiary.core.task import Task

SETTINGS = "model.json"
README = "README.md"


class Format(NamedTuple):
    """A way to write graphs."""

    title: str
    write: Callable[[Graph, Path], Written]
    imports: str  # line of an example that imports what reads it
    loading: str  # lines that make a function of a file

    @classmethod
    def of(cls, module: ModuleType, title: str) -> Format:
        return cls(title, module.write, module.IMPORTS, module.LOADING)


FORMATS = {"onnx": Format.of(onnx, "ONNX"), "torch.export": Format.of(program, "torch.export")}

TEXT = """\
# <name>, as <title>

The net of the model `<name>` for <task>, licence: <license>. What goes in and comes out, by the sizes of each:

<table>

Free sizes have names. `model.json` holds these again, and what else a program has to know. <remarks>

```python
<example>```
"""


def write_graphs(task: Task, bundle: Bundle, stage: Path, target: str) -> list[Written]:
    """Write and check the graphs of a task in one of the FORMATS, with settings and README. Raises InputError, LayoutError."""
    format = FORMATS[target]
    written = [format.write(graph, stage)._replace(remarks=bundle.remarks) for graph in bundle.graphs]
    graphs = {
        graph.name: {"file": one.file, "inputs": one.inputs, "outputs": one.outputs}
        for graph, one in zip(bundle.graphs, written, strict=True)
    }
    card, labels = task.card, getattr(task, "labels", None)
    said = {
        **{"name": card.name, "task": card.task, "license": card.license, "preprocess": dict(card.preprocess)},
        **({} if labels is None else {"labels": list(labels)}),
        "graphs": graphs,
    }
    (stage / SETTINGS).write_text(json.dumps(said, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    places = {
        "name": card.name,
        "title": format.title,
        "task": card.task,
        "license": card.license,
        "table": "\n".join(_table(written)),
        "remarks": " ".join(bundle.remarks),
        "example": _example(format, bundle, written),
    }
    (stage / README).write_text(filled(TEXT, **places), encoding="utf-8")
    return written


def _table(written: Sequence[Written]) -> list[str]:
    """Of many that are alike, as the past of a decoder, the first tells of all."""
    rows = ["| file | | name | sizes |", "|---|---|---|---|"]
    for one in written:
        for what, tensors in (("in", one.inputs), ("out", one.outputs)):
            first = _first(tensors).items()
            rows += [f"| {one.file} | {what} | `{name}` | {', '.join(map(str, axes))} |" for name, axes in first]
    return rows


def _first(tensors: Mapping[str, Any]) -> dict[str, Any]:
    """Without those of further layers, whose names hold a number other than 0."""
    return {name: axes for name, axes in tensors.items() if not any(part.isdigit() and int(part) for part in name.split("."))}


def _example(format: Format, bundle: Bundle, written: Sequence[Written]) -> str:
    names = [graph.name for graph in bundle.graphs]
    loading = "\n".join(
        filled(format.loading, name=name, file=one.file) for name, one in zip(names, written, strict=True)
    )
    settings = f'settings = json.load(open("{SETTINGS}", encoding="utf-8"))'
    return f"import json\n\nimport numpy as np\n{format.imports}\n\n{loading}\n{settings}\n\n{bundle.example}"
