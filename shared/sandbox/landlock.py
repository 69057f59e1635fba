"""Landlock (Linux 5.13 and later): which files a process may read and write, for a process that confines itself.

Everything that the kernel's version of Landlock knows is denied, then reading is given back for some places and
writing for fewer. It holds for root too. The process must have given up new privileges before.
"""

from __future__ import annotations

import ctypes
import os
import stat
from collections.abc import Collection, Iterable
from pathlib import Path

from shared.sandbox import kernel

__all__ = ["restrict", "version"]

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_VERSION_FLAG = 1
_PATH_BENEATH, _NETWORK_PORT = 1, 2
_BIND_TCP, _CONNECT_TCP = 1 << 0, 1 << 1

_WRITE_FILE, _READ_FILE, _READ_DIR = 1 << 1, 1 << 2, 1 << 3
_TRUNCATE = 1 << 14
_RIGHTS_BY_VERSION = {1: 13, 2: 14, 3: 15, 4: 15}
"""How many rights (bits from 0) a version knows; later ones know 16."""

_READ = _READ_FILE | _READ_DIR
_REMOVE_DIR, _REMOVE_FILE, _MAKE_DIR, _MAKE_FILE, _MAKE_LINK, _MOVE = 1 << 4, 1 << 5, 1 << 7, 1 << 8, 1 << 12, 1 << 13
_MAKE = _REMOVE_DIR | _REMOVE_FILE | _MAKE_DIR | _MAKE_FILE | _MAKE_LINK | _MOVE  # no devices, sockets, pipes
_WRITE = _READ | _WRITE_FILE | _TRUNCATE | _MAKE
_FOR_FILES = _WRITE_FILE | _READ_FILE | _TRUNCATE
_SCOPES = 0b11
"""Version 6: no abstract sockets and no signals to the outside."""


class _Ruleset(ctypes.Structure):
    _fields_ = [("files", ctypes.c_uint64), ("network", ctypes.c_uint64), ("scoped", ctypes.c_uint64)]


class _PathBeneath(ctypes.Structure):
    _pack_ = 1
    _fields_ = [("allowed", ctypes.c_uint64), ("parent", ctypes.c_int32)]


class _Port(ctypes.Structure):
    _fields_ = [("allowed", ctypes.c_uint64), ("port", ctypes.c_uint64)]


def version() -> int:
    """The kernel's version of Landlock; `OSError` when there is none."""
    return kernel.call(_CREATE_RULESET, None, 0, _VERSION_FLAG)


def restrict(read: Iterable[Path], write: Iterable[Path], ports: Collection[int] = ()) -> None:
    """Allow reading below `read`, writing too below `write`, and nothing else; paths that do not exist are no use.

    ports: the TCP ports that may be connected to, and none may be listened on; empty: the network is not touched here.
    A kernel that cannot restrict the network (before version 4) restricts the files all the same.
    """
    found = version()
    handled = (1 << _RIGHTS_BY_VERSION.get(found, 16)) - 1
    network = _BIND_TCP | _CONNECT_TCP if ports and found >= 4 else 0
    ruleset = _Ruleset(handled, network, _SCOPES if found >= 6 else 0)
    size = 24 if found >= 6 else 16 if found >= 4 else 8
    fd = kernel.call(_CREATE_RULESET, ctypes.byref(ruleset), size, 0)
    try:
        for path in read:
            _allow(fd, path, _READ & handled)
        for path in write:
            _allow(fd, path, _WRITE & handled)
        for port in ports if network else ():
            kernel.call(_ADD_RULE, fd, _NETWORK_PORT, ctypes.byref(_Port(_CONNECT_TCP, port)), 0)
        kernel.call(_RESTRICT_SELF, fd, 0)
    finally:
        os.close(fd)


def _allow(ruleset: int, path: Path, rights: int) -> None:
    try:
        fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return  # what cannot even be named needs no permission
    try:
        if not stat.S_ISDIR(os.fstat(fd).st_mode):
            rights &= _FOR_FILES
        rule = _PathBeneath(rights, fd)
        kernel.call(_ADD_RULE, ruleset, _PATH_BENEATH, ctypes.byref(rule), 0)
    finally:
        os.close(fd)
