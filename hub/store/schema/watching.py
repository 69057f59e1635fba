"""What is remembered of single devices to judge them: their machines over the last day, and their errors.

`device_history` has one row a moment for the whole fleet. `device_outcomes` holds what truths said of a device's
predictions until the period is judged; `device_errors` what the detectors know of each device and model.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Float, Index, Integer, LargeBinary, Table

from hub.store.schema.base import ID, metadata

__all__ = ["device_errors", "device_history", "device_outcomes"]

device_history = Table(
    "device_history",
    metadata,
    Column("at_s", Float, primary_key=True),
    Column("names", LargeBinary, nullable=False),  # device ids, ascending, a line each
    Column("readings", LargeBinary, nullable=False),  # float32 in little-endian, device by device
)

device_outcomes = Table(
    "device_outcomes",
    metadata,
    Column("device_id", ID, primary_key=True),
    Column("model", ID, primary_key=True),
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("series", ID, primary_key=True),
    Column("window_id", BigInteger, primary_key=True, autoincrement=False),
    Column("period_s", BigInteger, nullable=False),
    Column("received_s", Float, nullable=False),
    Column("count", Integer, nullable=False),  # outcomes in order, a bit each, as the window has them
    Column("outcomes", LargeBinary, nullable=False),
    Index("ix_device_outcomes_model", "model", "version", "period_s"),
    Index("ix_device_outcomes_period_s", "period_s"),
)

device_errors = Table(
    "device_errors",
    metadata,
    Column("device_id", ID, primary_key=True),
    Column("model", ID, primary_key=True),
    Column("version", Integer, nullable=False),
    Column("updated_s", Float, nullable=False),
    Column("state", LargeBinary, nullable=False),
)
