"""The first contact with a hub whose CA is not known yet: fetch the CA's certificate, and nothing else.

No secret is sent on this connection, because nobody vouches for the other side; the caller compares the fingerprint.
Exactly one certificate is taken and written anew, so that nothing that stood beside it is trusted along with it.
"""

from __future__ import annotations

import ssl

import httpx
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from shared.errors import InvalidInput, TooLarge, Unavailable

__all__ = ["fetch_ca", "only_certificate"]


def fetch_ca(url: str, *, limit: int) -> bytes:
    """The one certificate at `/v1/ca.pem`, as PEM; errors `hub.unreachable`, `hub.answer_too_large`, `cli.ca_file`."""
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
    if status != 200:
        raise _not_one(url)
    return only_certificate(data, url)


def only_certificate(pem: bytes, url: str) -> bytes:
    """The PEM of the one certificate in `pem`, and nothing else of it; `cli.ca_file` when there is not exactly one."""
    try:
        certificates = x509.load_pem_x509_certificates(pem)
    except ValueError as error:
        raise _not_one(url) from error
    if len(certificates) != 1:
        raise _not_one(url)
    return certificates[0].public_bytes(Encoding.PEM)


def _not_one(url: str) -> InvalidInput:
    return InvalidInput("cli.ca_file", f"{url} did not show one CA certificate.", hint="Give it as a file with --ca.")
