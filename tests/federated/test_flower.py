"""The contract with Flower: what the adapters need of it, over real TLS sockets. A new version must pass this."""

from __future__ import annotations

import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from agent.training.flower_node import Answer, Order, join
from hub.federated.flower.fleet_app import fleet_app
from hub.federated.flower.grid import Failure, Grid, Reply, Task
from hub.federated.flower.superlink import SuperLink, Tls, superlink_config
from tests.federated.certificate import make_tls

from flwr.supercore.inflatable.inflatable_object import iterate_object_tree  # isort: skip

WEIGHTS = np.arange(10, dtype=np.float32)


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Tls:
    return make_tls(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def superlink(tls: Tls) -> Iterator[SuperLink]:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        link = SuperLink(sock, tls).start()
        yield link
        link.stop()


@pytest.fixture(scope="module")
def address(superlink: SuperLink) -> str:
    return "{}:{}".format(*superlink.address)


def _split(address: str) -> tuple[str, int]:
    host, port = address.split(":")
    return host, int(port)


def _public(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


class _Device:
    """A node in a thread that doubles what it gets."""

    def __init__(self, superlink: SuperLink, tls: Tls, work: Callable[[Order], Answer]) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.node_id = superlink.admit_node(_public(self.key))
        self._over = threading.Event()
        address = "{}:{}".format(*superlink.address)
        self._thread = threading.Thread(target=self._run, args=(address, tls, work))
        self._thread.start()

    def _run(self, address: str, tls: Tls, work: Callable[[Order], Answer]) -> None:
        with join(address, tls.ca, self.key) as node:
            while not self._over.is_set():
                if not node.serve_one(work):
                    self._over.wait(0.02)

    def stop(self) -> None:
        self._over.set()
        self._thread.join()


def _double(order: Order) -> Answer:
    return Answer(update=(order.weights * 2).tobytes(), examples=7, metrics={"loss": 0.25})


def _fail(order: Order) -> Answer:
    raise RuntimeError("the sensor is wet")


@pytest.fixture
def devices(superlink: SuperLink, tls: Tls) -> Iterator[list[_Device]]:
    made = [_Device(superlink, tls, work) for work in (_double, _double, _fail)]
    yield made
    for device in made:
        device.stop()


def test_tasks_go_out_and_replies_and_failures_come_back(superlink: SuperLink, devices: list[_Device]) -> None:
    grid = Grid(superlink)
    _until(lambda: {d.node_id for d in devices} <= grid.nodes())
    ids = grid.push(
        [Task(node_id=d.node_id, weights=WEIGHTS, config={"epochs": 2, "rate": 0.1}, ttl_s=60.0) for d in devices]
    )
    assert all(ids)
    outcomes: dict[int, Reply | Failure] = {}
    _until(lambda: outcomes.update({o.node_id: o for o in grid.pull()}) or len(outcomes) == 3)
    for device, task_id in list(zip(devices, ids, strict=True))[:2]:
        reply = outcomes[device.node_id]
        assert isinstance(reply, Reply)
        assert reply.task_id == task_id
        assert reply.examples == 7
        assert reply.metrics == {"loss": 0.25}
        assert reply.update is not None
        np.testing.assert_array_equal(np.frombuffer(reply.update, np.float32), WEIGHTS * 2)
    failed = outcomes[devices[2].node_id]
    assert isinstance(failed, Failure)
    assert "the sensor is wet" in failed.reason
    assert min(superlink.bytes_moved()) > 0
    assert grid.give_up() == []


def test_questions_and_what_is_beside_a_task_come_and_go_as_bytes(superlink: SuperLink, tls: Tls) -> None:
    def answer(order: Order) -> Answer:
        assert "payload" not in order.config
        return Answer(update=order.kind.encode() + order.payload + bytes([order.weights.size]), examples=1)

    grid, device = Grid(superlink), _Device(superlink, tls, answer)
    _until(lambda: device.node_id in grid.nodes())
    nothing = np.zeros(0, np.float32)
    orders = [("query", nothing, b"why?"), ("train", WEIGHTS, b"seal")]
    grid.push(
        [
            Task(node_id=device.node_id, weights=weights, config={"round": 1}, ttl_s=60.0, kind=kind, payload=payload)
            for kind, weights, payload in orders
        ]
    )
    outcomes: dict[str, Reply | Failure] = {}
    _until(lambda: outcomes.update({o.task_id: o for o in grid.pull()}) or len(outcomes) == 2)
    device.stop()
    assert {o.update for o in outcomes.values() if isinstance(o, Reply)} == {b"querywhy?\x00", b"trainseal\x0a"}


def test_a_task_without_an_answer_is_given_up(superlink: SuperLink, address: str, tls: Tls) -> None:
    grid, key = Grid(superlink), ec.generate_private_key(ec.SECP256R1())
    silent = superlink.admit_node(_public(key))
    order = Task(node_id=silent, weights=WEIGHTS, config={}, ttl_s=60.0)
    assert grid.push([order]) == [""]  # it is not connected
    with join(address, tls.ca, key):
        (task_id,) = grid.push([order])
        assert grid.pull() == []
        assert [(f.task_id, f.node_id) for f in grid.give_up()] == [(task_id, silent)]
        assert grid.pull() == []


def _first(grid: Grid) -> Reply | Failure:
    """The next outcome."""
    found: list[Reply | Failure] = []

    def came() -> bool:
        found.extend(grid.pull())
        return bool(found)

    _until(came)
    return found[0]


def _complete(superlink: SuperLink, message_id: str | None) -> bool:
    """Whether all parts of a message have come."""
    store = superlink.state.object_store
    if message_id is None or message_id not in store:
        return False
    return all(store.get(node.object_id) for node in iterate_object_tree(store.get_object_tree(message_id)))


def test_a_reply_that_its_node_has_deleted_again_costs_that_reply_only(superlink: SuperLink, tls: Tls) -> None:
    """A node may confirm, and so delete, any message whose id it knows: also its own reply, before the hub looks."""
    device, grid, replies = _Device(superlink, tls, _double), Grid(superlink), superlink.state
    try:
        _until(lambda: device.node_id in grid.nodes())
        order = Task(node_id=device.node_id, weights=WEIGHTS, config={}, ttl_s=60.0)
        (task_id,) = grid.push([order])
        _until(lambda: _complete(superlink, replies.message_ins_id_to_message_res_id.get(task_id)))
        superlink.state.object_store.delete(replies.message_ins_id_to_message_res_id[task_id])
        outcome = _first(grid)
        assert isinstance(outcome, Failure)
        assert "malformed" in outcome.reason
        (again,) = grid.push([order])
        assert _first(grid).task_id == again, "and the node can answer the next task"
    finally:
        device.stop()


def test_nothing_of_a_round_is_left_in_memory(superlink: SuperLink, tls: Tls) -> None:
    """Answered, or given up: the store is as it was, some time later."""
    device, grid, store = _Device(superlink, tls, _double), Grid(superlink, grace_s=0.2), superlink.state.object_store
    silent_key = ec.generate_private_key(ec.SECP256R1())
    silent = superlink.admit_node(_public(silent_key))
    try:
        with join("{}:{}".format(*superlink.address), tls.ca, silent_key):
            _until(lambda: {device.node_id, silent} <= grid.nodes())
            before = len(store)
            for number in range(5):
                weights = WEIGHTS + np.float32(number)
                tasks = [Task(node_id=n, weights=weights, config={}, ttl_s=60.0) for n in (device.node_id, silent)]
                assert all(grid.push(tasks))
                assert isinstance(_first(grid), Reply)
                assert len(grid.give_up()) == 1
            _until(lambda: grid.pull() or len(store) <= before)
    finally:
        device.stop()


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v1/control/start-run"),
        ("POST", "/v1/control/list-nodes"),
        ("POST", "/v1/control/register-node"),
        ("POST", "/v1/runtime/acquire-task"),
        ("POST", "/v1/fleet/register-node"),
        ("POST", "/v1/fleet/unregister-node"),
        ("POST", "/v1/fleet/get-fab"),
        ("POST", "/v1/fleet/../control/start-run"),
        ("POST", "/v1/fleet/%2e%2e/control/start-run"),
        ("POST", "//v1/control/start-run"),
        ("GET", "/v1/fleet/pull-messages"),
        ("GET", "/docs"),
        ("GET", "/openapi.json"),
        ("GET", "/"),
    ],
)
def test_only_the_paths_of_nodes_are_reachable(address: str, tls: Tls, method: str, path: str) -> None:
    with socket.create_connection(_split(address)) as raw:
        context = ssl.create_default_context(cafile=str(tls.ca))
        with context.wrap_socket(raw, server_hostname="127.0.0.1") as sock:
            head = f"{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
            sock.sendall(head.encode())
            assert sock.recv(100).startswith(b"HTTP/1.1 403")


async def test_behind_the_guard_there_is_nothing_but_the_paths_of_nodes(tls: Tls) -> None:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        app = fleet_app(superlink_config(sock, tls))
    known = app.openapi()["paths"]
    assert "/v1/fleet/pull-messages" in known
    assert all(path == "/health" or path.startswith("/v1/fleet/") for path in known)
    kind = {"content-type": "application/protobuf"}
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="https://hub", headers=kind) as client:
        for path in ("/v1/control/start-run", "/v1/control/list-nodes", "/v1/runtime/acquire-task"):
            assert (await client.post(path)).status_code == 404
        assert (await client.post("/v1/fleet/pull-messages")).status_code == 401  # it is not signed


def test_a_body_over_the_bound_is_refused(address: str, tls: Tls) -> None:
    verify = ssl.create_default_context(cafile=str(tls.ca))
    answer = httpx.post(f"https://{address}/v1/fleet/push-object", content=bytes(8 * 1024 * 1024 + 1), verify=verify)
    assert answer.status_code == 413


_NODE = """
import sys
from pathlib import Path
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from agent.training.flower_node import join
address, ca, key = sys.argv[1:]
with join(address, Path(ca), load_pem_private_key(Path(key).read_bytes(), None), retries=0) as node:
    print("joined", flush=True)
    sys.stdin.readline()
    node.serve_one(lambda order: None)
    print("served", flush=True)
"""


def _node(folder: Path, address: str, tls: Tls, key: ec.EllipticCurvePrivateKey) -> subprocess.Popen[str]:
    """A node in a process of its own: Flower ends the whole process of one that is refused or no longer wanted."""
    (folder / "key.pem").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return subprocess.Popen(
        [sys.executable, "-c", _NODE, address, str(tls.ca), str(folder / "key.pem")],
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def test_a_stranger_is_refused(superlink: SuperLink, address: str, tls: Tls, tmp_path: Path) -> None:
    with _node(tmp_path, address, tls, ec.generate_private_key(ec.SECP256R1())) as node:
        said, _ = node.communicate("go on\n", timeout=60)
    assert node.returncode != 0
    assert said == ""


def test_a_key_that_was_expelled_can_be_let_in_again(superlink: SuperLink) -> None:
    key = _public(ec.generate_private_key(ec.SECP256R1()))
    first = superlink.admit_node(key)
    superlink.expel_node(first)  # it never came
    superlink.expel_node(first)
    again = superlink.admit_node(key)
    assert again not in (0, first)
    assert superlink.admit_node(key) == again


def test_an_expelled_node_is_ended(superlink: SuperLink, address: str, tls: Tls, tmp_path: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    node_id = superlink.admit_node(_public(key))
    with _node(tmp_path, address, tls, key) as node:
        assert node.stdout is not None
        assert node.stdout.readline() == "joined\n"
        superlink.expel_node(node_id)
        said, _ = node.communicate("go on\n", timeout=60)
    assert node.returncode != 0
    assert "served" not in said
