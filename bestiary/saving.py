"""Writing a task to a folder: for `bestiary.load`, or for the library that a layout comes from."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from tempfile import mkdtemp
from typing import TYPE_CHECKING, Any

import torch

from bestiary.core import weights
from bestiary.core.architecture import NATIVE, Architecture
from bestiary.core.rows import PackedLinear
from bestiary.core.runtime import merged
from bestiary.core.sharded import SHARD_SIZE
from bestiary.core.task import Task
from bestiary.errors import InputError, LayoutError, of_writing
from bestiary.hub.card import File, SourceSpec
from bestiary.hub.verify import hash_stream
from bestiary.published import CARD, WEIGHTS
from bestiary.table import find_architecture

if TYPE_CHECKING:
    from bestiary.core.export.graph import Written

GRAPHS = ("onnx", "torch.export")  # targets that hold what a net computes, and not its weights alone
F16 = "gguf-f16"  # the layout gguf, with matrices of fp16 whatever those of the net are


def save(task: Task, folder: Path, *, shard_size: int = SHARD_SIZE) -> None:
    """Write weights, card and whatever else `bestiary.load(folder)` needs.

    Metrics and measured precisions are those of the weights that were loaded, so the new card claims none.
    """
    config: Any = task.net.config
    with new_folder(folder) as stage:
        files = _write_files(task, NATIVE, stage, shard_size)
        card = replace(
            task.card,
            config=asdict(config),
            layout=NATIVE,
            files=tuple(pinned(file, stage) for file in files),
            sources=(SourceSpec(kind="path", address="."),),
            precision={},
            metrics=(),
            pinned=True,
            adapter_of=None,
        )
        (stage / CARD).write_text(card.to_markdown(), encoding="utf-8")


def export(
    task: Task, folder: Path, target: str, preprocessing: bool = False, *, shard_size: int = SHARD_SIZE
) -> Sequence[Written]:
    """Write the folder that the upstream library of a layout loads, or graphs; returns these."""
    architecture = find_architecture(task.card.architecture)
    halved = [F16] if "gguf" in architecture.layouts else []
    if target in GRAPHS:
        return _write_graphs(task, folder, target, preprocessing)
    if target not in (*architecture.layouts, *halved):
        known = ", ".join([*architecture.layouts, *halved, *GRAPHS])
        raise LayoutError(f"{architecture.name} cannot be exported to {target!r}\nit can to: {known}")
    if preprocessing:
        raise InputError(f"weights in the layout {target} hold no preprocessing\nexport to {' or '.join(GRAPHS)} for that")
    beside = _published(task, architecture, target)
    with new_folder(folder) as stage:
        if target in ("gguf", F16):
            _write_gguf(task, architecture, stage, torch.float16 if target == F16 else None)
        else:
            _write_files(task, target, stage, shard_size)
        write_json(beside, stage)
    return ()


def _write_graphs(task: Task, folder: Path, target: str, preprocessing: bool) -> Sequence[Written]:
    from bestiary.exporting import write_graphs  # what traces takes long to import

    _check_plain(task)
    bundle = task.bundle(preprocessing)
    with new_folder(folder) as stage:
        copy_files(task, stage)
        return write_graphs(task, bundle, stage, target)


def _write_gguf(task: Task, architecture: Architecture, stage: Path, dtype: torch.dtype | None) -> None:
    from bestiary.text.gguf_export import write_model  # of text alone

    _check_plain(task)
    write_model(task, architecture, stage / f"{task.card.name}.gguf", dtype)


def _published(task: Task, architecture: Architecture, layout: str) -> Mapping[str, Any]:
    """The JSON files that the layout puts beside the weights; some have none."""
    if layout not in architecture.configs:
        return {}
    config = architecture.configs[layout].write(task.net.config)
    return architecture.folders[layout].write(task.card, config)


def _write_files(task: Task, layout: str, stage: Path, shard_size: int) -> list[File]:
    """Write the weights in a layout, and the other files as they are; returns all of them, unpinned."""
    _check_plain(task)
    architecture, net = find_architecture(task.card.architecture), merged(task.net)
    rules = architecture.rules(layout, task.net.config, list(net.state_dict()))
    written = weights.save(net, stage / WEIGHTS, rules, shard_size=shard_size)
    return [*(File(name=path.name, role="weights") for path in written), *copy_files(task, stage)]


def _check_plain(task: Task) -> None:
    if any(isinstance(part, PackedLinear) for part in task.net.modules()):
        raise InputError("quantised weights are not written\nload the model in fp32, bf16 or fp16 to save it")


def copy_files(task: Task, stage: Path, without: Collection[str] = ("weights",)) -> list[File]:
    """Copy what a task was made of, but for files of some roles; returns the copies, unpinned."""
    copied = {name: entry for name, entry in task.provenance.items() if entry.file.role not in without}
    for name, entry in copied.items():
        (stage / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(entry.path, stage / name)
    return [File(name=name, role=entry.file.role) for name, entry in copied.items()]


def write_json(contents: Mapping[str, Any], stage: Path) -> None:
    """Write JSON files by name."""
    for name, content in contents.items():
        (stage / name).parent.mkdir(exist_ok=True)
        (stage / name).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def pinned(file: File, folder: Path) -> File:
    """The file with size and digest of what lies in the folder under its name."""
    with (folder / file.name).open("rb") as content:
        return replace(file, size=os.fstat(content.fileno()).st_size, sha256=hash_stream(content))


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """A folder that appears under its name once it is whole. Raises InputError where there is something already."""
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise InputError(f"{folder} is there already\ngive the name of a new folder, or remove it first")
    stage = None
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        stage = Path(mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
        yield stage
        stage.chmod(0o755)
        stage.rename(folder)
    except OSError as error:
        raise of_writing(error)(f"{folder} cannot be written: {error.strerror}\ngive another folder") from error
    finally:
        if stage is not None:
            shutil.rmtree(stage, ignore_errors=True)
