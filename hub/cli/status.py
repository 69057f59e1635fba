"""`skerry status`: the fleet at a glance, once or as it changes."""

from __future__ import annotations

import functools
import json
import sys
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hub.cli.output import fields_table, rows_table
from hub.cli.session import Session, command
from hub.cli.text import ago, parse_duration, percent, when
from shared.errors import Conflict, InvalidInput, Unavailable

if TYPE_CHECKING:
    from rich.console import Group

__all__ = ["add_status", "problems"]

WatchOption = Annotated[bool, typer.Option("--watch", "-w", help="Stay and show changes; Ctrl-C ends.")]
IntervalOption = Annotated[float, typer.Option("--interval", min=0.1, help="Seconds between two looks.")]
LengthOption = Annotated[str | None, typer.Option("--for", help="Watch no longer than this, like 30s.")]
FailOption = Annotated[bool, typer.Option("--fail-on-unhealthy", help="Exit code 5 when something is wrong.")]


def add_status(root: typer.Typer) -> None:
    """Register `skerry status` on the root."""

    @command(
        root, "status", examples=["skerry status", "skerry status --watch", "skerry status --fail-on-unhealthy --json"]
    )
    def status(
        session: Session,
        watch: WatchOption = False,
        interval: IntervalOption = 2.0,
        length: LengthOption = None,
        fail: FailOption = False,
    ) -> None:
        """Show the fleet: who is there, what serves where, what fails and why.

        Unhealthy is: a device that is offline, an install that failed, or a prediction that failed.
        """
        if watch:
            if fail:
                raise InvalidInput("cli.contradiction", "Give --watch or --fail-on-unhealthy, not both.")
            end = None if length is None else time.monotonic() + parse_duration(length)
            _watch(session, interval, end)
            return
        found = session.client.get("/v1/status")
        session.out.result(found, lambda: view(found))
        wrong = problems(found)
        if fail and wrong:
            raise Conflict("status.unhealthy", f"The fleet is not healthy: {'; '.join(wrong)}.")


def problems(status: Mapping[str, Any]) -> list[str]:
    """What is wrong with the fleet, one sentence part each; empty: nothing."""
    found: list[str] = []
    offline = status["devices"]["offline"]
    if offline:
        found.append(f"{offline} offline")
    failed = sum(item["devices"] for item in status["failures"])
    if failed:
        found.append(f"{failed} failed installs")
    if status["errors"]:
        found.append(f"{status['errors']} failed predictions")
    return found


def view(status: Mapping[str, Any]) -> Group:
    """The whole status for people."""
    from rich.console import Group

    now = status["at_s"]
    devices = status["devices"]
    wrong = problems(status)
    parts: list[Any] = [
        fields_table(
            [
                ("fleet", "; ".join(wrong) if wrong else "healthy"),
                ("at", when(now)),
                ("devices", f"{devices['active']} active, {devices['revoked']} revoked"),
                ("online", f"{devices['online']} ({percent(devices['online'], devices['active'])})"),
                ("offline", f"{devices['offline']}, never seen {devices['never_seen']}"),
                ("requests", f"{status['requests']}, failed {status['errors']}"),
            ]
        )
    ]
    for title, key, columns, row in _TABLES:
        if status[key]:
            parts.append(rows_table(columns, [row(item, now) for item in status[key]], title=title))
    return Group(*parts)


def _version_row(item: Mapping[str, Any], _now: float) -> tuple[object, ...]:
    return (
        item["model"],
        "none yet" if item["version"] is None else str(item["version"]),
        item["devices"],
        item["installing"],
        item["requests"],
        item["errors"],
        f"{item['latency_p99_us'] / 1000:.2f} ms",
    )


def _profile_row(item: Mapping[str, Any], _now: float) -> tuple[object, ...]:
    return (item["profile"], item["devices"], item["online"])


def _failure_row(item: Mapping[str, Any], _now: float) -> tuple[object, ...]:
    what = (item["model"], str(item["version"]), item["devices"], item["reason_code"])
    return (*what, item["device_id"], item["reason"])


def _deployment_row(item: Mapping[str, Any], now: float) -> tuple[object, ...]:
    what = (item["deployment_id"], item["model"], str(item["version"]))
    return (*what, item["devices"], item["created_by"], ago(item["created_s"], now))


_TABLES: tuple[tuple[str, str, tuple[str, ...], Callable[[Mapping[str, Any], float], tuple[object, ...]]], ...] = (
    (
        "Versions",
        "versions",
        ("model", "version", "devices", "installing", "requests", "errors", "slowest p99"),
        _version_row,
    ),
    ("Firmware profiles", "profiles", ("profile", "devices", "online"), _profile_row),
    ("Failed installs", "failures", ("model", "version", "devices", "code", "for example", "reason"), _failure_row),
    ("Newest deployments", "deployments", ("deployment", "model", "version", "devices", "by", "when"), _deployment_row),
)


def _watch(session: Session, interval_s: float, end: float | None) -> None:
    """Look again and again; a hub that is away for a while is waited for. Ctrl-C is the normal end."""
    try:
        if session.out.as_json or not sys.stdout.isatty():
            _look(session, interval_s, end, functools.partial(_print, session))
            return
        from rich.console import Group
        from rich.live import Live
        from rich.text import Text

        with Live(screen=True, auto_refresh=False) as live:

            def show(found: dict[str, Any] | None, trouble: str) -> None:
                said = Text(trouble or "Ctrl-C ends.", style="red" if trouble else "dim")
                live.update(Group(view(found), said) if found else said, refresh=True)

            _look(session, interval_s, end, show)
    except KeyboardInterrupt:
        return


def _print(session: Session, found: dict[str, Any] | None, trouble: str) -> None:
    """One look, for a file or a pipe: a line of JSON, or the whole view."""
    if trouble or found is None:
        session.out.warn(trouble)
    elif session.out.as_json:
        print(json.dumps(found), flush=True)
    else:
        session.out.result(found, view(found))


def _look(
    session: Session, interval_s: float, end: float | None, show: Callable[[dict[str, Any] | None, str], object]
) -> None:
    found: dict[str, Any] | None = None
    while True:
        trouble = ""
        try:
            found = session.client.get("/v1/status")
        except Unavailable as error:
            if found is None:
                raise
            trouble = error.message
        show(found, trouble)
        if end is not None and time.monotonic() + interval_s > end:
            return
        time.sleep(interval_s)
