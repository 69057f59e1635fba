"""The findings as a table for people: what needs doing first, and under each the advice."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from agent.doctor.findings import Finding, Level, worst

__all__ = ["finding_lines"]

_WIDTH = 100
_MARKS = {Level.FINE: "ok", Level.NOTE: "note", Level.WARNING: "WARNING", Level.PROBLEM: "PROBLEM"}
_SUMMARY = {
    Level.FINE: "This device is healthy.",
    Level.NOTE: "This device is healthy.",
    Level.WARNING: "This device works, but something needs attention.",
    Level.PROBLEM: "Something on this device does not work.",
}


def finding_lines(findings: Sequence[Finding]) -> list[str]:
    """One row for each finding, wrapped, then the summary."""
    first = max((len(finding.check) for finding in findings), default=0) + 2
    indent = " " * (first + 10)
    lines: list[str] = []
    for finding in findings:
        head = f"{finding.check:<{first}}{_MARKS[finding.level]:<10}"
        lines += textwrap.wrap(finding.message, _WIDTH, initial_indent=head, subsequent_indent=indent)
        if finding.advice:
            lines += textwrap.wrap(
                f"-> {finding.advice}", _WIDTH, initial_indent=indent, subsequent_indent=indent + "   "
            )
    return [*lines, "", _SUMMARY[worst(findings)]]
