"""How the daemon is started: a fresh interpreter with the environment that keeps it small.

glibc reads `MALLOC_ARENA_MAX` and OpenBLAS its number of threads when the process starts, so they must be there before.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from typing import NoReturn

__all__ = ["LEAN", "is_lean", "launch"]

LEAN: Mapping[str, str] = {"MALLOC_ARENA_MAX": "2", "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}


def is_lean(environ: Mapping[str, str] = os.environ) -> bool:
    """Whether this process was started with what `LEAN` asks for, or with another choice of a person."""
    return all(name in environ for name in LEAN)


def launch(arguments: Sequence[str]) -> NoReturn:
    """Become the daemon: `python -m agent` with these arguments, in place of this process."""
    environ = {**LEAN, **os.environ}
    os.execve(sys.executable, [sys.executable, "-m", "agent", *arguments], environ)
