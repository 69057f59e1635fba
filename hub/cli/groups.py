"""`skerry groups`: names for sets of devices, by a filter or a list.

A change says who joins and leaves before it is made; it asks first when a rollout that goes on targets the group.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from hub.cli.devices import LimitOption, device_rows
from hub.cli.output import fields_table
from hub.cli.session import Session, command, new_group
from hub.cli.text import ago, plain
from shared.errors import InvalidInput
from shared.ids import parse_device_id, parse_group_name
from shared.limits import MIB

__all__ = ["app"]

app = new_group("groups", "Groups of devices: by a filter, so that new devices fall into them, or by a list.")

_MAX_LIST_BYTES = MIB
_SHOWN_COUNT = 5
GroupArgument = Annotated[str, typer.Argument(metavar="GROUP", help="Name, like canaries.")]
FilterOption = Annotated[
    str | None,
    typer.Option("--filter", "-f", metavar="RSQL", help="Whoever matches is in it, like tag.ring==canary."),
]
DeviceOption = Annotated[
    list[str] | None, typer.Option("--device", metavar="DEVICE", help="The list has this device; may be repeated.")
]
ListOption = Annotated[
    Path | None, typer.Option("--devices-file", metavar="FILE", help="The list has these devices, one id a line.")
]
DescriptionOption = Annotated[str | None, typer.Option("--description", help="What it is for.")]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Only say who would join and leave.")]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


@command(app, "list", examples=["skerry groups list"])
def list_groups(session: Session, limit: LimitOption = None) -> None:
    """List groups by name."""
    items = list(session.client.pages("/v1/groups", limit=limit))
    now = session.now()
    rows = [
        (
            item["name"],
            "a list" if item["filter"] is None else item["filter"],
            item["description"],
            item["changed_by"],
            ago(item["changed_s"], now),
        )
        for item in items
    ]
    columns = ["group", "filter", "description", "changed by", "when"]
    session.out.rows(items, columns, rows, empty="There are no groups yet; `skerry groups create` makes one.")


@command(app, "show", examples=["skerry groups show canaries"])
def show_group(session: Session, group: GroupArgument) -> None:
    """Show a group: its filter, how many devices are in it now, and what uses it."""
    found = session.client.get(_path(group))
    row = found["group"]
    now = session.now()
    fields = [
        ("group", row["name"]),
        ("filter", "none: it is a list" if row["filter"] is None else row["filter"]),
        ("description", row["description"]),
        ("devices", f"{found['devices']} active, {found['revoked']} revoked"),
        ("named by", ", ".join(found["named_by"])),
        ("rollouts", ", ".join(found["rollouts"])),
        ("made", f"{ago(row['created_s'], now)} by {row['created_by']}"),
        ("changed", f"{ago(row['changed_s'], now)} by {row['changed_by']}"),
    ]
    session.out.result(found, fields_table(fields))


@command(app, "devices", examples=["skerry groups devices canaries"])
def list_devices(session: Session, group: GroupArgument, limit: LimitOption = None) -> None:
    """List the devices that are in a group now."""
    items = list(session.client.pages(f"{_path(group)}/devices", limit=limit))
    columns, rows = device_rows(items, session.now())
    session.out.rows(items, columns, rows, empty="No device is in it.")


@command(
    app,
    "create",
    examples=[
        "skerry groups create canaries --filter 'tag.ring==canary' --description 'first to get everything'",
        "skerry groups create lab --device pi-1 --device pi-2",
        "skerry groups create big --filter 'memory_bytes=ge=4GiB;group!=canaries' --dry-run",
    ],
)
def create_group(
    session: Session,
    group: GroupArgument,
    filter: FilterOption = None,
    device: DeviceOption = None,
    devices_file: ListOption = None,
    description: DescriptionOption = None,
    dry_run: DryRunOption = False,
) -> None:
    """Save a group: a filter, or a list of devices."""
    listed = _listed(device, devices_file)
    if (filter is None) == (listed is None):
        raise InvalidInput("cli.group_content", "Say who is in it.", hint="Give --filter, or --device for each device.")
    wish = {
        "name": parse_group_name(group),
        "filter": filter,
        "devices": listed,
        "description": description or "",
        "dry_run": dry_run,
    }
    plan = session.client.post("/v1/groups", wish)
    session.out.result(plan, *_change_lines(plan, "would be made" if dry_run else "is made"))


@command(
    app,
    "update",
    examples=[
        "skerry groups update canaries --filter 'tag.ring=in=(canary,early)' --dry-run",
        "skerry groups update lab --add pi-3 --remove pi-1",
    ],
)
def update_group(
    session: Session,
    group: GroupArgument,
    filter: FilterOption = None,
    device: DeviceOption = None,
    devices_file: ListOption = None,
    add: Annotated[list[str] | None, typer.Option("--add", metavar="DEVICE", help="Put it on the list.")] = None,
    remove: Annotated[list[str] | None, typer.Option("--remove", metavar="DEVICE", help="Take it off.")] = None,
    description: DescriptionOption = None,
    dry_run: DryRunOption = False,
    yes: YesOption = False,
) -> None:
    """Change a group. It asks first when rollouts that go on target it, and devices would join or leave."""
    path = _path(group)
    change: dict[str, Any] = {
        "filter": filter,
        "devices": _listed(device, devices_file),
        "add": [parse_device_id(name) for name in add or []],
        "remove": [parse_device_id(name) for name in remove or []],
        "description": description,
    }
    plan = session.client.patch(path, {**change, "dry_run": True})
    if dry_run:
        session.out.result(plan, *_change_lines(plan, "would be changed"))
        return
    if plan["rollouts"] and (plan["joining"] or plan["leaving"]):
        session.out.shown("\n".join(_change_lines(plan, "would be changed")))
        session.confirm(f"Change {plain(group)} all the same?", yes=yes)
    done = session.client.patch(path, change)
    session.out.result(done, *_change_lines(done, "is changed"))


@command(app, "delete", examples=["skerry groups delete lab"])
def delete_group(session: Session, group: GroupArgument, yes: YesOption = False) -> None:
    """Take a group away; its devices stay as they are. Not while another group or a rollout uses it."""
    path = _path(group)
    session.confirm(f"Delete the group {plain(group)}?", yes=yes)
    session.client.delete(path)
    session.out.result({"name": group, "deleted": True}, f"The group {group} is deleted.")


def _path(group: str) -> str:
    return f"/v1/groups/{parse_group_name(group)}"


def _listed(devices: list[str] | None, file: Path | None) -> list[str] | None:
    """The list that the options give, if any; error `cli.file`."""
    if not devices and file is None:
        return None
    names = list(devices or [])
    if file is not None:
        try:
            with file.open("rb") as source:
                data = source.read(_MAX_LIST_BYTES + 1)
            if len(data) > _MAX_LIST_BYTES:
                raise InvalidInput("cli.file", f"{file} has more than {_MAX_LIST_BYTES} bytes.")
            names += data.decode("utf-8").split()
        except (OSError, UnicodeDecodeError) as error:
            raise InvalidInput("cli.file", f"Cannot read {file}: {error}.", hint="Give text, one id a line.") from error
    return sorted({parse_device_id(name) for name in names})


def _change_lines(plan: Mapping[str, Any], what: str) -> Iterator[str]:
    count = plan["devices"]
    yield f"The group {plan['group']['name']} {what}; {count} active device{'' if count == 1 else 's'} in it."
    for verb, examples in (("joining", "joins"), ("leaving", "leaves")):
        number = plan[verb]
        if number:
            shown = ", ".join(plan[examples][:_SHOWN_COUNT]) + (", …" if number > _SHOWN_COUNT else "")
            yield f"  {verb}: {number} ({shown})"
    if plan["rollouts"]:
        yield f"  rollouts that target it: {', '.join(plan['rollouts'])}"
