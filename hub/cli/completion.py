"""`skerry completion`: the script that makes a shell complete commands and options."""

from __future__ import annotations

import os
from typing import Annotated, Literal

import typer

from hub.cli.session import Session, command

__all__ = ["add_completion"]

ShellArgument = Annotated[Literal["bash", "zsh", "fish"], typer.Argument(help="Your shell.")]
_VARIABLE = "_SKERRY_COMPLETE"


def add_completion(app: typer.Typer) -> None:
    """Register the command on the root, whose commands it completes."""

    @command(
        app,
        "completion",
        examples=["skerry completion bash > ~/.local/share/bash-completion/completions/skerry"],
        local=True,
    )
    def completion(session: Session, shell: ShellArgument) -> None:
        """Print the completion script for a shell."""
        os.environ[_VARIABLE] = f"source_{shell}"
        try:
            app(args=[], prog_name="skerry", complete_var=_VARIABLE)
        finally:
            del os.environ[_VARIABLE]
