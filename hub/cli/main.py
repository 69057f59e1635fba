"""`skerry`: the commands put together. Imports stay light, so that help and completion answer at once."""

from __future__ import annotations

import typer

from hub.cli import completion, config_commands, devices, profiles

__all__ = ["app", "main"]

app = typer.Typer(
    name="skerry",
    help="Deploy models to a fleet of edge devices and watch them there.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for group in (devices, profiles, config_commands):
    app.add_typer(group.app)
completion.add_completion(app)


def main() -> None:
    """The console script."""
    app()
