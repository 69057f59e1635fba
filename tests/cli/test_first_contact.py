"""The first contact takes one certificate and nothing that a man in the middle has put beside it."""

from __future__ import annotations

import base64
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hub.cli.first_contact import fetch_ca, only_certificate
from shared.errors import InvalidInput, TooLarge
from tests.agent_identity.authority import Authority
from tests.agent_identity.tiny_hub import TinyHub

LABELS = ["CERTIFICATE", "X509 CERTIFICATE", "TRUSTED CERTIFICATE"]


@pytest.fixture(scope="module")
def real() -> Authority:
    return Authority("the hub")


@pytest.fixture(scope="module")
def false() -> Authority:
    return Authority("somebody in between")


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[TinyHub]:
    tiny = TinyHub(tmp_path)
    yield tiny
    tiny.close()


def labelled(authority: Authority, label: str) -> str:
    """Its certificate under another of the labels that OpenSSL loads."""
    der = ssl.PEM_cert_to_DER_cert(authority.pem)
    body = base64.encodebytes(der).decode()
    return f"-----BEGIN {label}-----\n{body}-----END {label}-----\n"


def trusted(pem: bytes, tmp_path: Path) -> set[str]:
    """Names of the authorities that TLS would trust after this file."""
    file = tmp_path / "trusted.pem"
    file.write_bytes(pem)
    context = ssl.create_default_context(cafile=file)
    return {value for found in context.get_ca_certs() for _key, value in _pairs(found["subject"])}


def _pairs(name: Any) -> Iterator[tuple[str, str]]:
    for part in name:
        yield from part


def serve(hub: TinyHub, pem: str) -> None:
    hub.routes["GET /v1/ca.pem"] = lambda _name, _headers, _body: (200, {}, pem.encode())


def test_the_one_certificate_is_what_is_trusted(hub: TinyHub, real: Authority, tmp_path: Path) -> None:
    serve(hub, f"the hub's own CA\n{real.pem}")
    assert trusted(fetch_ca(hub.url, limit=65_536), tmp_path) == {"the hub"}


@pytest.mark.parametrize("label", LABELS)
@pytest.mark.parametrize("first", [True, False])
def test_a_second_authority_is_never_trusted(
    hub: TinyHub, real: Authority, false: Authority, tmp_path: Path, label: str, first: bool
) -> None:
    added = labelled(false, label)
    serve(hub, added + real.pem if first else real.pem + added)
    try:
        kept = fetch_ca(hub.url, limit=65_536)
    except InvalidInput as refused:
        assert refused.code == "cli.ca_file"
    else:
        assert trusted(kept, tmp_path) == {"the hub"}


@pytest.mark.parametrize("pem", ["", "hello", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"])
def test_what_is_no_certificate_is_refused(pem: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        only_certificate(pem.encode(), "https://hub.example")
    assert refused.value.code == "cli.ca_file"


def test_an_answer_without_end_is_cut_off(hub: TinyHub, real: Authority) -> None:
    serve(hub, real.pem * 200)
    with pytest.raises(TooLarge):
        fetch_ca(hub.url, limit=65_536)


def test_an_answer_that_is_a_failure_is_not_taken(hub: TinyHub, real: Authority) -> None:
    hub.routes["GET /v1/ca.pem"] = lambda _name, _headers, _body: (404, {}, real.pem.encode())
    with pytest.raises(InvalidInput):
        fetch_ca(hub.url, limit=65_536)
