"""`scripts/fleet_sim`: read the command line, play the simulation, print the figures.

Exit codes: 0 it went as the scenario expects, 1 it did not, 2 wrong input, 7 the hub cannot be reached, 130 Ctrl-C.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import logging
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from scripts.fleet_sim_app.fleet import Pace
from scripts.fleet_sim_app.run import Given, Plan, Simulation
from scripts.fleet_sim_app.scenario import load_scenario, ready_scenarios
from scripts.fleet_sim_app.screen import Screen, Silence
from shared.errors import EXIT_CODES, InvalidInput, SkerryError

_EPILOG = "Example: scripts/fleet_sim --devices 500 --scenario crash30"


def _arguments(words: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="scripts/fleet_sim", description="Thousands of simulated agents against a real hub.", epilog=_EPILOG
    )
    parser.add_argument("--devices", type=int, default=50, help="how many (default: 50)")
    parser.add_argument("--scenario", default="good", help=f"{', '.join(ready_scenarios())}, or a file's path")
    parser.add_argument("--seed", type=int, default=1, help="decides every draw (default: 1)")
    parser.add_argument("--connects-per-s", type=float, default=200.0, help="new sessions a second; 0: all at once")
    parser.add_argument("--requests-at-once", type=int, default=32, help="downloads and fallbacks at the same time")
    parser.add_argument("--bundle-bytes", type=int, default=200_000, help="size of the versions of a hub of its own")
    parser.add_argument("--sessions-only", action="store_true", help="connect and install version 1, no candidate")
    parser.add_argument("--timeout", type=float, default=900.0, metavar="S", help="for each step (default: 900)")
    parser.add_argument("--dir", type=Path, help="folder for hub and keys (default: a temporary one, removed)")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON and nothing else")
    hub = parser.add_argument_group("a hub that is there already (default: one of its own)")
    hub.add_argument("--hub", metavar="URL", help="its address")
    hub.add_argument("--token-file", type=Path, help="an administrator's token")
    hub.add_argument("--ca", type=Path, help="its CA certificate")
    hub.add_argument("--model", default="digits", help="the model to roll out")
    hub.add_argument("--version", type=int, default=2, help="the approved version to roll out")
    return parser.parse_args(words)


def _plan(options: argparse.Namespace) -> Plan:
    if not 1 <= options.devices <= 100_000:
        raise InvalidInput("sim.devices", "A fleet has 1 to 100,000 devices.")
    if options.connects_per_s < 0 or options.requests_at_once < 1 or options.timeout <= 0:
        raise InvalidInput("sim.pace", "--connects-per-s, --requests-at-once and --timeout must be positive.")
    return Plan(
        devices=options.devices,
        scenario=load_scenario(options.scenario),
        seed=options.seed,
        pace=Pace(connects_per_s=options.connects_per_s, requesting=options.requests_at_once),
        bundle_bytes=options.bundle_bytes,
        candidate=not options.sessions_only,
        timeout_s=options.timeout,
        given=_given(options),
    )


def _given(options: argparse.Namespace) -> Given | None:
    if options.hub is None:
        return None
    if options.token_file is None or options.ca is None:
        raise InvalidInput("sim.hub", "--hub needs --token-file and --ca.", hint="`skerry-hub serve` names both.")
    try:
        token = options.token_file.read_text().strip()
    except OSError as error:
        raise InvalidInput("sim.token", f"{options.token_file} cannot be read: {error.strerror}.") from error
    return Given(options.hub.rstrip("/"), token, options.ca, options.model, options.version)


async def _play(plan: Plan, folder: Path, *, quiet: bool) -> tuple[dict[str, Any], bool]:
    loop = asyncio.get_running_loop()
    task = asyncio.current_task()
    if task is not None:
        loop.add_signal_handler(signal.SIGTERM, task.cancel)
    with contextlib.ExitStack() as exits:
        watcher = Silence() if quiet else exits.enter_context(Screen())
        simulation = Simulation(plan, folder, watcher)
        facts = await simulation.run()
    return facts, simulation.as_expected


def main(words: Sequence[str]) -> int:
    """Run it; the exit code."""
    options = _arguments(words)
    logging.getLogger("agent.link").setLevel(logging.ERROR)  # a device that is cut off is part of the story
    try:
        plan = _plan(options)
        with contextlib.ExitStack() as exits:
            folder = options.dir or Path(exits.enter_context(tempfile.TemporaryDirectory(prefix="skerry-sim-")))
            folder.mkdir(parents=True, exist_ok=True)
            facts, as_expected = asyncio.run(_play(plan, folder.absolute(), quiet=options.json))
    except SkerryError as error:
        print(json.dumps({"error": {"code": error.code, "message": error.message}}) if options.json else error)
        return EXIT_CODES[error.family]
    except (KeyboardInterrupt, asyncio.CancelledError):
        print("Stopped; everything that was started has ended.", file=sys.stderr)
        return 130
    print(json.dumps(facts, indent=2))
    return 0 if as_expected else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
