"""`bestiary completion`: the script that teaches a shell to complete verbs, options and card names."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the completion script of SHELL.

    \b
    bash:  eval "$(bestiary completion bash)"      in ~/.bashrc
    zsh:   eval "$(bestiary completion zsh)"       in ~/.zshrc
    fish:  bestiary completion fish | source       in ~/.config/fish/config.fish
    """
    from bestiary.cli import group

    completer = get_completion_class(shell)
    assert completer is not None  # Choice admits only the shells that click knows
    click.echo(completer(group, {}, "bestiary", "_BESTIARY_COMPLETE").source())
