"""What an agent costs when nothing happens, and how soon it serves: `python -m tests.bench.agent_idle`.

A real agent process with the digits model, once with a broker that it is connected to and once without any network. In
the same run: a bare Python process that loads the same model with the raw interpreter. Prints JSON with the limits;
the exit code is 1 when one is not kept.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from agent.launch import LEAN
from agent.ota.slots import Slots
from agent.paths import AgentPaths
from shared.drift.build import ReferenceData
from tests.daemon.device import RunningAgent, give_identity, install_digits, launch
from tests.drift.kit import CONTRACT
from tests.link.mqtt_hub import MqttHub
from tests.models import load_digits

LIMITS = {"rss_bytes": 80 * 1000 * 1000, "first_prediction_s": 1.0, "idle_cpu_percent": 0.5}
STARTS_COUNT = 5
_CACHED = {"PYTHONDONTWRITEBYTECODE": ""}
"""As on a device, where the installed agent has its bytecode beside it."""

_BARE = """
import sys, time, numpy as np
from ai_edge_litert.interpreter import Interpreter
model = Interpreter(model_path=sys.argv[1])
runner = model.get_signature_runner()
runner(**{name: np.zeros([1, *spec["shape"][1:]], spec["dtype"]) for name, spec in runner.get_input_details().items()})
print("ready", flush=True)
sys.stdin.read()
"""


def rss_bytes(pid: int) -> int:
    """Resident memory of a process."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def cpu_s(pid: int) -> float:
    """Processor time of a process with all its threads, in seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def switches(pid: int) -> int:
    """How often the threads of a process were woken and then waited again."""
    total = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        for line in (task / "status").read_text().splitlines():
            if line.startswith("voluntary_ctxt_switches"):
                total += int(line.split()[1])
    return total


def observe(agent: RunningAgent, seconds: float) -> dict[str, Any]:
    """Memory, processor and wake-ups of an idle agent over a time."""
    pid = agent.process.pid
    before, woken, at = cpu_s(pid), switches(pid), time.monotonic()
    time.sleep(seconds)
    passed = time.monotonic() - at
    return {
        "rss_bytes": rss_bytes(pid),
        "threads": len(list(Path(f"/proc/{pid}/task").iterdir())),
        "idle_cpu_percent": round(100 * (cpu_s(pid) - before) / passed, 3),
        "wakeups_per_s": round((switches(pid) - woken) / passed, 2),
        "observed_s": round(passed, 1),
    }


def starts(paths: AgentPaths) -> dict[str, float]:
    """From exec to the first right answer over the socket: wall time (median and worst), and processor time."""
    walls, cpus = [], []
    for _ in range(STARTS_COUNT):
        began = time.perf_counter()
        agent = launch(paths, settings=_CACHED)
        agent.predict()
        walls.append(time.perf_counter() - began)
        cpus.append(cpu_s(agent.process.pid))
        agent.stop()
    return {
        "first_prediction_s": round(statistics.median(walls), 3),
        "first_prediction_worst_s": round(max(walls), 3),
        "first_prediction_cpu_s": round(statistics.median(cpus), 3),
    }


def bare(model: Path) -> dict[str, Any]:
    """The same model in a bare interpreter."""
    began = time.perf_counter()
    environ = {**os.environ, **LEAN}
    command = [sys.executable, "-c", _BARE, str(model)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environ) as process:
        if process.stdout is None or not process.stdout.readline():
            raise RuntimeError("the bare interpreter did not start")
        taken = time.perf_counter() - began
        found = {"rss_bytes": rss_bytes(process.pid), "first_prediction_s": round(taken, 3)}
        process.communicate()
    return found


def measure(folder: Path, seconds: float) -> dict[str, Any]:
    """All figures."""
    paths = AgentPaths(folder / "state")
    give_identity(paths)
    data = load_digits()
    install_digits(paths, reference=ReferenceData(data.test_x, data.test_y), contract=CONTRACT)
    slots = Slots(paths.model("digits"))
    slot = slots.active()
    if slot is None:
        raise RuntimeError("the model was not installed")
    extractor = slots.directory(slot) / slots.manifest(slot).extractor.path
    figures: dict[str, Any] = {**starts(paths), "bare_interpreter": bare(extractor)}
    for name in ("offline", "connected"):
        figures[name] = idle(paths, folder, name == "connected", seconds)
    figures["limits"] = LIMITS
    figures["kept"] = figures["first_prediction_s"] < LIMITS["first_prediction_s"] and all(
        figures[name][key] < LIMITS[key]
        for name in ("offline", "connected")
        for key in ("rss_bytes", "idle_cpu_percent")
    )
    return figures


def idle(paths: AgentPaths, folder: Path, connected: bool, seconds: float) -> dict[str, Any]:
    """An agent that has answered and now waits."""
    if not connected:
        return _idle(paths, seconds, connected)
    with MqttHub(folder / "broker") as hub:
        hub.adopt(paths)
        return _idle(paths, seconds, connected)


def _idle(paths: AgentPaths, seconds: float, connected: bool) -> dict[str, Any]:
    agent = launch(paths, settings=_CACHED)
    try:
        agent.predict()
        while connected and agent.ask("/skerry/status")["hub"]["outbox_count"]:
            time.sleep(0.1)
        time.sleep(5)
        return observe(agent, seconds)
    finally:
        agent.stop(signal.SIGTERM)


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=20.0, help="how long to watch the idle agent")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        figures = measure(Path(folder), options.seconds)
    print(json.dumps(figures, indent=2))
    return 0 if figures["kept"] else 1


if __name__ == "__main__":
    sys.exit(main())
