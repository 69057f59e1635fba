"""`skerry devices`."""

from __future__ import annotations

from typing import Annotated

import typer

from hub.cli.session import Session, command, new_group

__all__ = ["app"]

app = new_group("devices", "Devices: enrol, find, tag, revoke.")


@command(app, "list", examples=["skerry devices list --filter 'tag.site==lab;status==active'"])
def list_devices(
    session: Session,
    filter: Annotated[str | None, typer.Option("--filter", help="RSQL")] = None,
    limit: Annotated[int | None, typer.Option("--limit", min=1)] = None,
) -> None:
    """List devices."""
    items = list(session.client.pages("/v1/devices", filter=filter, limit=limit))
    session.out.rows(items, ["device"], [[i["device_id"]] for i in items], empty="No device.")


@command(app, "show")
def show_device(session: Session, device: Annotated[str, typer.Argument(help="Device id.")]) -> None:
    """Show one device."""
    session.out.result(session.client.get(f"/v1/devices/{device}"))
