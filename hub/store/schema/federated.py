"""Federated runs, their rounds, their last checkpoint, what devices answered to offers, and what they have to train on.

The checkpoint stands apart from the run, because it is large and lists never read it; a run keeps only its last one.
`holder` is the hub that works on a run: it writes only while that is still itself.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    SmallInteger,
    String,
    Table,
    Text,
)

from hub.store.schema.base import DIGEST, ID, metadata

__all__ = ["device_samples", "federated_answers", "federated_checkpoints", "federated_rounds", "federated_runs"]
__all__ += ["federated_traffic"]

federated_runs = Table(
    "federated_runs",
    metadata,
    Column("run_no", Integer, primary_key=True, autoincrement=True),
    Column("run_id", String(32), nullable=False, unique=True),
    Column("model", ID, nullable=False),
    Column("version", Integer, nullable=False),  # whose head is trained
    Column("bundle_sha256", DIGEST, nullable=False),
    Column("definition", Text, nullable=False),  # canonical JSON
    Column("sizes", Text, nullable=False),  # JSON: elements of each variable, in the vector's order
    Column("state", String(16), nullable=False, index=True),
    Column("rounds", Integer, nullable=False),  # how many are wanted
    Column("round_no", Integer, nullable=False),  # complete ones
    Column("attempts", Integer, nullable=False),  # complete and abandoned ones: the last number in federated_rounds
    Column("bytes_down", BigInteger, nullable=False),
    Column("bytes_up", BigInteger, nullable=False),
    Column("code", String(64), nullable=False),  # why it failed
    Column("message", String(500), nullable=False),
    Column("privacy", Text, nullable=False),  # JSON: what was spent
    Column("evaluation", Text, nullable=False),  # JSON: what devices measured of the last weights, or null
    Column("result", Text, nullable=False),  # JSON: what became of the weights
    Column("trigger", String(63), nullable=False),  # by which it began; empty: somebody asked
    Column("reason", String(500), nullable=False),
    Column("holder", String(80), nullable=False),
    Column("cancelled_by", String(80), nullable=False),  # who wants it to end
    Column("port", Integer),  # at which devices join, while it runs
    Column("changes", BigInteger, nullable=False),  # grows with whatever those who watch could see
    Column("created_s", Float, nullable=False),
    Column("created_by", String(80), nullable=False),
    Column("started_s", Float),
    Column("ended_s", Float),
    Index("ix_federated_runs_model_created_s", "model", "created_s"),
)

federated_rounds = Table(
    "federated_rounds",
    metadata,
    Column("run_no", Integer, ForeignKey("federated_runs.run_no"), primary_key=True),
    Column("attempt", Integer, primary_key=True, autoincrement=False),
    Column("round_no", Integer, nullable=False),
    Column("at_s", Float, nullable=False),
    Column("seconds", Float, nullable=False),
    Column("abandoned", String(64), nullable=False),  # code; empty: the round counts
    Column("asked", Integer, nullable=False),
    Column("joined", Integer, nullable=False),
    Column("admitted", Integer, nullable=False),
    Column("rejected", Integer, nullable=False),
    Column("dropped", Integer, nullable=False),
    Column("bytes_down", BigInteger, nullable=False),
    Column("bytes_up", BigInteger, nullable=False),
    Column("metrics", Text, nullable=False),  # JSON
    Column("devices", Text, nullable=False),  # JSON: device to what became of it
)

federated_checkpoints = Table(
    "federated_checkpoints",
    metadata,
    Column("run_no", Integer, ForeignKey("federated_runs.run_no"), primary_key=True, autoincrement=False),
    Column("checkpoint", LargeBinary, nullable=False),
    Column("saved_s", Float, nullable=False),
)

federated_traffic = Table(  # by firmware profile, because a device's link is its profile's; sums over the whole run
    "federated_traffic",
    metadata,
    Column("run_no", Integer, ForeignKey("federated_runs.run_no"), primary_key=True, autoincrement=False),
    Column("profile", String(63), primary_key=True),
    Column("devices", Integer, nullable=False),
    Column("bytes_down", BigInteger, nullable=False),
    Column("bytes_up", BigInteger, nullable=False),
)

federated_answers = Table(
    "federated_answers",
    metadata,
    Column("device_id", ID, ForeignKey("devices.device_id"), primary_key=True),
    Column("epoch", String(16), primary_key=True),
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    Column("run_id", String(32), nullable=False),
    Column("round_no", BigInteger, nullable=False),
    Column("state", String(16), nullable=False),
    Column("code", String(64), nullable=False),
    Column("reason", String(500), nullable=False),
    Column("seconds", Float, nullable=False),
    Column("retry_s", Float, nullable=False),
    Column("received_s", Float, nullable=False),
    Index("ix_federated_answers_run_id_received_s", "run_id", "received_s"),
)

device_samples = Table(
    "device_samples",
    metadata,
    Column("device_id", ID, ForeignKey("devices.device_id"), primary_key=True),
    Column("model", ID, primary_key=True),
    Column("kept", BigInteger, nullable=False),
    Column("seen", BigInteger, nullable=False),
    Column("classes", BigInteger, nullable=False),
    Column("personal", SmallInteger, nullable=False),
    Column("updated_s", Float, nullable=False),
    Index("ix_device_samples_model", "model"),
)
