"""The audit log: one entry per change, written in the transaction of the change, so that neither exists alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hub.audit.chain import GENESIS, Verdict, check_chain, linked
from hub.store import audit
from hub.store.audit import AuditFilter, AuditRow
from hub.store.database import Connection, Database
from hub.store.page import PageRequest
from shared import canonical
from shared.clock import Clock
from shared.errors import InvalidInput

__all__ = ["AuditLog"]

_MAX_DETAIL_BYTES = 16 * 1024
_MAX_CHARS = {"actor": 80, "action": 64, "subject": 128}


class AuditLog:
    """Appends to the chain, lists it and checks it."""

    def __init__(self, db: Database, clock: Clock) -> None:
        self._db = db
        self._clock = clock

    def append(
        self, connection: Connection, actor: str, action: str, subject: str, detail: Mapping[str, Any] | None = None
    ) -> AuditRow:
        """Add an entry within the caller's write transaction. `detail`: JSON values, no secrets; `audit.too_large`."""
        text = canonical.dumps(dict(detail or {})).decode()
        if len(text) > _MAX_DETAIL_BYTES:
            raise InvalidInput("audit.too_large", "This change is too large for one audit entry.")
        for name, value in (("actor", actor), ("action", action), ("subject", subject)):
            if not value or len(value) > _MAX_CHARS[name]:
                raise InvalidInput(
                    "audit.field", f"The {name} of an audit entry has 1 to {_MAX_CHARS[name]} characters."
                )
        newest = audit.head(connection)
        row = linked(
            AuditRow(
                seq=1 if newest is None else newest.seq + 1,
                at_s=self._clock.now(),
                actor=actor,
                action=action,
                subject=subject,
                detail=text,
                previous_hash=GENESIS if newest is None else newest.hash,
                hash="",
            )
        )
        audit.insert_row(connection, row)
        return row

    def list(self, wanted: AuditFilter, page: PageRequest) -> list[AuditRow]:
        """Entries that match, newest first, one more than the page's limit."""
        with self._db.read() as connection:
            return audit.list_rows(connection, wanted, page)

    def verify(self, known: tuple[int, str] | None = None) -> Verdict:
        """Check the whole chain, streaming; `known` is a head (number, hash) that someone noted earlier."""
        with self._db.read() as connection:
            return check_chain(audit.stream(connection), known)
