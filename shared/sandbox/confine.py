"""A process confines itself, step by step; a step that the kernel refuses is reported and the others are taken.

Order: what needs privileges first, then they are given up, then what may not be undone. The probe and the gate go on
with shortfalls, because a device with an old kernel must get its models too; who must not, asks for `shortfalls`.
"""

from __future__ import annotations

import math
import os
import pwd
import resource
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from shared.sandbox import kernel, landlock, system_calls
from shared.sandbox.wish import Confinement, Shortfall

__all__ = ["confine"]

_PR_SET_DEATH_SIGNAL, _PR_SET_DUMPABLE = 1, 4
_PR_SET_KEEP_CAPABILITIES, _PR_DROP_BOUNDING, _PR_SET_NO_NEW_PRIVILEGES = 8, 24, 38
_CAP_DAC_READ_SEARCH, _LAST_CAPABILITY = 2, 63
_NEW_USER, _NEW_NETWORK = 0x10000000, 0x40000000
_SYSTEM = ("/usr", "/lib", "/lib64", "/lib32", "/etc", "/proc", "/sys/devices/system", "/opt", "/nix/store")
_DEVICES = ("/dev/null", "/dev/zero", "/dev/urandom", "/dev/random")


def confine(wish: Confinement) -> list[Shortfall]:
    """Confine this process for ever; what could not be done. To be called before other threads are started."""
    missing: list[Shortfall] = []

    def step(part: str, act: Callable[[], None]) -> bool:
        try:
            act()
        except (OSError, ValueError, KeyError, AttributeError) as error:
            missing.append(Shortfall(part=part, reason=str(error)[:200]))
            return False
        return True

    os.umask(0o077)
    step("limits", lambda: _limit(wish))
    if os.geteuid() == 0:
        step("user", lambda: _change_user(wish))
    step("privileges", _give_up_privileges)
    step("parent", _die_with_parent)  # only now: a change of account would undo it
    written = [Path(path) for path in (*wish.write, "/proc/self")]
    step("files", lambda: landlock.restrict(_readable(wish), written, wish.ports))
    if not step("system calls", lambda: system_calls.install(network=wish.network)) and not wish.network:
        step("network", _leave_network)
    return missing


def _die_with_parent() -> None:
    kernel.prctl(_PR_SET_DUMPABLE, 1)  # its own entries in /proc are its own again; core dumps are limited to nothing
    kernel.prctl(_PR_SET_DEATH_SIGNAL, int(signal.SIGKILL))


def _limit(wish: Confinement) -> None:
    limits = {resource.RLIMIT_CORE: 0, resource.RLIMIT_NOFILE: wish.files, resource.RLIMIT_FSIZE: wish.file_bytes}
    if wish.memory_bytes:
        limits[resource.RLIMIT_AS] = wish.memory_bytes
    for kind, value in limits.items():
        hard = resource.getrlimit(kind)[1]
        bound = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(kind, (bound, bound))
    if wish.cpu_s:  # one second between the signal that says why (SIGXCPU) and the one that cannot be caught
        hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
        last = wish.cpu_s + 1 if hard == resource.RLIM_INFINITY else min(wish.cpu_s + 1, hard)
        resource.setrlimit(resource.RLIMIT_CPU, (min(wish.cpu_s, last), last))
    if wish.wall_s:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(math.ceil(wish.wall_s))


def _change_user(wish: Confinement) -> None:
    """Become `wish.user`, who owns what may be written and may still read what root may; Landlock narrows that."""
    for capability in range(_LAST_CAPABILITY + 1):
        try:
            kernel.prctl(_PR_DROP_BOUNDING, capability)
        except OSError:
            break  # the kernel's last one is passed
    if not wish.user:
        return
    try:
        account = pwd.getpwnam(wish.user)
    except KeyError as error:
        raise OSError(f"there is no account {wish.user!r}") from error
    for path in wish.write:
        os.chown(path, account.pw_uid, account.pw_gid)
    kernel.prctl(_PR_SET_KEEP_CAPABILITIES, 1)
    os.setgroups([])
    os.setresgid(account.pw_gid, account.pw_gid, account.pw_gid)
    os.setresuid(account.pw_uid, account.pw_uid, account.pw_uid)


def _give_up_privileges() -> None:
    kernel.prctl(_PR_SET_NO_NEW_PRIVILEGES, 1)
    changed = Path("/proc/self/status").read_text().partition("CapPrm:")[2].split()[0]
    keep = int(changed, 16) & (1 << _CAP_DAC_READ_SEARCH) if os.getuid() else 0
    kernel.set_capabilities(keep)


def _readable(wish: Confinement) -> list[Path]:
    python = [sys.prefix, sys.base_prefix, sys.exec_prefix, *(path for path in sys.path if path)]
    return [Path(path) for path in dict.fromkeys((*_SYSTEM, *_DEVICES, *python, *wish.read))]


def _leave_network() -> None:
    """Where calls cannot be filtered: an empty network of its own, in which even the loopback is down."""
    try:
        kernel.unshare(_NEW_NETWORK)
    except PermissionError:
        kernel.unshare(_NEW_USER | _NEW_NETWORK)
