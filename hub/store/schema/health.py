"""How model versions do after they were installed: counters by version, profile, cohort and period.

A row holds what all devices of one profile and cohort said within one period (by the hub's clock, when it arrived).
Everything adds up, so a gate reads a handful of rows and never devices. A cohort is the deployment whose assignment the
device had for the model. Keys begin with model and period: every question is about some periods of one model.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Integer, String, Table

from hub.store.schema.base import ID, metadata

__all__ = ["health_latency", "health_windows", "shadow_windows"]

health_windows = Table(
    "health_windows",
    metadata,
    Column("model", ID, primary_key=True),
    Column("period_s", BigInteger, primary_key=True, autoincrement=False),  # start of the period
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("profile", ID, primary_key=True),
    Column("cohort", String(32), primary_key=True),  # deployment_id; empty: the device had no assignment
    Column("reports", BigInteger, nullable=False),  # messages that spoke of the version
    Column("requests", BigInteger, nullable=False),
    Column("errors", BigInteger, nullable=False),
    Column("over_budget", BigInteger, nullable=False),
    Column("crashes", BigInteger, nullable=False),
)

shadow_windows = Table(
    "shadow_windows",
    metadata,
    Column("model", ID, primary_key=True),
    Column("period_s", BigInteger, primary_key=True, autoincrement=False),
    Column("version", Integer, primary_key=True, autoincrement=False),  # the candidate
    Column("beside", Integer, primary_key=True, autoincrement=False),  # the version that served
    Column("profile", ID, primary_key=True),
    Column("cohort", String(32), primary_key=True),
    Column("reports", BigInteger, nullable=False),
    Column("compared", BigInteger, nullable=False),
    Column("disagreed", BigInteger, nullable=False),
    Column("errors", BigInteger, nullable=False),
    Column("over_budget", BigInteger, nullable=False),
    Column("skipped", BigInteger, nullable=False),
    Column("crashes", BigInteger, nullable=False),
    Column("stopped", BigInteger, nullable=False),  # messages that said that the candidate no longer runs
)

health_latency = Table(
    "health_latency",
    metadata,
    Column("model", ID, primary_key=True),
    Column("period_s", BigInteger, primary_key=True, autoincrement=False),
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("shadow", Integer, primary_key=True, autoincrement=False),  # 1: measured beside another version
    Column("profile", ID, primary_key=True),
    Column("cohort", String(32), primary_key=True),
    Column("bucket", Integer, primary_key=True, autoincrement=False),  # of shared.latency
    Column("count", BigInteger, nullable=False),
)
