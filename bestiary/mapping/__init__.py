"""A model over more inputs than fit into memory, or than one machine is for: files or tables in, parquet out.

    from bestiary.mapping import Ray, map_files

    map_files("efficientnet-lite0", "photos", "labels")                                # photos/**/*.jpg → labels/part-*.parquet
    map_files("minilm-l6-v2", "reviews/*.parquet", "vectors", columns=["review"])      # a column of a table
    map_files("minilm-l6-v2", "reviews", "vectors", engine=Ray(address="auto"))        # on a cluster

The output is a folder. Each block of `part_size` inputs becomes one `part-00000.parquet`, with the columns of the input (of a
folder of files: `path`) and those of the result, as the class of the task says by `returns`. What cannot be read or computed is
named in `_failures.jsonl`, with the reason, and everything else goes on. A run that was stopped, by whatever, is taken up by the
same call: parts that are there are kept, and `_map.json` says what the folder is of.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from typing_extensions import Unpack

from bestiary.errors import InputError
from bestiary.hub.progress import PacedBar, Progress, Silent
from bestiary.mapping.engines import Engine, Local, Ray
from bestiary.mapping.inputs import open_inputs
from bestiary.mapping.parts import FAILURES
from bestiary.mapping.plan import Loading, Model, Plan

__all__ = ["Engine", "Local", "Ray", "Summary", "map_files"]

PART_SIZE = 1024  # inputs of a part: what a kill may cost, once more


class Summary(NamedTuple):
    """What a folder holds after a run."""

    rows: int  # results, in all parts
    failed: int  # inputs that have none
    parts: int
    kept: int  # of the parts, those that were there before
    seconds: float  # of this run
    folder: Path

    @property
    def failures(self) -> Path:
        """The file that names the inputs that failed; only there if some did."""
        return self.folder / FAILURES


def map_files(
    model: str | os.PathLike[str],
    input: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    columns: Sequence[str] = (),
    options: Mapping[str, Any] | None = None,
    batch_size: int | None = None,
    part_size: int = PART_SIZE,
    engine: Engine | None = None,
    progress: Progress | None = None,
    **loading: Unpack[Loading],
) -> Summary:
    """Run a model on each of many inputs, and write what it gives to parquet files.

    Args:
        model: what `bestiary.load` takes.
        input: a folder of images or of .txt files, at any depth, each an input; or tables: csv, tsv, jsonl, parquet (of a .txt
            alone the lines), one file, a folder, or a pattern such as "data/*.parquet".
        output: a folder, new or of a run of the same call that was stopped.
        columns: of tables, where the input stands: one column, or several for a task whose inputs have several parts. By default
            what the task calls them: `image`, `text`. Paths of images are relative to the table's folder, and may not leave it.
        options: of the task's call, such as {"top": 1} or {"max_new_tokens": 50}.
        batch_size: inputs that are computed at once; by default what the task's call takes.
        part_size: inputs of a part.
        engine: `Local()`, the default, or `Ray(...)`. The parts are the same.
        progress: told how many inputs are done; by default a bar where a person watches the terminal.
        loading: as in `bestiary.load`.

    Raises:
        InputError, for an output that holds something else as well; DiskFullError; and what `bestiary.load` raises.

    >>> _ = Path("photos.csv").write_text("image\\ncat.jpg\\ndog.jpg\\n")
    >>> done = map_files("efficientnet-lite0", "photos.csv", "labels", options={"top": 1})
    >>> done.rows, done.failed, done.failures.read_text()
    (1, 1, '{"row": 1, "reason": "...dog.jpg cannot be read: No such file or directory"}\\n')
    >>> import pyarrow.parquet
    >>> pyarrow.parquet.read_table("labels", columns=["image", "label"]).to_pylist()
    [{'image': 'cat.jpg', 'label': 'tiger cat'}]
    """
    started = time.monotonic()
    for name, size in {"batch_size": batch_size, "part_size": part_size}.items():
        if size is not None and not (isinstance(size, int) and size >= 1):
            raise InputError(f"{name}={size!r} is not a number of inputs\ngive 1 or more")
    folder = Path(os.path.abspath(Path(output).expanduser()))
    _check_apart(Path(os.path.abspath(Path(input).expanduser())), folder)
    if "errors" in (options or {}):
        raise InputError(f"errors is no option here: what fails is named in {FAILURES}\nleave it out")
    known = Model.of(model, loading)
    described = known.described()
    inputs = open_inputs(input, columns, described.task.forms, described.task.medium)
    plan = Plan(known, inputs, folder, options or {}, batch_size, part_size)
    with plan.parts.claimed(plan.manifest(described.identity)):
        missing = plan.parts.missing()
        _run(plan, missing, engine or Local(), progress)
        rows, failed = plan.parts.finish()
    count = plan.parts.count
    return Summary(rows, failed, count, count - len(missing), time.monotonic() - started, folder)


def _run(plan: Plan, missing: Sequence[int], engine: Engine, progress: Progress | None) -> None:
    if not missing:
        return
    progress = progress or (PacedBar() if sys.stderr.isatty() else Silent())
    bounds = map(plan.bounds, missing)
    progress.begin(plan.model.name, sum(stop - start for start, stop in bounds))
    done = 0

    def advance(count: int) -> None:
        nonlocal done
        done += count
        progress.at(done)

    try:
        engine.run(plan, missing, advance)
    finally:
        progress.end()


def _check_apart(source: Path, folder: Path) -> None:
    """Results among the inputs would be inputs of the next run."""
    within = source if source.is_dir() else source.parent
    if folder == within or (source.is_dir() and within in folder.parents):
        raise InputError(f"{folder} lies in {within}, where the inputs are\ngive a folder outside")
