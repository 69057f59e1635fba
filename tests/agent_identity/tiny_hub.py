"""The hub's device API as far as an agent needs it for its identity and the HTTPS fallback, on a real TLS socket."""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import msgspec

from shared.join import Join
from shared.wire.http import EnrolReply, EnrolRequest, RenewReply, RenewRequest
from tests.agent_identity.authority import Authority

Answer = tuple[int, dict[str, str], bytes]
ROOT = '{"signed": {"_type": "root"}}'


def error(status: int, code: str, message: str) -> Answer:
    body = {"error": {"code": code, "message": message, "hint": "", "request_id": "r1"}}
    return status, {}, json.dumps(body).encode()


class TinyHub:
    """Serves until `close`. `routes` may be replaced by a test; `seen` are the requests with the client's name."""

    def __init__(self, folder: Path) -> None:
        self.hub_ca, self.device_ca = Authority("hub ca"), Authority("device ca")
        self.requests: list[EnrolRequest] = []
        self.seen: list[tuple[str, str, dict[str, str], bytes]] = []
        self.tokens = {"ske_good"}
        self.lifetime_days = 3.0
        self.mqtt_port = 8883
        self.routes: dict[str, Callable[[str, dict[str, str], bytes], Answer]] = {
            "GET /v1/ca.pem": lambda _name, _headers, _body: (200, {}, self.hub_ca.pem.encode()),
            "POST /v1/device/enrol": self.enrol,
            "POST /v1/device/renew": self.renew,
        }
        key, certificate = self.hub_ca.write_server(folder)
        trusted = folder / "device-ca.crt"
        trusted.write_text(self.device_ca.pem)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        context.load_verify_locations(trusted)
        context.verify_mode = ssl.CERT_OPTIONAL
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.url = f"https://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def join(self, **changes: Any) -> Join:
        fields: dict[str, Any] = {"hub_url": self.url, "token": "ske_good", "ca_sha256": self.hub_ca.sha256}
        return Join(**{**fields, **changes})

    def enrol(self, _name: str, _headers: dict[str, str], body: bytes) -> Answer:
        request = msgspec.json.decode(body, type=EnrolRequest)
        self.requests.append(request)
        if request.token not in self.tokens:
            return error(401, "enrol.token", "The token is not valid.")
        self.tokens.discard(request.token)
        return 200, {}, msgspec.json.encode(self.reply(request))

    def reply(self, request: EnrolRequest, **changes: Any) -> EnrolReply:
        device_id = request.device_id or "dev1"
        fields: dict[str, Any] = {
            "device_id": device_id,
            "certificate_pem": self.device_ca.answer(request.csr_pem, device_id, self.lifetime_days),
            "hub_ca_pem": self.hub_ca.pem,
            "mqtt_host": "127.0.0.1",
            "mqtt_port": self.mqtt_port,
            "tuf_root": ROOT,
        }
        return EnrolReply(**{**fields, **changes})

    def renew(self, name: str, _headers: dict[str, str], body: bytes) -> Answer:
        if not name:
            return error(401, "device.certificate", "A certificate is needed.")
        request = msgspec.json.decode(body, type=RenewRequest)
        return 200, {}, msgspec.json.encode(RenewReply(certificate_pem=self.device_ca.answer(request.csr_pem, name)))

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                self.answer()

            def do_POST(self) -> None:
                self.answer()

            def answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                headers = {name.lower(): value for name, value in self.headers.items()}
                name = self.client_name()
                hub.seen.append((name, f"{self.command} {self.path}", headers, body))
                route = hub.routes.get(f"{self.command} {self.path}")
                status, extra, content = (
                    route(name, headers, body) if route else error(404, "http.path", "No such path.")
                )
                self.send_response(status)
                for key, value in {**extra, "content-length": str(len(content))}.items():
                    self.send_header(key, value)
                self.end_headers()
                self.wfile.write(content)

            def client_name(self) -> str:
                assert isinstance(self.connection, ssl.SSLSocket)
                certificate: Any = self.connection.getpeercert()
                return certificate["subject"][0][0][1] if certificate else ""

            def log_message(self, format: str, *args: Any) -> None:
                del format, args

        return Handler
