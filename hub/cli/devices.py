"""`skerry devices`: let devices in, find them, look at them, tag them, shut them out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer

from hub.cli.output import fields_table, rows_table
from hub.cli.session import Session, command, new_group
from hub.cli.text import ago, duration, parse_pairs, plain, size, when
from shared.ids import parse_device_id

__all__ = ["DeviceArgument", "FilterOption", "LimitOption", "app", "device_rows", "model_words"]

app = new_group("devices", "Devices: let them in, find, show, tag, revoke.")

DeviceArgument = Annotated[str, typer.Argument(metavar="DEVICE", help="Device id.")]
FilterOption = Annotated[
    str | None,
    typer.Option(
        "--filter",
        "-f",
        metavar="RSQL",
        help="Like tag.site==north;version.digits<3;last_seen=gt=-1h: ; is and, , is or, * stands for anything."
        " Fields: id, profile, status, tag.KEY, group, version.MODEL, state.MODEL, online, last_seen, agent_version,"
        " memory_bytes, disk_free, errors.MODEL and others; see docs/filters.md.",
    ),
]
LimitOption = Annotated[int | None, typer.Option("--limit", min=1, help="At most so many; default: all.")]
_REPORT_COLUMNS = ("received", "model", "version", "state", "event", "reason")


@command(
    app, "list", examples=["skerry devices list", "skerry devices list --filter 'tag.site==north;version.digits==2'"]
)
def list_devices(session: Session, filter: FilterOption = None, limit: LimitOption = None) -> None:
    """List devices."""
    items = list(session.client.pages("/v1/devices", filter=filter, limit=limit))
    columns, rows = device_rows(items, session.now())
    session.out.rows(items, columns, rows, empty="No device matches." if filter else "No device is enrolled yet.")


@command(app, "show", examples=["skerry devices show pi-kitchen"])
def show_device(session: Session, device: DeviceArgument) -> None:
    """Show one device: what it is, what it runs, what it last reported."""
    item = session.client.get(f"/v1/devices/{parse_device_id(device)}")
    now = session.now()
    views: list[object] = [fields_table(_summary(item, now))]
    if item["models"]:
        views.append(_models_table(item["models"], now))
    if item["reports"]:
        rows = [_report_row(report, now) for report in item["reports"][:10]]
        views.append(rows_table(_REPORT_COLUMNS, rows, title="Newest install reports"))
    if item["events"]:
        rows = [_event_row(event, now) for event in item["events"][:10]]
        views.append(rows_table(("received", "severity", "code", "model", "message"), rows, title="Newest events"))
    session.out.result(item, *views)


@command(app, "reports", examples=["skerry devices reports pi-kitchen --limit 50"])
def list_reports(session: Session, device: DeviceArgument, limit: LimitOption = 20) -> None:
    """List a device's install reports, newest first."""
    items = list(session.client.pages(f"/v1/devices/{parse_device_id(device)}/reports", limit=limit))
    now = session.now()
    session.out.rows(items, _REPORT_COLUMNS, [_report_row(item, now) for item in items], empty="No reports yet.")


@command(app, "events", examples=["skerry devices events pi-kitchen"])
def list_events(session: Session, device: DeviceArgument, limit: LimitOption = 20) -> None:
    """List the events that a device reported, newest first."""
    items = list(session.client.pages(f"/v1/devices/{parse_device_id(device)}/events", limit=limit))
    now = session.now()
    columns = ("received", "severity", "code", "model", "message")
    session.out.rows(items, columns, [_event_row(item, now) for item in items], empty="No events yet.")


@command(
    app,
    "tag",
    examples=["skerry devices tag pi-kitchen site=north ring=canary", "skerry devices tag pi-kitchen --remove ring"],
)
def tag_device(
    session: Session,
    device: DeviceArgument,
    tags: Annotated[list[str] | None, typer.Argument(metavar="KEY=VALUE...", help="Tags to set.")] = None,
    remove: Annotated[list[str] | None, typer.Option("--remove", metavar="KEY", help="Tag to take away.")] = None,
) -> None:
    """Set or remove tags; without either, show them."""
    path = f"/v1/devices/{parse_device_id(device)}"
    changes: dict[str, str | None] = {**parse_pairs(tags or []), **dict.fromkeys(remove or [])}
    now_there = session.client.put(f"{path}/tags", changes) if changes else session.client.get(path)["tags"]
    session.out.rows(now_there, ["tag", "value"], sorted(now_there.items()), empty=f"{device} has no tags.")


@command(app, "revoke", examples=["skerry devices revoke pi-kitchen --reason stolen"])
def revoke_device(
    session: Session,
    device: DeviceArgument,
    reason: Annotated[str, typer.Option("--reason", help="Why; it goes into the audit log.")] = "",
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Shut a device out: its certificate counts no more, live connections end. Only enrolling again brings it back."""
    session.confirm(f"Shut {plain(device)} out for good?", yes=yes)
    session.client.post(f"/v1/devices/{parse_device_id(device)}/revoke", {"reason": reason})
    session.out.result({"device_id": device, "status": "revoked"}, f"{device} is revoked.")


def device_rows(items: Sequence[Mapping[str, Any]], now: float) -> tuple[list[str], list[tuple[object, ...]]]:
    """Columns and rows of a list of devices."""
    rows: list[tuple[object, ...]] = [
        (
            item["device_id"],
            "online" if item["online"] else "offline" if item["status"] == "active" else item["status"],
            item["profile"],
            ", ".join(f"{key}={value}" for key, value in item["tags"].items()),
            ", ".join(model_words(model) for model in item["models"]),
            ago(item["last_seen_s"], now),
        )
        for item in items
    ]
    return ["device", "status", "profile", "tags", "models", "last seen"], rows


def model_words(model: Mapping[str, Any]) -> str:
    """What serves on a device, and what is to be known beside it."""
    version = "-" if model["version"] is None else f"v{model['version']}"
    return f"{model['model']} {version}{_beside(model)}"


def _beside(model: Mapping[str, Any]) -> str:
    """What is to be said beside the version that serves; nothing when all is well."""
    state, target = model["state"], model.get("target_version")
    if state == "committed":
        return ""
    if state == "rolled_back" and target not in (None, model["version"]):
        return f" (gave up v{target})"
    return f" ({state})"


def _summary(item: Mapping[str, Any], now: float) -> list[tuple[str, object]]:
    heartbeat = (item["hot"] or {}).get("heartbeat") or {}
    inventory = item["inventory"] or {}
    fields: list[tuple[str, object]] = [
        ("device", item["device_id"]),
        ("status", item["status"]),
        ("online", "online" if item["online"] else "offline"),
        ("last seen", ago(item["last_seen_s"], now)),
        ("profile", item["profile"]),
        ("hardware", item["hardware_id"]),
        ("tags", ", ".join(f"{key}={value}" for key, value in item["tags"].items())),
        ("enrolled", when(item["enrolled_s"])),
        ("certificate ends", ", ".join(when(row["not_after_s"]) for row in item["certificates"])),
    ]
    if inventory:
        fields += [
            ("agent", inventory.get("agent_version")),
            ("runtime", f"{inventory.get('runtime')} {inventory.get('runtime_version')}"),
            ("system", f"{inventory.get('arch')}, {inventory.get('os')}"),
        ]
    if heartbeat:
        fields += [
            ("up for", duration(heartbeat["uptime_s"])),
            ("agent memory", size(heartbeat["rss_bytes"])),
            ("disk free", size(heartbeat["disk_free_bytes"])),
            ("outbox", f"{heartbeat['outbox_count']} waiting, {heartbeat['outbox_dropped']} dropped"),
        ]
    return fields


def _models_table(models: list[dict[str, Any]], now: float) -> object:
    columns = (
        "model",
        "version",
        "state",
        "target",
        "previous",
        "requests",
        "errors",
        "p50",
        "p99",
        "updated",
        "reason",
    )
    rows = [
        (
            item["model"],
            item["version"],
            item["state"],
            item["target_version"],
            item["previous_version"],
            item["requests"],
            item["errors"],
            f"{item['latency_p50_us'] / 1000:.2f} ms",
            f"{item['latency_p99_us'] / 1000:.2f} ms",
            ago(item["updated_s"], now),
            item["reason"] or item["reason_code"],
        )
        for item in models
    ]
    return rows_table(columns, rows, title="Models")


def _report_row(report: Mapping[str, Any], now: float) -> tuple[object, ...]:
    reason = f"{report['reason_code']}: {report['reason']}" if report["reason_code"] else report["reason"]
    return (
        ago(report["received_s"], now),
        report["model"],
        report["version"],
        report["state"],
        report["event"],
        reason,
    )


def _event_row(event: Mapping[str, Any], now: float) -> tuple[object, ...]:
    return (ago(event["received_s"], now), event["severity"], event["code"], event["model"], event["message"])
