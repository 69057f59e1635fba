"""What a check found, how bad it is, and the exit code of the whole. Pure.

Levels: `fine`; `note` (worth knowing, nothing to do); `warning` (works now, will not for ever, or less well than it
should); `problem` (something does not work).
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

import msgspec

__all__ = ["EXIT_PROBLEM", "EXIT_WARNING", "Finding", "Level", "exit_code", "worst"]

EXIT_WARNING = 20
EXIT_PROBLEM = 21


class Level(StrEnum):
    """How bad it is, the least first."""

    FINE = "fine"
    NOTE = "note"
    WARNING = "warning"
    PROBLEM = "problem"


_ORDER = tuple(Level)


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One sentence about one thing. `advice`: what to do next, when there is something. `code` is stable."""

    check: str
    level: Level
    code: str
    message: str
    advice: str = ""


def worst(findings: Sequence[Finding]) -> Level:
    """The worst level found."""
    return max((finding.level for finding in findings), key=_ORDER.index, default=Level.FINE)


def exit_code(findings: Sequence[Finding]) -> int:
    """0 when nothing needs doing, else by the worst finding."""
    return {Level.WARNING: EXIT_WARNING, Level.PROBLEM: EXIT_PROBLEM}.get(worst(findings), 0)
