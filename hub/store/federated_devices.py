"""Devices and federated training: what each has to train on, with which key it joins, what it answered to offers."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, and_, delete, func, insert, select

from hub.store.device_filter import Condition
from hub.store.schema import (
    device_certificates,
    device_models,
    device_samples,
    device_status,
    devices,
    federated_answers,
)
from shared.wire.training import SampleCount

__all__ = [
    "AnswerRow",
    "CandidateRow",
    "SamplesRow",
    "answers_since",
    "candidates",
    "keys_of",
    "last_answers",
    "profiles_of",
    "prune_answers",
    "samples_of",
    "set_samples",
]

_CHUNK_COUNT = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplesRow:
    """What a device has of a model to train on (`shared.wire.training.SampleCount`)."""

    device_id: str
    model: str
    kept: int
    seen: int
    classes: int
    personal: bool
    updated_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class CandidateRow:
    """An active device that a run's filter chooses. version: what serves there, by its own word."""

    device_id: str
    profile: str
    version: int | None
    kept: int
    classes: int
    last_seen_s: float | None
    public_key: bytes | None


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerRow:
    """What became of an offer, as its device reported it."""

    device_id: str
    epoch: str
    seq: int
    run_id: str
    round_no: int
    state: str
    code: str
    reason: str
    seconds: float
    retry_s: float
    received_s: float


# --- samples ----------------------------------------------------------------------------------------------------------
def set_samples(connection: Connection, said: Mapping[str, Sequence[SampleCount]], now_s: float) -> None:
    """Take what devices said last about all of their models; a model that one does not name any more has none."""
    if not said:
        return
    rows = [
        {
            "device_id": device_id,
            "model": count.model,
            "kept": count.kept,
            "seen": count.seen,
            "classes": count.classes,
            "personal": int(count.personal),
            "updated_s": now_s,
        }
        for device_id in sorted(said)
        for count in {count.model: count for count in said[device_id]}.values()
    ]
    connection.execute(delete(device_samples).where(device_samples.c.device_id.in_(sorted(said))))
    if rows:
        connection.execute(insert(device_samples), rows)


def samples_of(connection: Connection, model: str, condition: Condition | None = None) -> list[SamplesRow]:
    """What the active devices (all, or those that a filter chooses) have of a model, by id."""
    query = (
        select(device_samples)
        .join(devices, devices.c.device_id == device_samples.c.device_id)
        .where(device_samples.c.model == model, devices.c.status == "active")
        .order_by(device_samples.c.device_id)
    )
    if condition is not None:
        query = query.where(condition)
    return [SamplesRow(**{**row._mapping, "personal": bool(row.personal)}) for row in connection.execute(query)]


# --- who can take part ------------------------------------------------------------------------------------------------
def candidates(connection: Connection, model: str, condition: Condition, limit: int) -> list[CandidateRow]:
    """The active devices that a filter chooses, by id; with the key of the certificate that each has in use."""
    mine = and_(device_models.c.device_id == devices.c.device_id, device_models.c.model == model)
    has = and_(device_samples.c.device_id == devices.c.device_id, device_samples.c.model == model)
    query = (
        select(
            devices.c.device_id,
            devices.c.profile,
            device_models.c.version,
            func.coalesce(device_samples.c.kept, 0).label("kept"),
            func.coalesce(device_samples.c.classes, 0).label("classes"),
            device_status.c.last_seen_s,
        )
        .select_from(
            devices.outerjoin(device_models, mine)
            .outerjoin(device_samples, has)
            .outerjoin(device_status, device_status.c.device_id == devices.c.device_id)
        )
        .where(devices.c.status == "active", condition)
        .order_by(devices.c.device_id)
        .limit(limit)
    )
    rows = connection.execute(query).all()
    keys = keys_of(connection, [row.device_id for row in rows])
    return [CandidateRow(**row._mapping, public_key=keys.get(row.device_id)) for row in rows]


def keys_of(connection: Connection, device_ids: Collection[str]) -> dict[str, bytes]:
    """The public key (SubjectPublicKeyInfo, DER) of each active device: that of its oldest certificate that counts.

    A renewed certificate ends the older ones when it is first used, so until then the older one is in use.
    """
    found: dict[str, bytes] = {}
    ordered, table = sorted(device_ids), device_certificates.c
    for start in range(0, len(ordered), _CHUNK_COUNT):
        query = (
            select(table.device_id, table.public_key)
            .join(devices, devices.c.device_id == table.device_id)
            .where(
                table.device_id.in_(ordered[start : start + _CHUNK_COUNT]),
                table.superseded_s.is_(None),
                table.public_key.is_not(None),
                devices.c.status == "active",
            )
            .order_by(table.device_id, table.issued_s.desc())
        )
        found.update((row.device_id, bytes(row.public_key)) for row in connection.execute(query))
    return found


def profiles_of(connection: Connection, device_ids: Collection[str]) -> dict[str, str]:
    """The firmware profile of each device."""
    found: dict[str, str] = {}
    ordered = sorted(device_ids)
    for start in range(0, len(ordered), _CHUNK_COUNT):
        among = devices.c.device_id.in_(ordered[start : start + _CHUNK_COUNT])
        rows = connection.execute(select(devices.c.device_id, devices.c.profile).where(among))
        found.update((row.device_id, row.profile) for row in rows)
    return found


# --- answers ----------------------------------------------------------------------------------------------------------
_ANSWER = select(*(federated_answers.c[name] for name in AnswerRow.__dataclass_fields__))


def answers_since(connection: Connection, run_id: str, since_s: float) -> list[AnswerRow]:
    """What devices said about a run from a moment on, in the order in which it came."""
    table = federated_answers.c
    query = _ANSWER.where(table.run_id == run_id, table.received_s >= since_s)
    ordered = query.order_by(table.received_s, table.device_id, table.seq)
    return [AnswerRow(**row._mapping) for row in connection.execute(ordered)]


def last_answers(connection: Connection, run_id: str, limit: int) -> list[AnswerRow]:
    """The newest answers of a run, newest first."""
    table = federated_answers.c
    query = _ANSWER.where(table.run_id == run_id)
    ordered = query.order_by(table.received_s.desc(), table.device_id, table.seq.desc()).limit(limit)
    return [AnswerRow(**row._mapping) for row in connection.execute(ordered)]


def prune_answers(connection: Connection, before_s: float) -> int:
    """Forget answers that came before a moment; returns how many."""
    done = connection.execute(delete(federated_answers).where(federated_answers.c.received_s < before_s))
    return int(done.rowcount)
