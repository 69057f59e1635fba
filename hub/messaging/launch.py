"""Becomes nats-server, tied to the life of the hub: when the hub dies, however it dies, the kernel ends the server.

Run by path with the standard library only: `launch.py PARENT_PID PROGRAM ARGUMENT...`. The parent-death signal stays
over `exec`. A parent that died before it was set is seen by comparing process ids. SIGTERM lets the server close its
streams in order. The limit of open files is raised as far as allowed: each device is one.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import sys

_PR_SET_PDEATHSIG = 1


def main(arguments: list[str]) -> None:
    """Does not return when all goes well."""
    parent = int(arguments[0])
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM), 0, 0, 0) != 0:
        sys.exit(f"prctl: {os.strerror(ctypes.get_errno())}")
    if os.getppid() != parent:
        sys.exit("the hub has ended")
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    os.execv(arguments[1], arguments[1:])


if __name__ == "__main__":
    main(sys.argv[1:])
