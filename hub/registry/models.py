"""Models: a name, a description, the gate policy of its versions and how long an install is on probation.

A changed policy sends versions that passed the old one back to `registered`: their evidence was for another question.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from hub.audit.log import AuditLog
from hub.gates.policy import parse_policy
from hub.store import models as store
from hub.store import registry
from hub.store.database import Connection, Database
from hub.store.models import ModelRow
from hub.store.page import PageRequest
from hub.trust.names import role_of
from shared.clock import Clock
from shared.errors import Conflict

__all__ = ["ModelChange", "ModelService"]

DEFAULT_BAKE_S = 60


class ModelChange(msgspec.Struct, frozen=True, kw_only=True):
    """What to change; None leaves a field as it is."""

    description: str | None = None
    gate: Mapping[str, Any] | None = None
    bake_s: int | None = None

    def values(self) -> dict[str, Any]:
        """The columns to write; the gate policy in its normal form. Errors `gate.*`."""
        changes: dict[str, Any] = {}
        if self.description is not None:
            changes["description"] = self.description
        if self.bake_s is not None:
            changes["bake_s"] = self.bake_s
        if self.gate is not None:
            changes["gate"] = msgspec.to_builtins(parse_policy(self.gate)) if self.gate else {}
        return changes


class ModelService:
    """Creates, changes and lists models."""

    def __init__(self, db: Database, clock: Clock, audit: AuditLog) -> None:
        self._db = db
        self._clock = clock
        self._audit = audit

    def create(self, name: str, change: ModelChange, actor: str) -> ModelRow:
        """A new model; errors `id.model`, `trust.reserved_name`, `model.exists`, `gate.*`."""
        role_of(name)
        values = {"description": "", "gate": {}, "bake_s": DEFAULT_BAKE_S, **change.values()}
        row = ModelRow(model=name, created_s=self._clock.now(), created_by=actor, **values)
        with self._db.write() as connection:
            if store.find_model(connection, name) is not None:
                raise Conflict("model.exists", f"There is a model {name} already.", hint="Choose another name.")
            store.insert_model(connection, row)
            self._audit.append(connection, actor, "model.create", name, values)
        return row

    def change(self, name: str, change: ModelChange, actor: str) -> ModelRow:
        """Change a model; errors `model.unknown`, `gate.*`."""
        values = change.values()
        with self._db.write() as connection:
            before = store.get_model(connection, name)
            values = {key: value for key, value in values.items() if getattr(before, key) != value}
            if values:
                store.update_model(connection, name, values)
                self._reopen(connection, name, values)
                self._audit.append(connection, actor, "model.change", name, values)
            return store.get_model(connection, name)

    def _reopen(self, connection: Connection, name: str, values: Mapping[str, Any]) -> None:
        if "gate" in values:
            registry.reopen_gated(connection, name)

    def get(self, name: str) -> ModelRow:
        """A model, or `model.unknown`."""
        with self._db.read() as connection:
            return store.get_model(connection, name)

    def page(self, page: PageRequest, only: frozenset[str] | None = None) -> list[ModelRow]:
        """Models by name; `only`: the models of a token's scope."""
        with self._db.read() as connection:
            return store.list_models(connection, page, only)
