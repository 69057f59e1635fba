"""Leases: of any number of hubs on one database, one at a time does the singleton work."""

from __future__ import annotations

from sqlalchemy import Connection, delete, insert, or_, update
from sqlalchemy.exc import IntegrityError

from hub.store.schema import leases

__all__ = ["release", "take"]


def take(connection: Connection, name: str, holder: str, now_s: float, until_s: float) -> bool:
    """Take or prolong a lease until `until_s`; False: another holder has it and it has not run out."""
    taken = connection.execute(
        update(leases)
        .where(leases.c.name == name, or_(leases.c.holder == holder, leases.c.expires_s <= now_s))
        .values(holder=holder, expires_s=until_s)
    )
    if taken.rowcount == 1:
        return True
    try:
        with connection.begin_nested():
            connection.execute(insert(leases).values(name=name, holder=holder, expires_s=until_s))
    except IntegrityError:
        return False  # it is there, and another's
    return True


def release(connection: Connection, name: str, holder: str) -> None:
    """Give a lease back, if it is still the holder's."""
    connection.execute(delete(leases).where(leases.c.name == name, leases.c.holder == holder))
