"""`skerry devices top`: the devices that do worst among their like, or against their own past."""

from __future__ import annotations

from typing import Annotated

import typer

from hub.cli.devices import app
from hub.cli.session import Session, command

__all__: list[str] = []

_SHOWN = ("cpu_percent", "temperature_c", "clock_ahead_s")


@command(app, "top", examples=["skerry devices top", "skerry devices top --count 5 --json"])
def top_devices(
    session: Session,
    count: Annotated[int, typer.Option("--count", "-n", min=1, max=500, help="So many.")] = 20,
) -> None:
    """Show the devices whose heat, memory, load, disk, restarts, battery, link or clock are the oddest:
    among those of their profile, or against their own last day."""
    items = session.client.get("/v1/odd-devices", limit=count)["items"]
    rows = [
        (
            one["device_id"],
            one["profile"],
            f"{one['score']:.1f}",
            one["reading"],
            _shown(one["readings"].get(one["reading"])),
            {"past": "own past", "peers": "profile"}.get(one["against"], ""),
            *(_shown(one["readings"].get(name)) for name in _SHOWN),
        )
        for one in items
    ]
    columns = ("device", "profile", "score", "worst reading", "value", "against", "cpu %", "°C", "clock s")
    session.out.rows(items, columns, rows, empty="No device has told of its machine yet.")


def _shown(value: object) -> str:
    return "" if value is None else f"{value:g}" if isinstance(value, int | float) else str(value)
