"""Looking at a federated run until it ends: a live picture on a terminal, else a line for each round and each state.

A hub that is away for a while is waited for. The end decides the exit code: 0 when the run finished, 5 when not, 7 when
the time was not enough.
"""

from __future__ import annotations

import functools
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from hub.cli.federated_view import ENDED, reason, round_line, run_views
from hub.cli.session import Session
from hub.cli.text import parse_duration, when
from shared.errors import Conflict, Unavailable

__all__ = ["all_rounds", "watch"]

_SHOWN_ROUNDS_COUNT = 15
Json = Mapping[str, Any]


@dataclass(slots=True)
class _Look:
    """What was seen last. `trouble`: why the hub could not be asked just now."""

    run: dict[str, Any] = field(default_factory=dict)
    rounds: list[dict[str, Any]] = field(default_factory=list)
    tag: str | None = None
    trouble: str = ""


def all_rounds(session: Session, run_id: str) -> list[dict[str, Any]]:
    """All attempts at rounds, oldest first."""
    return list(session.client.pages(f"/v1/federated/runs/{run_id}/rounds"))


def watch(session: Session, run_id: str, *, interval_s: float = 1.0, timeout: str | None = None) -> None:
    """Look until it ends; errors `federated.not_finished`, `cli.wait_timeout`."""
    end = None if timeout is None else time.monotonic() + parse_duration(timeout)
    follow = functools.partial(_follow, session, run_id, interval_s, end)
    if session.out.as_json or not sys.stdout.isatty():
        seen = follow(_Lines(session).show)
    else:
        seen = _live(session, follow)
        session.out.result(seen.run, *run_views(seen.run, seen.rounds[-_SHOWN_ROUNDS_COUNT:], session.now()))
    _judge(seen.run)


def _follow(
    session: Session, run_id: str, interval_s: float, end: float | None, show: Callable[[_Look], object]
) -> _Look:
    """Look again and again, until nothing more is to be seen or the time is over."""
    look = _Look()
    while True:
        _ask(session, run_id, look)
        show(look)
        if look.run["state"] in ENDED or (end is not None and time.monotonic() + interval_s > end):
            return look
        time.sleep(interval_s)


def _ask(session: Session, run_id: str, look: _Look) -> None:
    try:
        found, tag = session.client.get_changed(f"/v1/federated/runs/{run_id}", look.tag)
        if found is not None:
            look.rounds = all_rounds(session, run_id)
            look.run, look.tag = found, tag
        look.trouble = ""
    except Unavailable as error:
        if not look.run:
            raise
        look.trouble = error.message


def _judge(run: Json) -> None:
    if run["state"] == "finished":
        return
    detail = {"state": run["state"], "run_id": run["run_id"], "code": run["code"]}
    if run["state"] in ENDED:
        why = reason(run)
        raise Conflict(
            "federated.not_finished",
            f"The run was cancelled after {run['round_no']} of {run['rounds']} rounds." if run["state"] == "cancelled"
            else f"The run failed: {why}",
            hint=f"`skerry federated resume {run['run_id']}` goes on from its last complete round.",
            detail=detail,
        )  # fmt: skip
    raise Unavailable(
        "cli.wait_timeout",
        f"The time was not enough; the run goes on: {run['round_no']} of {run['rounds']} rounds.",
        hint=f"Look again with `skerry federated watch {run['run_id']}`.",
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
            said = Text(look.trouble or "Ctrl-C ends looking; the run goes on.", "red" if look.trouble else "dim")
            parts: Sequence[Any] = list(run_views(look.run, look.rounds[-_SHOWN_ROUNDS_COUNT:], session.now()))
            live.update(Group(*parts, said), refresh=True)

        return follow(show)


# --- lines for a log --------------------------------------------------------------------------------------------------
class _Lines:
    """Prints what is new: each round once, and the state when it changed; with `--json` each new answer."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._state = ""
        self._trouble = ""
        self._attempt = 0
        self._changes: object = None

    def show(self, look: _Look) -> None:
        """Print what is new since the last call."""
        if look.trouble and look.trouble != self._trouble:
            self._session.out.warn(look.trouble)
        self._trouble = look.trouble
        if look.trouble:
            return
        if self._session.out.as_json:
            if look.run["changes"] != self._changes:
                self._changes = look.run["changes"]
                print(json.dumps({**look.run, "history": look.rounds}), flush=True)
        else:
            self._print(look)

    def _print(self, look: _Look) -> None:
        for made in look.rounds:
            if made["attempt"] > self._attempt:
                self._attempt = made["attempt"]
                self._say(when(made["at_s"]), round_line(made))
        if look.run["state"] != self._state:
            self._state = look.run["state"]
            why = reason(look.run) if self._state in ENDED else ""
            self._say(when(self._session.now()), self._state.replace("_", " ") + (f": {why}" if why else ""))

    def _say(self, at: str, text: str) -> None:
        self._session.out.result(None, f"{at}  {text}")
        sys.stdout.flush()
