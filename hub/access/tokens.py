"""API tokens: 256 random bits that are shown once and stored as their SHA-256; role, scope and expiry with each.

A revocation or an expiry counts from the next request on; nothing is cached. The last administrator's token cannot be
revoked, because nobody could make another one.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterable
from dataclasses import dataclass

from hub.access.permissions import Role
from hub.access.principal import Principal
from hub.audit.log import AuditLog
from hub.store import people
from hub.store.database import Database
from hub.store.page import PageRequest
from hub.store.people import TokenRow
from shared import ids
from shared.clock import Clock
from shared.errors import Conflict, InvalidInput, NotFound, Unauthorised
from shared.limits import MAX_NAME_CHARS

__all__ = ["ApiTokens", "NewToken"]

DAY_S = 86_400
MAX_TOKEN_DAYS = 3650
_MAX_SECRET_CHARS = 128
_RESERVED = ("hub",)  # the audit log's name for the hub itself; with a colon: devices and the hub's parts


@dataclass(frozen=True, slots=True)
class NewToken:
    """A token at the only moment when its secret is known."""

    secret: str
    token: TokenRow


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def _check_name(name: str) -> str:
    if (
        name in _RESERVED
        or not name
        or len(name) > MAX_NAME_CHARS
        or not name.isprintable()
        or name != name.strip()
        or ":" in name
    ):
        raise InvalidInput(
            "access.name",
            f"{name!r:.80} is not a valid name.",
            hint=f"Use 1 to {MAX_NAME_CHARS} printable characters without a colon; {', '.join(_RESERVED)} is taken.",
        )
    return name


class ApiTokens:
    """Makes, finds and revokes API tokens."""

    def __init__(self, db: Database, clock: Clock, audit: AuditLog) -> None:
        self._db = db
        self._clock = clock
        self._audit = audit

    def authenticate(self, secret: str) -> Principal:
        """Who holds `secret`; errors `auth.unknown_token`, `auth.revoked_token`, `auth.expired_token`."""
        row = None
        if len(secret) <= _MAX_SECRET_CHARS:
            with self._db.read() as connection:
                row = people.find_by_secret(connection, _digest(secret))
        if row is None:
            raise Unauthorised("auth.unknown_token", "This API token is not known.", hint="Check that it is complete.")
        if row.revoked_s is not None:
            raise Unauthorised("auth.revoked_token", "This API token was revoked.", hint="Ask for a new one.")
        if row.expires_s <= self._clock.now():
            raise Unauthorised("auth.expired_token", "This API token has expired.", hint="Ask for a new one.")
        return Principal(token_id=row.token_id, name=row.name, role=Role(row.role), models=row.models)

    def create(self, *, actor: str, name: str, role: Role, days: int, models: Iterable[str] | None = None) -> NewToken:
        """A new token; errors `access.name`, `access.days`, `access.admin_scope`, `id.model`."""
        if not 1 <= days <= MAX_TOKEN_DAYS:
            raise InvalidInput("access.days", f"A token lives for 1 to {MAX_TOKEN_DAYS} days.")
        scope = None if models is None else frozenset(ids.parse_model_name(model) for model in models)
        if scope is not None and role is Role.ADMIN:
            raise InvalidInput("access.admin_scope", "An administrator's token cannot be limited to models.")
        secret = ids.new_token("sk")
        now = self._clock.now()
        token = TokenRow(
            token_id=secrets.token_hex(8),
            name=_check_name(name),
            role=role.value,
            models=scope,
            created_s=now,
            expires_s=now + days * DAY_S,
            revoked_s=None,
            created_by=actor,
        )
        with self._db.write() as connection:
            people.insert_token(connection, token, _digest(secret))
            detail = {"name": name, "role": role.value, "models": None if scope is None else sorted(scope)}
            self._audit.append(connection, actor, "token.create", token.token_id, detail)
        return NewToken(secret=secret, token=token)

    def has_admin(self) -> bool:
        """Whether an administrator's token is valid now."""
        with self._db.read() as connection:
            return people.valid_admin_exists(connection, self._clock.now())

    def list(self, page: PageRequest) -> list[TokenRow]:
        """Tokens by id, one more than the page's limit."""
        with self._db.read() as connection:
            return people.list_tokens(connection, page)

    def revoke(self, token_id: str, actor: str) -> TokenRow:
        """Revoke at once; errors `access.no_token`, `access.last_admin`. Revoking again changes nothing."""
        now = self._clock.now()
        with self._db.write() as connection:
            row = people.revoke_token(connection, token_id, now)
            if row is None:
                raise NotFound("access.no_token", f"There is no token {token_id!r:.80}.")
            if row.role == Role.ADMIN and not people.valid_admin_exists(connection, now):
                raise Conflict(
                    "access.last_admin",
                    "This is the last valid administrator's token.",
                    hint="Create another administrator's token first.",
                )
            if row.revoked_s == now:
                self._audit.append(connection, actor, "token.revoke", token_id, {"name": row.name})
        return row
