"""A whole fleet through a canary rollout: real sessions, real downloads, on one machine with the hub and its broker.

`python -m tests.bench.fleet_sessions [DEVICES]` prints JSON: seconds until all are enrolled, connected and
rolled out, messages and bytes, processor seconds and memory of hub, broker and simulator. Everything is real: device
certificates, MQTT over mutual TLS, HTTPS with digests checked. All of it shares the cores that are printed, so the
simulator's processor time is part of the answer; `load_average` says who else was there.
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
from pathlib import Path

from scripts.fleet_sim_app.fleet import Pace
from scripts.fleet_sim_app.run import Plan, Simulation
from scripts.fleet_sim_app.scenario import parse_scenario
from scripts.fleet_sim_app.screen import Silence

_TIMEOUT_S = 1800.0
_SCENARIO = parse_scenario(b"""
name: bench
description: Everything goes well; the telemetry interval is half of what the profiles have.
profiles: {raspberry-pi-4: 60, x86-gateway: 25, camera-armv7: 15}
telemetry_interval_s: 30
requests_per_s: 2
expect: finished
rules:
  - download: {share: 10, cuts: 1}
""")


async def measure(devices: int, folder: Path) -> dict[str, object]:
    """Play it and return the figures; the candidate is the first version that the devices get."""
    pace = Pace(connects_per_s=150.0, requesting=24)
    plan = Plan(
        devices=devices, scenario=_SCENARIO, pace=pace, bundle_bytes=100_000, first_version=False, timeout_s=_TIMEOUT_S
    )
    simulation = Simulation(plan, folder, Silence())
    return {"benchmark": "fleet_sessions", **await simulation.run()}


def main() -> None:
    """Run it in a temporary folder."""
    devices = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(asyncio.run(measure(devices, Path(folder))), indent=2))


if __name__ == "__main__":
    main()
