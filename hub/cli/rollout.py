"""`skerry rollout`: bring an approved version to devices in waves that are judged, and look at how that goes."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import typer

from hub.cli.devices import DeviceArgument, LimitOption
from hub.cli.output import rows_table
from hub.cli.rollout_options import FileArgument, RolloutOptions, definition_text
from hub.cli.rollout_view import forecast_views, rollout_views
from hub.cli.rollout_watch import watch
from hub.cli.session import Session, command, new_group
from hub.cli.text import ago
from hub.cli.watching import IntervalOption, TimeoutOption
from shared.errors import InvalidInput
from shared.ids import parse_device_id, parse_model_name

__all__ = ["RolloutArgument", "app", "group_number", "rollout_path"]

app = new_group("rollout", "Rollouts: waves that are judged by what devices report, and turn round by themselves.")

RolloutArgument = Annotated[str, typer.Argument(metavar="ROLLOUT", help="Id, like r-3f5a90c2b1d4.")]
ModelOption = Annotated[str | None, typer.Option("--model", "-m", metavar="MODEL", help="Only of this model.")]
StateOption = Annotated[
    Literal[
        "waiting", "assigned", "downloading", "staged", "installing", "succeeded", "failed", "reverted", "rolling_back",
        "rolled_back", "withdrawn", "superseded", "skipped",
    ]
    | None,
    typer.Option("--state", help="Only devices in this state."),
]  # fmt: skip
_EVENTS_COUNT = 10


@command(
    app,
    "plan",
    examples=[
        "skerry rollout plan rollout.yaml",
        "skerry rollout plan --model digits --version 4 --all --strategy canary --steps 1,10,100",
    ],
)
def plan_rollout(session: Session, options: RolloutOptions, file: FileArgument = None) -> None:
    """Say what a rollout would do now: waves, devices, bytes per link and cost. Nothing happens."""
    planned = session.client.post_text("/v1/rollouts", definition_text(session, file, options), dry_run=True)
    session.out.result(planned, *forecast_views(planned))


@command(
    app,
    "create",
    examples=[
        "skerry rollout create rollout.yaml --dry-run",
        "skerry rollout create --model digits --version 4 --filter 'tag.site==north' --strategy canary --watch",
        "skerry rollout create -m digits --version production --group cameras -s linear --window '0 2 * * *' \\",
        "    --window-length 3h --timezone device --on-failure roll_back",
    ],
)
def create_rollout(
    session: Session,
    options: RolloutOptions,
    file: FileArgument = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would happen.")] = False,
    watching: Annotated[bool, typer.Option("--watch", "-w", help="Stay and look until it ends.")] = False,
    timeout: TimeoutOption = None,
) -> None:
    """Make a rollout, from a file or from options. It starts at once, or at its start time.

    With --watch the exit code is 5 when it does not succeed, and 7 when --timeout was not enough.
    """
    text = definition_text(session, file, options)
    planned = session.client.post_text("/v1/rollouts", text, dry_run=dry_run)
    if not watching or dry_run:
        session.out.result(planned, *forecast_views(planned))
        return
    for view in forecast_views(planned):
        session.out.shown(view)
    watch(session, planned["rollout_id"], timeout=timeout)


@command(app, "list", examples=["skerry rollout list --active", "skerry rollout list --model digits --limit 10"])
def list_rollouts(
    session: Session,
    model: ModelOption = None,
    active: Annotated[bool, typer.Option("--active", help="Only those that have not ended.")] = False,
    limit: LimitOption = 20,
) -> None:
    """List rollouts, newest first."""
    chosen = None if model is None else parse_model_name(model)
    items = list(session.client.pages("/v1/rollouts", limit=limit, model=chosen, active=active))
    now = session.now()
    rows = [
        (
            item["rollout_id"],
            item["model"],
            item["version"],
            item["status"],
            item["priority"],
            item["created_by"],
            ago(item["created_s"], now),
        )
        for item in items
    ]
    columns = ["rollout", "model", "version", "status", "priority", "by", "when"]
    session.out.rows(items, columns, rows, empty="There is no rollout.")


@command(app, "show", examples=["skerry rollout show r-3f5a90c2b1d4"])
def show_rollout(session: Session, rollout: RolloutArgument) -> None:
    """Show how a rollout stands: waves, gates with their numbers, failing devices with reasons, newest events."""
    path = rollout_path(rollout)
    found = session.client.get(path)
    events = list(session.client.pages(f"{path}/events", limit=_EVENTS_COUNT))
    session.out.result({**found, "events": events}, *rollout_views(found, events, session.now()))


@command(app, "devices", examples=["skerry rollout devices r-3f5a90c2b1d4 --state failed"])
def list_devices(
    session: Session,
    rollout: RolloutArgument,
    state: StateOption = None,
    wave: Annotated[str | None, typer.Option("--wave", help="Only of this wave, by its name or number.")] = None,
    limit: LimitOption = None,
) -> None:
    """List the devices of a rollout and how far each is."""
    path = rollout_path(rollout)
    number = None if wave is None else group_number(session.client.get(path), wave)
    items = list(session.client.pages(f"{path}/devices", limit=limit, state=state, group=number))
    now = session.now()
    rows = [
        (
            item["device_id"],
            item["profile"],
            item["group_no"],
            item["state"],
            item["attempts"],
            item["running_version"],
            item["previous_version"],
            f"{item['reason_code']}: {item['reason']}" if item["reason_code"] else "",
            ago(item["changed_s"], now),
        )
        for item in items
    ]
    columns = ["device", "profile", "wave", "state", "attempts", "serves", "had", "reason", "since"]
    session.out.rows(items, columns, rows, empty="No device is so far.")


@command(app, "events", examples=["skerry rollout events r-3f5a90c2b1d4"])
def list_events(session: Session, rollout: RolloutArgument, limit: LimitOption = 50) -> None:
    """List what happened, newest first, with the reasons."""
    items = list(session.client.pages(f"{rollout_path(rollout)}/events", limit=limit))
    now = session.now()
    rows = [
        (ago(item["at_s"], now), item["kind"], item["group_no"], item["code"], item["message"], item["by"])
        for item in items
    ]
    columns = ["when", "what", "wave", "code", "why", "by"]
    session.out.rows(items, columns, rows, empty="Nothing has happened yet.")


@command(
    app, "watch", examples=["skerry rollout watch r-3f5a90c2b1d4", "skerry rollout watch r-3f5a90c2b1d4 --timeout 2h"]
)
def watch_rollout(
    session: Session,
    rollout: RolloutArgument,
    interval: IntervalOption = 1.0,
    timeout: TimeoutOption = None,
    fail_on_pause: Annotated[
        bool, typer.Option("--fail-on-pause", help="End with exit code 5 when it is paused, instead of waiting.")
    ] = False,
) -> None:
    """Stay and look until all waves have passed (exit code 0) or it ended otherwise (5). Ctrl-C ends looking only."""
    rollout_path(rollout)
    watch(session, rollout, interval_s=interval, timeout=timeout, fail_on_pause=fail_on_pause)


@command(app, "explain", examples=["skerry rollout explain pi-kitchen", "skerry rollout explain pi-kitchen -m digits"])
def explain_device(session: Session, device: DeviceArgument, model: ModelOption = None) -> None:
    """Say why a device has the version that it has, and what it waits for."""
    chosen = None if model is None else parse_model_name(model)
    found = session.client.get(f"/v1/devices/{parse_device_id(device)}/explain", model=chosen)
    views: list[object] = [] if found["models"] else [f"{device} has no model, and none is to come."]
    for item in found["models"]:
        waits = item["waits_for"]
        views.append(f"{item['model']}: {item['because']['message']}")
        views.append(f"  {waits['message']}" if waits else "  Nothing is outstanding.")
        if item["rollouts"]:
            views.append(_memberships(item["rollouts"], session.now()))
    session.out.result(found, *views)


def _memberships(rows: list[dict[str, Any]], now: float) -> object:
    cells = [
        (
            row["rollout_id"],
            row["version"],
            row["group"],
            row["state"],
            "yes" if row["current"] else "",
            row["attempts"],
            row["reason_code"],
            ago(row["changed_s"], now),
        )
        for row in rows
    ]
    columns = ("rollout", "version", "wave", "state", "decides", "attempts", "reason", "since")
    return rows_table(columns, cells, title="Its rollouts, newest first")


def rollout_path(rollout: str) -> str:
    """Where the hub keeps a rollout; error `cli.rollout_id`."""
    if not rollout.replace("-", "").isalnum() or not rollout.isascii():
        raise InvalidInput(
            "cli.rollout_id", f"{rollout!r:.80} is not the id of a rollout.", hint="It is like r-3f5a90c2b1d4."
        )
    return f"/v1/rollouts/{rollout}"


def group_number(rollout: dict[str, Any], wave: str) -> int:
    """The number of a wave, given its name or number; error `cli.wave`."""
    for group in rollout["groups"]:
        if wave in (group["name"], str(group["group_no"])):
            return int(group["group_no"])
    known = ", ".join(group["name"] for group in rollout["groups"])
    raise InvalidInput("cli.wave", f"{rollout['rollout_id']} has no wave {wave!r:.40}.", hint=f"It has: {known}.")
