"""How the daemon starts its child processes: the same interpreter and packages, nothing of the caller's environment."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

import agent

__all__ = ["command", "environment"]

_KEPT = ("PATH", "LANG", "LC_ALL", "TZ", "TMPDIR", "SSL_CERT_FILE", "FAKETIME", "LD_PRELOAD")


def command(module: str, *arguments: str) -> list[str]:
    """The command line that runs a module of ours, without the working directory on its path."""
    return [sys.executable, "-P", "-m", module, *arguments]


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """The child's environment: few variables, our packages, and one thread for numeric libraries."""
    kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
    root = str(Path(agent.__file__).resolve().parent.parent)
    return {**kept, "PYTHONPATH": root, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", **(extra or {})}
