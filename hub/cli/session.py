"""What every command has: `--json`, `--hub`, `--token`, `--ca`, one client, one output, one way to fail.

A command is a function whose first parameter is a `Session`; `command` registers it with the common options and turns
its errors into messages and exit codes (`shared.errors.EXIT_CODES`; Ctrl-C is 130). A parameter that is a dataclass
stands for a group of options, one per field.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import os
import sys
import time
import typing
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Annotated, Any, Concatenate, ParamSpec

import typer

from hub.cli.config import Connection, config_path, load_config, resolve
from hub.cli.output import Output
from shared.errors import InvalidInput, SkerryError

if TYPE_CHECKING:
    from hub.cli.client import HubClient

__all__ = ["Session", "command", "new_group"]

P = ParamSpec("P")
INTERRUPTED = 130
_PANEL = "Common"

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for programs.", rich_help_panel=_PANEL)]
HubOption = Annotated[
    str | None, typer.Option("--hub", help="Address or saved name of the hub.", metavar="HUB", rich_help_panel=_PANEL)
]
TokenOption = Annotated[
    str | None,
    typer.Option("--token", help="API token; better in SKERRY_TOKEN.", metavar="TOKEN", rich_help_panel=_PANEL),
]
CaOption = Annotated[
    Path | None,
    typer.Option("--ca", help="File with the hub's CA certificate.", metavar="FILE", rich_help_panel=_PANEL),
]
_LOCAL = {"json_output": JsonOption}
_COMMON = {**_LOCAL, "hub_option": HubOption, "token_option": TokenOption, "ca_option": CaOption}


class Session:
    """One run of one command: where to print and how to reach the hub."""

    def __init__(
        self, *, as_json: bool = False, hub: str | None = None, token: str | None = None, ca: Path | None = None
    ) -> None:
        self.out = Output(as_json=as_json)
        self._options = (hub, token, ca)
        self._client: HubClient | None = None

    @property
    def client(self) -> HubClient:
        """The client for the hub in use, made when it is first needed."""
        if self._client is None:
            from hub.cli.client import HubClient

            self._client = HubClient(self.connection())
        return self._client

    def connection(self) -> Connection:
        """Address, token and CA in use; errors `cli.*`."""
        config = load_config(config_path(os.environ))
        return resolve(*self._options, config=config, environ=os.environ)

    def now(self) -> float:
        """Seconds since 1970."""
        return time.time()

    def confirm(self, question: str, *, yes: bool) -> None:
        """Return when the person agrees (or said `--yes`); else `cli.not_confirmed`."""
        if yes:
            return
        if not sys.stdin.isatty():
            raise InvalidInput(
                "cli.not_confirmed", f"{question} Nobody is there to answer.", hint="Add --yes to agree."
            )
        if not typer.confirm(question, default=False, err=True):
            raise InvalidInput("cli.not_confirmed", "Nothing was changed.")

    def __enter__(self) -> Session:
        return self

    def __exit__(self, _kind: type[BaseException] | None, _e: BaseException | None, _t: TracebackType | None) -> None:
        if self._client is not None:
            self._client.close()


def new_group(name: str, summary: str) -> typer.Typer:
    """An empty group of commands such as `skerry devices`."""
    return typer.Typer(name=name, help=summary, no_args_is_help=True, rich_markup_mode="rich", add_completion=False)


def command(
    app: typer.Typer, name: str, *, examples: Sequence[str] = (), local: bool = False
) -> Callable[[Callable[Concatenate[Session, P], None]], Callable[Concatenate[Session, P], None]]:
    """Register a function as the command `name` of `app`.

    examples: command lines for its help. local: the command talks to no hub, so it has `--json` only.
    """

    def register(function: Callable[Concatenate[Session, P], None]) -> Callable[Concatenate[Session, P], None]:
        common = _LOCAL if local else _COMMON

        groups = _groups(function)

        def run(**values: Any) -> None:
            given = {key: values.pop(key) for key in common}
            for name, kind in groups.items():
                values[name] = kind(**{field.name: values.pop(field.name) for field in dataclasses.fields(kind)})
            _run(functools.partial(function, **values), given)

        _dress(run, function, common)
        app.command(name, epilog=_epilog(examples))(run)
        return function

    return register


def _run(action: Callable[[Session], None], given: dict[str, Any]) -> None:
    as_json = given["json_output"]
    try:
        with Session(
            as_json=as_json, hub=given.get("hub_option"), token=given.get("token_option"), ca=given.get("ca_option")
        ) as session:
            action(session)
    except SkerryError as error:
        raise typer.Exit(Output(as_json=as_json).error(error)) from error
    except KeyboardInterrupt as error:
        raise typer.Exit(INTERRUPTED) from error
    except BrokenPipeError as error:  # the reader of our output has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(0) from error


def _groups(function: Callable[..., None]) -> dict[str, Any]:
    """The parameters of a command that are dataclasses: each stands for one option per field."""
    hints = typing.get_type_hints(function)
    return {name: kind for name, kind in hints.items() if name != "return" and dataclasses.is_dataclass(kind)}


def _parameters(function: Callable[..., None]) -> Iterator[inspect.Parameter]:
    """What the command line may give to a command: its parameters but the session, groups taken apart."""
    hints = typing.get_type_hints(function, include_extras=True)
    groups = _groups(function)
    for item in list(inspect.signature(function).parameters.values())[1:]:
        if item.name not in groups:
            yield item.replace(annotation=hints[item.name], kind=inspect.Parameter.KEYWORD_ONLY)
            continue
        kinds = typing.get_type_hints(groups[item.name], include_extras=True)
        for field in dataclasses.fields(groups[item.name]):
            default = inspect.Parameter.empty if field.default is dataclasses.MISSING else field.default
            yield inspect.Parameter(
                field.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=kinds[field.name]
            )


def _dress(run: Callable[..., None], function: Callable[..., None], common: dict[str, Any]) -> None:
    """Give `run` the name, help and parameters of `function`, and the common options."""
    parameters = list(_parameters(function))
    for key, kind in common.items():
        default = False if key == "json_output" else None
        parameters.append(inspect.Parameter(key, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=kind))
    run.__name__, run.__doc__ = function.__name__, function.__doc__
    run.__annotations__ = {item.name: item.annotation for item in parameters} | {"return": None}
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]


def _epilog(examples: Sequence[str]) -> str | None:
    """Examples as typer shows them: one paragraph each, with what could be read as markup made harmless."""
    if not examples:
        return None
    lines = [f"[dim]$[/dim] {example.replace('[', chr(92) + '[')}" for example in examples]
    return "\n\n".join(["[bold]Examples[/bold]", *lines])
