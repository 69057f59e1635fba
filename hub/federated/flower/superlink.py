"""Flower's SuperLink without its processes: its fleet API behind the guard, in a thread of this process.

Flower keeps its state in memory; what must survive is in the hub's database (`hub.federated`). One run at a time:
Flower holds the identity of the running task in the process (`TaskIdentity`), so each run has a process of its own.
"""

from __future__ import annotations

import secrets
import socket
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Self
from zipfile import BadZipFile

from hub.federated.flower.quiet import silence

silence()

import uvicorn  # noqa: E402
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey  # noqa: E402
from cryptography.hazmat.primitives.serialization import load_der_public_key  # noqa: E402
from flwr.cli.config_utils import get_fab_metadata  # noqa: E402
from flwr.common.constant import NOOP_ACCOUNT_NAME, NOOP_FLWR_AID  # noqa: E402
from flwr.server.superlink.linkstate.in_memory_linkstate import InMemoryLinkState  # noqa: E402
from flwr.supercore.constant import NOOP_FEDERATION_ID, NodeStatus, TaskType  # noqa: E402
from flwr.supercore.fab import Fab  # noqa: E402
from flwr.supercore.primitives.asymmetric import public_key_to_bytes  # noqa: E402
from flwr.supercore.task_identity import TaskIdentity  # noqa: E402
from flwr.superlink.config_loader import SuperLinkLifespanConfig, load_control_authn_plugin  # noqa: E402

from hub.federated.flower.fleet_app import fleet_app  # noqa: E402
from hub.federated.flower.guard import FleetOnly  # noqa: E402
from shared.errors import InvalidInput, Unavailable  # noqa: E402

__all__ = ["SuperLink", "Tls", "superlink_config"]

_START_S = 30.0
_STOP_S = 10.0
_HEARTBEAT_S = 10.0
_MAX_BODY_BYTES = 8 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Tls:
    """Files of the server's certificate, its key, and the CA that nodes trust."""

    certificate: Path
    key: Path
    ca: Path


class SuperLink:
    """Serves nodes on a listening socket between `start` and `stop`; nodes are those whose keys were let in.

    program: a Flower app (FAB) that stock nodes fetch and run; without it none can.
    """

    def __init__(self, sock: socket.socket, tls: Tls, *, program: bytes = b"") -> None:
        app = fleet_app(superlink_config(sock, tls))
        guarded = FleetOnly(app, _MAX_BODY_BYTES, programs=bool(program))
        self._program = program
        config = uvicorn.Config(
            guarded,
            ssl_certfile=tls.certificate,
            ssl_keyfile=tls.key,
            log_level="warning",
            lifespan="on",
            ws="none",
            loop="asyncio",
            access_log=False,
            timeout_keep_alive=75,
        )
        self._server = uvicorn.Server(config)
        self._sock = sock
        host, port = sock.getsockname()[:2]
        self.address: tuple[str, int] = (host, port)
        self._thread = threading.Thread(target=self._serve, name="superlink", daemon=True)
        self._beat = threading.Thread(target=self._keep_alive, name="superlink-task", daemon=True)
        self._over = threading.Event()
        self.state: InMemoryLinkState = app.state.linkstate_factory.state()
        self.run_id = 0
        self._task_id = 0

    def start(self) -> Self:
        """Begin to serve; error `federated.engine` when it does not come up."""
        self._thread.start()
        waited = threading.Event()
        for _ in range(int(_START_S / 0.02)):
            if self._server.started or not self._thread.is_alive():
                break
            waited.wait(0.02)
        if not self._server.started:
            raise Unavailable("federated.engine", "Flower's server did not start.", retriable=True)
        self._begin_run()
        self._beat.start()
        return self

    def stop(self) -> None:
        """End the run and the server."""
        self._over.set()
        if self._task_id:
            self.state.finish_task(self._task_id, "completed", "")
        self._server.should_exit = True
        self._thread.join(_STOP_S)

    def admit_node(self, public_key_der: bytes) -> int:
        """Let the node with this key (SubjectPublicKeyInfo, elliptic curve) in; its node id. Twice is once."""
        key = _node_key(public_key_der)
        known = self.state.get_node_id_by_public_key(key)
        return known or self.state.create_node(NOOP_FLWR_AID, NOOP_ACCOUNT_NAME, key, 0)

    def expel_node(self, node_id: int) -> None:
        """Refuse the node from its next request on; harmless when it is not in. Its key may be let in again later."""
        with self.state.lock:
            node = self.state.nodes.get(node_id)
            if node is None or node.status == NodeStatus.UNREGISTERED:
                return
            self.state.delete_node(NOOP_FLWR_AID, node_id)
            # Flower keeps a key for ever; a device that is enrolled again may come with the one that it had.
            del self.state.node_public_key_to_node_id[node.public_key]

    def bytes_moved(self) -> tuple[int, int]:
        """Bytes of messages sent to nodes and received from them in this run."""
        run = self.state.get_run_info(run_ids=[self.run_id])[0]
        return int(run.bytes_sent), int(run.bytes_recv)

    def _begin_run(self) -> None:
        state = self.state
        state.federation_manager.ensure_default_federations_exist(flwr_aid=NOOP_FLWR_AID)
        app, version, digest = self._app()
        self.run_id = state.create_run(
            app, version, digest, {}, NOOP_FEDERATION_ID, None, NOOP_FLWR_AID, TaskType.SERVER_APP
        )
        self._task_id = state.get_tasks(run_ids=[self.run_id])[0].task_id
        state.claim_task(self._task_id)
        if not state.activate_task(self._task_id):
            raise Unavailable("federated.engine", "Flower did not accept the run.", retriable=True)
        TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = self._task_id, self.run_id, 1

    def _app(self) -> tuple[str, str, str]:
        """Name, version and digest of the run's program; error `federated.program`."""
        if not self._program:
            return "skerry/federated", "1.0.0", secrets.token_hex(32)
        try:
            name, version = get_fab_metadata(self._program)
        except (ValueError, KeyError, OSError, BadZipFile) as error:
            raise InvalidInput(
                "federated.program",
                f"The program for stock nodes is not a Flower app: {error}."[:300],
                hint="Build it with `flwr build` and name the .fab in federated.program.",
            ) from error
        return name, version, self.state.store_fab(Fab("", self._program, {}))

    def _serve(self) -> None:
        self._server.run(sockets=[self._sock])

    def _keep_alive(self) -> None:
        while not self._over.wait(_HEARTBEAT_S):
            self.state.acknowledge_task_heartbeat(self._task_id)


def _node_key(der: bytes) -> bytes:
    key = load_der_public_key(der)
    if not isinstance(key, EllipticCurvePublicKey):
        raise InvalidInput("federated.node_key", "A node's key must be of an elliptic curve.")
    return public_key_to_bytes(key)


def superlink_config(sock: socket.socket, tls: Tls) -> SuperLinkLifespanConfig:
    """Nodes with signatures, TLS, everything in memory, and no program that Flower would start."""
    host, port = sock.getsockname()[:2]
    return SuperLinkLifespanConfig(
        control_address="",
        health_server_address=None,
        host=host,
        port=port,
        insecure=False,
        certificates=(tls.ca.read_bytes(), tls.certificate.read_bytes(), tls.key.read_bytes()),
        superexec_auth_secret=None,
        authn_plugin=load_control_authn_plugin(),
        event_log_plugin=None,
        fleet_event_log_plugin=None,
        enable_event_log=False,
        artifact_provider=None,
        enable_supernode_auth=True,
        fleet_api_type="grpc-rere",
        fleet_api_address=None,
        simulation=False,
        ssl_ca_certfile=str(tls.ca),
        ssl_certfile=str(tls.certificate),
        ssl_keyfile=str(tls.key),
        database=":flwr-in-memory:",
        isolation="process",
        runtime_dependency_install=False,
    )
