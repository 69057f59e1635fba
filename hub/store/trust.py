"""TUF metadata as published, staged metadata that still collects signatures, and the small target files.

Published rows are never changed. Old ones stay, except timestamps: those are only ever served in their newest version.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, delete, func, insert, select

from hub.store.schema import tuf_files, tuf_metadata, tuf_staged

__all__ = [
    "PublishedMetadata",
    "StagedMetadata",
    "add_files",
    "add_published",
    "all_published",
    "drop_old_timestamps",
    "drop_staged",
    "get_file",
    "get_published",
    "get_staged",
    "latest",
    "latest_all",
    "list_staged",
    "put_staged",
]


@dataclass(frozen=True, slots=True)
class PublishedMetadata:
    """One published metadata file."""

    role: str
    version: int
    data: bytes
    expires_s: float
    published_s: float


@dataclass(frozen=True, slots=True)
class StagedMetadata:
    """Metadata that waits for signatures; `context` says what it is about and is shown, never trusted."""

    role: str
    version: int
    data: bytes
    context: Mapping[str, Any]
    staged_s: float
    staged_by: str


_PUBLISHED = (
    tuf_metadata.c.role,
    tuf_metadata.c.version,
    tuf_metadata.c.bytes,
    tuf_metadata.c.expires_s,
    tuf_metadata.c.published_s,
)
_STAGED = (
    tuf_staged.c.role,
    tuf_staged.c.version,
    tuf_staged.c.bytes,
    tuf_staged.c.context,
    tuf_staged.c.staged_s,
    tuf_staged.c.staged_by,
)


def latest(connection: Connection, role: str) -> PublishedMetadata | None:
    """The newest published version of a role."""
    query = select(*_PUBLISHED).where(tuf_metadata.c.role == role).order_by(tuf_metadata.c.version.desc()).limit(1)
    row = connection.execute(query).first()
    return PublishedMetadata(*row) if row else None


def latest_all(connection: Connection) -> list[PublishedMetadata]:
    """The newest published version of every role, by role name."""
    newest = select(tuf_metadata.c.role, func.max(tuf_metadata.c.version).label("version"))
    top = newest.group_by(tuf_metadata.c.role).subquery()
    query = select(*_PUBLISHED).join(
        top, (tuf_metadata.c.role == top.c.role) & (tuf_metadata.c.version == top.c.version)
    )
    return [PublishedMetadata(*row) for row in connection.execute(query.order_by(tuf_metadata.c.role))]


def get_published(connection: Connection, role: str, version: int) -> PublishedMetadata | None:
    """One published version of a role."""
    query = select(*_PUBLISHED).where(tuf_metadata.c.role == role, tuf_metadata.c.version == version)
    row = connection.execute(query).first()
    return PublishedMetadata(*row) if row else None


def add_published(connection: Connection, rows: Iterable[PublishedMetadata]) -> None:
    """Publish; a version that is there already is an integrity error."""
    connection.execute(
        insert(tuf_metadata),
        [
            {
                "role": row.role,
                "version": row.version,
                "bytes": row.data,
                "expires_s": row.expires_s,
                "published_s": row.published_s,
            }
            for row in rows
        ],
    )


def drop_old_timestamps(connection: Connection, before_version: int) -> None:
    """Forget timestamps below a version."""
    connection.execute(
        delete(tuf_metadata).where(tuf_metadata.c.role == "timestamp", tuf_metadata.c.version < before_version)
    )


def get_staged(connection: Connection, role: str) -> StagedMetadata | None:
    """What waits for signatures in a role."""
    row = connection.execute(select(*_STAGED).where(tuf_staged.c.role == role)).first()
    return StagedMetadata(*row) if row else None


def list_staged(connection: Connection) -> list[StagedMetadata]:
    """All that waits for signatures, by role name."""
    return [StagedMetadata(*row) for row in connection.execute(select(*_STAGED).order_by(tuf_staged.c.role))]


def put_staged(connection: Connection, row: StagedMetadata) -> None:
    """Stage, in place of what was staged for the role before."""
    drop_staged(connection, [row.role])
    connection.execute(
        insert(tuf_staged).values(
            role=row.role,
            version=row.version,
            bytes=row.data,
            context=dict(row.context),
            staged_s=row.staged_s,
            staged_by=row.staged_by,
        )
    )


def drop_staged(connection: Connection, roles: Iterable[str]) -> None:
    """Take away what is staged for these roles."""
    connection.execute(delete(tuf_staged).where(tuf_staged.c.role.in_(list(roles))))


def get_file(connection: Connection, path: str, sha256: str) -> bytes | None:
    """A small target file by path and digest."""
    query = select(tuf_files.c.bytes).where(tuf_files.c.path == path, tuf_files.c.sha256 == sha256)
    found: bytes | None = connection.execute(query).scalar_one_or_none()
    return found


def add_files(connection: Connection, files: Iterable[tuple[str, str, bytes]], now_s: float) -> None:
    """Keep small target files, given as (path, sha256, bytes); one that is there already stays."""
    for path, digest, data in files:
        if get_file(connection, path, digest) is None:
            connection.execute(insert(tuf_files).values(path=path, sha256=digest, bytes=data, added_s=now_s))


def all_published(connection: Connection) -> list[PublishedMetadata]:
    """Every stored version of every role: roots first, timestamps last, otherwise by role and version."""
    rows = [
        PublishedMetadata(*row)
        for row in connection.execute(select(*_PUBLISHED).order_by(tuf_metadata.c.role, tuf_metadata.c.version))
    ]
    order = {"root": 0, "snapshot": 2, "timestamp": 3}
    return sorted(rows, key=lambda row: order.get(row.role, 1))
