"""The first contact with a hub whose CA is not known yet: fetch the CA's certificate, and nothing else.

No secret is sent on this connection, because nobody vouches for the other side; the caller compares the fingerprint.
"""

from __future__ import annotations

import ssl

import httpx

from shared.errors import InvalidInput, TooLarge, Unavailable

__all__ = ["fetch_ca"]

_BEGIN = b"-----BEGIN CERTIFICATE-----"


def fetch_ca(url: str, *, limit: int) -> bytes:
    """The PEM at `/v1/ca.pem`; errors `hub.unreachable`, `hub.answer_too_large`, `cli.ca_file`."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        with (
            httpx.Client(verify=context, timeout=10.0, trust_env=False) as client,
            client.stream("GET", f"{url}/v1/ca.pem") as response,
        ):
            data = b""
            for chunk in response.iter_bytes():
                data += chunk
                if len(data) > limit:
                    raise TooLarge("hub.answer_too_large", f"The CA of {url} has more than {limit} bytes.")
            status = response.status_code
    except httpx.HTTPError as error:
        raise Unavailable(
            "hub.unreachable",
            f"The hub at {url} cannot be reached: {error}.",
            hint="Check the address.",
            retriable=True,
        ) from error
    if status != 200 or not data.strip().startswith(_BEGIN) or data.count(_BEGIN) != 1:
        raise InvalidInput(
            "cli.ca_file", f"{url} did not show one CA certificate.", hint="Give it as a file with --ca."
        )
    return data
