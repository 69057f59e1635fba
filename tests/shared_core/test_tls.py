"""TLS for clients: one CA, names checked, nothing left open."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.tls import client_context
from tests.agent_identity.authority import Authority


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority("server ca")


@pytest.fixture
def port(authority: Authority, tmp_path: Path) -> Iterator[int]:
    """A server that greets each client once."""
    authority.write_server(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "server.crt", tmp_path / "server.key")

    def serve(listening: socket.socket) -> None:
        while True:
            try:
                plain, _address = listening.accept()
            except OSError:
                return  # the test is over
            with plain:
                try:
                    with context.wrap_socket(plain, server_side=True) as secured:
                        secured.sendall(b"hello")
                except OSError:
                    continue  # the client did not want us

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=serve, args=(listening,))
        thread.start()
        yield listening.getsockname()[1]
        listening.shutdown(socket.SHUT_RDWR)
        thread.join()


def secured(port: int, ca: Path, name: str = "localhost") -> ssl.SSLSocket:
    """Connected, the handshake still to be done, as paho does it."""
    plain = socket.create_connection(("127.0.0.1", port))
    return client_context(ca).wrap_socket(plain, server_hostname=name, do_handshake_on_connect=False)


@pytest.fixture
def ca(authority: Authority, tmp_path: Path) -> Path:
    file = tmp_path / "ca.pem"
    file.write_text(authority.pem)
    return file


def test_a_server_of_the_ca_is_spoken_to(port: int, ca: Path) -> None:
    with secured(port, ca) as connection:
        connection.do_handshake()
        assert connection.recv(16) == b"hello"


@pytest.mark.parametrize("case", ["another ca", "another name"])
def test_a_failed_handshake_leaves_no_socket_open(port: int, ca: Path, tmp_path: Path, case: str) -> None:
    other = tmp_path / "other.pem"
    other.write_text(Authority("another ca").pem)
    trusted, name = (other, "localhost") if case == "another ca" else (ca, "hub.example")
    connection = secured(port, trusted, name)
    with pytest.raises(ssl.SSLCertVerificationError):
        connection.do_handshake()
    assert connection.fileno() == -1
