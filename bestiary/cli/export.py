"""`bestiary export`: a model as a folder for other programs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bestiary.cli.output import Column, as_size, clean, emit_records
from bestiary.cli.session import Session, complete_name, shared_options, trust_options

if TYPE_CHECKING:
    from bestiary.core.export.graph import Written


def _as_difference(number: float | None) -> str:
    return "" if number is None else f"{number:.1e}"


COLUMNS = (Column("path"), Column("size", as_size), Column("difference", _as_difference))
TARGETS = ("onnx", "torch.export", "transformers", "timm", "torchvision", "gguf", "gguf-f16")


def _complete_target(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    return [target for target in TARGETS if target.startswith(incomplete)]


@click.command()
@click.argument("name", shell_complete=complete_name)
@click.option(
    "--to", "target", required=True, shell_complete=_complete_target,
    help=f"What it becomes: {', '.join(TARGETS)}, or another layout of its architecture.",
)  # fmt: skip
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), metavar="FOLDER",
    help="The new folder.  [default: NAME-TARGET in the working folder]",
)  # fmt: skip
@click.option("--with-preprocessing", is_flag=True, help="onnx, torch.export: the graph takes images of any size, uint8.")
@click.option("--precision", help="What weights are written in: fp32 (the default), bf16, fp16.")
@click.option("--bridge", is_flag=True, help="Have transformers read a folder or a repository that is not in the zoo.")
@trust_options
@shared_options
@click.pass_obj
def export(
    session: Session, /, name: str, target: str, output: Path | None, with_preprocessing: bool, **choices: Any
) -> None:
    """Write the model NAME for other programs, into a new folder.

    onnx and torch.export hold the net as a graph, which is computed at once and compared with the net, and a README with an
    example; the others hold its weights, for the library of that name. What is written is whole, or nothing is.
    """
    from bestiary.loading import load

    task = load(name, device="cpu", offline=session.offline or None, home=session.home, **choices)
    folder = output or Path(f"{task.card.name}-{target}")
    written = task.export(folder, target, preprocessing=with_preprocessing)
    graphs = {one.file: one for one in written}
    records = [_record(path, graphs.get(path.name)) for path in sorted(folder.rglob("*")) if path.is_file()]
    emit_records(session, "files", COLUMNS, records)
    if not session.quiet:
        for line in _said(folder, written):
            click.echo(clean(line), err=True)


def _record(path: Path, graph: Written | None) -> dict[str, Any]:
    record = {"path": str(path), "size": path.stat().st_size, "difference": None, "inputs": None, "outputs": None}
    if graph is not None:
        record |= {"difference": graph.difference, "inputs": graph.inputs, "outputs": graph.outputs}
    return record


def _said(folder: Path, written: Sequence[Written]) -> list[str]:
    """What a person should know of graphs."""
    lines = []
    for one in written:
        free = dict.fromkeys(axis for axes in one.inputs.values() for axis in axes if isinstance(axis, str))
        lines.append(f"{one.file}: {', '.join(free)} free; computed as by the net, within {one.difference:.0e}")
    remarks = dict.fromkeys(remark for one in written for remark in one.remarks)
    return [*lines, *remarks, *([f"{folder / 'README.md'} shows how to use it"] if written else [])]
