"""Bytes that runs have moved, by firmware profile: a device's link is its profile's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, delete, insert, select

from hub.store.schema import federated_traffic

__all__ = ["TrafficRow", "keep_traffic", "traffic_of_run"]

_T = federated_traffic.c


@dataclass(frozen=True, slots=True, kw_only=True)
class TrafficRow:
    """What the devices of one profile have moved in a run."""

    profile: str
    devices: int
    bytes_down: int
    bytes_up: int


def keep_traffic(connection: Connection, run_no: int, rows: Sequence[TrafficRow]) -> None:
    """Keep the sums of a run, in place of those before: they are of the whole run, so nothing counts twice."""
    if not rows:
        return
    connection.execute(delete(federated_traffic).where(_T.run_no == run_no))
    connection.execute(
        insert(federated_traffic),
        [
            {"run_no": run_no, **{name: getattr(row, name) for name in TrafficRow.__dataclass_fields__}}
            for row in rows
        ],
    )


def traffic_of_run(connection: Connection, run_no: int) -> list[TrafficRow]:
    """The sums of a run, by profile."""
    query = select(*(_T[name] for name in TrafficRow.__dataclass_fields__)).where(_T.run_no == run_no)
    return [TrafficRow(**row) for row in connection.execute(query.order_by(_T.profile)).mappings()]
