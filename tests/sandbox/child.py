"""Running code in a confined child, as root or as an ordinary user, on kernels that refuse some of it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import msgspec

from shared.sandbox.trial import Trial
from shared.sandbox.wish import Confinement

__all__ = ["NOBODY", "OLD_KERNEL", "run", "trial"]

ROOT = Path(__file__).resolve().parents[2]
NOBODY = 65534
_TIMEOUT_S = 60

_PREAMBLE = """
import ctypes, errno, os, sys
from shared.sandbox import kernel, system_calls
from shared.sandbox.confine import confine
from shared.sandbox.wish import Confinement
import msgspec
"""

OLD_KERNEL = """
found = system_calls.machine()
start = system_calls.build(found, os.getpid(), network=True)[:4]
program = [*start, *{refuse}, system_calls._instruction(system_calls._RETURN, system_calls._ALLOW)]
whole = system_calls._Program(len(program), b"".join(program))
kernel.prctl(38, 1)
kernel.prctl(22, 2, ctypes.byref(whole))
os.execv(sys.executable, [sys.executable, "-m", "shared.sandbox.trial"])
"""
"""Becomes the trial on a kernel that does not know some calls (`refuse`: an expression for instructions)."""


_ORDINARY = """
from shared.sandbox import trial
os.setgroups([])
os.setresgid({user}, {user}, {user})
os.setresuid({user}, {user}, {user})
trial.main()
"""
"""Changes after the imports, because an ordinary user may not be able to read the interpreter of who tests."""


def run(code: str, wish: Confinement | None = None) -> subprocess.CompletedProcess[str]:
    """Python code in a child, confined first if there is a wish."""
    confining = f"confine(msgspec.json.decode({msgspec.json.encode(wish)!r}, type=Confinement))\n" if wish else ""
    return subprocess.run(
        [sys.executable, "-c", _PREAMBLE + confining + code],
        capture_output=True,
        text=True,
        timeout=_TIMEOUT_S,
        cwd=ROOT,
        env={"PATH": os.defpath, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"},
        check=False,
    )


def trial(wish: Confinement, user: int | None = None, *, refuse: str | None = None) -> Trial:
    """What a confined child could do; `user`: as whom, if not as who tests."""
    command = [sys.executable, "-m", "shared.sandbox.trial"]
    if user is not None:
        command = [sys.executable, "-c", _PREAMBLE + _ORDINARY.format(user=user)]
    if refuse is not None:
        command = [sys.executable, "-c", _PREAMBLE + OLD_KERNEL.format(refuse=refuse)]
    done = subprocess.run(
        command,
        input=msgspec.json.encode(wish),
        capture_output=True,
        timeout=_TIMEOUT_S,
        cwd=ROOT,
        env={"PATH": os.defpath, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return msgspec.json.decode(done.stdout, type=Trial)
