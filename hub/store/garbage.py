"""What garbage collection may take, as one query each for bundles and data sets.

A bundle stays while anything can still need it: a device that serves it, could roll back to it or last spoke of it; an
assignment; a federated run that goes on; where an alias points and where it pointed before; a release that still
collects signatures; the newest approved versions of its model; and whatever was registered a short while ago. A new
kind of need is one more line in `_needed`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection, FromClause, Select, exists, func, select, tuple_

from hub.store.federated import OPEN
from hub.store.registry import Status
from hub.store.schema import (
    alias_history,
    assignments,
    blobs,
    datasets,
    device_models,
    federated_runs,
    gate_results,
    tuf_staged,
    versions,
)

__all__ = ["Collectable", "Retention", "collectable_bundles", "collectable_datasets"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """What stays although nothing points to it.

    approved_count: the newest approved versions of each model. fresh_s: anything registered or uploaded within.
    """

    approved_count: int = 3
    fresh_s: float = 30 * 86_400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Collectable:
    """A blob that nothing needs. `model` and `version` for a bundle, `name` for a data set."""

    sha256: str
    bytes: int
    kind: str
    model: str = ""
    version: int = 0
    name: str = ""


def _places() -> Select[str, int | None]:
    """The present and the previous place of every alias."""
    rank = func.row_number().over(
        partition_by=(alias_history.c.model, alias_history.c.alias), order_by=alias_history.c.move_id.desc()
    )
    moves = select(alias_history.c.model, alias_history.c.version, rank.label("rank")).subquery()
    return select(moves.c.model, moves.c.version).where(moves.c["rank"] <= 2)


def _newest_approved(count: int) -> Select[str, int]:
    rank = func.row_number().over(partition_by=versions.c.model, order_by=versions.c.version.desc())
    ranked = (
        select(versions.c.model, versions.c.version, rank.label("rank"))
        .where(versions.c.status == Status.APPROVED.value)
        .subquery()
    )
    return select(ranked.c.model, ranked.c.version).where(ranked.c["rank"] <= count)


def _trained() -> Select[str, int]:
    """What federated runs begin from that have not ended."""
    runs = federated_runs.c
    return select(runs.model, runs.version).where(runs.state.in_([state.value for state in OPEN]))


def _pairs(table: FromClause, *names: str) -> list[Select[str, int]]:
    return [select(table.c.model, table.c[name]).where(table.c[name].is_not(None)) for name in names]


def _needed(retention: Retention) -> list[ColumnElement[bool]]:
    """One condition per need; each says that a row of `versions` is not needed for it.

    All are `NOT IN` over a query of its own, computed once and not once a version; none of them gives a NULL.
    """
    version = tuple_(versions.c.model, versions.c.version)
    staged = select(
        tuf_staged.c.context["model"].as_string().label("model"),
        tuf_staged.c.context["version"].as_integer().label("version"),
    ).subquery()
    needs = [
        *_pairs(device_models, "version", "previous_version", "target_version"),
        *_pairs(assignments, "version"),
        *_pairs(_trained().subquery(), "version"),
        *_pairs(_places().subquery(), "version"),
        *_pairs(_newest_approved(retention.approved_count).subquery(), "version"),
        *(query.where(staged.c.model.is_not(None)) for query in _pairs(staged, "version")),
    ]
    held = select(device_models.c.bundle_sha256).where(device_models.c.bundle_sha256.is_not(None))
    return [
        *(version.not_in(need) for need in needs),
        versions.c.bundle_sha256.not_in(held),
        versions.c.bundle_sha256.not_in(select(assignments.c.bundle_sha256)),
    ]


def collectable_bundles(connection: Connection, retention: Retention, now_s: float) -> list[Collectable]:
    """Live bundles that nothing needs, by model and version."""
    query = (
        select(blobs.c.sha256, blobs.c.bytes, blobs.c.kind, versions.c.model, versions.c.version)
        .join(versions, versions.c.bundle_sha256 == blobs.c.sha256)
        .where(
            blobs.c.collected_s.is_(None),
            versions.c.created_s < now_s - retention.fresh_s,
            blobs.c.created_s < now_s - retention.fresh_s,
            *_needed(retention),
        )
        .order_by(versions.c.model, versions.c.version)
    )
    return [Collectable(**row._mapping) for row in connection.execute(query)]


def collectable_datasets(
    connection: Connection, retention: Retention, now_s: float, leaving: Sequence[str]
) -> list[Collectable]:
    """Live data sets whose gate runs were all about versions whose bundle is gone, or is in `leaving`."""
    bundle = blobs.alias("bundle")
    used = (
        exists()
        .where(gate_results.c.dataset_sha256 == datasets.c.sha256)
        .where(versions.c.model == gate_results.c.model, versions.c.version == gate_results.c.version)
        .where(bundle.c.sha256 == versions.c.bundle_sha256, bundle.c.collected_s.is_(None))
        .where(bundle.c.sha256.not_in(leaving))
    )
    query = (
        select(blobs.c.sha256, blobs.c.bytes, blobs.c.kind, datasets.c.name)
        .join(datasets, datasets.c.sha256 == blobs.c.sha256)
        .where(blobs.c.collected_s.is_(None), blobs.c.created_s < now_s - retention.fresh_s, ~used)
        .order_by(blobs.c.sha256)
    )
    return [Collectable(**row._mapping) for row in connection.execute(query)]
