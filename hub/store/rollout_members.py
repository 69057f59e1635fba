"""Who belongs to a rollout and to which of its groups: written down at its creation, and when devices come or change.

The first group that fits is a device's group for good. A device joins late by the same hash as all others, so it falls
where it always would have. Rows are never taken away: who leaves before anything was assigned is `skipped`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    Float,
    Select,
    and_,
    case,
    cast,
    delete,
    exists,
    func,
    literal,
    literal_column,
    not_,
    null,
    or_,
    select,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite

from hub.store.deployments import skip_reason
from hub.store.device_filter import Condition
from hub.store.hashing import MODULUS
from hub.store.rollouts import RolloutRow
from hub.store.schema import device_tags, devices, rollout_arrivals, rollout_devices

__all__ = [
    "Membership",
    "both",
    "claim_arrivals",
    "claimed",
    "drop_claimed",
    "has_arrivals",
    "join",
    "listed",
    "nth_bucket",
    "preview",
    "review",
    "slice_after",
]

TIMEZONE_TAG = "timezone"
_LEFT = "rollout.left"
_TOUCHED = ("assigned", "downloading", "staged", "installing", "succeeded", "failed", "reverted", "rolling_back")


@dataclass(frozen=True, slots=True, kw_only=True)
class Membership:
    """Conditions on `devices`. groups: one each, None for those by threshold. unfit: profile to reason code.

    zoned: a device's own time zone matters (its tag `timezone`). open_to_new: may devices join after the creation?
    slow: a limit lets only some devices of a group go at a time, so their order matters and is that of the hash;
    otherwise it is that of their ids, which lie together on the disk.
    """

    model: str
    targets: Condition
    groups: tuple[Condition | None, ...]
    unfit: Mapping[str, str]
    zoned: bool
    open_to_new: bool
    slow: bool


def listed(connection: Connection, ids: Sequence[str]) -> Condition:
    """Exactly these devices, any number of them: the list is one value, because values are limited."""
    if connection.dialect.name == "postgresql":
        values = func.jsonb_array_elements_text(cast(list(ids), postgresql.JSONB)).table_valued("value")
    else:
        values = func.json_each(msgspec.json.encode(list(ids)).decode()).table_valued("value")
    return devices.c.device_id.in_(select(values.c.value))


def both(first: Condition, second: Condition) -> Condition:
    """Devices that both conditions choose."""
    return and_(first, second)


def _bucket(hash_a: int, hash_b: int) -> ColumnElement[int]:
    return (devices.c.hash31 * literal(hash_a, BigInteger) + literal(hash_b, BigInteger)) % literal(
        MODULUS, BigInteger
    )


def _group_no(
    membership: Membership, bucket: ColumnElement[int], thresholds: Sequence[int | None]
) -> ColumnElement[int | None]:
    whens: list[tuple[Condition, ColumnElement[int]]] = []
    for number, (chosen, threshold) in enumerate(zip(membership.groups, thresholds, strict=True)):
        if chosen is not None:
            whens.append((chosen, literal(number)))
        elif threshold is not None:
            whens.append((bucket < literal(threshold, BigInteger), literal(number)))
    return case(*whens, else_=null())


def _timezone(membership: Membership) -> ColumnElement[str]:
    if not membership.zoned:
        return literal("")
    tag = select(device_tags.c.value).where(
        device_tags.c.device_id == devices.c.device_id, device_tags.c.key == TIMEZONE_TAG
    )
    return func.substr(func.coalesce(tag.correlate(devices).scalar_subquery(), literal("")), 1, 64)


def slice_after(connection: Connection, after: str, count: int) -> tuple[Condition, str] | None:
    """The next `count` devices after an id, and the last one's id, so that no transaction is about all; None: no more.

    New devices that come behind are among the arrivals.
    """
    some = select(devices.c.device_id).where(devices.c.device_id > after).order_by(devices.c.device_id).limit(count)
    last = connection.execute(select(func.max(some.subquery().c.device_id))).scalar_one()
    return None if last is None else (and_(devices.c.device_id > after, devices.c.device_id <= last), last)


# --- before there is a rollout ----------------------------------------------------------------------------------------
def nth_bucket(connection: Connection, membership: Membership, hash_a: int, hash_b: int, nth: int) -> int | None:
    """The bucket of the `nth` (from 1) device by bucket that can get the version; None: there are fewer."""
    bucket = _bucket(hash_a, hash_b)
    fits = skip_reason(membership.model, membership.unfit) == ""
    query = select(bucket).where(membership.targets, fits).order_by(bucket).limit(1).offset(nth - 1)
    return connection.execute(query).scalar_one_or_none()


def preview(
    connection: Connection, membership: Membership, hash_a: int, hash_b: int, thresholds: Sequence[int | None]
) -> list[tuple[int, str, int]]:
    """(group, profile, devices) of a rollout that is not made yet."""
    bucket = _bucket(hash_a, hash_b)
    fits = skip_reason(membership.model, membership.unfit) == ""
    found = (
        select(_group_no(membership, bucket, thresholds).label("group_no"), devices.c.profile)
        .where(membership.targets, fits)
        .subquery()
    )
    query = (
        select(found.c.group_no, found.c.profile, func.count())
        .where(found.c.group_no.is_not(None))
        .group_by(found.c.group_no, found.c.profile)
        .order_by(found.c.group_no, found.c.profile)
    )
    return [(row[0], row[1], row[2]) for row in connection.execute(query)]


# --- joining ----------------------------------------------------------------------------------------------------------
def join(
    connection: Connection,
    row: RolloutRow,
    membership: Membership,
    thresholds: Sequence[int | None],
    now_s: float,
    among: Condition | None = None,
) -> int:
    """Write down the members that are not yet; `among`: only these devices. Returns how many."""
    bucket = _bucket(row.hash_a, row.hash_b)
    table = rollout_devices
    known = exists().where(table.c.rollout_no == row.rollout_no, table.c.device_id == devices.c.device_id)
    found = (
        select(
            devices.c.device_id,
            devices.c.profile,
            bucket.label("bucket"),
            _group_no(membership, bucket, thresholds).label("group_no"),
            skip_reason(membership.model, membership.unfit).label("reason_code"),
            _timezone(membership).label("timezone"),
        )
        .where(membership.targets, not_(known), *([] if among is None else [among]))
        .subquery()
    )
    values: dict[str, ColumnElement[Any]] = {
        "rollout_no": literal(row.rollout_no),
        "device_id": found.c.device_id,
        "model": literal(membership.model),
        "bucket": found.c.bucket,
        "place": found.c.bucket if membership.slow else literal(0, BigInteger),
        "group_no": found.c.group_no,
        "state": _first_state(row, found.c.device_id, found.c.reason_code, membership.model),
        "profile": found.c.profile,
        "timezone": found.c.timezone,
        "attempts": literal(0),
        "counter": literal(0),
        "mode": literal("live"),
        "changed_e": literal(row.rollout.progress.clock.elapsed_s),
        "changed_s": literal(now_s, Float),
        "reason_code": found.c.reason_code,
        "current": literal(0),
        "dirty": literal(0),
        "vanished": literal(0),
    }
    rows = select(*values.values()).where(found.c.group_no.is_not(None))
    make = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    return connection.execute(
        make(rollout_devices).from_select(list(values), rows, include_defaults=False).on_conflict_do_nothing()
    ).rowcount


def _first_state(
    row: RolloutRow, device_id: ColumnElement[str], reason: ColumnElement[str], model: str
) -> ColumnElement[str]:
    """A device that a newer rollout has given something else belongs to that one."""
    other = rollout_devices.alias("other")
    taken = exists().where(
        other.c.device_id == device_id,
        other.c.model == model,
        other.c.current == literal_column("1"),
        other.c.rollout_no > row.rollout_no,
    )
    return case((reason != "", literal("skipped")), (taken, literal("superseded")), else_=literal("waiting"))


# --- devices that came or changed -------------------------------------------------------------------------------------
def has_arrivals(connection: Connection) -> bool:
    """Whether anything came or changed."""
    return connection.execute(select(rollout_arrivals.c.arrival_no).limit(1)).first() is not None


def claim_arrivals(connection: Connection, limit: int) -> int:
    """Take up to `limit` arrivals into this transaction; what comes meanwhile stays for the next. Returns how many."""
    oldest = select(rollout_arrivals.c.arrival_no).order_by(rollout_arrivals.c.arrival_no).limit(limit)
    return connection.execute(
        update(rollout_arrivals).where(rollout_arrivals.c.arrival_no.in_(oldest)).values(claimed=1)
    ).rowcount


def claimed() -> Condition:
    """The devices that this transaction has claimed."""
    return devices.c.device_id.in_(_claimed_ids())


def _claimed_ids() -> Select[tuple[str]]:
    return select(rollout_arrivals.c.device_id).where(rollout_arrivals.c.claimed == 1)


def drop_claimed(connection: Connection) -> None:
    """All rollouts have looked at them."""
    connection.execute(delete(rollout_arrivals).where(rollout_arrivals.c.claimed == 1))


def review(connection: Connection, row: RolloutRow, membership: Membership, now_s: float) -> int:
    """Members among the claimed devices: who can no longer get it is skipped, who can again waits. Returns how many."""
    rows = rollout_devices.c
    mine = and_(rows.rollout_no == row.rollout_no, rows.device_id.in_(_claimed_ids()))
    owner = devices.c.device_id == rows.device_id
    reason = skip_reason(membership.model, membership.unfit)
    fits = exists().where(owner, membership.targets, reason == "")
    revoked = exists().where(owner, devices.c.status != "active")
    why = func.coalesce(select(func.nullif(reason, "")).where(owner).scalar_subquery(), literal(_LEFT))
    changed = {"changed_e": row.rollout.progress.clock.elapsed_s, "changed_s": now_s}
    gone = connection.execute(
        update(rollout_devices)
        .where(mine, or_(and_(rows.state == "waiting", not_(fits)), and_(rows.state.in_(_TOUCHED), revoked)))
        .values(state="skipped", reason_code=why, current=0, dirty=0, vanished=0, **changed)
    ).rowcount
    back = 0
    if membership.open_to_new:
        again = and_(mine, rows.state == "skipped", fits)
        back = connection.execute(
            update(rollout_devices).where(again).values(state="waiting", reason_code="", **changed)
        ).rowcount
    here = select(devices.c.profile).where(owner).scalar_subquery()
    zone = select(_timezone(membership)).where(owner).scalar_subquery()
    connection.execute(update(rollout_devices).where(mine).values(profile=here, timezone=zone))
    return gone + back
