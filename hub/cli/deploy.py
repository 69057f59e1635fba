"""`skerry deploy` and `skerry deployments`: send an approved version to devices, and see how far that is."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import typer

from hub.cli.devices import FilterOption, LimitOption
from hub.cli.models import ModelArgument
from hub.cli.output import fields_table, rows_table
from hub.cli.session import Session, command, new_group
from hub.cli.text import ago, duration, parse_duration, percent, size, when
from shared.errors import Conflict, InvalidInput, NotFound, Unavailable
from shared.ids import parse_alias, parse_model_name, parse_version

__all__ = ["add_deploy", "app", "version_number"]

app = new_group("deployments", "Deployments: list, show, wait, cancel.")

_POLL_S = 1.0
_EXAMPLES_COUNT = 20
_OPEN = ("pending", "sent", "installing")
DeploymentArgument = Annotated[str, typer.Argument(metavar="DEPLOYMENT", help="Id, like d-3f5a90c2b1d4.")]
WaitOption = Annotated[bool, typer.Option("--wait", "-w", help="Wait until every device is done.")]
TimeoutOption = Annotated[str, typer.Option("--timeout", help="Wait no longer than this, like 10m.")]


def add_deploy(root: typer.Typer) -> None:
    """Register `skerry deploy` on the root."""

    @command(
        root,
        "deploy",
        examples=[
            "skerry deploy digits 2 --filter 'tag.ring==canary' --dry-run",
            "skerry deploy digits production --all --wait --note 'summer release'",
        ],
    )
    def deploy(
        session: Session,
        model: ModelArgument,
        version: Annotated[str, typer.Argument(metavar="VERSION|ALIAS", help="A number, or an alias.")],
        filter: FilterOption = None,
        everything: Annotated[bool, typer.Option("--all", help="To every active device.")] = False,
        dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would happen.")] = False,
        note: Annotated[str, typer.Option("--note", help="What it is for.")] = "",
        wait: WaitOption = False,
        timeout: TimeoutOption = "15m",
    ) -> None:
        """Deploy an approved version to the devices that a filter chooses, or to all, at once.

        With --wait the exit code is 5 when a device refused it, and 7 when the time was not enough.
        """
        if (filter is None) != everything:
            raise InvalidInput("cli.target", "Say where to deploy.", hint="Give either --filter or --all.")
        deadline_s = parse_duration(timeout)
        wish = {
            "model": parse_model_name(model),
            "version": version_number(session, model, version),
            "filter": filter or "all",
            "note": note,
            "dry_run": dry_run,
        }
        plan = session.client.post("/v1/deployments", wish)
        if not wait or dry_run:
            session.out.result(plan, _plan_text(plan, dry_run), *_skipped_views(plan))
            return
        session.out.note(_plan_text(plan, dry_run))
        detail = _wait(session, plan["deployment_id"], deadline_s)
        session.out.result(detail, *_detail_views(detail, session.now()))
        _raise_failures(detail)


@command(app, "list", examples=["skerry deployments list --limit 10"])
def list_deployments(session: Session, limit: LimitOption = 20) -> None:
    """List deployments, newest first."""
    items = list(session.client.pages("/v1/deployments", limit=limit))
    now = session.now()
    rows = [
        (
            item["deployment_id"],
            item["model"],
            item["version"],
            item["devices"],
            sum(item["skipped"].values()),
            item["filter"],
            "cancelled" if item["cancelled_s"] else "",
            item["created_by"],
            ago(item["created_s"], now),
        )
        for item in items
    ]
    columns = ["deployment", "model", "version", "devices", "skipped", "filter", "status", "by", "when"]
    session.out.rows(items, columns, rows, empty="Nothing has been deployed yet.")


@command(app, "show", examples=["skerry deployments show d-3f5a90c2b1d4"])
def show_deployment(session: Session, deployment: DeploymentArgument) -> None:
    """Show how far a deployment is, and why devices refused it."""
    detail = session.client.get(_path(deployment))
    session.out.result(detail, *_detail_views(detail, session.now()))


@command(app, "devices", examples=["skerry deployments devices d-3f5a90c2b1d4 --progress failed"])
def list_devices(
    session: Session,
    deployment: DeploymentArgument,
    progress: Annotated[
        Literal["pending", "sent", "installing", "succeeded", "failed"] | None,
        typer.Option("--progress", help="Only devices that are so far."),
    ] = None,
    limit: LimitOption = None,
) -> None:
    """List the devices of a deployment and how far each is."""
    items = list(session.client.pages(f"{_path(deployment)}/devices", limit=limit, progress=progress))
    now = session.now()
    rows = [
        (
            item["device_id"],
            item["progress"],
            item["state"],
            item["running_version"],
            f"{item['reason_code']}: {item['reason']}" if item["reason_code"] else "",
            ago(item["updated_s"], now),
        )
        for item in items
    ]
    columns = ["device", "progress", "state", "serves", "reason", "heard of"]
    session.out.rows(items, columns, rows, empty="No device is so far.")


@command(app, "wait", examples=["skerry deployments wait d-3f5a90c2b1d4 --timeout 5m"])
def wait_for(session: Session, deployment: DeploymentArgument, timeout: TimeoutOption = "15m") -> None:
    """Wait until every device is done. Exit code 5 when a device refused it, 7 when the time was not enough."""
    detail = _wait(session, deployment, parse_duration(timeout))
    session.out.result(detail, *_detail_views(detail, session.now()))
    _raise_failures(detail)


@command(app, "cancel", examples=["skerry deployments cancel d-3f5a90c2b1d4 --reason 'wrong version'"])
def cancel(
    session: Session,
    deployment: DeploymentArgument,
    reason: Annotated[str, typer.Option("--reason", help="Why; it goes into the audit log.")] = "",
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Take a deployment back from devices that have not installed it; the others keep what they serve."""
    path = _path(deployment)
    session.confirm(f"Cancel {deployment}?", yes=yes)
    detail = session.client.post(f"{path}/cancel", {"reason": reason})
    session.out.result(detail, *_detail_views(detail, session.now()))


def _path(deployment: str) -> str:
    if not deployment.replace("-", "").isalnum():
        raise InvalidInput("cli.deployment_id", f"{deployment!r:.80} is not the id of a deployment.")
    return f"/v1/deployments/{deployment}"


def version_number(session: Session, model: str, version: str) -> int:
    """The version's number; an alias is looked up first."""
    if version.isdigit():
        return parse_version(version)
    moves = session.client.get(f"/v1/models/{parse_model_name(model)}/aliases")
    named = {move["alias"]: move["version"] for move in moves["items"]}
    number = named.get(parse_alias(version))
    if number is None:
        known = ", ".join(sorted(named)) or "none"
        raise NotFound("cli.unknown_alias", f"{model} has no alias {version}.", hint=f"It has: {known}.")
    return parse_version(number)


def _plan_text(plan: Mapping[str, Any], dry_run: bool) -> str:
    skipped = sum(plan["skipped_counts"].values())
    what = f"version {plan['version']} of {plan['model']}"
    who = f"{plan['devices']} device{'' if plan['devices'] == 1 else 's'}"
    rest = f"; {skipped} skipped" if skipped else ""
    if dry_run:
        return f"This would deploy {what} to {who}{rest}."
    return f"Deploying {what} to {who}{rest}: {plan['deployment_id']}"


def _skipped_views(plan: Mapping[str, Any]) -> list[object]:
    if not plan["skipped_counts"]:
        return []
    counts = [(count, code) for code, count in sorted(plan["skipped_counts"].items())]
    rows = [(item["device_id"], item["profile"], item["reason_code"]) for item in plan["skipped"][:_EXAMPLES_COUNT]]
    return [
        rows_table(["devices", "skipped because"], counts),
        rows_table(["device", "profile", "reason"], rows, title="For example"),
    ]


def _wait(session: Session, deployment: str, deadline_s: int) -> dict[str, Any]:
    """Poll until no device is on its way; error `cli.wait_timeout`."""
    path = _path(deployment)
    end = time.monotonic() + deadline_s
    said = ""
    while True:
        detail: dict[str, Any] = session.client.get(path)
        progress = detail["progress"]
        words = ", ".join(f"{count} {name}" for name, count in progress.items() if count) or "nothing to do"
        if words != said:
            session.out.note(f"  {words}")
            said = words
        if not any(progress[name] for name in _OPEN):
            return detail
        if time.monotonic() >= end:
            raise Unavailable(
                "cli.wait_timeout",
                f"After {duration(deadline_s)} not every device is done: {words}.",
                hint=f"Look again with `skerry deployments show {deployment}`.",
                retriable=True,
                detail={"progress": progress},
            )
        time.sleep(_POLL_S)


def _raise_failures(detail: Mapping[str, Any]) -> None:
    failed = detail["progress"]["failed"]
    if failed:
        reasons = ", ".join(sorted({item["reason_code"] for item in detail["failures"]}))
        raise Conflict("deployment.refused", f"{failed} of the devices refused the version: {reasons}.")


def _downloads(found: Mapping[str, Any]) -> str:
    """What came over the network, beside what whole bundles would have been."""
    if not found["devices"]:
        return ""
    saved = found["whole_bytes"] - found["bytes"]
    what = f"{size(found['bytes'])} by {found['devices']} devices"
    return f"{what}; deltas saved {size(saved)} ({percent(saved, found['whole_bytes'])})" if saved > 0 else what


def _detail_views(detail: Mapping[str, Any], now: float) -> list[object]:
    row, progress = detail["deployment"], detail["progress"]
    fields = [
        ("deployment", row["deployment_id"]),
        ("what", f"version {row['version']} of {row['model']}"),
        ("to", f"{row['filter'] or 'all'}: {row['devices']} devices, {sum(row['skipped'].values())} skipped"),
        ("made", f"{ago(row['created_s'], now)} by {row['created_by']}"),
        ("note", row["note"]),
        ("cancelled", when(row["cancelled_s"])),
        ("superseded", detail["superseded"]),
        ("downloaded", _downloads(detail["downloads"])),
    ]
    total = sum(progress.values())
    shares = [(name, count, percent(count, total)) for name, count in progress.items()]
    views: list[object] = [fields_table(fields), rows_table(["state", "devices", "share"], shares)]
    if detail["failures"]:
        rows = [
            (item["devices"], item["reason_code"], item["reason"], ", ".join(item["examples"]))
            for item in detail["failures"]
        ]
        views.append(rows_table(["devices", "code", "reason", "for example"], rows, title="Refused"))
    return views
