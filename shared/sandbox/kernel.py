"""The few calls to the kernel that Python's standard library does not have, by ctypes. Failures are `OSError`."""

from __future__ import annotations

import ctypes
import os
from functools import cache
from typing import Any

__all__ = ["call", "prctl", "set_capabilities", "unshare"]

_CAPABILITY_VERSION_3 = 0x20080522


@cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _checked(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result


def call(number: int, *arguments: Any) -> int:
    """A system call by number; plain integers are passed as machine words."""
    words = [ctypes.c_long(value) if isinstance(value, int) else value for value in arguments]
    return _checked(int(_libc().syscall(ctypes.c_long(number), *words)), f"system call {number}")


def prctl(option: int, *arguments: Any) -> int:
    """`prctl(2)` with up to four arguments."""
    words = [ctypes.c_ulong(value) if isinstance(value, int) else value for value in arguments]
    words += [ctypes.c_ulong(0)] * (4 - len(words))
    return _checked(int(_libc().prctl(ctypes.c_int(option), *words)), f"prctl {option}")


def unshare(flags: int) -> None:
    """`unshare(2)`."""
    _checked(int(_libc().unshare(ctypes.c_int(flags))), "unshare")


class _Header(ctypes.Structure):
    _fields_ = [("version", ctypes.c_uint32), ("pid", ctypes.c_int)]


class _Sets(ctypes.Structure):
    _fields_ = [("effective", ctypes.c_uint32), ("permitted", ctypes.c_uint32), ("inheritable", ctypes.c_uint32)]


def set_capabilities(mask: int) -> None:
    """Make `mask` (bits of the first 32 capabilities) the effective and permitted ones; none is inheritable."""
    sets = (_Sets * 2)(_Sets(mask, mask, 0), _Sets(0, 0, 0))
    header = _Header(_CAPABILITY_VERSION_3, 0)
    _checked(int(_libc().capset(ctypes.byref(header), ctypes.byref(sets))), "capset")
