"""`bwn completion`: a script that completes commands, options, choices and paths in a shell."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

SHELLS = ("bash", "zsh", "fish")


@click.command(no_args_is_help=True)
@click.argument("shell", type=click.Choice(SHELLS))
def command(shell: str) -> None:
    """Print a script that completes commands, options, choices and paths in SHELL.

    Load it when a shell starts:

    \b
    bash   echo 'eval "$(bwn completion bash)"' >> ~/.bashrc
    zsh    echo 'eval "$(bwn completion zsh)"' >> ~/.zshrc
    fish   bwn completion fish > ~/.config/fish/completions/bwn.fish

    bash must be 4.4 or newer; that of macOS is older.
    """
    kind = get_completion_class(shell)
    assert kind is not None, shell
    root = click.get_current_context().find_root()
    click.echo(kind(root.command, {}, "bwn", "_BWN_COMPLETE").source())
