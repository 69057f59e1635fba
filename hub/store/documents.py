"""What a device says of itself as a document, and the columns that filters ask for, from the same words. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from shared.software_version import sort_key

__all__ = ["heartbeat_columns", "inventory_columns"]

_INVENTORY = (
    "agent_version",
    "runtime",
    "runtime_version",
    "arch",
    "os",
    "python",
    "cpu_count",
    "memory_bytes",
    "storage_bytes",
)
_SORTED = ("agent_version", "runtime_version", "python")
_HEARTBEAT = ("disk_free_bytes", "rss_bytes", "cpu_percent", "outbox_count")


def inventory_columns(document: Mapping[str, Any]) -> dict[str, Any]:
    """Columns of `devices` for an inventory."""
    columns = {name: document.get(name) for name in _INVENTORY}
    return {**columns, **{f"{name}_key": sort_key(columns[name] or "") for name in _SORTED}}


def heartbeat_columns(document: Mapping[str, Any]) -> dict[str, Any]:
    """Columns of `device_status` for a heartbeat."""
    return {name: document.get(name) for name in _HEARTBEAT}
