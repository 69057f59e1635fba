"""The HTTPS server: one port for people and devices, uvicorn underneath.

TLS 1.2 or newer. A client certificate is optional and, if there is one, must come from the device CA: any other never
gets past the handshake. The protocol class hands the certificate to the application in the scope
(`extensions.tls.client_cert_der`); no header can set it. A connection that sends no request within the first seconds
is closed.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Generator
from typing import Any, ClassVar

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from hub.api.app import create_app
from hub.pki.store import Pki
from hub.settings import HubSettings
from hub.wiring import Hub
from shared.errors import Unavailable

__all__ = ["HttpsServer", "PeerCertificate", "listen", "load_leaf", "server_context"]

_KEEP_ALIVE_S = 65
_GRACE_S = 10
_BACKLOG_COUNT = 1024


class PeerCertificate(HttpToolsProtocol):
    """uvicorn's protocol, which also says who the client is."""

    first_request_s: ClassVar[float] = 20.0
    _client_cert_der: bytes | None = None
    _impatience: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        tls = transport.get_extra_info("ssl_object")
        self._client_cert_der = None if tls is None else tls.getpeercert(True)
        self._impatience = self.loop.call_later(self.first_request_s, transport.close)

    def connection_lost(self, exc: Exception | None) -> None:
        self._be_patient()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        scope: Any = self.scope
        scope["extensions"] = {"tls": {"client_cert_der": self._client_cert_der}}

    def on_headers_complete(self) -> None:
        self._be_patient()
        super().on_headers_complete()

    def _be_patient(self) -> None:
        if self._impatience is not None:
            self._impatience.cancel()
            self._impatience = None


def server_context(pki: Pki) -> ssl.SSLContext:
    """TLS for the port: the hub's certificate, and the device CA for clients that show one."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.verify_mode = ssl.CERT_OPTIONAL
    context.load_verify_locations(cafile=pki.device_ca_file)
    context.set_alpn_protocols(["http/1.1"])
    load_leaf(context, pki)
    return context


def load_leaf(context: ssl.SSLContext, pki: Pki) -> None:
    """Present the server certificate that is on disk now, to connections that come from now on."""
    files = pki.files("server")
    context.load_cert_chain(files.certificate, files.key)


def listen(settings: HubSettings) -> socket.socket:
    """The listening socket, or `Unavailable` (`hub.port`)."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        return socket.create_server((settings.host, settings.port), family=family, backlog=_BACKLOG_COUNT)
    except OSError as error:
        raise Unavailable(
            "hub.port",
            f"Cannot listen on {settings.host}:{settings.port}: {error.strerror or error}.",
            hint="Stop what uses the port, or set another one with --port.",
        ) from error


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.answering = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.answering.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield  # signals are the whole hub's, not the server's


class HttpsServer:
    """Serves one hub on a socket until it is told to stop."""

    def __init__(self, hub: Hub, sock: socket.socket, protocol: type[PeerCertificate] = PeerCertificate) -> None:
        self._hub = hub
        self._sock = sock
        # asyncio does this for sockets that it made itself; without it each answer waits for a delayed ACK (40 ms).
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._context = server_context(hub.pki)
        config = uvicorn.Config(
            create_app(hub),
            http=protocol,
            ws="none",
            lifespan="off",
            loop="asyncio",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=_KEEP_ALIVE_S,
            timeout_graceful_shutdown=_GRACE_S,
        )
        config.load()
        config.ssl = self._context
        self._server = _Server(config)

    async def run(self) -> None:
        """Serve until `stop`; requests in progress may end within a grace period."""
        await self._server.serve(sockets=[self._sock])

    async def wait_started(self) -> None:
        """Return when requests are being answered."""
        await self._server.answering.wait()

    def stop(self) -> None:
        """End `run` soon."""
        self._server.should_exit = True

    def renew_certificate(self) -> None:
        """Make a new server certificate if the present one nears its end, and present it from now on."""
        if "server" in self._hub.pki.ensure_leaves(self._hub.clock.now()):
            load_leaf(self._context, self._hub.pki)
