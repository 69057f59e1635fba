"""A seccomp filter: system calls that a model never needs and an attacker would, refused with EPERM.

Rules: the filter is a list of refusals, because numpy and the runtime use many calls and differ by version; what it
refuses are sockets, other programs and processes, other processes' memory and signals, namespaces, mounts, modules,
keys, tracing, and interfaces with a history of holes (io_uring, bpf, userfaultfd). A call by another architecture's
convention ends the process. Threads stay possible, processes do not. The numbers are checked against libseccomp.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from shared.sandbox import kernel

__all__ = ["MACHINES", "Machine", "build", "install", "machine"]

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

_NEW: Mapping[str, int] = {
    **{"pidfd_send_signal": 424, "io_uring_setup": 425, "io_uring_enter": 426, "io_uring_register": 427},
    **{"open_tree": 428, "move_mount": 429, "fsopen": 430, "fsmount": 432, "pidfd_open": 434, "clone3": 435},
    **{"pidfd_getfd": 438, "mount_setattr": 442},
}
"""The same on every architecture."""


@dataclass(frozen=True, slots=True)
class Machine:
    """An architecture: its audit number and the numbers of its system calls."""

    architecture: int
    numbers: Mapping[str, int]


MACHINES: Mapping[str, Machine] = {
    "x86_64": Machine(
        0xC000003E,
        {
            **{"socket": 41, "connect": 42, "accept": 43, "sendto": 44, "sendmsg": 46, "bind": 49, "listen": 50},
            **{"socketpair": 53, "clone": 56, "fork": 57, "vfork": 58, "execve": 59, "kill": 62, "ptrace": 101},
            **{"rt_sigqueueinfo": 129, "setpriority": 141, "pivot_root": 155, "chroot": 161, "mount": 165},
            **{"umount2": 166, "init_module": 175, "delete_module": 176, "tkill": 200, "tgkill": 234},
            **{"kexec_load": 246, "add_key": 248, "request_key": 249, "keyctl": 250, "unshare": 272, "accept4": 288},
            **{"rt_tgsigqueueinfo": 297, "perf_event_open": 298, "prlimit64": 302, "open_by_handle_at": 304},
            **{"sendmmsg": 307, "setns": 308, "process_vm_readv": 310, "process_vm_writev": 311},
            **{"finit_module": 313, "kexec_file_load": 320, "bpf": 321, "execveat": 322, "userfaultfd": 323},
            **_NEW,
        },
    ),
    "aarch64": Machine(
        0xC00000B7,
        {
            **{"umount2": 39, "mount": 40, "pivot_root": 41, "chroot": 51, "unshare": 97, "kexec_load": 104},
            **{"init_module": 105, "delete_module": 106, "ptrace": 117, "kill": 129, "tkill": 130, "tgkill": 131},
            **{"rt_sigqueueinfo": 138, "setpriority": 140, "socket": 198, "socketpair": 199, "bind": 200},
            **{"listen": 201, "accept": 202, "connect": 203, "sendto": 206, "sendmsg": 211, "add_key": 217},
            **{"request_key": 218, "keyctl": 219, "clone": 220, "execve": 221, "rt_tgsigqueueinfo": 240},
            **{"perf_event_open": 241, "accept4": 242, "prlimit64": 261, "open_by_handle_at": 265, "setns": 268},
            **{"sendmmsg": 269, "process_vm_readv": 270, "process_vm_writev": 271, "finit_module": 273, "bpf": 280},
            **{"execveat": 281, "userfaultfd": 282, "kexec_file_load": 294},
            **_NEW,
        },
    ),
    "armv7l": Machine(
        0x40000028,
        {
            **{"fork": 2, "execve": 11, "mount": 21, "ptrace": 26, "kill": 37, "umount2": 52, "chroot": 61},
            **{"setpriority": 97, "clone": 120, "init_module": 128, "delete_module": 129, "rt_sigqueueinfo": 178},
            **{"vfork": 190, "pivot_root": 218, "tkill": 238, "tgkill": 268, "socket": 281, "bind": 282},
            **{"connect": 283, "listen": 284, "accept": 285, "socketpair": 288, "sendto": 290, "sendmsg": 296},
            **{"add_key": 309, "request_key": 310, "keyctl": 311, "unshare": 337, "kexec_load": 347},
            **{"rt_tgsigqueueinfo": 363, "perf_event_open": 364, "accept4": 366, "prlimit64": 369},
            **{"open_by_handle_at": 371, "sendmmsg": 374, "setns": 375, "process_vm_readv": 376},
            **{"process_vm_writev": 377, "finit_module": 379, "bpf": 386, "execveat": 387, "userfaultfd": 388},
            **{"kexec_file_load": 401},
            **_NEW,
        },
    ),
}


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
