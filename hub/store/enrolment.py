"""Enrolment tokens in the database: hashed, and used once by one conditional update."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, delete, insert, select, update

from hub.store.page import PageRequest, after
from hub.store.schema import enrolment_tokens

__all__ = ["EnrolmentTokenRow", "delete_unused", "find_by_secret", "find_token", "insert_token", "list_tokens", "use"]


@dataclass(frozen=True, slots=True, kw_only=True)
class EnrolmentTokenRow:
    """One enrolment token without its secret. None in device_id, hardware_id or profile: any."""

    token_id: str
    device_id: str | None
    hardware_id: str | None
    profile: str | None
    tags: dict[str, str]
    created_s: float
    created_by: str
    expires_s: float
    used_s: float | None = None
    used_by: str | None = None
    used_key_sha256: str | None = None


_SHOWN = [column for column in enrolment_tokens.c if column.name != "secret_sha256"]


def _row(row: Row[Any] | None) -> EnrolmentTokenRow | None:
    return None if row is None else EnrolmentTokenRow(**row._mapping)


def insert_token(connection: Connection, token: EnrolmentTokenRow, secret_sha256: str) -> None:
    """Store a new token."""
    connection.execute(
        insert(enrolment_tokens).values(
            token_id=token.token_id,
            secret_sha256=secret_sha256,
            device_id=token.device_id,
            hardware_id=token.hardware_id,
            profile=token.profile,
            tags=token.tags,
            created_s=token.created_s,
            created_by=token.created_by,
            expires_s=token.expires_s,
        )
    )


def use(connection: Connection, secret_sha256: str, device_id: str, key_sha256: str, now_s: float) -> bool:
    """Take the token if it is unused and not expired. Of any number of callers at once, one gets True."""
    done = connection.execute(
        update(enrolment_tokens)
        .where(
            enrolment_tokens.c.secret_sha256 == secret_sha256,
            enrolment_tokens.c.used_s.is_(None),
            enrolment_tokens.c.expires_s > now_s,
        )
        .values(used_s=now_s, used_by=device_id, used_key_sha256=key_sha256)
    )
    return done.rowcount == 1


def find_by_secret(connection: Connection, secret_sha256: str) -> EnrolmentTokenRow | None:
    """The token with this hash, whatever its state."""
    query = select(*_SHOWN).where(enrolment_tokens.c.secret_sha256 == secret_sha256)
    return _row(connection.execute(query).one_or_none())


def find_token(connection: Connection, token_id: str) -> EnrolmentTokenRow | None:
    """The token with this id, whatever its state."""
    return _row(connection.execute(select(*_SHOWN).where(enrolment_tokens.c.token_id == token_id)).one_or_none())


def list_tokens(connection: Connection, page: PageRequest) -> list[EnrolmentTokenRow]:
    """Tokens by id, used and expired ones too."""
    query = select(*_SHOWN).where(*after([enrolment_tokens.c.token_id], page))
    rows = connection.execute(query.order_by(enrolment_tokens.c.token_id).limit(page.fetch))
    return [EnrolmentTokenRow(**row._mapping) for row in rows]


def delete_unused(connection: Connection, token_id: str) -> bool:
    """Take an unused token away; False when it was used meanwhile or is not there."""
    done = connection.execute(
        delete(enrolment_tokens).where(enrolment_tokens.c.token_id == token_id, enrolment_tokens.c.used_s.is_(None))
    )
    return done.rowcount == 1
