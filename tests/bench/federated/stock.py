"""Stock Flower beside it: its own SuperLink, SuperNodes and app processes on this machine, as its manual starts them.

Three nodes and no TLS, which is the cheapest way; the same network, in NumPy. A node takes about 260 MB of memory.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path
from typing import Any

from tests.ports import free_port

__all__ = ["measure"]

_NODES = 3
_BIN = Path(sys.executable).parent
_PROJECT = """\
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"
[project]
name = "stockapp"
version = "1.0.0"
license = "Apache-2.0"
[tool.flwr.app]
publisher = "bench"
[tool.flwr.app.components]
serverapp = "stockapp.app:server"
clientapp = "stockapp.app:client"
[tool.flwr.app.config]
rounds = 3
"""
_APP = """\
import time
import numpy as np
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedYogi

client = ClientApp()
server = ServerApp()

@client.train()
def train(message: Message, context: Context) -> Message:
    arrays = [a * np.float32(0.99) for a in message.content["arrays"].to_numpy_ndarrays()]
    metrics = MetricRecord({"num-examples": 143})
    return Message(RecordDict({"arrays": ArrayRecord(arrays), "metrics": metrics}), reply_to=message)

@server.main()
def main(grid: Grid, context: Context) -> None:
    first = ArrayRecord([np.ones(2410, np.float32)])
    stamps = [time.time()]
    def note(round_no, arrays):
        stamps.append(time.time())
        print("STAMPS", stamps, flush=True)
    strategy = FedYogi(fraction_train=1.0, fraction_evaluate=0.0, min_train_nodes=NODES, min_available_nodes=NODES)
    strategy.start(grid=grid, initial_arrays=first, num_rounds=int(context.run_config["rounds"]), evaluate_fn=note)
"""


def measure(rounds: int) -> dict[str, Any]:
    """Seconds of a round in stock Flower; `problem` when it could not be measured here."""
    with tempfile.TemporaryDirectory(prefix="stock-") as name, ExitStack() as stack:
        folder, port = Path(name), free_port()
        environment = _environment(folder, port)
        log = folder / "superlink.log"
        link = ["flower-superlink", "--insecure", "--host", "127.0.0.1", "--port", str(port)]
        link.append("--disable-runtime-dependency-installation")
        _start(stack, link, environment, log)
        time.sleep(8)
        for number in range(_NODES):
            node = ["flower-supernode", "--insecure", "--superlink", f"127.0.0.1:{port}", "--port", str(free_port())]
            _start(stack, node, environment, folder / f"node-{number}.log")
        time.sleep(12)
        run = [str(_BIN / "flwr"), "run", str(folder / "app"), "hub", "--run-config", f"rounds={rounds}", "--stream"]
        done = subprocess.run(run, env=environment, capture_output=True, text=True, timeout=240, check=False)
        told = done.stdout + done.stderr
        said = told + log.read_text(errors="replace")
        stamps = re.findall(r"STAMPS \[([0-9., ]+)\]", said)
        if not stamps:
            return {"problem": told.strip()[-600:]}
        times = [float(value) for value in stamps[-1].split(",")]
        took = [round(b - a, 2) for a, b in pairwise(times)]
        return {"nodes": _NODES, "round_s": took[1:]}  # the first stamp is of the evaluation before round 1


def _environment(folder: Path, port: int) -> dict[str, str]:
    home, app = folder / "home", folder / "app"
    (app / "stockapp").mkdir(parents=True)
    home.mkdir()
    (app / "pyproject.toml").write_text(_PROJECT)
    (app / "stockapp" / "__init__.py").write_text("")
    (app / "stockapp" / "app.py").write_text(_APP.replace("NODES", str(_NODES)))
    (home / "config.toml").write_text(
        f'[superlink]\ndefault = "hub"\n[superlink.hub]\naddress = "127.0.0.1:{port}"\ninsecure = true\n'
    )
    path = f"{_BIN}{os.pathsep}{os.environ['PATH']}"
    quiet = {"FLWR_TELEMETRY_ENABLED": "0", "FLWR_DISABLE_UPDATE_CHECK": "1", "FLWR_HOME": str(home)}
    return {**os.environ, **quiet, "PATH": path}


def _start(stack: ExitStack, command: list[str], environment: dict[str, str], log: Path) -> None:
    out = stack.enter_context(log.open("wb"))
    process = subprocess.Popen(
        [str(_BIN / command[0]), *command[1:]], env=environment, stdout=out, stderr=out, start_new_session=True
    )
    stack.callback(_end, process)


def _end(process: subprocess.Popen[bytes]) -> None:
    """It, and what it started."""
    try:
        os.killpg(process.pid, 15)
    except ProcessLookupError:
        return
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, 9)
        process.wait()
