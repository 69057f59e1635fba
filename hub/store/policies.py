"""Documents of policies, one a model: of training (`train`) and of deployment (`deploy`)."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Literal

from sqlalchemy import Connection, Table, delete, insert, select, update

from hub.store.schema import deploy_policies, train_policies
from shared.errors import NotFound

__all__ = ["Kind", "PolicyRow", "find_policy", "get_policy", "list_policies", "put_policy", "remove_policy"]

Kind = Literal["train", "deploy"]
_TABLES: Mapping[Kind, Table] = {"train": train_policies, "deploy": deploy_policies}


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyRow:
    """One policy. document: canonical JSON."""

    model: str
    document: str
    changed_s: float
    changed_by: str


def find_policy(connection: Connection, kind: Kind, model: str) -> PolicyRow | None:
    """The model's policy, if there is one."""
    table = _TABLES[kind]
    row = connection.execute(select(table).where(table.c.model == model)).mappings().one_or_none()
    return None if row is None else PolicyRow(**row)


def get_policy(connection: Connection, kind: Kind, model: str) -> PolicyRow:
    """The model's policy, or `policy.unknown`."""
    found = find_policy(connection, kind, model)
    if found is None:
        command = "skerry federated triggers" if kind == "train" else "skerry rollout policy"
        hint = f"`{command} set MODEL FILE` makes one."
        raise NotFound("policy.unknown", f"The model {model!r:.80} has no such policy.", hint=hint)
    return found


def list_policies(connection: Connection, kind: Kind, only: Collection[str] | None = None) -> list[PolicyRow]:
    """All policies by model; `only`: of these models."""
    table = _TABLES[kind]
    query = select(table).order_by(table.c.model)
    if only is not None:
        query = query.where(table.c.model.in_(sorted(only)))
    return [PolicyRow(**row) for row in connection.execute(query).mappings()]


def put_policy(connection: Connection, kind: Kind, row: PolicyRow) -> None:
    """Keep a policy, in place of the one before. The caller holds the transaction alone."""
    table, values = _TABLES[kind], {"document": row.document, "changed_s": row.changed_s, "changed_by": row.changed_by}
    done = connection.execute(update(table).where(table.c.model == row.model).values(**values))
    if not done.rowcount:
        connection.execute(insert(table).values(model=row.model, **values))


def remove_policy(connection: Connection, kind: Kind, model: str) -> None:
    """Take a policy away."""
    table = _TABLES[kind]
    connection.execute(delete(table).where(table.c.model == model))
