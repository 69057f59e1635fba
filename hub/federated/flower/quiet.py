"""What must be said before Flower is imported: it reports home and looks for updates unless it is told not to."""

from __future__ import annotations

import os

__all__ = ["silence"]


def silence() -> None:
    """No telemetry, no update checks; its own log only from warnings on."""
    os.environ["FLWR_TELEMETRY_ENABLED"] = "0"
    os.environ["FLWR_DISABLE_UPDATE_CHECK"] = "1"
    for name in ("FLWR_INTERNAL_GRPC_CONTROL_API", "FLWR_INTERNAL_GRPC_FLEET_API"):
        os.environ.pop(name, None)  # they would open ports of their own
    os.environ["FLWR_LOG_LEVEL"] = "WARNING"
