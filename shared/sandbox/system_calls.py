"""A seccomp filter: system calls that a model never needs and an attacker would, refused with EPERM.

Rules: the filter is a list of refusals, because numpy and the runtime use many calls and differ by version; what it
refuses are sockets, other programs and processes, other processes' memory and signals, namespaces, mounts, modules,
keys, tracing, and interfaces with a history of holes (io_uring, bpf, userfaultfd). A call by another architecture's
convention ends the process. Threads stay possible, processes do not.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
from collections.abc import Sequence

from shared.sandbox import kernel
from shared.sandbox.machines import MACHINES, Machine

__all__ = ["build", "install", "machine"]

_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW, _KILL, _ERROR = 0x7FFF0000, 0x80000000, 0x00050000
_NUMBER_AT, _ARCHITECTURE_AT, _FIRST_ARGUMENT_AT = 0, 4, 16
_CLONE_THREAD = 0x00010000
_PR_SET_SECCOMP, _MODE_FILTER = 22, 2
_X32 = 0x40000000

NETWORK = ("socket", "socketpair", "connect", "bind", "listen", "accept", "accept4", "sendto", "sendmsg", "sendmmsg")
ALWAYS = (
    *("fork", "vfork", "execve", "execveat", "ptrace", "process_vm_readv", "process_vm_writev"),
    *("tkill", "rt_sigqueueinfo", "rt_tgsigqueueinfo", "pidfd_open", "pidfd_getfd", "pidfd_send_signal"),
    *("unshare", "setns", "mount", "umount2", "chroot", "pivot_root", "open_tree", "move_mount", "fsopen", "fsmount"),
    *("mount_setattr", "open_by_handle_at", "init_module", "finit_module", "delete_module", "kexec_load"),
    *("kexec_file_load", "bpf", "perf_event_open", "userfaultfd", "keyctl", "add_key", "request_key"),
    *("io_uring_setup", "io_uring_enter", "io_uring_register", "setpriority"),
)


def machine() -> Machine:
    """This machine's numbers; `OSError` where they are not known (an interpreter of other width included)."""
    name = platform.machine()
    found = MACHINES.get({"armv8l": "armv7l", "armv6l": "armv7l"}.get(name, name))
    if found is None or (struct.calcsize("P") == 8) != bool(found.architecture & 0x80000000):
        raise OSError(errno.ENOSYS, f"no filter of system calls is known for {name}")
    return found


def _instruction(code: int, value: int, yes: int = 0, no: int = 0) -> bytes:
    return struct.pack("HBBI", code, yes, no, value)


def _refuse(number: int, error: int = errno.EPERM) -> list[bytes]:
    return [_instruction(_EQUAL, number, 0, 1), _instruction(_RETURN, _ERROR | error)]


def _only(number: int, test: int, values: Sequence[int]) -> list[bytes]:
    """Refuse a call unless its first argument passes the test with one of the values."""
    checks = [_instruction(test, value, len(values) - at, 0) for at, value in enumerate(values)]
    verdicts = [_instruction(_RETURN, _ERROR | errno.EPERM), _instruction(_RETURN, _ALLOW)]
    body = [_instruction(_LOAD, _FIRST_ARGUMENT_AT), *checks, *verdicts]
    return [_instruction(_EQUAL, number, 0, len(body)), *body]


def build(found: Machine, pid: int, *, network: bool) -> list[bytes]:
    """The filter's instructions for a process with this id; `network`: sockets are left alone."""
    program = [
        _instruction(_LOAD, _ARCHITECTURE_AT),
        _instruction(_EQUAL, found.architecture, 1, 0),
        _instruction(_RETURN, _KILL),
        _instruction(_LOAD, _NUMBER_AT),
    ]
    if found is MACHINES["x86_64"]:
        program += [_instruction(_AT_LEAST, _X32, 0, 1), _instruction(_RETURN, _ERROR | errno.EPERM)]
    for name in ALWAYS if network else (*ALWAYS, *NETWORK):
        if name in found.numbers:
            program += _refuse(found.numbers[name])
    program += _refuse(found.numbers["clone3"], errno.ENOSYS)  # its flags are out of reach; libc then takes `clone`
    program += _only(found.numbers["clone"], _ANY_BIT, [_CLONE_THREAD])
    program += _only(found.numbers["kill"], _EQUAL, [pid])
    program += _only(found.numbers["tgkill"], _EQUAL, [pid])
    program += _only(found.numbers["prlimit64"], _EQUAL, [0, pid])
    return [*program, _instruction(_RETURN, _ALLOW)]


class _Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_char_p)]


def install(*, network: bool) -> None:
    """Filter this thread's calls and those of all that it starts; new privileges must have been given up before."""
    instructions = build(machine(), os.getpid(), network=network)
    program = _Program(len(instructions), b"".join(instructions))
    kernel.prctl(_PR_SET_SECCOMP, _MODE_FILTER, ctypes.byref(program))
