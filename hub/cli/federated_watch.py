"""Looking at a federated run until it ends. The end decides the exit code: 0 when the run finished, 5 when not, 7 when
the time was not enough."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from hub.cli.federated_view import ENDED, reason, round_line, run_views
from hub.cli.session import Session
from hub.cli.watching import Json, Look, follow, not_in_time
from shared.errors import Conflict

__all__ = ["all_rounds", "watch"]

_SHOWN_ROUNDS_COUNT = 15


def all_rounds(session: Session, run_id: str) -> list[dict[str, Any]]:
    """All attempts at rounds, oldest first."""
    return list(session.client.pages(f"/v1/federated/runs/{run_id}/rounds"))


def watch(session: Session, run_id: str, *, interval_s: float = 1.0, timeout: str | None = None) -> None:
    """Look until it ends; errors `federated.not_finished`, `cli.wait_timeout`."""
    _judge(follow(session, _Run(run_id), interval_s=interval_s, timeout=timeout))


class _Run:
    """A run with its rounds."""

    noun, key = "run", "history"

    def __init__(self, run_id: str) -> None:
        self.path = f"/v1/federated/runs/{run_id}"
        self._run_id = run_id
        self._state = ""
        self._attempt = 0

    def history(self, session: Session) -> list[dict[str, Any]]:
        return all_rounds(session, self._run_id)

    def over(self, thing: Json) -> bool:
        return thing["state"] in ENDED

    def views(self, look: Look, now: float) -> Sequence[Any]:
        return list(run_views(look.thing, look.history[-_SHOWN_ROUNDS_COUNT:], now))

    def news(self, look: Look, now: float) -> Iterable[tuple[float, str]]:
        """Each round once, and the state when it changed."""
        for made in look.history:
            if made["attempt"] > self._attempt:
                self._attempt = made["attempt"]
                yield made["at_s"], round_line(made)
        if look.thing["state"] != self._state:
            self._state = look.thing["state"]
            why = reason(look.thing) if self._state in ENDED else ""
            yield now, self._state.replace("_", " ") + (f": {why}" if why else "")


def _judge(run: Json) -> None:
    if run["state"] == "finished":
        return
    detail = {"state": run["state"], "run_id": run["run_id"], "code": run["code"]}
    done = f"{run['round_no']} of {run['rounds']} rounds"
    if run["state"] in ENDED:
        cancelled = run["state"] == "cancelled"
        raise Conflict(
            "federated.not_finished",
            f"The run was cancelled after {done}." if cancelled else f"The run failed: {reason(run)}",
            hint=f"`skerry federated resume {run['run_id']}` goes on from its last complete round.",
            detail=detail,
        )
    raise not_in_time("run", done, f"skerry federated watch {run['run_id']}", detail)
