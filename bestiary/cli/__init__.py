"""The command line: data on stdout, everything else on stderr, one exit code for each kind of error.

A verb's module is imported when the verb is called and not before, and none of them imports torch until a net has to run.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib import import_module

import click

from bestiary.cli.session import Session, shared_options
from bestiary.errors import BestiaryError

INTERRUPTED = 130  # what a shell reports for a program that Ctrl-C ended

VERBS = {
    "ls": ("bestiary.cli.listing", "list the models there are"),
    "search": ("bestiary.cli.listing", "find models by words"),
    "show": ("bestiary.cli.listing", "show a model's card"),
    "pull": ("bestiary.cli.pull", "download and verify models"),
    "run": ("bestiary.cli.run", "run a model on inputs"),
    "map": ("bestiary.cli.map", "run a model on a folder or table of inputs"),
    "finetune": ("bestiary.cli.finetune", "tune a model on data of your own"),
    "evaluate": ("bestiary.scripts.evaluate", "measure how well a model does on labelled data"),
    "export": ("bestiary.cli.export", "write a model for other programs: ONNX, GGUF and more"),
    "verify": ("bestiary.cli.verify", "hash the files of models again"),
    "cache": ("bestiary.cli.cache", "look after the store of downloaded files"),
    "benchmark": ("bestiary.cli.benchmark", "time this project against its peers"),
    "completion": ("bestiary.cli.completion", "print a shell's completion script"),
}


class LazyGroup(click.Group):
    """A group that imports the module of a verb when that verb is asked for; its help needs none of them."""

    def list_commands(self, context: click.Context) -> list[str]:
        return list(VERBS)

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        if name not in VERBS:
            return None
        module, _ = VERBS[name]
        command: click.Command = getattr(import_module(module), name)
        return command

    def format_commands(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Verbs"):
            formatter.write_dl([(name, summary) for name, (_, summary) in VERBS.items()])


def _print_version(context: click.Context, parameter: click.Parameter, wanted: bool) -> None:
    if wanted:
        from bestiary import __version__

        click.echo(f"bestiary {__version__}")
        context.exit()


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--version", is_flag=True, is_eager=True, expose_value=False, callback=_print_version, help="Print the version.")
@shared_options
def group() -> None:
    """A model zoo on PyTorch: every model is one card, every file is verified."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line of `bestiary` (default: that of this process) and return its exit code."""
    return run_command(group, arguments, "bestiary")


def run_command(command: click.Command, arguments: Sequence[str] | None = None, name: str | None = None) -> int:
    """Run a command, that of a script for example, and return its exit code; `name` is what its help calls it.

    An error of the family prints its message alone, at most three lines, and gives its `exit_code`; wrong usage gives 2,
    Ctrl-C 130. A reader that closes the pipe early (`bestiary ls | head -1`) is no error to talk about.
    """
    session = Session()
    try:
        code = command.main(arguments, prog_name=name, standalone_mode=False, obj=session)
        sys.stdout.flush()
    except click.Abort:
        return INTERRUPTED
    except click.ClickException as error:
        _complain(error.format_message() + _pointer_to_help(error))
        return error.exit_code
    except BestiaryError as error:
        _complain(_traceback(error) if session.debug else str(error))
        return error.exit_code
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the interpreter flushes once more on its way out
        return 1
    return code if isinstance(code, int) else 0


def _complain(message: str) -> None:
    from bestiary.cli.output import clean

    click.echo(f"error: {clean(message)}", err=True)


def _traceback(error: BestiaryError) -> str:
    import traceback

    return "".join(traceback.format_exception(error))


def _pointer_to_help(error: click.ClickException) -> str:
    if isinstance(error, click.UsageError) and error.ctx is not None:
        return f"\ntry '{error.ctx.command_path} --help'"
    return ""
