"""A stock Flower SuperNode, with a stock ClientApp, in a run of this hub: only where the hub has a program for it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from hub.federated.flower.grid import Grid
from hub.federated.flower.superlink import SuperLink
from hub.federated.tasks import Failure, Reply, Task
from shared.errors import InvalidInput
from tests.federated.certificate import make_tls
from tests.ports import free_port

DEADLINE_S = 120.0
WEIGHTS = np.arange(6, dtype=np.float32)
CLIENT = """\
from flwr.app import ArrayRecord, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

app = ClientApp()


@app.train()
def train(message, context):
    (weights,) = message.content["arrays"].to_numpy_ndarrays()
    rate = message.content["config"]["learning_rate"]
    metrics = MetricRecord({"num-examples": 7, "loss": 0.5})
    return Message(RecordDict({"arrays": ArrayRecord([weights + rate]), "metrics": metrics}), reply_to=message)
"""
SERVER = "from flwr.serverapp import ServerApp\n\napp = ServerApp()\n"
PROJECT = """\
[project]
name = "stock"
version = "1.0.0"
license = "Apache-2.0"
dependencies = []

[tool.flwr.app]
publisher = "test"

[tool.flwr.app.components]
serverapp = "stock.server:app"
clientapp = "stock.client:app"
"""


def _program(folder: Path) -> bytes:
    app = folder / "app"
    (app / "stock").mkdir(parents=True)
    (app / "pyproject.toml").write_text(PROJECT)
    for name, text in {"__init__": "", "client": CLIENT, "server": SERVER}.items():
        (app / "stock" / f"{name}.py").write_text(text)
    build = "import sys; from flwr.cli.build import build_fab_from_disk as b; from pathlib import Path; "
    build += "sys.stdout.buffer.write(b(Path(sys.argv[1])))"
    return subprocess.run([sys.executable, "-c", build, str(app)], stdout=subprocess.PIPE, check=True).stdout


@pytest.mark.slow
def test_a_stock_client_app_on_a_stock_super_node_takes_part(tmp_path: Path) -> None:
    tls, key = make_tls(tmp_path), ec.generate_private_key(ec.SECP256R1())
    (tmp_path / "key").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()))
    programs = Path(sys.executable).parent
    with socket.create_server(("127.0.0.1", 0)) as sock:
        link = SuperLink(sock, tls, program=_program(tmp_path)).start()
        node = link.admit_node(key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))
        command = [
            str(programs / "flower-supernode"), "--root-certificates", str(tls.ca),
            "--superlink", "{}:{}".format(*link.address), "--auth-supernode-private-key", str(tmp_path / "key"),
            "--port", str(free_port()),
        ]  # fmt: skip
        environ = {
            **os.environ, "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}", "FLWR_HOME": str(tmp_path / "home"),
            "FLWR_TELEMETRY_ENABLED": "0", "FLWR_DISABLE_UPDATE_CHECK": "1", "HOME": str(tmp_path),
        }  # fmt: skip
        log = tmp_path / "node.log"
        with log.open("wb") as out:
            stock = subprocess.Popen(command, env=environ, stdout=out, stderr=out, start_new_session=True)
        try:
            reply = _one_task(Grid(link), node, log)
        finally:
            os.killpg(stock.pid, 15)
            stock.wait(DEADLINE_S)
            link.stop()
    assert isinstance(reply, Reply), reply
    assert (reply.node_id, reply.examples, reply.metrics) == (node, 7, {"loss": 0.5})
    assert reply.weights is not None
    assert reply.weights.tolist() == (WEIGHTS + np.float32(0.25)).tolist()


def _one_task(grid: Grid, node: int, log: Path) -> Reply | Failure:
    end = time.monotonic() + DEADLINE_S
    while node not in grid.nodes():
        assert time.monotonic() < end, log.read_text()
        time.sleep(0.1)
    grid.push([Task(node_id=node, weights=WEIGHTS, config={"learning_rate": 0.25}, ttl_s=DEADLINE_S)])
    while not (come := grid.pull()):
        assert time.monotonic() < end, log.read_text()
        time.sleep(0.1)
    return come[0]


def test_what_is_no_flower_app_is_refused_when_the_run_begins(tmp_path: Path) -> None:
    tls = make_tls(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as sock:
        link = SuperLink(sock, tls, program=b"no zip")
        with pytest.raises(InvalidInput) as refused:
            link.start()
        link.stop()
    assert refused.value.code == "federated.program"
