"""Looking at a rollout until it ends. The end decides the exit code: 0 when all waves passed, 5 when not, 7 when the
time was not enough."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from hub.cli.rollout_view import ENDED, GOOD_ENDS, rollout_views, summary_line
from hub.cli.session import Session
from hub.cli.watching import Json, Look, follow, not_in_time
from shared.errors import Conflict

__all__ = ["watch"]

_EVENTS_COUNT = 20
_SHOWN_EVENTS_COUNT = 5


def watch(
    session: Session,
    rollout_id: str,
    *,
    interval_s: float = 1.0,
    timeout: str | None = None,
    fail_on_pause: bool = False,
) -> None:
    """Look until it ends; errors `rollout.not_succeeded`, `rollout.paused`, `cli.wait_timeout`."""
    seen = follow(session, _Rollout(rollout_id, fail_on_pause), interval_s=interval_s, timeout=timeout)
    _judge(seen, fail_on_pause=fail_on_pause)


class _Rollout:
    """A rollout with its newest events."""

    noun, key = "rollout", "events"

    def __init__(self, rollout_id: str, fail_on_pause: bool) -> None:
        self.path = f"/v1/rollouts/{rollout_id}"
        self._fail_on_pause = fail_on_pause
        self._line = ""
        self._event_no = -1

    def history(self, session: Session) -> list[dict[str, Any]]:
        return list(session.client.pages(f"{self.path}/events", limit=_EVENTS_COUNT))

    def over(self, thing: Json) -> bool:
        return thing["status"] in ENDED or (self._fail_on_pause and thing["status"] == "paused")

    def views(self, look: Look, now: float) -> Sequence[Any]:
        return list(rollout_views(look.thing, look.history[:_SHOWN_EVENTS_COUNT], now))

    def news(self, look: Look, now: float) -> Iterable[tuple[float, str]]:
        """Each event once, and the line of numbers when it changed."""
        groups = look.thing["groups"]
        for event in reversed(look.history):
            if event["event_no"] > self._event_no:
                self._event_no = event["event_no"]
                wave = "" if event["group_no"] is None else f" {groups[event['group_no']]['name']}"
                yield event["at_s"], f"{event['kind'].replace('_', ' ')}{wave}: {event['message']}"
        line = summary_line(look.thing)
        if line != self._line:
            self._line = line
            yield now, line


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
    again = f"skerry rollout watch {rollout['rollout_id']}"
    raise not_in_time("rollout", summary_line(rollout), again, detail)
