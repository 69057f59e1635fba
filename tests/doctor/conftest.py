"""A device in a folder, and one check of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from agent.doctor.examination import CHECKS, examine
from agent.doctor.findings import Finding
from agent.doctor.subject import Subject
from agent.paths import AgentPaths
from shared.clock import Clock, SystemClock
from tests.daemon.device import give_identity

Look = Callable[..., list[Finding]]


@pytest.fixture
def paths(tmp_path: Path) -> AgentPaths:
    made = AgentPaths(tmp_path / "state")
    give_identity(made)
    return made


@pytest.fixture
def look(paths: AgentPaths) -> Look:
    """`look("clock")`: the findings of one check."""

    def one(check: str, clock: Clock | None = None) -> list[Finding]:
        return examine(Subject(paths, clock or SystemClock()), {check: CHECKS[check]})

    return one
