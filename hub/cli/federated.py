"""`skerry federated`: train a model's head on the devices, and look at how that goes."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from hub.cli.devices import LimitOption
from hub.cli.federated_curve import draw_curve
from hub.cli.federated_view import forecast_views, headline, reason, run_views
from hub.cli.federated_watch import all_rounds, watch
from hub.cli.session import Session, command, new_group
from hub.cli.text import ago, size
from hub.cli.watching import IntervalOption, TimeoutOption
from shared.errors import InvalidInput
from shared.ids import parse_model_name
from shared.limits import MAX_SETTINGS_BYTES

__all__ = ["app"]

app = new_group("federated", "Federated training: devices train on what only they may see, the hub adds it up.")

RunArgument = Annotated[str, typer.Argument(metavar="RUN", help="Id, like f-3f5a90c2b1d4.")]
FileArgument = Annotated[Path, typer.Argument(metavar="FILE", help="The run as YAML or JSON; `-`: standard input.")]
ReasonOption = Annotated[str, typer.Option("--reason", help="Why; it goes into the audit log.")]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
PngOption = Annotated[
    Path | None, typer.Option("--png", metavar="FILE", help="Also draw the learning curve (needs matplotlib).")
]


@command(
    app,
    "run",
    examples=[
        "skerry federated run run.yaml --dry-run",
        "skerry federated run run.yaml --watch",
        "skerry federated run run.yaml --watch --timeout 2h --png curve.png",
    ],
)
def run_federated(
    session: Session,
    file: FileArgument,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would happen.")] = False,
    watching: Annotated[bool, typer.Option("--watch", "-w", help="Stay and look until it ends.")] = False,
    reason: ReasonOption = "",
    timeout: TimeoutOption = None,
    png: PngOption = None,
) -> None:
    """Begin a run, or say who would take part, why others not, and what goes over which links.

    With --watch the exit code is 5 when it does not finish, and 7 when --timeout was not enough.
    """
    text = _definition(file)
    query = {"dry_run": dry_run, "reason": reason or None}
    planned = session.client.post_text("/v1/federated/runs", text, **query)
    if dry_run or not watching:
        session.out.result(planned, *forecast_views(planned))
        return
    for view in forecast_views(planned):
        session.out.shown(view)
    _watch(session, planned["run"]["run_id"], 1.0, timeout, png)


@command(
    app,
    "watch",
    examples=["skerry federated watch f-3f5a90c2b1d4", "skerry federated watch f-3f5a90c2b1d4 --timeout 2h"],
)
def watch_federated(
    session: Session,
    run: RunArgument,
    interval: IntervalOption = 1.0,
    timeout: TimeoutOption = None,
    png: PngOption = None,
) -> None:
    """Stay and look until the run finished (exit code 0) or ended otherwise (5). Ctrl-C ends looking only."""
    _path(run)
    _watch(session, run, interval, timeout, png)


@command(app, "list", examples=["skerry federated list --active", "skerry federated list --model digits --limit 10"])
def list_federated(
    session: Session,
    model: Annotated[str | None, typer.Option("--model", "-m", metavar="MODEL", help="Only of this model.")] = None,
    active: Annotated[bool, typer.Option("--active", help="Only those that have not ended.")] = False,
    limit: LimitOption = 20,
) -> None:
    """List runs, newest first."""
    chosen = None if model is None else parse_model_name(model)
    items = list(session.client.pages("/v1/federated/runs", limit=limit, model=chosen, active=active))
    now = session.now()
    rows = [
        (
            item["run_id"],
            item["model"],
            item["version"],
            item["state"],
            f"{item['round_no']} of {item['rounds']}",
            size(item["bytes_down"] + item["bytes_up"]),
            item["result"].get("version"),
            item["trigger"] or item["created_by"],
            ago(item["created_s"], now),
        )
        for item in items
    ]
    columns = ["run", "model", "from", "state", "rounds", "bytes", "became", "by", "when"]
    session.out.rows(items, columns, rows, empty="There is no federated run.")


@command(
    app,
    "show",
    examples=["skerry federated show f-3f5a90c2b1d4", "skerry federated show f-3f5a90c2b1d4 --png curve.png"],
)
def show_federated(
    session: Session,
    run: RunArgument,
    answers: Annotated[bool, typer.Option("--answers", help="Also what devices said to the offers.")] = False,
    png: PngOption = None,
) -> None:
    """Show how a run stands: rounds with participants, accuracy, bytes and refused updates, and what came of it."""
    path = _path(run)
    found, rounds = session.client.get(path), all_rounds(session, run)
    traffic = session.client.get(f"{path}/traffic")["items"]
    said = session.client.get(f"{path}/answers")["items"] if answers else []
    if png is not None:
        _draw(session, png, found, rounds)
    data = {**found, "history": rounds, "traffic": traffic, **({"answers": said} if answers else {})}
    session.out.result(data, *run_views(found, rounds, session.now(), traffic), *_said(said, session.now()))


@command(app, "cancel", examples=["skerry federated cancel f-3f5a90c2b1d4 --reason 'wrong filter'"])
def cancel_federated(session: Session, run: RunArgument, reason: ReasonOption = "", yes: YesOption = False) -> None:
    """End a run before its next round. Its last complete round stays, and `resume` goes on from there."""
    _path(run)
    session.confirm(f"Cancel {run}?", yes=yes)
    _send(session, run, "cancel", reason)


@command(app, "resume", examples=["skerry federated resume f-3f5a90c2b1d4"])
def resume_federated(session: Session, run: RunArgument, reason: ReasonOption = "") -> None:
    """Let a run that failed or was cancelled go on from its last complete round."""
    _send(session, run, "resume", reason)


def _watch(session: Session, run: str, interval_s: float, timeout: str | None, png: Path | None) -> None:
    try:
        watch(session, run, interval_s=interval_s, timeout=timeout)
    finally:
        if png is not None:
            _draw(session, png, session.client.get(_path(run)), all_rounds(session, run))


def _draw(session: Session, png: Path, found: dict[str, Any], rounds: list[dict[str, Any]]) -> None:
    draw_curve(png, found, rounds)
    session.out.note(f"Drawn into {png}.")


def _said(answers: list[dict[str, Any]], now: float) -> list[object]:
    if not answers:
        return []
    from hub.cli.output import rows_table

    rows = [
        (ago(one["received_s"], now), one["device_id"], one["round_no"], one["state"], one["reason"] or one["code"])
        for one in answers
    ]
    return [rows_table(("when", "device", "round", "state", "why"), rows, title="Answers to offers")]


def _send(session: Session, run: str, name: str, why: str) -> None:
    found = session.client.post(f"{_path(run)}/{name}", {"reason": why})
    views: list[object] = [headline(found, session.now())]
    if name == "cancel" and found["state"] == "running":
        views.append(f"It ends before its next round: {reason(found)}.")
    session.out.result(found, *views)


def _path(run: str) -> str:
    """Where the hub keeps a run; error `cli.run_id`."""
    if not run.replace("-", "").isalnum() or not run.isascii():
        raise InvalidInput("cli.run_id", f"{run!r:.80} is not the id of a run.", hint="It is like f-3f5a90c2b1d4.")
    return f"/v1/federated/runs/{run}"


def _definition(file: Path) -> str:
    """The text of a definition; error `cli.file`."""
    try:
        if str(file) == "-":
            data = sys.stdin.buffer.read(MAX_SETTINGS_BYTES + 1)
        else:
            with file.open("rb") as source:
                data = source.read(MAX_SETTINGS_BYTES + 1)
        if len(data) > MAX_SETTINGS_BYTES:
            raise InvalidInput("cli.file", f"{file} has more than {MAX_SETTINGS_BYTES} bytes.")
        return data.decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput("cli.file", f"Cannot read {file}: {error}.", hint="Check the path.") from error
