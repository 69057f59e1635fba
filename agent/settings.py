"""The agent's settings: `<state>/agent.yaml`, then `SKERRY_AGENT_…` variables, then the command line.

Everything has a default that is right for a device in the field; what depends on the class of device comes from its
firmware profile and may be overridden here.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from agent.drift.settings import DriftSettings
from agent.ota.settings import OtaSettings
from agent.training.settings import SampleSettings, TrainingSettings

__all__ = ["ENVIRONMENT_PREFIX", "AgentSettings", "LinkSettings"]

ENVIRONMENT_PREFIX = "SKERRY_AGENT_"
Seconds = Annotated[float, Meta(gt=0, le=86400)]


class LinkSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the agent keeps in touch.

    retry_*: between attempts to connect. window_count: messages under way and not yet confirmed by the hub.
    stall_*: how long a confirmation may be missing before messages are sent again. fallback_after_s: without MQTT for
    so long, the hub is asked over HTTPS every fallback_interval_s.
    """

    connect_timeout_s: Seconds = 15.0
    keepalive_s: Annotated[int, Meta(ge=5, le=3600)] = 60
    retry_base_s: Seconds = 1.0
    retry_cap_s: Seconds = 300.0
    window_count: Annotated[int, Meta(ge=1, le=1024)] = 64
    stall_base_s: Seconds = 10.0
    stall_cap_s: Seconds = 600.0
    fallback_after_s: Seconds = 180.0
    fallback_interval_s: Seconds = 120.0
    fallback_timeout_s: Seconds = 120.0


class AgentSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole of it. `api_port`: loopback port of the prediction API besides the Unix socket; none by default.

    hang_limit_s: an agent whose event loop stands still for so long ends itself, to be started again.
    """

    api_port: Annotated[int, Meta(ge=0, le=65535)] | None = None
    telemetry_interval_s: Annotated[float, Meta(ge=0.05, le=86400)] | None = None
    outbox_bytes: Annotated[int, Meta(ge=16384, le=1 << 34)] | None = None
    log_level: Annotated[str, Meta(pattern=r"^(debug|info|warning|error)\Z")] = "info"
    hang_limit_s: Annotated[float, Meta(ge=1, le=3600)] = 90.0
    drift: DriftSettings = DriftSettings()
    link: LinkSettings = LinkSettings()
    ota: OtaSettings = OtaSettings()
    samples: SampleSettings = SampleSettings()
    training: TrainingSettings = TrainingSettings()
