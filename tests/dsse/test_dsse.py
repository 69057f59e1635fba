"""Envelopes: only the payload that a trusted key signed, as the type it signed, ever comes out."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from securesystemslib.signer import CryptoSigner

from shared import dsse
from shared.errors import InvalidInput, SkerryError, TooLarge, Untrusted

KIND = "application/vnd.skerry.assignment+json"
SIGNER = CryptoSigner.generate_ed25519()
OTHER = CryptoSigner.generate_ed25519()
KEYS = {SIGNER.public_key.keyid: SIGNER.public_key}
LIMIT = 8192


def _with(envelope: bytes, **changes: Any) -> bytes:
    return json.dumps({**json.loads(envelope), **changes}).encode()


def test_a_signed_payload_comes_back_byte_for_byte() -> None:
    payload = b'{"b": 1,  "a":"\xc3\xa9"}'
    assert dsse.verify(dsse.sign(payload, KIND, SIGNER), KIND, KEYS, LIMIT) == payload


def test_the_signature_is_over_the_pre_authentication_encoding_of_the_standard() -> None:
    envelope = json.loads(dsse.sign(b"hello world", "http://example.com/HelloWorld", SIGNER))
    pae = b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    assert base64.b64decode(envelope["signatures"][0]["sig"]) == bytes.fromhex(SIGNER.sign(pae).signature)


def test_a_changed_payload_is_refused() -> None:
    forged = _with(dsse.sign(b"one", KIND, SIGNER), payload=base64.b64encode(b"two").decode())
    with pytest.raises(Untrusted) as caught:
        dsse.verify(forged, KIND, KEYS, LIMIT)
    assert caught.value.code == "dsse.bad_signature"


def test_an_envelope_of_another_type_is_refused() -> None:
    envelope = dsse.sign(b"x", "application/other", SIGNER)
    with pytest.raises(Untrusted) as caught:
        dsse.verify(envelope, KIND, KEYS, LIMIT)
    assert caught.value.code == "dsse.wrong_type"
    with pytest.raises(Untrusted) as caught:
        dsse.verify(_with(envelope, payloadType=KIND), KIND, KEYS, LIMIT)
    assert caught.value.code == "dsse.bad_signature"


def test_an_unknown_key_is_refused() -> None:
    with pytest.raises(Untrusted) as caught:
        dsse.verify(dsse.sign(b"x", KIND, OTHER), KIND, KEYS, LIMIT)
    assert caught.value.code == "dsse.unknown_key"


def test_a_signature_by_another_key_under_a_trusted_key_id_is_refused() -> None:
    envelope = json.loads(dsse.sign(b"x", KIND, OTHER))
    envelope["signatures"][0]["keyid"] = SIGNER.public_key.keyid
    with pytest.raises(Untrusted) as caught:
        dsse.verify(json.dumps(envelope).encode(), KIND, KEYS, LIMIT)
    assert caught.value.code == "dsse.bad_signature"


def test_an_oversized_envelope_is_refused_before_it_is_parsed() -> None:
    with pytest.raises(TooLarge) as caught:
        dsse.verify(b"{" * (LIMIT + 1), KIND, KEYS, LIMIT)
    assert caught.value.code == "dsse.too_large"


@pytest.mark.parametrize(
    "envelope",
    [
        b"",
        b"[]",
        b"\xff",
        b'{"payload":"eA==","payload":"eQ==","payloadType":"t","signatures":[]}',
        b'{"payload":"eA==","payloadType":"t","signatures":[]}',
        b'{"payload":"!","payloadType":"t","signatures":[{"keyid":"k","sig":""}]}',
        b'{"payload":"eA==","payloadType":"t","signatures":[{"keyid":"k","sig":"*"}]}',
        b'{"payload":"eA==","payloadType":"t","signatures":[{"keyid":"k","sig":""},{"keyid":"k","sig":""}]}',
    ],
)
def test_a_malformed_envelope_is_refused_with_a_code(envelope: bytes) -> None:
    with pytest.raises(InvalidInput) as caught:
        dsse.verify(envelope, KIND, KEYS, LIMIT)
    assert caught.value.code == "dsse.malformed"


@settings(deadline=None)
@given(st.integers(0, 400), st.integers(1, 255))
def test_no_flipped_byte_ever_yields_another_payload(position: int, change: int) -> None:
    payload = b'{"device_id":"d1","counter":7}'
    envelope = bytearray(dsse.sign(payload, KIND, SIGNER))
    envelope[position % len(envelope)] ^= change
    try:
        assert dsse.verify(bytes(envelope), KIND, KEYS, LIMIT) == payload
    except SkerryError as error:
        assert error.code.startswith("dsse.")


def test_verification_needs_neither_hub_nor_agent_nor_tuf() -> None:
    program = "import sys, shared.dsse; print([m for m in ('hub', 'agent', 'tuf', 'httpx') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
