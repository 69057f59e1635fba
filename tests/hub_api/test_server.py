"""The HTTPS port itself: silent connections, a certificate that is renewed while it serves, a clean end."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from hub.api.server import HttpsServer, PeerCertificate
from hub.wiring import Hub
from tests.hub_kit import data_hub

DAY_S = 86_400
DEADLINE_S = 20.0


class Impatient(PeerCertificate):
    first_request_s = 0.05


@asynccontextmanager
async def served(hub: Hub, protocol: type[PeerCertificate] = PeerCertificate) -> AsyncIterator[tuple[HttpsServer, int]]:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        server = HttpsServer(hub, sock, protocol)
        async with asyncio.timeout(DEADLINE_S), asyncio.TaskGroup() as group:
            group.create_task(server.run())
            await server.wait_started()
            yield server, sock.getsockname()[1]
            server.stop()


def trusting(hub: Hub) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=hub.pki.hub_ca_file)


async def serial_shown(hub: Hub, port: int) -> str:
    _reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=trusting(hub))
    serial = str(writer.get_extra_info("peercert")["serialNumber"])
    writer.close()
    await writer.wait_closed()
    return serial


async def test_a_connection_that_says_nothing_is_closed(tmp_path: Path) -> None:
    with data_hub(tmp_path, trust=False) as (hub, _clock):
        async with served(hub, Impatient) as (_server, port):
            reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=trusting(hub))
            assert await reader.read() == b""
            writer.close()


async def test_a_connection_that_asks_may_stay(tmp_path: Path) -> None:
    with data_hub(tmp_path, trust=False) as (hub, _clock):
        async with served(hub, Impatient) as (_server, port):
            reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=trusting(hub))
            request = b"GET /v1/health HTTP/1.1\r\nhost: hub\r\n\r\n"
            for _ in range(2):
                writer.write(request)
                assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
                await reader.readuntil(b"}")
                await asyncio.sleep(2 * Impatient.first_request_s)  # longer than a silent connection may last
            writer.close()


async def test_a_renewed_certificate_is_shown_to_new_connections(tmp_path: Path) -> None:
    with data_hub(tmp_path, trust=False) as (hub, clock):
        async with served(hub) as (server, port):
            before = await serial_shown(hub, port)
            server.renew_certificate()
            assert await serial_shown(hub, port) == before
            clock.ahead_s = -100 * DAY_S  # made now, valid from 100 days ago, so it is another one
            hub.pki.files("server").certificate.unlink()
            server.renew_certificate()
            assert await serial_shown(hub, port) != before


async def test_answers_do_not_wait_for_the_clients_acknowledgement(tmp_path: Path) -> None:
    with data_hub(tmp_path, trust=False) as (hub, _clock), socket.create_server(("127.0.0.1", 0)) as sock:
        HttpsServer(hub, sock)
        with socket.create_connection(sock.getsockname()), sock.accept()[0] as accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
