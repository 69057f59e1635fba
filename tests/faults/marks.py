"""Remarks of a traced process, which stand in the trace between its operations."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["mark"]


def mark(root: Path, text: str) -> None:
    """Say in the trace that something was promised from now on."""
    fd = os.open(f"{root}.marks", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        os.write(fd, f"{text}\n".encode())
    finally:
        os.close(fd)
