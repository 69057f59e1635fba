"""Rollouts: what they will do, how they stand, their devices, and the record of what happened.

`rollout_devices` is the membership, materialised: a tick counts and picks from its indexes and never looks at all
devices. How many are in each state stands in `rollout_tallies`, which triggers keep (migration 0011); rows are never
deleted. A row is `current` while the rollout is what assigned the device last; `dirty` while the device has said
something since that the row does not know. Times ending in `_e` are engine time of the rollout, whole seconds.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    SmallInteger,
    String,
    Table,
    Text,
    literal_column,
)

from hub.store.schema.base import ID, metadata

__all__ = ["IS_CURRENT", "IS_MARKED", "IS_VANISHED", "IS_WAITING"]
__all__ += ["rollout_arrivals", "rollout_devices", "rollout_events", "rollout_groups", "rollout_tallies", "rollouts"]

_NUMBER = BigInteger().with_variant(Integer, "sqlite")

rollouts = Table(
    "rollouts",
    metadata,
    Column("rollout_no", Integer, primary_key=True, autoincrement=True),
    Column("rollout_id", String(32), nullable=False, unique=True),  # also the `deployment_id` of its assignments
    Column("model", ID, nullable=False),
    Column("version", Integer, nullable=False),
    Column("definition", Text, nullable=False),  # as it was given, canonical JSON
    Column("plan", Text, nullable=False),
    Column("progress", Text, nullable=False),
    Column("status", String(16), nullable=False, index=True),  # this and the next two are the progress's own
    Column("revision", BigInteger, nullable=False),
    Column("elapsed_e", BigInteger, nullable=False),
    Column("changes", BigInteger, nullable=False),  # grows with whatever those who watch could see
    Column("priority", Integer, nullable=False),
    Column("hash_a", BigInteger, nullable=False),  # bucket = (hash31 * a + b) % 2147483647
    Column("hash_b", BigInteger, nullable=False),
    Column("marks", Text, nullable=False),  # [[engine time, wall time], …]: what the wall clock showed when
    Column("created_s", Float, nullable=False),
    Column("created_by", String(63), nullable=False),
    Index("ix_rollouts_model", "model"),
)

rollout_groups = Table(
    "rollout_groups",
    metadata,
    Column("rollout_no", Integer, ForeignKey("rollouts.rollout_no"), primary_key=True),
    Column("group_no", Integer, primary_key=True),
    Column("name", String(63), nullable=False),
    Column("threshold", BigInteger),  # buckets below it; NULL: the members are chosen otherwise
)

rollout_devices = Table(
    "rollout_devices",
    metadata,
    Column("rollout_no", Integer, ForeignKey("rollouts.rollout_no"), primary_key=True),
    Column("device_id", ID, ForeignKey("devices.device_id"), primary_key=True),
    Column("model", ID, nullable=False),
    Column("bucket", BigInteger, nullable=False),
    Column("place", BigInteger, nullable=False),  # in the order of assigning: the bucket, or 0 where no limit slows it
    Column("group_no", Integer, nullable=False),
    Column("state", String(16), nullable=False),
    Column("profile", String(63), nullable=False),
    Column("timezone", String(64), nullable=False, default=""),
    Column("attempts", Integer, nullable=False, default=0),
    Column("counter", BigInteger, nullable=False, default=0),  # of the assignment that the state is about
    Column("mode", String(8), nullable=False, default="live"),  # of that assignment
    Column("target_version", Integer),  # what was assigned last
    Column("previous_version", Integer),  # what served before the first assignment
    Column("changed_e", BigInteger, nullable=False, default=0),  # last change of the state
    Column("changed_s", Float, nullable=False),  # the same by the wall clock, for people
    Column("reason_code", String(64), nullable=False, default=""),
    Column("current", SmallInteger, nullable=False, default=0),
    Column("dirty", SmallInteger, nullable=False, default=0),
    Column("vanished", SmallInteger, nullable=False, default=0),
    Index("ix_rollout_devices_count", "rollout_no", "group_no", "state", "changed_e", "attempts", "profile"),
    sqlite_with_rowid=False,
)
# The conditions of partial indexes, word for word: SQLite uses one only for a query that says the same without a
# parameter in its place.
IS_WAITING = rollout_devices.c.state == literal_column("'waiting'")
IS_CURRENT = rollout_devices.c.current == literal_column("1")
IS_MARKED = rollout_devices.c.dirty > literal_column("0")
IS_VANISHED = rollout_devices.c.vanished > literal_column("0")
Index(
    "ix_rollout_devices_waiting",
    rollout_devices.c.rollout_no,
    rollout_devices.c.group_no,
    rollout_devices.c.timezone,
    rollout_devices.c.place,
    rollout_devices.c.device_id,
    sqlite_where=IS_WAITING,
    postgresql_where=IS_WAITING,
)
Index(  # one rollout at the most has assigned a device its model
    "ix_rollout_devices_current",
    rollout_devices.c.device_id,
    rollout_devices.c.model,
    unique=True,
    sqlite_where=IS_CURRENT,
    postgresql_where=IS_CURRENT,
)
Index(
    "ix_rollout_devices_dirty",
    rollout_devices.c.rollout_no,
    rollout_devices.c.dirty,
    rollout_devices.c.device_id,
    sqlite_where=IS_MARKED,
    postgresql_where=IS_MARKED,
)
Index(
    "ix_rollout_devices_vanished",
    rollout_devices.c.rollout_no,
    rollout_devices.c.group_no,
    sqlite_where=IS_VANISHED,
    postgresql_where=IS_VANISHED,
)

rollout_tallies = Table(  # how many of `rollout_devices`; written by triggers only
    "rollout_tallies",
    metadata,
    Column("rollout_no", Integer, ForeignKey("rollouts.rollout_no"), primary_key=True, autoincrement=False),
    Column("group_no", Integer, primary_key=True, autoincrement=False),
    Column("state", String(16), primary_key=True),
    Column("n", BigInteger, nullable=False),
)

rollout_arrivals = Table(  # devices that came or changed since memberships were last looked at; appended to only
    "rollout_arrivals",
    metadata,
    Column("arrival_no", _NUMBER, primary_key=True, autoincrement=True),
    Column("device_id", ID, nullable=False),
    Column("claimed", SmallInteger, nullable=False, default=0),
)

rollout_events = Table(
    "rollout_events",
    metadata,
    Column("rollout_no", Integer, ForeignKey("rollouts.rollout_no"), primary_key=True),
    Column("event_no", BigInteger, primary_key=True),
    Column("at_s", Float, nullable=False),
    Column("kind", String(32), nullable=False),
    Column("group_no", Integer),
    Column("code", String(64), nullable=False),
    Column("message", String(500), nullable=False),
    Column("numbers", Text, nullable=False),  # canonical JSON: the evidence
    Column("by", String(80), nullable=False),
)
