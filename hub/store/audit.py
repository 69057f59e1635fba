"""The audit table: appended to in `Database.write`, so that its numbers have no gap; read in order, never changed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, insert, select

from hub.store.page import PageRequest, after
from hub.store.schema import audit

__all__ = ["AuditFilter", "AuditRow", "head", "insert_row", "list_rows", "row_at", "stream"]

_BATCH_COUNT = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditRow:
    """One entry. `detail` is canonical JSON text, because its bytes are hashed."""

    seq: int
    at_s: float
    actor: str
    action: str
    subject: str
    detail: str
    previous_hash: str
    hash: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditFilter:
    """Which entries to list; None does not filter. Times in seconds since 1970."""

    actor: str | None = None
    action: str | None = None
    subject: str | None = None
    since_s: float | None = None
    until_s: float | None = None


def _row(row: Row[Any]) -> AuditRow:
    return AuditRow(**row._mapping)


def head(connection: Connection) -> AuditRow | None:
    """The newest entry; None when there is none yet."""
    row = connection.execute(select(audit).order_by(audit.c.seq.desc()).limit(1)).one_or_none()
    return None if row is None else _row(row)


def row_at(connection: Connection, seq: int) -> AuditRow | None:
    """The entry with this number, if there is one."""
    row = connection.execute(select(audit).where(audit.c.seq == seq)).one_or_none()
    return None if row is None else _row(row)


def insert_row(connection: Connection, row: AuditRow) -> None:
    """Append an entry."""
    connection.execute(
        insert(audit).values(
            seq=row.seq,
            at_s=row.at_s,
            actor=row.actor,
            action=row.action,
            subject=row.subject,
            detail=row.detail,
            previous_hash=row.previous_hash,
            hash=row.hash,
        )
    )


def stream(connection: Connection) -> Iterator[AuditRow]:
    """All entries in order, a bounded number in memory at a time."""
    last = None
    while True:
        query = select(audit).order_by(audit.c.seq).limit(_BATCH_COUNT)
        batch = connection.execute(query if last is None else query.where(audit.c.seq > last)).all()
        for row in batch:
            yield _row(row)
        if len(batch) < _BATCH_COUNT:
            return
        last = batch[-1].seq


def list_rows(connection: Connection, wanted: AuditFilter, page: PageRequest) -> list[AuditRow]:
    """Entries that match, newest first."""
    conditions = after([audit.c.seq], page, descending=True)
    for column in ("actor", "action", "subject"):
        value = getattr(wanted, column)
        if value is not None:
            conditions.append(audit.c[column] == value)
    if wanted.since_s is not None:
        conditions.append(audit.c.at_s >= wanted.since_s)
    if wanted.until_s is not None:
        conditions.append(audit.c.at_s < wanted.until_s)
    query = select(audit).where(*conditions).order_by(audit.c.seq.desc()).limit(page.fetch)
    return [_row(row) for row in connection.execute(query)]
