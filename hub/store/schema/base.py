"""The metadata that all tables share, and the lengths of what is a key in many of them."""

from __future__ import annotations

from sqlalchemy import MetaData, String

__all__ = ["DIGEST", "ID", "metadata"]

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)
ID = String(63)
DIGEST = String(64)
