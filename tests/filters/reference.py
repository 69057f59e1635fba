"""What a filter means, said a second time in plain Python over one device at a time, and fleets to try it on."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Any

from sqlalchemy import insert

from hub.store import schema
from hub.store.database import Connection
from hub.store.documents import heartbeat_columns, inventory_columns
from hub.store.filter_nodes import (
    FIELDS,
    Both,
    Comparison,
    Either,
    Everything,
    Kind,
    Moment,
    Node,
    Number,
    Operator,
    Pattern,
    Present,
    Value,
)
from shared.software_version import sort_key

__all__ = ["MODELS", "NOW_S", "ONLINE_S", "TAGS", "WORDS", "Device", "fleet", "holds", "store"]

NOW_S = 1_000_000.0
ONLINE_S = 300.0
MODELS = ("digits", "speech")
TAGS = ("site", "floor")
WORDS = ("north", "North", "NORTH", "süd", "SÜD", "a_b", "100%", "3", "-0.5", "12", "007", "1e3", "x*y", "it's", "a\\b")
RELEASES = ("1.9", "1.10", "1.10rc1", "2.0", "nightly", "")
NUMBERS = (0, 1, 4, 1024, 512 * 1024**2, 2**40)
_ORDER = {Operator.LT, Operator.LE, Operator.GT, Operator.GE}
_TOTALS = ("requests", "errors")


@dataclass
class Device:
    """One device as the rows of the hub's tables have it; None: it has not said."""

    device_id: str
    own: dict[str, Any]
    tags: dict[str, str]
    hot: dict[str, Any] | None
    models: dict[str, dict[str, Any]]
    assigned: dict[str, int]
    lists: set[str] = field(default_factory=set)


def fleet(random: Random, count: int) -> list[Device]:
    """Devices that have, and lack, all sorts of things."""
    return [_device(random, f"{random.choice(('cam', 'pi_', 'Jet'))}-{number}".lower()) for number in range(count)]


def _device(random: Random, device_id: str) -> Device:
    inventory = {
        **{name: random.choice(RELEASES) for name in ("agent_version", "runtime_version", "python")},
        **{name: random.choice(WORDS) for name in ("runtime", "arch", "os")},
        **{name: random.choice(NUMBERS) for name in ("cpu_count", "memory_bytes", "storage_bytes")},
    }
    heartbeat = {
        **{name: random.choice(NUMBERS) for name in ("disk_free_bytes", "rss_bytes", "outbox_count")},
        "cpu_percent": random.choice((None, 0.0, 0.5, 12.25)),
    }
    seen = {"last_seen_s": NOW_S - random.choice((0, 299, 300, 301, 3600, 90_000))}
    return Device(
        device_id=device_id,
        own={
            "status": random.choice(("active", "active", "revoked")),
            "profile": random.choice(WORDS),
            "hardware_id": random.choice(("", "rack-7")),
            "enrolled_s": NOW_S - random.choice((0, 60, 86_400)),
            **(inventory_columns(inventory) if random.random() < 0.8 else {}),
        },
        tags={key: random.choice(WORDS) for key in TAGS if random.random() < 0.6},
        hot=random.choice((None, seen, {**seen, **heartbeat_columns(heartbeat)})),
        models={name: _model(random) for name in MODELS if random.random() < 0.6},
        assigned={name: random.choice((1, 2, 3)) for name in MODELS if random.random() < 0.5},
        lists={name for name in ("listed",) if random.random() < 0.3},
    )


def _model(random: Random) -> dict[str, Any]:
    versions = (None, 1, 2, 3)
    return {
        **{name: random.choice(versions) for name in ("version", "previous_version", "target_version")},
        "state": random.choice(("idle", "committed", "rolled_back")),
        "reason_code": random.choice(("", "install.golden", "probation.errors")),
        **{name: random.choice(NUMBERS) for name in ("requests", "errors", "latency_p99_us")},
        "updated_s": NOW_S,
    }


def store(connection: Connection, devices: list[Device]) -> None:
    """Write a fleet, and the groups that it is listed in."""
    for name in sorted({name for device in devices for name in device.lists}):
        values = {"name": name, "description": "", "created_s": 0.0, "created_by": "t", "changed_s": 0.0}
        connection.execute(insert(schema.device_groups).values(**values, changed_by="t"))
    for device in devices:
        mine = {"device_id": device.device_id}
        connection.execute(insert(schema.devices).values(**mine, **device.own))
        for key, value in device.tags.items():
            connection.execute(insert(schema.device_tags).values(**mine, key=key, value=value))
        if device.hot is not None:
            hot = {"epoch": "0" * 16, "watermark": 0, **device.hot}
            connection.execute(insert(schema.device_status).values(**mine, **hot))
        for model, values in device.models.items():
            connection.execute(insert(schema.device_models).values(**mine, model=model, **values))
        for model, version in device.assigned.items():
            given = {"bundle_sha256": "0" * 64, "bundle_bytes": 1, "counter": 1, "bake_s": 0, "issued_s": 0.0}
            row = {**mine, "model": model, "version": version, **given, "expires_s": 0.0, "deployment_id": "d-1"}
            connection.execute(insert(schema.assignments).values(**row))
        for name in device.lists:
            connection.execute(insert(schema.device_group_members).values(group_name=name, **mine))


# --- the meaning ------------------------------------------------------------------------------------------------------
def holds(node: Node, device: Device, groups: Mapping[str, Node | None]) -> bool:
    """Whether the filter chooses the device."""
    match node:
        case Everything():
            return bool(device.own["status"] == "active")
        case Both(parts):
            return all(holds(part, device, groups) for part in parts)
        case Either(parts):
            return any(holds(part, device, groups) for part in parts)
        case Comparison(field="group"):
            names = [value.pieces[0] for value in node.values if isinstance(value, Pattern)]
            inside = any(_is_member(name, device, groups) for name in names)
            return inside is (node.operator in (Operator.EQ, Operator.IN))
        case Comparison():
            one = any(_matches(node, value, device) for value in node.values)
            return one is (node.operator not in (Operator.NE, Operator.OUT))


def _is_member(name: str, device: Device, groups: Mapping[str, Node | None]) -> bool:
    inner = groups[name]
    return name in device.lists if inner is None else holds(inner, device, groups)


def _matches(node: Comparison, value: Value, device: Device) -> bool:
    found = _said(node, device)
    if found is None or found == "":
        return False
    kind = FIELDS[node.field].kind
    match value:
        case Present():
            return True
        case Moment(seconds, relative):
            return _ordered(node.operator, found, NOW_S + seconds if relative else seconds)
        case Number(number) if kind is Kind.TAG:
            plain = len(found) <= 16 and re.fullmatch(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?", found, re.ASCII)
            return bool(plain) and _ordered(node.operator, float(found), number)
        case Number(number):
            return _ordered(node.operator, found, number)
        case Pattern(pieces) if node.operator in _ORDER:
            mine, other = sort_key(found), sort_key(pieces[0])
            return mine is not None and other is not None and _ordered(node.operator, mine, other)
        case Pattern(pieces):
            if len(pieces) == 1 and node.operator is not Operator.LIKE:
                return bool(found == pieces[0])
            shape = ".*".join(re.escape(_folded(piece)) for piece in pieces)
            return re.fullmatch(shape, _folded(found), re.DOTALL) is not None


def _said(node: Comparison, device: Device) -> Any:
    """What is known of the device about the field."""
    name = node.field
    if name == "id":
        return device.device_id
    if name == "tag":
        return device.tags.get(node.key)
    if name == "online":
        heard = device.hot is not None and device.hot["last_seen_s"] >= NOW_S - ONLINE_S
        return int(device.own["status"] == "active" and heard)
    if name == "assigned":
        return device.assigned.get(node.key)
    if name in _TOTALS and not node.key:
        return sum(model[name] for model in device.models.values()) if device.models else None
    column = {"enrolled": "enrolled_s", "last_seen": "last_seen_s", "reason": "reason_code"}.get(name, name)
    column = {"previous": "previous_version", "target": "target_version"}.get(name, column)
    if node.key:
        return device.models.get(node.key, {}).get(column)
    return device.own.get(column, (device.hot or {}).get(column))


def _ordered(operator: Operator, mine: Any, other: Any) -> bool:
    match operator:
        case Operator.LT:
            return bool(mine < other)
        case Operator.LE:
            return bool(mine <= other)
        case Operator.GT:
            return bool(mine > other)
        case Operator.GE:
            return bool(mine >= other)
        case _:
            return bool(mine == other)


def _folded(text: str) -> str:
    return "".join(char.lower() if char.isascii() else char for char in text)
