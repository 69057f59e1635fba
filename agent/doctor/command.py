"""`skerry-agent doctor` behind the command line: examine, print, and say how bad it is."""

from __future__ import annotations

import msgspec

from agent.doctor.examination import examine
from agent.doctor.findings import exit_code, worst
from agent.doctor.subject import Subject
from agent.doctor.view import finding_lines
from agent.output import Output
from agent.paths import AgentPaths
from shared.clock import SystemClock

__all__ = ["run"]


def run(paths: AgentPaths, output: Output) -> int:
    """Examine the device of a state folder; the exit code."""
    findings = examine(Subject(paths, SystemClock()))
    data = {"worst": worst(findings).value, "findings": msgspec.to_builtins(findings)}
    output.result(data, finding_lines(findings))
    return exit_code(findings)
