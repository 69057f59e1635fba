"""Looking at something on the hub until it ends: a live picture on a terminal, else a line for each change.

What is looked at says how (`Watched`); a hub that is away for a while is waited for.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Protocol

import typer

from hub.cli.session import Session
from hub.cli.text import parse_duration, when
from shared.errors import Unavailable

__all__ = ["IntervalOption", "Json", "Look", "TimeoutOption", "Watched", "follow", "not_in_time"]

IntervalOption = Annotated[float, typer.Option("--interval", min=0.1, help="Seconds between two looks.")]
TimeoutOption = Annotated[str | None, typer.Option("--timeout", help="Look no longer than this, like 2h.")]
Json = Mapping[str, Any]


@dataclass(slots=True)
class Look:
    """What was seen last: the thing, and what happened to it. `trouble`: why the hub could not be asked just now."""

    thing: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    tag: str | None = None
    trouble: str = ""


class Watched(Protocol):
    """Something with an ETag at `path`, whose `changes` grow. `noun`: what it is; `key`: of its history in `--json`."""

    path: str
    noun: str
    key: str

    def history(self, session: Session) -> list[dict[str, Any]]:
        """What happened to it, from the hub."""
        ...

    def over(self, thing: Json) -> bool:
        """Whether there is nothing more to wait for."""
        ...

    def views(self, look: Look, now: float) -> Sequence[Any]:
        """The picture."""
        ...

    def news(self, look: Look, now: float) -> Iterable[tuple[float, str]]:
        """What is new since the last call: when, and a line."""
        ...


def follow(session: Session, watched: Watched, *, interval_s: float, timeout: str | None) -> dict[str, Any]:
    """Look again and again until it is over or the time is; what was seen last."""
    end = None if timeout is None else time.monotonic() + parse_duration(timeout)
    if session.out.as_json or not sys.stdout.isatty():
        return _until_over(session, watched, interval_s, end, _Lines(session, watched).show).thing
    seen = _live(session, watched, interval_s, end)
    session.out.result(seen.thing, *watched.views(seen, session.now()))
    return seen.thing


def not_in_time(noun: str, so_far: str, command: str, detail: Json) -> Unavailable:
    """The error `cli.wait_timeout`."""
    return Unavailable(
        "cli.wait_timeout",
        f"The time was not enough; the {noun} goes on: {so_far}.",
        hint=f"Look again with `{command}`.",
        retriable=True,
        detail=dict(detail),
    )


def _until_over(
    session: Session, watched: Watched, interval_s: float, end: float | None, show: Callable[[Look], object]
) -> Look:
    look = Look()
    while True:
        _ask(session, watched, look)
        show(look)
        if watched.over(look.thing) or (end is not None and time.monotonic() + interval_s > end):
            return look
        time.sleep(interval_s)


def _ask(session: Session, watched: Watched, look: Look) -> None:
    try:
        found, tag = session.client.get_changed(watched.path, look.tag)
        if found is not None:
            look.history = watched.history(session)
            look.thing, look.tag = found, tag
        look.trouble = ""
    except Unavailable as error:
        if not look.thing:
            raise
        look.trouble = error.message


def _live(session: Session, watched: Watched, interval_s: float, end: float | None) -> Look:
    from rich.console import Group
    from rich.live import Live
    from rich.text import Text

    with Live(screen=True, auto_refresh=False) as live:

        def show(look: Look) -> None:
            hint = f"Ctrl-C ends looking; the {watched.noun} goes on."
            said = Text(look.trouble or hint, "red" if look.trouble else "dim")
            live.update(Group(*watched.views(look, session.now()), said), refresh=True)

        return _until_over(session, watched, interval_s, end, show)


class _Lines:
    """Prints what is new; with `--json` each new answer."""

    def __init__(self, session: Session, watched: Watched) -> None:
        self._session = session
        self._watched = watched
        self._trouble = ""
        self._changes: object = None

    def show(self, look: Look) -> None:
        """Print what is new since the last call."""
        if look.trouble and look.trouble != self._trouble:
            self._session.out.warn(look.trouble)
        self._trouble = look.trouble
        if look.trouble:
            return
        if self._session.out.as_json:
            if look.thing["changes"] != self._changes:
                self._changes = look.thing["changes"]
                print(json.dumps({**look.thing, self._watched.key: look.history}), flush=True)
            return
        for at, text in self._watched.news(look, self._session.now()):
            self._session.out.result(None, f"{when(at)}  {text}")
            sys.stdout.flush()
