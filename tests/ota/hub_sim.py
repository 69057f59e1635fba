"""A hub for the installer's tests: the real repository of `TrustKit` over real HTTPS with client certificates.

It serves ranges as the hub does and can be told to misbehave: `hub.faults` is a list of `Fault`, of which the first
that matches a request and has turns left decides what happens to it. `hub.requests` are the paths asked for, in
order.
"""

from __future__ import annotations

import hashlib
import re
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec

from agent.identity.store import Identity, IdentityStore, Validity
from agent.paths import AgentPaths
from hub.pki.authority import Authority, key_pem, new_key
from shared import durable
from shared.errors import SkerryError
from tests.trust_kit import TrustKit

__all__ = ["ARTEFACT", "DEVICE", "Fault", "HubSim", "Seen"]

DEVICE = "pi-1"
ARTEFACT = "/v1/artefacts/"
_PATIENCE_S = 60.0
_RANGE = re.compile(r"bytes=([0-9]+)-\Z")


@dataclass
class Fault:
    """What goes wrong with the next `times` requests whose path starts with `path`.

    drop_after: cut the connection after so many bytes of the body. status, headers: answer that and nothing else.
    flip: damage the byte at this position. endless: go on with rubbish after the body. pause_s: wait between pieces
    of `piece` bytes. no_range: answer 200 with everything. etag: claim this entity tag. hold: stop after the first
    piece until the event is set.
    """

    path: str = ARTEFACT
    times: int = 1
    drop_after: int | None = None
    status: int | None = None
    headers: dict[str, str] = field(default_factory=dict)
    flip: int | None = None
    endless: bool = False
    pause_s: float = 0.0
    piece: int = 1 << 16
    no_range: bool = False
    etag: str | None = None
    hold: threading.Event | None = None


@dataclass(frozen=True)
class Seen:
    """One request."""

    path: str
    range: str
    if_range: str


class HubSim:
    """Serves one kit's repository. `url` is valid while the `serve` block lasts."""

    def __init__(self, kit: TrustKit, directory: Path) -> None:
        directory.mkdir()
        self.kit = kit
        self.url = ""
        self.faults: list[Fault] = []
        self.requests: list[Seen] = []
        self.replace: dict[str, bytes] = {}
        """Paths that are answered with other bytes."""
        now_s = time.time()
        self._ca = Authority.create("hub", directory, "hub-ca", now_s=now_s, days=1)
        self._devices = Authority.create("devices", directory, "device-ca", now_s=now_s, days=1)
        key = new_key()
        issued = self._ca.issue_server(key.public_key(), "hub", ["127.0.0.1"], now_s=now_s, lifetime_s=3600)
        durable.write_file(directory / "server.key", key_pem(key))
        durable.write_file(directory / "server.crt", issued.pem.encode())
        self._directory = directory
        self._lock = threading.Lock()

    def enrol(self, paths: AgentPaths, device: str = DEVICE) -> None:
        """Give a state folder an identity at this hub, as enrolment would."""
        key: ec.EllipticCurvePrivateKey = new_key()
        now_s = time.time()
        issued = self._devices.issue_client(key.public_key(), device, now_s=now_s, lifetime_s=3600)
        durable.make_dir(paths.tuf)
        durable.write_file(paths.tuf / "root.json", self.kit.root)
        IdentityStore(paths.identity).install(
            Identity(device_id=device, hub_url=self.url, mqtt_host="localhost", mqtt_port=1, profile="x86-gateway"),
            key_pem(key),
            issued.pem.encode(),
            self._ca.pem.encode(),
            Validity(not_before_s=now_s - 300, not_after_s=issued.not_after_s, sha256=issued.fingerprint),
        )

    def asked(self, prefix: str = ARTEFACT) -> list[Seen]:
        """The requests below a path."""
        return [seen for seen in self.requests if seen.path.startswith(prefix)]

    def answer(self, seen: Seen) -> tuple[int, dict[str, str], bytes, Fault]:
        """Status, headers, body and what to do to it."""
        with self._lock:
            self.requests.append(seen)
            fault = next((f for f in self.faults if f.times > 0 and seen.path.startswith(f.path)), Fault())
            fault.times -= 1
        if fault.status is not None:
            return fault.status, fault.headers, b"", fault
        try:
            body = self.replace.get(seen.path) or self.kit.fetch(seen.path)
        except SkerryError:
            return 404, {}, b"", fault
        if fault.flip is not None:
            body = body[: fault.flip] + bytes([body[fault.flip] ^ 0xFF]) + body[fault.flip + 1 :]
        tag = fault.etag if fault.etag is not None else f'"{hashlib.sha256(body).hexdigest()}"'
        headers = {"ETag": tag} if tag else {}
        match = _RANGE.match(seen.range)
        if match and seen.if_range in ("", tag) and not fault.no_range:
            start = int(match[1])
            if start >= len(body):
                return 416, {"Content-Range": f"bytes */{len(body)}"}, b"", fault
            headers["Content-Range"] = f"bytes {start}-{len(body) - 1}/{len(body)}"
            return 206, headers | fault.headers, body[start:], fault
        return 200, headers | fault.headers, body, fault

    @contextmanager
    def serve(self) -> Iterator[HubSim]:
        """Serve on a free loopback port."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self._directory / "server.crt", self._directory / "server.key")
        context.load_verify_locations(self._directory / "device-ca.crt")
        context.verify_mode = ssl.CERT_REQUIRED
        server = _Server(("127.0.0.1", 0), _handler(self))
        server.context = context
        self.url = f"https://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, name="hub-sim")
        thread.start()
        try:
            yield self
        finally:
            for fault in self.faults:
                if fault.hold is not None:
                    fault.hold.set()
            server.shutdown()
            server.server_close()
            server.cut()
            thread.join()


class _Server(ThreadingHTTPServer):
    """Speaks TLS in the connection's own thread, and closes all connections at the end."""

    daemon_threads = True
    block_on_close = False
    context: ssl.SSLContext

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        self._open: set[socket.socket] = set()
        super().__init__(address, handler)

    def finish_request(self, request: Any, client_address: Any) -> None:
        try:
            with self.context.wrap_socket(request, server_side=True) as connection:
                self._open.add(connection)
                try:
                    super().finish_request(connection, client_address)
                finally:
                    self._open.discard(connection)
        except (OSError, ValueError):
            request.close()

    def shutdown_request(self, request: Any) -> None:
        with suppress(OSError):
            request.close()

    def cut(self) -> None:
        """Break every connection."""
        for connection in list(self._open):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that break off are part of the tests."""


def _handler(hub: HubSim) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            seen = Seen(self.path, self.headers.get("Range", ""), self.headers.get("If-Range", ""))
            status, headers, body, fault = hub.answer(seen)
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            if not fault.endless:
                self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self._send(body, fault)

        def _send(self, body: bytes, fault: Fault) -> None:
            if fault.drop_after is not None:
                self.wfile.write(body[: fault.drop_after])
                self.close_connection = True
                return
            for start in range(0, len(body), fault.piece):
                self.wfile.write(body[start : start + fault.piece])
                if fault.hold is not None and start:
                    fault.hold.wait(_PATIENCE_S)
                if fault.pause_s:
                    time.sleep(fault.pause_s)
            while fault.endless:
                self.wfile.write(bytes(fault.piece))

        def log_message(self, format: str, *args: Any) -> None:
            """Quiet."""

    return Handler
