"""Policies by which the hub acts of itself, and what it did by them.

Training: `train_state` has the last run and what is counted from it; a firing is written before its run is made,
with the keys that it uses up, so that neither a crash nor a second hub makes two of it. Times ending in `_e` are engine
time of `trigger_clock`: seconds during which a hub evaluated triggers.
"""

from __future__ import annotations

from sqlalchemy import JSON, BigInteger, Column, Float, ForeignKey, Index, Integer, String, Table, Text

from hub.store.schema.base import ID, metadata

__all__ = ["deploy_decisions", "deploy_policies", "train_firings", "train_keys", "train_policies", "train_state"]
__all__ += ["trigger_clock"]

train_policies = Table(
    "train_policies",
    metadata,
    Column("model", ID, ForeignKey("models.model"), primary_key=True),
    Column("document", Text, nullable=False),  # canonical JSON
    Column("changed_s", Float, nullable=False),
    Column("changed_by", String(80), nullable=False),
)

train_state = Table(
    "train_state",
    metadata,
    Column("model", ID, primary_key=True),
    Column("run_id", String(32), nullable=False),  # the last one; empty: there was none
    Column("revision", BigInteger, nullable=False),  # grows with each run and each firing
    Column("base_samples", BigInteger, nullable=False),  # seen by the fleet when it began
    Column("began_e", BigInteger),  # NULL: there was none
)

train_firings = Table(
    "train_firings",
    metadata,
    Column("firing_id", Integer, primary_key=True, autoincrement=True),
    Column("model", ID, nullable=False),
    Column("at_s", Float, nullable=False),
    Column("state", String(16), nullable=False, index=True),  # starting, started, refused
    Column("run_id", String(32), nullable=False),  # empty: none was made
    Column("reason", Text, nullable=False),
    Column("evidence", JSON, nullable=False),
    Column("definition", Text, nullable=False),  # of the run, canonical JSON
    Column("code", String(64), nullable=False),  # why it was refused
    Column("message", String(500), nullable=False),
    Index("ix_train_firings_model", "model", "firing_id"),
)

train_keys = Table(
    "train_keys",
    metadata,
    Column("model", ID, primary_key=True),
    Column("key", String(64), primary_key=True),
    Column("firing_id", Integer, ForeignKey("train_firings.firing_id"), nullable=False),
    Index("ix_train_keys_key", "key"),
)

trigger_clock = Table(
    "trigger_clock",
    metadata,
    Column("name", String(16), primary_key=True),
    Column("wall_s", BigInteger, nullable=False),
    Column("elapsed_e", BigInteger, nullable=False),
    Column("jumped_e", BigInteger),  # when the wall clock was last found set, or the hub away; NULL: never
)

deploy_policies = Table(
    "deploy_policies",
    metadata,
    Column("model", ID, ForeignKey("models.model"), primary_key=True),
    Column("document", Text, nullable=False),  # canonical JSON
    Column("changed_s", Float, nullable=False),
    Column("changed_by", String(80), nullable=False),
)

deploy_decisions = Table(  # one for each approved version of a model with a policy
    "deploy_decisions",
    metadata,
    Column("model", ID, primary_key=True),
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("at_s", Float, nullable=False),
    Column("state", String(16), nullable=False),  # deployed, skipped, refused; before: older than the policy
    Column("rollout_id", String(32), nullable=False),  # empty: none was made
    Column("code", String(64), nullable=False),
    Column("reason", Text, nullable=False),
    Column("evidence", JSON, nullable=False),
    Index("ix_deploy_decisions_rollout_id", "rollout_id"),
)
