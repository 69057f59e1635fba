"""What a parent asks of a child's confinement and what it hears back. Imports nothing heavy: the daemon carries it."""

from __future__ import annotations

import msgspec

__all__ = ["Confinement", "Shortfall"]


class Confinement(msgspec.Struct, frozen=True, kw_only=True):
    """What a child may do. Paths are absolute; 0 means no limit of its own.

    read, write: files and folders besides Python's and the system's own. memory_bytes: of address space. cpu_s, wall_s:
    after that the kernel ends it. file_bytes: of any file that it writes. user: the account that it changes to when it
    is root ("" stays). network: may it open sockets. ports: the only TCP ports that it may connect to (empty: any);
    kernels before 6.7 cannot say that.
    """

    read: list[str] = []
    write: list[str] = []
    memory_bytes: int = 0
    cpu_s: int = 0
    wall_s: float = 0.0
    files: int = 64
    file_bytes: int = 1024 * 1024
    user: str = "nobody"
    network: bool = False
    ports: list[int] = []


class Shortfall(msgspec.Struct, frozen=True, kw_only=True):
    """A part of the confinement that this system does not give, and why."""

    part: str
    reason: str
