"""HTTPS to the hub for the command line and for short-lived children; the daemon never imports this (httpx).

Rules: the server is verified against the hub's CA, except in `fetch_ca`, whose answer counts only when its fingerprint
is the pinned one; every answer is bounded while it is read; every failure is a `SkerryError` in the user's words.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType
from typing import NoReturn, Self

import httpx
import msgspec

from agent.identity.store import Credentials
from shared import __version__, limits
from shared.errors import (
    Conflict,
    ErrorBody,
    Forbidden,
    InvalidInput,
    NotFound,
    SkerryError,
    TooLarge,
    Unauthorised,
    Unavailable,
    Untrusted,
)
from shared.tls import excuse_clock

__all__ = ["Answer", "HubHttp", "fetch_ca"]

_TIMEOUT = httpx.Timeout(20.0, connect=10.0)
_FAMILIES: Mapping[int, type[SkerryError]] = {
    401: Unauthorised,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    413: TooLarge,
    429: Unavailable,
}


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """A whole answer of the hub."""

    status: int
    headers: dict[str, str]
    body: bytes


class _Wrapped(msgspec.Struct):
    error: ErrorBody


class HubHttp:
    """A client of one hub, with or without the device's certificate."""

    def __init__(self, hub_url: str, ca_pem: str, credentials: Credentials | None = None) -> None:
        context = ssl.create_default_context(cadata=ca_pem)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if credentials is not None:
            try:
                context.load_cert_chain(credentials.certificate, credentials.key)
                excuse_clock(context, credentials.known_s)
            except (ssl.SSLError, OSError) as error:
                raise InvalidInput("identity.damaged", "The device's key and certificate cannot be used.") from error
        self._client = _client(hub_url, context)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._client.close()

    def send(
        self,
        method: str,
        path: str,
        *,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
        limit_bytes: int = limits.MAX_JSON_BODY_BYTES,
        accept: tuple[int, ...] = (200, 201),
    ) -> Answer:
        """One request. A status outside `accept` is raised as the error that the hub named."""
        with _explained():
            answer = _read(self._client, method, path, body, headers or {}, limit_bytes)
        if answer.status not in accept:
            _refuse(answer)
        return answer


def fetch_ca(hub_url: str) -> bytes:
    """The hub's CA certificate as the hub itself claims it (PEM): worthless until its fingerprint was compared."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with _client(hub_url, context) as client, _explained():
        answer = _read(client, "GET", "/v1/ca.pem", b"", {}, limits.MAX_KEY_FILE_BYTES)
    if answer.status != 200:
        _refuse(answer)
    return answer.body


def _client(hub_url: str, context: ssl.SSLContext) -> httpx.Client:
    agent = {"user-agent": f"skerry-agent/{__version__}"}
    return httpx.Client(
        base_url=hub_url, verify=context, timeout=_TIMEOUT, headers=agent, follow_redirects=False, trust_env=False
    )


def _read(
    client: httpx.Client, method: str, path: str, body: bytes, headers: Mapping[str, str], limit_bytes: int
) -> Answer:
    with client.stream(method, path, content=body or None, headers=dict(headers)) as response:
        received = bytearray()
        for chunk in response.iter_bytes():
            received += chunk
            if len(received) > limit_bytes:
                raise TooLarge("hub.too_large", f"The hub's answer is over {limit_bytes} bytes.")
        lowered = {name.lower(): value for name, value in response.headers.items()}
        return Answer(status=response.status_code, headers=lowered, body=bytes(received))


@contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except httpx.ConnectError as error:
        if "certificate verify failed" in str(error).lower():
            raise Untrusted(
                "hub.certificate",
                "The hub's certificate is not the one that this device trusts.",
                hint="Check the hub's address and this device's clock.",
            ) from error
        raise _unreachable(error) from error
    except httpx.HTTPError as error:
        raise _unreachable(error) from error


def _unreachable(error: Exception) -> Unavailable:
    return Unavailable(
        "hub.unreachable",
        f"The hub cannot be reached: {error or type(error).__name__}."[:300],
        hint="Check the network, the hub's address and that the hub is running.",
        retriable=True,
    )


def _refuse(answer: Answer) -> NoReturn:
    """Raise what the hub said in its error shape, or the status alone when it is not the hub that answers."""
    default = Unavailable if answer.status >= 500 else InvalidInput
    family = _FAMILIES.get(answer.status, default)
    try:
        said = msgspec.json.decode(answer.body, type=_Wrapped).error
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise family(
            "hub.answer", f"The hub's address answered with status {answer.status}.", retriable=answer.status >= 500
        ) from None
    raise family(said.code, said.message, hint=said.hint, retriable=said.retriable, detail=said.detail)
