"""What the agent says of itself to people on the device, and of its models to the hub."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from agent.inference.host import ModelHost
from agent.ota.history import HistoryEntry
from agent.ota.installer import Installer, InstallStatus
from agent.training.journal import TrainingStatus
from shared import limits
from shared.wire.up import ModelStatus

__all__ = ["AgentStatus", "HubStatus", "all_history", "models_of"]


class HubStatus(msgspec.Struct, frozen=True, kw_only=True):
    """The link and what waits to be told. Times are seconds since 1970."""

    connected: bool = False
    since_s: float = 0.0
    attempts: int = 0
    problem: str = ""
    https_ok_s: float | None = None
    desired_revision: int | None = None
    outbox_count: int = 0
    outbox_bytes: int = 0
    outbox_dropped: int = 0
    certificate_until_s: float | None = None


class AgentStatus(msgspec.Struct, frozen=True, kw_only=True):
    """The whole agent at one moment."""

    device_id: str
    profile: str
    agent_version: str
    hub_url: str
    uptime_s: int
    rss_bytes: int
    hub: HubStatus
    models: list[InstallStatus]
    training: TrainingStatus = TrainingStatus()


def models_of(installer: Installer, host: ModelHost) -> Callable[[], list[ModelStatus]]:
    """A function that gives the models for a heartbeat and starts a new interval of their counters."""

    def take() -> list[ModelStatus]:
        found = installer.status()[: limits.MAX_ASSIGNMENTS_PER_DEVICE_COUNT]
        return [_model(status, host) for status in found]

    return take


def _model(status: InstallStatus, host: ModelHost) -> ModelStatus:
    served = host.take(status.model)
    return ModelStatus(
        model=status.model,
        version=status.active_version,
        bundle_sha256=status.bundle_sha256,
        state=status.state,
        assignment_counter=status.assignment_counter,
        requests=served.requests,
        errors=served.errors,
        latency_p50_us=served.latency_p50_us,
        latency_p99_us=served.latency_p99_us,
    )


def all_history(installer: Installer, model: str | None) -> list[HistoryEntry]:
    """The last installations of one model, or of all, oldest first."""
    names = [model] if model is not None else [status.model for status in installer.status()]
    found = [entry for name in names for entry in installer.history(name)]
    return sorted(found, key=lambda entry: entry.ended_s)
