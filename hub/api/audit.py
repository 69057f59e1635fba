"""The audit log: who changed what, and whether the account of it is whole."""

from __future__ import annotations

import json
from dataclasses import fields
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel

from hub.access.permissions import Permission
from hub.access.principal import Principal
from hub.api.auth import HubDep, require
from hub.api.paging import Listing, Page, paged
from hub.audit.chain import Verdict
from hub.store.audit import AuditFilter, AuditRow
from shared.errors import InvalidInput
from shared.ids import SHA256_PATTERN

router = APIRouter(tags=["audit"])
Auditor = Annotated[Principal, Depends(require(Permission.AUDIT_READ))]


class AuditItem(BaseModel):
    """One change. `hash` covers the entry and `previous_hash`, the hash of the entry before it."""

    seq: int
    at_s: float
    actor: str
    action: str
    subject: str
    detail: dict[str, Any]
    previous_hash: str
    hash: str


def _item(row: AuditRow) -> dict[str, Any]:
    values = {field.name: getattr(row, field.name) for field in fields(row)}
    return {**values, "detail": json.loads(row.detail)}


@router.get("/v1/audit", response_model=Listing[AuditItem])
def list_audit(
    hub: HubDep,
    page: Page,
    _principal: Auditor,
    actor: str | None = None,
    action: str | None = None,
    subject: str | None = None,
    since_s: float | None = None,
    until_s: float | None = None,
) -> dict[str, Any]:
    """Changes, newest first."""
    wanted = AuditFilter(actor=actor, action=action, subject=subject, since_s=since_s, until_s=until_s)
    return paged(hub.audit.list(wanted, page), page, lambda row: (row.seq,), _item)


@router.get("/v1/audit/verify")
def verify_audit(
    hub: HubDep,
    _principal: Auditor,
    seq: Annotated[int | None, Query(ge=1, description="Number of an entry that you noted earlier.")] = None,
    entry_hash: Annotated[str | None, Query(alias="hash", pattern=SHA256_PATTERN[:-2] + "$")] = None,
) -> Verdict:
    """Check the whole chain; with `seq` and `hash` noted earlier, also that nothing was cut off since."""
    if (seq is None) != (entry_hash is None):
        raise InvalidInput("audit.head", "Give both seq and hash of the entry that you noted, or neither.")
    return hub.audit.verify(None if seq is None or entry_hash is None else (seq, entry_hash))
