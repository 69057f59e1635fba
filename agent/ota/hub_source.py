"""HTTPS to the hub for the worker: one client with the device's certificate, and the release metadata through it.

Rules: the server is verified against the hub's CA, redirects are not followed, proxies from the environment are not
used; an answer is bounded in bytes while it comes and in seconds as a whole, so neither endless data nor a trickle
holds the worker; a missing file is `NotFound`, everything that may pass is `Unavailable`.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import contextmanager

import httpx

from agent.identity.store import Credentials
from agent.ota.settings import OtaSettings
from shared import __version__
from shared.clock import Clock
from shared.errors import InvalidInput, NotFound, SkerryError, TooLarge, Unavailable, Untrusted
from shared.tls import excuse_clock

__all__ = ["HubSource", "open_client", "reach", "refusal"]

_METADATA = "/v1/tuf/"
_PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})


def open_client(hub_url: str, credentials: Credentials, settings: OtaSettings) -> httpx.Client:
    """A client for the hub; error `identity.damaged` when key and certificate cannot be used."""
    try:
        context = ssl.create_default_context(cafile=str(credentials.hub_ca))
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(credentials.certificate, credentials.key)
        excuse_clock(context, credentials.known_s)
    except (ssl.SSLError, OSError) as error:
        raise InvalidInput("identity.damaged", "The device's key and certificate cannot be used.") from error
    return httpx.Client(
        base_url=hub_url,
        verify=context,
        timeout=httpx.Timeout(settings.read_timeout_s, connect=settings.connect_timeout_s),
        headers={"user-agent": f"skerry-agent/{__version__}", "accept-encoding": "identity"},
        follow_redirects=False,
        trust_env=False,
    )


@contextmanager
def reach() -> Iterator[None]:
    """Turn httpx's failures into `hub.certificate` (`Untrusted`) or `hub.unreachable` (`Unavailable`, retriable)."""
    try:
        yield
    except httpx.HTTPError as error:
        if "certificate verify failed" in str(error).lower():
            raise Untrusted(
                "hub.certificate",
                "The hub's certificate is not the one that this device trusts.",
                hint="Check the hub's address and this device's clock.",
                retriable=True,
            ) from error
        text = str(error) or type(error).__name__
        raise Unavailable("hub.unreachable", f"The hub cannot be reached: {text}."[:300], retriable=True) from error


def refusal(status: int, what: str) -> SkerryError:
    """The error for an answer that is not the file: 4xx is final, but for those that ask to come again."""
    if status in _PASSING or status >= 500:
        return Unavailable("hub.busy", f"The hub answered {status} for {what}.", retriable=True)
    if status == 404:
        return NotFound("hub.not_found", f"The hub does not have {what}.")
    return InvalidInput(
        "hub.refused",
        f"The hub answered {status} for {what}.",
        hint="The device may be revoked, or this is not the hub." if status in (401, 403) else "",
    )


class HubSource:
    """Release metadata and small target files from the hub."""

    def __init__(self, client: httpx.Client, clock: Clock, *, deadline_s: float, base: str = _METADATA) -> None:
        self._client = client
        self._clock = clock
        self._deadline_s = deadline_s
        self._base = base

    def get(self, path: str, limit: int) -> bytes:
        """The file at `path`, at most `limit` bytes, within the deadline; errors as of `update_client.Source`."""
        started = self._clock.monotonic()
        with reach(), self._client.stream("GET", self._base + path) as response:
            if response.status_code == 403:  # Object stores answer so for a file that does not exist.
                raise NotFound("hub.not_found", f"The hub does not give {path}.")
            if response.status_code != 200:
                raise refusal(response.status_code, path)
            received = bytearray()
            for chunk in response.iter_raw():
                received += chunk
                if len(received) > limit:
                    raise TooLarge("trust.too_large", f"{path} is longer than {limit} bytes.", retriable=True)
                if self._clock.monotonic() - started > self._deadline_s:
                    raise Unavailable("trust.too_slow", f"{path} did not come in time.", retriable=True)
            return bytes(received)
