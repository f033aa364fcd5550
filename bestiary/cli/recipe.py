"""The options that all scripts of fine-tuning share: a field of `Recipe` each, and where data comes from and the model goes."""

from __future__ import annotations

import functools
import json
import sys
import typing
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import click

from bestiary.cli.session import Session, shared_options, trust_options
from bestiary.core.tuning.recipe import Recipe
from bestiary.errors import InputError


def finetuning_options(**defaults: Any) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """For a command that is given its `Request` first, and then the options of its own.

    `defaults` are those of the task, where they differ from the recipe's own.
    """

    def decorate(run: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(run)
        def collected(session: Session, /, **given: Any) -> None:
            from bestiary.finetuned import Request  # imports torch

            recipe = Recipe(**{field.name: given.pop(field.name) for field in fields(Recipe)})
            trusted = {name: given.pop(name) for name in ("trust", "lock", "accept_license")}
            trusted |= {"offline": session.offline or None, "home": session.home}
            model, data, resume = (given.pop(name) for name in ("model", "data", "resume"))
            output = given.pop("output") or Path(f"{model.rstrip('/').rpartition('/')[2]}-{_word(data)}")
            asked = Request(
                model=model, data=data, output=output, resume=resume, recipe=recipe, trusted=trusted, command=_command()
            )
            run(asked, **given)

        wrapped: Callable[..., None] = click.pass_obj(collected)
        for option in reversed([*_own(), *_of_recipe(defaults)]):
            wrapped = option(wrapped)
        return shared_options(trust_options(wrapped))

    return decorate


def _own() -> list[Callable[[Any], Any]]:
    return [
        click.argument("model"),
        click.option("--data", required=True, metavar="PATH|NAME", help="A folder or file of data, or the name of a data set."),
        click.option(
            "-o", "--output", type=click.Path(file_okay=False, path_type=Path), metavar="FOLDER",
            help="The folder for the model and its run; by default named after model and data.",
        ),
        click.option("--resume", is_flag=True, help="Go on with the run in that folder, which was stopped."),
    ]  # fmt: skip


def _of_recipe(defaults: dict[str, Any]) -> list[Callable[[Any], Any]]:
    kinds = {name: typing.get_args(kind) for name, kind in typing.get_type_hints(Recipe, include_extras=True).items()}
    options = []
    for field in fields(Recipe):
        kind, meaning = kinds[field.name]
        choices = typing.get_args(kind)
        options.append(
            click.option(
                f"--{field.name.replace('_', '-')}",
                type=click.Choice(choices) if choices else kind,
                default=defaults.get(field.name, field.default),
                show_default=True,
                help=f"{meaning[0].upper()}{meaning[1:]}.",
            )
        )
    return options


def config_of(context: Any, option: Any, pairs: tuple[str, ...]) -> dict[str, Any]:
    """What an option says that is given as FIELD=VALUE any number of times; values are numbers where they can be.

    >>> config_of(None, None, ("layers=4", "activation=gelu"))
    {'layers': 4, 'activation': 'gelu'}
    """
    config = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals:
            raise InputError(f"{pair!r} sets nothing\nsay which field of the config is what: layers=4")
        try:
            config[name] = json.loads(value)
        except ValueError:
            config[name] = value
    return config


def _word(data: str) -> str:
    return Path(data.removeprefix("hf:")).stem or "tuned"


def _command() -> list[str]:
    """The command line as it was typed, with the program by its name."""
    return [Path(sys.argv[0]).name, *sys.argv[1:]]
