"""`bestiary benchmark`: the program of scripts/benchmark.py, and its rows as a table."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

from bestiary.cli.output import as_size, emit, emit_json
from bestiary.cli.session import Session, shared_options

if TYPE_CHECKING:
    from bestiary.scripts.benchmark import Row

TITLES = ("case", "what", "ours", "peer", "score", "bar", "met")


def _complete_case(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    from bestiary.scripts.benchmark import CASES

    return [name for name in CASES if name.startswith(incomplete)]


@click.command()
@click.argument("cases", nargs=-1, metavar="[CASE]...", shell_complete=_complete_case)
@click.option("--rounds", type=click.IntRange(min=1), default=5, show_default=True, help="Timed calls of each side.")
@click.option("--threads", type=click.IntRange(min=1), help="Threads of every process; torch's own choice if not given.")
@click.option("--list", "listing", is_flag=True, help="Print the names of the cases.")
@shared_options
@click.pass_obj
def benchmark(session: Session, cases: tuple[str, ...], rounds: int, threads: int | None, listing: bool) -> None:
    """Time this project against its peers: same weights, input and threads, in turns; medians and ratios.

    Without a CASE all of them run, which takes some minutes; --list names them.
    """
    if threads is not None:
        os.environ["OMP_NUM_THREADS"] = str(threads)  # read when torch is first imported, here and in child processes

    from bestiary.scripts.benchmark import CASES, Bench, run

    if unknown := [name for name in cases if name not in CASES]:
        raise click.BadParameter(f"no case {', '.join(unknown)}; there are {', '.join(CASES)}", param_hint="CASE")
    if listing:
        emit(session, "cases", ["case"], [[name] for name in CASES], [{"case": name} for name in CASES])
        return
    result = run(cases or CASES, Bench(rounds=rounds, say=_silent if session.quiet else _say))
    for case, reason in result.skipped.items():
        click.echo(f"{case} skipped: {reason}", err=True)
    if session.json:
        emit_json({"rounds": rounds, "rows": [row.record() for row in result.rows], "skipped": result.skipped})
    else:
        emit(session, "rows", TITLES, map(_cells, result.rows), [])


def _silent(text: str) -> None:
    pass


def _say(text: str) -> None:
    click.echo(text, err=True)


def _cells(row: Row) -> list[str]:
    peer = "" if row.peer is None else f"{_amount(row.peer, row.unit)} {row.peer_name}"
    bar = ""
    if row.at_least is not None:
        bar = f"at least {row.at_least:g}"
    elif row.at_most is not None:
        bar = f"at most {_amount(row.at_most, row.unit) if row.score_unit == row.unit else format(row.at_most, 'g')}"
    met = {True: "yes", False: "NO", None: ""}[row.met]
    return [row.case, row.what, _amount(row.ours, row.unit), peer, _amount(row.score, row.score_unit), bar, met]


def _amount(value: float, unit: str) -> str:
    return as_size(round(value)) if unit == "B" else f"{value:.3g} {unit}".rstrip()
