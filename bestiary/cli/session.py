"""What one call of the command line knows: its shared options, and what they lead to."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from bestiary.errors import BestiaryError, UnknownDataset, UnknownModel

if TYPE_CHECKING:
    from bestiary.hub.card import Card
    from bestiary.hub.progress import Progress
    from bestiary.hub.records import DatasetCard
    from bestiary.hub.registry import Datasets, Registry
    from bestiary.hub.settings import Settings
    from bestiary.hub.store import Store

Command = TypeVar("Command", bound=Callable[..., Any])


@dataclass
class Session:
    """The shared options as given, and the settings, registry and store that follow from them, each made when first used."""

    debug: bool = False
    quiet: bool = False
    json: bool = False
    offline: bool = False
    home: Path | None = None

    @cached_property
    def settings(self) -> Settings:
        from bestiary.hub.settings import Settings

        return Settings.read(home=self.home, offline=self.offline or None)

    @cached_property
    def registry(self) -> Registry:
        from bestiary.hub.registry import Registry

        return Registry.standard(self.settings)

    @cached_property
    def datasets(self) -> Datasets:
        from bestiary.hub.registry import Datasets

        return Datasets.standard(self.settings)

    def card(self, name: str) -> Card | DatasetCard:
        """The card of the model of that name or, where there is none, of the data set. Raises as for a model."""
        try:
            return self.registry.card(name)
        except UnknownModel as error:
            try:
                return self.datasets.card(name)
            except UnknownDataset:
                raise error from None

    @cached_property
    def store(self) -> Store:
        from bestiary.hub.store import Store

        return Store(self.settings.home)

    @property
    def progress(self) -> Progress:
        """A bar on a terminal's stderr, unless quiet was asked for."""
        from bestiary.hub.progress import Silent, standard_progress

        return Silent() if self.quiet else standard_progress()

    @contextmanager
    def hashing(self, name: str, size: int | None) -> Iterator[None]:
        """Show that a file is being read, which for a large one takes seconds."""
        progress = self.progress
        progress.begin(name, size)
        try:
            yield
        finally:
            progress.end()


def _remember(context: click.Context, parameter: click.Parameter, value: Any) -> None:
    session = context.ensure_object(Session)
    if value:
        assert parameter.name is not None
        setattr(session, parameter.name, value)


_OPTIONS = (
    click.option("--json", is_flag=True, expose_value=False, callback=_remember, help="Print JSON with raw numbers."),
    click.option("-q", "--quiet", is_flag=True, expose_value=False, callback=_remember, help="Names only; no progress."),
    click.option("--offline", is_flag=True, expose_value=False, callback=_remember, help="Use no network."),
    click.option(
        "--home", type=click.Path(file_okay=False, path_type=Path), expose_value=False, callback=_remember, metavar="FOLDER",
        help="The store to use, in place of BESTIARY_HOME.",
    ),
    click.option("--debug", is_flag=True, expose_value=False, callback=_remember, help="Print the traceback of an error."),
)  # fmt: skip


def shared_options(command: Command) -> Command:
    """The options that stand before a verb or after it, as people happen to type them; both write into the session."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def trust_options(command: Command) -> Command:
    """The options of a verb that may have to be told what a person agrees to."""
    options = (
        click.option("--trust", type=click.Choice(["first-use"]), help="Take files that nothing pins yet, and pin what came."),
        click.option("--lock", default="bestiary.lock", show_default=True, metavar="FILE", help="The lock file."),
        click.option("--accept-license", is_flag=True, help="Accept the licence of a model that asks for it."),
    )
    for option in reversed(options):
        command = option(command)
    return command


def complete_name(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """Card names that begin with `incomplete`, for a shell."""
    try:
        names = context.ensure_object(Session).registry.names()
    except BestiaryError:  # the verb itself will report it; a shell that completes has nowhere to print
        return []
    return [name for name in names if name.startswith(incomplete)]
