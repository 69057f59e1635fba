"""API tokens in the database: found by the hash of their secret, never by the secret."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, and_, bindparam, insert, select, update

from hub.store.page import PageRequest, after
from hub.store.schema import api_tokens

__all__ = ["TokenRow", "find_by_secret", "insert_token", "list_tokens", "revoke_token", "valid_admin_exists"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRow:
    """One API token without its secret. `models` None: every model."""

    token_id: str
    name: str
    role: str
    models: frozenset[str] | None
    created_s: float
    expires_s: float
    revoked_s: float | None
    created_by: str


_BY_SECRET = select(api_tokens).where(api_tokens.c.secret_sha256 == bindparam("secret_sha256"))


def _row(row: Row[Any]) -> TokenRow:
    models = row.scope.get("models")
    return TokenRow(
        token_id=row.token_id,
        name=row.name,
        role=row.role,
        models=None if models is None else frozenset(models),
        created_s=row.created_s,
        expires_s=row.expires_s,
        revoked_s=row.revoked_s,
        created_by=row.created_by,
    )


def insert_token(connection: Connection, token: TokenRow, secret_sha256: str) -> None:
    """Store a new token."""
    scope = {} if token.models is None else {"models": sorted(token.models)}
    connection.execute(
        insert(api_tokens).values(
            token_id=token.token_id,
            secret_sha256=secret_sha256,
            name=token.name,
            role=token.role,
            scope=scope,
            created_s=token.created_s,
            expires_s=token.expires_s,
            created_by=token.created_by,
        )
    )


def find_by_secret(connection: Connection, secret_sha256: str) -> TokenRow | None:
    """The token with this hash, whatever its state."""
    row = connection.execute(_BY_SECRET, {"secret_sha256": secret_sha256}).one_or_none()
    return None if row is None else _row(row)


def list_tokens(connection: Connection, page: PageRequest) -> list[TokenRow]:
    """Tokens by their id, revoked ones too."""
    query = select(api_tokens).where(and_(True, *after([api_tokens.c.token_id], page)))
    return [_row(row) for row in connection.execute(query.order_by(api_tokens.c.token_id).limit(page.fetch))]


def revoke_token(connection: Connection, token_id: str, now_s: float) -> TokenRow | None:
    """Mark a token as revoked (the first time counts); None: no such token."""
    connection.execute(
        update(api_tokens)
        .where(api_tokens.c.token_id == token_id, api_tokens.c.revoked_s.is_(None))
        .values(revoked_s=now_s)
    )
    row = connection.execute(select(api_tokens).where(api_tokens.c.token_id == token_id)).one_or_none()
    return None if row is None else _row(row)


def valid_admin_exists(connection: Connection, now_s: float) -> bool:
    """Whether some administrator's token without a scope is valid now."""
    query = select(api_tokens.c.scope).where(
        api_tokens.c.role == "admin", api_tokens.c.revoked_s.is_(None), api_tokens.c.expires_s > now_s
    )
    return any("models" not in row.scope for row in connection.execute(query))
