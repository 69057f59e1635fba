"""A device filter as a value: what the language's parser gives and what SQL is made from. Pure.

`FIELDS` is the one table of what can be asked; a kind decides which operators and values a field takes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

__all__ = [
    "ALIASES",
    "FIELDS",
    "Both",
    "Comparison",
    "Either",
    "Everything",
    "Field",
    "Key",
    "Kind",
    "Moment",
    "Node",
    "Number",
    "Operator",
    "Pattern",
    "Present",
    "Value",
    "references",
]


class Operator(StrEnum):
    """What a comparison asks."""

    EQ = "=="
    NE = "!="
    LT = "=lt="
    LE = "=le="
    GT = "=gt="
    GE = "=ge="
    IN = "=in="
    OUT = "=out="
    LIKE = "=li="


class Kind(StrEnum):
    """What a field holds."""

    TEXT = "text"
    TAG = "tag"
    """Text; its order is that of numbers, for values that are plain numbers."""
    RELEASE = "software version"
    """Text; its order is that of releases (1.10 comes after 1.9)."""
    INTEGER = "whole number"
    DECIMAL = "number"
    BYTES = "bytes"
    VERSION = "model version"
    TIME = "time"
    FLAG = "true or false"
    GROUP = "group"


class Key(StrEnum):
    """What stands behind the dot of a field."""

    NONE = ""
    TAG = "key"
    MODEL = "model"
    MODEL_OR_NONE = "[model]"
    GROUP_OR_NONE = "[group]"


@dataclass(frozen=True, slots=True)
class Field:
    """One thing that can be asked about a device. `says`: what it is, for the reference."""

    kind: Kind
    says: str
    key: Key = Key.NONE


FIELDS: Mapping[str, Field] = {
    "id": Field(Kind.TEXT, "device id"),
    "profile": Field(Kind.TEXT, "firmware profile"),
    "status": Field(Kind.TEXT, "active or revoked"),
    "hardware_id": Field(Kind.TEXT, "what the device enrolled with"),
    "tag": Field(Kind.TAG, "a tag", Key.TAG),
    "group": Field(Kind.GROUP, "membership of a saved group", Key.GROUP_OR_NONE),
    "enrolled": Field(Kind.TIME, "when it enrolled"),
    "last_seen": Field(Kind.TIME, "when it was last heard of"),
    "online": Field(Kind.FLAG, "active and heard of within `offline_after_s`"),
    "agent_version": Field(Kind.RELEASE, "version of the agent"),
    "runtime": Field(Kind.TEXT, "inference runtime"),
    "runtime_version": Field(Kind.RELEASE, "version of the runtime"),
    "arch": Field(Kind.TEXT, "processor architecture"),
    "os": Field(Kind.TEXT, "operating system"),
    "python": Field(Kind.RELEASE, "version of Python"),
    "cpu_count": Field(Kind.INTEGER, "processor cores"),
    "memory_bytes": Field(Kind.BYTES, "memory in all"),
    "storage_bytes": Field(Kind.BYTES, "storage in all"),
    "disk_free_bytes": Field(Kind.BYTES, "free storage at the last heartbeat"),
    "rss_bytes": Field(Kind.BYTES, "the agent's memory at the last heartbeat"),
    "cpu_percent": Field(Kind.DECIMAL, "the agent's use of a core at the last heartbeat"),
    "outbox_count": Field(Kind.INTEGER, "messages waiting on the device at the last heartbeat"),
    "version": Field(Kind.VERSION, "the version that serves", Key.MODEL),
    "previous": Field(Kind.VERSION, "the version that a roll-back on the device would give", Key.MODEL),
    "target": Field(Kind.VERSION, "the version that its last install report was about", Key.MODEL),
    "assigned": Field(Kind.VERSION, "the version that the hub wants there", Key.MODEL),
    "state": Field(Kind.TEXT, "state of the install", Key.MODEL),
    "reason": Field(Kind.TEXT, "reason code of the last failed install", Key.MODEL),
    "requests": Field(Kind.INTEGER, "predictions in all; without a model, of all models", Key.MODEL_OR_NONE),
    "errors": Field(Kind.INTEGER, "failed predictions in all; without a model, of all models", Key.MODEL_OR_NONE),
    "latency_p99_us": Field(Kind.INTEGER, "slow predictions in the last heartbeat, microseconds", Key.MODEL),
}
ALIASES: Mapping[str, str] = {
    "enrolled_s": "enrolled",
    "last_seen_s": "last_seen",
    "disk_free": "disk_free_bytes",
    "rss": "rss_bytes",
    "memory": "memory_bytes",
    "storage": "storage_bytes",
}
"""Other names of fields, as the API's answers and people say them."""


@dataclass(frozen=True, slots=True)
class Present:
    """`*` alone: any value, but one."""


@dataclass(frozen=True, slots=True)
class Pattern:
    """Text: pieces with any text between them; one piece is an exact value."""

    pieces: tuple[str, ...]

    @property
    def like(self) -> str:
        """As the pattern of LIKE with `\\` as escape."""
        escaped = (p.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_") for p in self.pieces)
        return "%".join(escaped)


@dataclass(frozen=True, slots=True)
class Number:
    """A number; a plain int but for fields with decimals. A flag is 1 or 0."""

    value: int | float


@dataclass(frozen=True, slots=True)
class Moment:
    """Seconds since 1970, or, when `relative`, from now."""

    seconds: int
    relative: bool


Value = Present | Pattern | Number | Moment


@dataclass(frozen=True, slots=True)
class Everything:
    """All active devices."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """`field` (of the tag or model `key`) compared with `values`: several for `=in=` and `=out=`, else one."""

    field: str
    key: str
    operator: Operator
    values: tuple[Value, ...]


@dataclass(frozen=True, slots=True)
class Both:
    """All of the parts hold."""

    parts: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Either:
    """At least one of the parts holds."""

    parts: tuple[Node, ...]


Node = Everything | Comparison | Both | Either


def references(node: Node) -> frozenset[str]:
    """The groups that a filter names."""
    match node:
        case Both(parts) | Either(parts):
            return frozenset().union(*(references(part) for part in parts))
        case Comparison(field="group"):
            return frozenset(value.pieces[0] for value in node.values if isinstance(value, Pattern))
        case _:
            return frozenset()
