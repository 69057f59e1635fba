"""Rolling versions out over the hub's API: the first one to everybody, the candidate in canary waves with gates."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from scripts.fleet_sim_app.operator import Operator

__all__ = ["ENDED", "Rolled", "canary", "deploy", "roll_out"]

ENDED = frozenset({"finished", "keeping", "aborted", "rolled_back", "paused"})
"""Where a rollout stands still; `keeping` is finished but for devices to come."""


@dataclass(frozen=True, slots=True)
class Rolled:
    """How it ended, in how many seconds. `exposed`: devices that were ever assigned; `failures`: by reason code."""

    rollout_id: str
    status: str
    seconds: float
    exposed: int
    failures: dict[str, int] = field(default_factory=dict)
    reason: str = ""


async def deploy(operator: Operator, model: str, version: int, *, where: str, timeout_s: float) -> float:
    """A plain deployment to all at once; the seconds until every device ended it."""
    began = time.monotonic()
    made = await operator.post("/v1/deployments", {"model": model, "version": version, "filter": where})

    def ended(answer: Any) -> bool:
        progress = answer["progress"]
        return int(progress.get("succeeded", 0)) + int(progress.get("failed", 0)) >= int(made["devices"])

    await operator.until(f"/v1/deployments/{made['deployment_id']}", ended, timeout_s=timeout_s)
    return time.monotonic() - began


def canary(model: str, version: int, *, where: str, devices: int, window_s: int = 600) -> dict[str, Any]:
    """The definition: a small canary (ten devices, or a third of a fleet of fewer than thirty), a quarter, everybody; a
    wave or a gate that fails takes every device back."""
    return {
        "model": model,
        "version": version,
        "targets": {"filter": where},
        "strategy": {"name": "canary", "steps": [5, 25, 100]},
        "each_group": {
            "min_devices": max(1, min(10, devices // 3)),
            "success_percent": 90,
            "error_percent": 10,
            "min_sample": 5,
            "observe_s": 3600,
            "bake_s": 3,
        },
        "gates": [
            {"metric": "crash_rate", "operator": "<=", "threshold": "5%", "window_s": window_s, "min_sample": 5},
            {"metric": "error_rate", "operator": "<=", "threshold": "3%", "window_s": window_s, "min_sample": 30},
            {"metric": "latency_p95", "operator": "<=", "threshold": "5%", "window_s": window_s, "min_sample": 30},
        ],
        "on_failure": "roll_back",
        "scope": "all",
        "note": "fleet simulator",
    }


async def roll_out(
    operator: Operator, definition: dict[str, Any], *, timeout_s: float, watch: Callable[[Any], None]
) -> Rolled:
    """Create the rollout and watch it until it stands still; `watch` sees every answer."""
    began = time.monotonic()
    made = await operator.post("/v1/rollouts", definition)

    def ended(answer: Any) -> bool:
        watch(answer)
        return str(answer["status"]) in ENDED

    answer = await operator.until(f"/v1/rollouts/{made['rollout_id']}", ended, timeout_s=timeout_s)
    reason = answer["reason"]
    return Rolled(
        rollout_id=made["rollout_id"],
        status=answer["status"],
        seconds=time.monotonic() - began,
        exposed=sum(_exposed(group) for group in answer["groups"]),
        failures={row["reason_code"]: row["devices"] for row in answer["failures"]},
        reason="" if reason is None else reason["message"],
    )


_UNDER_WAY = ("assigned", "downloading", "staged", "installing")
_EXPOSED = (*_UNDER_WAY, "succeeded", "failed", "reverted", "rolling_back", "rolled_back", "withdrawn")


def _exposed(group: Any) -> int:
    return sum(int(group["counts"].get(state, 0)) for state in _EXPOSED)
