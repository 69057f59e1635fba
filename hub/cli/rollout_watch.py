"""Looking at a rollout until it ends: a live picture on a terminal, else a line for each change.

A hub that is away for a while is waited for. The end decides the exit code: 0 when all waves passed, 5 when not, 7
when the time was not enough.
"""

from __future__ import annotations

import functools
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

import typer

from hub.cli.rollout_view import ENDED, GOOD_ENDS, rollout_views, summary_line
from hub.cli.session import Session
from hub.cli.text import parse_duration, when
from shared.errors import Conflict, Unavailable

__all__ = ["IntervalOption", "TimeoutOption", "watch"]

IntervalOption = Annotated[float, typer.Option("--interval", min=0.1, help="Seconds between two looks.")]
TimeoutOption = Annotated[str | None, typer.Option("--timeout", help="Look no longer than this, like 2h.")]
_EVENTS_COUNT = 20
_SHOWN_EVENTS_COUNT = 5
Json = Mapping[str, Any]


@dataclass(slots=True)
class _Look:
    """What was seen last. `trouble`: why the hub could not be asked just now."""

    rollout: dict[str, Any] = field(default_factory=dict)
    events: list[dict[str, Any]] = field(default_factory=list)
    tag: str | None = None
    trouble: str = ""


def watch(
    session: Session,
    rollout_id: str,
    *,
    interval_s: float = 1.0,
    timeout: str | None = None,
    fail_on_pause: bool = False,
) -> None:
    """Look until it ends; errors `rollout.not_succeeded`, `rollout.paused`, `cli.wait_timeout`."""
    end = None if timeout is None else time.monotonic() + parse_duration(timeout)
    follow = functools.partial(_follow, session, rollout_id, interval_s, end, fail_on_pause)
    if session.out.as_json or not sys.stdout.isatty():
        seen = follow(_Lines(session).show)
    else:
        seen = _live(session, follow)
        session.out.result(seen.rollout, *rollout_views(seen.rollout, seen.events[:_SHOWN_EVENTS_COUNT], session.now()))
    _judge(seen.rollout, fail_on_pause=fail_on_pause)


def _follow(
    session: Session,
    rollout_id: str,
    interval_s: float,
    end: float | None,
    fail_on_pause: bool,
    show: Callable[[_Look], object],
) -> _Look:
    """Look again and again, until nothing more is to be seen or the time is over."""
    look = _Look()
    while True:
        _ask(session, f"/v1/rollouts/{rollout_id}", look)
        show(look)
        status = look.rollout["status"]
        if status in ENDED or (fail_on_pause and status == "paused"):
            return look
        if end is not None and time.monotonic() + interval_s > end:
            return look
        time.sleep(interval_s)


def _ask(session: Session, path: str, look: _Look) -> None:
    try:
        found, tag = session.client.get_changed(path, look.tag)
        if found is not None:
            look.events = list(session.client.pages(f"{path}/events", limit=_EVENTS_COUNT))
            look.rollout, look.tag = found, tag
        look.trouble = ""
    except Unavailable as error:
        if not look.rollout:
            raise
        look.trouble = error.message


def _judge(rollout: Json, *, fail_on_pause: bool) -> None:
    status, reason = rollout["status"], rollout["reason"]
    why = f": {reason['message']}" if reason else "."
    if status in GOOD_ENDS:
        return
    detail = {"status": status, "rollout_id": rollout["rollout_id"]}
    if status in ENDED:
        raise Conflict("rollout.not_succeeded", f"The rollout was {status.replace('_', ' ')}{why}", detail=detail)
    if fail_on_pause and status == "paused":
        raise Conflict(
            "rollout.paused", f"The rollout is paused{why}", hint="Resume, abort or roll it back.", detail=detail
        )
    raise Unavailable(
        "cli.wait_timeout",
        f"The time was not enough; the rollout goes on: {summary_line(rollout)}.",
        hint=f"Look again with `skerry rollout watch {rollout['rollout_id']}`.",
        retriable=True,
        detail=detail,
    )


# --- a picture on a terminal ------------------------------------------------------------------------------------------
def _live(session: Session, follow: Callable[[Callable[[_Look], object]], _Look]) -> _Look:
    from rich.console import Group
    from rich.live import Live
    from rich.text import Text

    with Live(screen=True, auto_refresh=False) as live:

        def show(look: _Look) -> None:
            said = Text(look.trouble or "Ctrl-C ends looking; the rollout goes on.", "red" if look.trouble else "dim")
            parts: Sequence[Any] = list(
                rollout_views(look.rollout, look.events[:_SHOWN_EVENTS_COUNT], session.now())
            )
            live.update(Group(*parts, said), refresh=True)

        return follow(show)


# --- lines for a log --------------------------------------------------------------------------------------------------
class _Lines:
    """Prints what is new: each event once, and the line of numbers when it changed; with `--json` each new answer."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._line = ""
        self._trouble = ""
        self._event_no = -1
        self._changes: object = None

    def show(self, look: _Look) -> None:
        """Print what is new since the last call."""
        if look.trouble and look.trouble != self._trouble:
            self._session.out.warn(look.trouble)
        self._trouble = look.trouble
        if look.trouble:
            return
        if self._session.out.as_json:
            if look.rollout["changes"] != self._changes:
                self._changes = look.rollout["changes"]
                print(json.dumps({**look.rollout, "events": look.events}), flush=True)
        else:
            self._print(look)

    def _print(self, look: _Look) -> None:
        groups = look.rollout["groups"]
        for event in reversed(look.events):
            if event["event_no"] > self._event_no:
                self._event_no = event["event_no"]
                wave = "" if event["group_no"] is None else f" {groups[event['group_no']]['name']}"
                what = event["kind"].replace("_", " ")
                self._say(when(event["at_s"]), f"{what}{wave}: {event['message']}")
        line = summary_line(look.rollout)
        if line != self._line:
            self._line = line
            self._say(when(self._session.now()), line)

    def _say(self, at: str, text: str) -> None:
        self._session.out.result(None, f"{at}  {text}")
        sys.stdout.flush()
