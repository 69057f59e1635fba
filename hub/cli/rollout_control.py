"""`skerry rollout pause`, `resume`, `approve`, `abort`, `rollback`, `finish`: what a person may ask of a rollout.

What takes a version away from devices asks first, and says from how many.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any

import typer

from hub.cli.rollout import RolloutArgument, app, group_number, rollout_path
from hub.cli.rollout_view import groups_table, headline
from hub.cli.session import Session, command

__all__: list[str] = []

ReasonOption = Annotated[str, typer.Option("--reason", help="Why; it goes into the record and the audit log.")]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
_UNDER_WAY = ("assigned", "downloading", "staged", "installing")
_EXPOSED = (*_UNDER_WAY, "succeeded", "failed", "reverted")


@command(app, "pause", examples=["skerry rollout pause r-3f5a90c2b1d4 --reason 'look at pi-7 first'"])
def pause(session: Session, rollout: RolloutArgument, reason: ReasonOption = "") -> None:
    """Assign nothing more until it is resumed; what is under way goes on."""
    _send(session, rollout, "pause", reason)


@command(app, "resume", examples=["skerry rollout resume r-3f5a90c2b1d4"])
def resume(session: Session, rollout: RolloutArgument, reason: ReasonOption = "") -> None:
    """Go on; a wave that failed gets another chance."""
    _send(session, rollout, "resume", reason)


@command(app, "approve", examples=["skerry rollout approve r-3f5a90c2b1d4 --reason 'canary looked at'"])
def approve(session: Session, rollout: RolloutArgument, reason: ReasonOption = "") -> None:
    """Let what waits for a person happen: the next wave, or the switch of prepared devices."""
    _send(session, rollout, "approve", reason)


@command(app, "abort", examples=["skerry rollout abort r-3f5a90c2b1d4 --reason 'wrong version'"])
def abort(session: Session, rollout: RolloutArgument, reason: ReasonOption = "", yes: YesOption = False) -> None:
    """End it: taken back from devices that have not finished; those that succeeded keep it."""
    found = _found(session, rollout)
    count = _count(found["groups"], _UNDER_WAY)
    session.confirm(f"Abort {rollout} ({_devices(count)} under way)?", yes=yes)
    _send(session, rollout, "abort", reason)


@command(
    app,
    "rollback",
    examples=["skerry rollout rollback r-3f5a90c2b1d4", "skerry rollout rollback r-3f5a90c2b1d4 --wave wave-2"],
)
def roll_back(
    session: Session,
    rollout: RolloutArgument,
    wave: Annotated[str | None, typer.Option("--wave", help="Only this wave, by its name or number.")] = None,
    reason: ReasonOption = "",
    yes: YesOption = False,
) -> None:
    """Return devices to the version that each had before: all that got this one, or one wave."""
    found = _found(session, rollout)
    number = None if wave is None else group_number(found, wave)
    groups = [group for group in found["groups"] if number is None or group["group_no"] == number]
    session.confirm(f"Roll {_devices(_count(groups, _EXPOSED))} of {rollout} back?", yes=yes)
    _send(session, rollout, "rollback", reason, number)


@command(app, "finish", examples=["skerry rollout finish r-3f5a90c2b1d4"])
def finish(session: Session, rollout: RolloutArgument, reason: ReasonOption = "") -> None:
    """Stop giving it to devices that join later; everybody keeps what they have."""
    _send(session, rollout, "finish", reason)


def _found(session: Session, rollout: str) -> dict[str, Any]:
    found: dict[str, Any] = session.client.get(rollout_path(rollout))
    return found


def _count(groups: Iterable[dict[str, Any]], states: tuple[str, ...]) -> int:
    return sum(group["counts"][state] for group in groups for state in states)


def _devices(count: int) -> str:
    return f"{count} device{'' if count == 1 else 's'}"


def _send(session: Session, rollout: str, name: str, reason: str, group_no: int | None = None) -> None:
    """Ask it of the hub, and show how the rollout stands then."""
    body = {"reason": reason, "group_no": group_no}
    found = session.client.post(f"{rollout_path(rollout)}/{name}", body)
    session.out.result(found, headline(found, session.now()), groups_table(found["groups"]))
