"""Enrolment tokens: each lets one device in, once. The secret is shown when it is made and stored as its hash."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, replace

from hub.audit.log import AuditLog
from hub.devices import rules
from hub.settings import HubSettings
from hub.store import enrolment
from hub.store.database import Database
from hub.store.enrolment import EnrolmentTokenRow
from hub.store.page import PageRequest
from shared import ids
from shared.clock import Clock
from shared.errors import Conflict, InvalidInput, NotFound
from shared.join import Join, encode_join

__all__ = ["EnrolmentTokens", "NewEnrolmentToken", "TokenWish", "secret_digest"]

MAX_TOKENS_AT_ONCE_COUNT = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenWish:
    """What a token is to allow. None: any device id, hardware or profile. `ttl_s` None: the setting's default."""

    device_id: str | None = None
    hardware_id: str | None = None
    profile: str | None = None
    tags: Mapping[str, str]
    ttl_s: int | None = None
    count: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class NewEnrolmentToken:
    """A token at the only moment when its secret is known; `join` is all that a device needs."""

    token_id: str
    token: str
    join: str
    expires_s: float


def secret_digest(secret: str) -> str:
    """What is stored of a token's secret."""
    return hashlib.sha256(secret.encode()).hexdigest()


class EnrolmentTokens:
    """Makes, lists and takes back enrolment tokens."""

    def __init__(self, db: Database, clock: Clock, audit: AuditLog, settings: HubSettings, ca_sha256: str) -> None:
        self._db = db
        self._clock = clock
        self._audit = audit
        self._settings = settings
        self._ca_sha256 = ca_sha256

    def create(self, wish: TokenWish, actor: str) -> list[NewEnrolmentToken]:
        """One or more tokens alike; errors `enrolment.count|ttl`, `id.*`, `device.too_many_tags`."""
        template = self._template(wish, actor)
        made = []
        with self._db.write() as connection:
            for _ in range(wish.count):
                secret = ids.new_token("ske")
                row = replace(template, token_id=secrets.token_hex(8))
                enrolment.insert_token(connection, row, secret_digest(secret))
                detail = {"device_id": row.device_id, "hardware_id": row.hardware_id, "profile": row.profile}
                self._audit.append(connection, actor, "enrolment_token.create", row.token_id, detail)
                join = encode_join(Join(hub_url=self._settings.url, token=secret, ca_sha256=self._ca_sha256))
                made.append(NewEnrolmentToken(token_id=row.token_id, token=secret, join=join, expires_s=row.expires_s))
        return made

    def _template(self, wish: TokenWish, actor: str) -> EnrolmentTokenRow:
        if not 1 <= wish.count <= MAX_TOKENS_AT_ONCE_COUNT or (wish.count > 1 and wish.device_id is not None):
            raise InvalidInput(
                "enrolment.count",
                f"Ask for 1 to {MAX_TOKENS_AT_ONCE_COUNT} tokens, and for one when it names a device.",
            )
        limits = self._settings.enrolment
        ttl_s = limits.token_ttl_s if wish.ttl_s is None else wish.ttl_s
        if not 1 <= ttl_s <= limits.max_token_ttl_s:
            raise InvalidInput("enrolment.ttl", f"A token lives for 1 to {limits.max_token_ttl_s} seconds.")
        now = self._clock.now()
        return EnrolmentTokenRow(
            token_id="",
            device_id=None if wish.device_id is None else ids.parse_device_id(wish.device_id),
            hardware_id=None if wish.hardware_id is None else rules.check_hardware_id(wish.hardware_id),
            profile=None if wish.profile is None else rules.check_profile_name(wish.profile),
            tags=rules.check_tags(wish.tags),
            created_s=now,
            created_by=actor,
            expires_s=now + ttl_s,
        )

    def list(self, page: PageRequest) -> list[EnrolmentTokenRow]:
        """Tokens by id, one more than the page's limit."""
        with self._db.read() as connection:
            return enrolment.list_tokens(connection, page)

    def delete(self, token_id: str, actor: str) -> None:
        """Take an unused token back; errors `enrolment.no_token`, `enrolment.token_used`."""
        with self._db.write() as connection:
            if not enrolment.delete_unused(connection, token_id):
                if enrolment.find_token(connection, token_id) is None:
                    raise NotFound("enrolment.no_token", f"There is no enrolment token {token_id!r:.80}.")
                raise Conflict(
                    "enrolment.token_used",
                    "This token has been used.",
                    hint="To shut the device out, revoke it: `skerry devices revoke`.",
                )
            self._audit.append(connection, actor, "enrolment_token.delete", token_id, {})
