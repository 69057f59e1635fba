"""The device as the checks see it: its folder, and what of it can be read at all."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from agent.doctor.findings import Finding, Level
from agent.identity.store import Identity, IdentityStore
from agent.local_client import LocalAgent
from agent.paths import AgentPaths
from agent.settings import ENVIRONMENT_PREFIX, AgentSettings
from shared.clock import Clock
from shared.errors import SkerryError
from shared.profiles import Profile, load_profile
from shared.settings import load_settings

__all__ = ["Check", "Reporter", "Subject"]

_SOCKET_TIMEOUT_S = 5.0


@dataclass
class Reporter:
    """Collects the findings of one check."""

    check: str
    findings: list[Finding] = field(default_factory=list)

    def add(self, level: Level, code: str, message: str, advice: str = "") -> None:
        """One finding; `code` is completed by `doctor.`."""
        self.findings.append(
            Finding(check=self.check, level=level, code=f"doctor.{code}", message=message, advice=advice)
        )

    def fine(self, message: str) -> None:
        """Nothing is wrong."""
        self.add(Level.FINE, "fine", message)

    def note(self, code: str, message: str, advice: str = "") -> None:
        """Worth knowing."""
        self.add(Level.NOTE, code, message, advice)

    def warn(self, code: str, message: str, advice: str = "") -> None:
        """Works now."""
        self.add(Level.WARNING, code, message, advice)

    def problem(self, code: str, message: str, advice: str = "") -> None:
        """Does not work."""
        self.add(Level.PROBLEM, code, message, advice)


@dataclass(frozen=True)
class Subject:
    """What is examined. The properties raise what keeps them from being read; `running` is None with the agent down."""

    paths: AgentPaths
    clock: Clock

    @property
    def store(self) -> IdentityStore:
        """The identity's files."""
        return IdentityStore(self.paths.identity)

    @property
    def identity(self) -> Identity:
        """Who this device is."""
        return self.store.load()

    @property
    def profile(self) -> Profile:
        """The class of device that it is."""
        return load_profile(self.identity.profile)

    @property
    def settings(self) -> AgentSettings:
        """As the daemon would read them."""
        file = self.paths.settings if self.paths.settings.exists() else None
        return load_settings(AgentSettings, file, ENVIRONMENT_PREFIX, {})

    @cached_property
    def running(self) -> dict[str, Any] | None:
        """What the running agent says of itself."""
        try:
            with LocalAgent(self.paths.socket, timeout_s=_SOCKET_TIMEOUT_S) as agent:
                found: dict[str, Any] = agent.get("/skerry/status")
                return found
        except SkerryError:
            return None


Check = Callable[[Subject, Reporter], None]
"""Looks at one thing and reports; what it raises is reported as a problem with that error's words."""
