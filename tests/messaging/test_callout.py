"""Whatever goes wrong while the hub decides about a connection, the answer is no."""

from __future__ import annotations

import base64
import json
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nkeys
import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from hub.access.principal import DevicePrincipal
from hub.messaging.callout import Callout
from hub.messaging.tokens import CalloutSigner
from hub.pki.authority import Authority, new_key
from shared.errors import Unauthorised

SEED = bytes(nkeys.encode_seed(os.urandom(32), nkeys.PREFIX_BYTE_ACCOUNT)).decode()
Authenticate = Callable[[str], DevicePrincipal]


class Devices:
    def __init__(self, authenticate: Authenticate) -> None:
        self.authenticate = authenticate


class Authorities:
    def __init__(self, directory: Path) -> None:
        self.device = Authority.create("devices", directory, "device-ca", now_s=time.time(), days=1)
        self.hub = Authority.create("hub", directory, "hub-ca", now_s=time.time(), days=1)

    def callout(self, authenticate: Authenticate, decide_s: float = 8.0) -> Callout:
        return Callout(
            CalloutSigner(SEED),
            Devices(authenticate),
            device_ca=self.device.certificate,
            hub_ca=self.hub.certificate,
            publisher_name="hub:publisher",
            decide_s=decide_s,
        )

    def question(self, name: str = "dev1", *, client_id: str = "dev1", kind: str = "mqtt") -> bytes:
        issued = self.device.issue_client(new_key().public_key(), name, now_s=time.time(), lifetime_s=600)
        pem = issued.certificate.public_bytes(Encoding.PEM).decode()
        return jwt(
            {
                "user_nkey": "U123",
                "server_id": {"id": "N123"},
                "client_info": {"type": kind, "mqtt_id": client_id, "host": "127.0.0.1"},
                "client_tls": {"verified_chains": [[pem, self.device.pem]]},
            }
        )


def jwt(question: dict[str, Any]) -> bytes:
    parts = [base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=") for part in ({}, {"nats": question})]
    return b".".join([*parts, b"signature"])


def claims(token: str | bytes) -> dict[str, Any]:
    body = (token if isinstance(token, str) else token.decode()).split(".")[1]
    decoded: dict[str, Any] = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
    return decoded


def known(fingerprint: str) -> DevicePrincipal:
    return DevicePrincipal(device_id="dev1", fingerprint=fingerprint)


@pytest.fixture
def authorities(tmp_path: Path) -> Authorities:
    return Authorities(tmp_path)


async def refusal(callout: Callout, question: bytes) -> str:
    answer = await callout.answer(question)
    assert answer is not None
    body = claims(answer)["nats"]
    assert "jwt" not in body
    return str(body["error"])


async def test_a_known_device_gets_its_topics_and_an_end(authorities: Authorities) -> None:
    answer = await authorities.callout(known).answer(authorities.question())
    assert answer is not None
    user = claims(claims(answer)["nats"]["jwt"])
    assert user["nats"]["pub"] == {"allow": ["fleet.dev1.up.>"]}
    assert user["nats"]["sub"] == {"allow": ["fleet.dev1.down", "fleet.dev1.down.>", "$MQTT.sub.>"]}
    assert time.time() < user["exp"] <= time.time() + 600


@pytest.mark.parametrize("data", [b"", b"x", b"a.b.c", b"a.!!!.c", jwt({}), jwt({"user_nkey": 3}), b"." * 300_000])
async def test_an_unreadable_question_gets_no_answer(authorities: Authorities, data: bytes) -> None:
    assert await authorities.callout(known).answer(data) is None


async def test_an_unknown_certificate_is_refused(authorities: Authorities) -> None:
    def unknown(fingerprint: str) -> DevicePrincipal:
        raise Unauthorised("device.unknown_certificate", "no")

    assert await refusal(authorities.callout(unknown), authorities.question()) == "device.unknown_certificate"


async def test_a_database_that_fails_refuses(authorities: Authorities) -> None:
    def broken(fingerprint: str) -> DevicePrincipal:
        raise RuntimeError("disk")

    assert await refusal(authorities.callout(broken), authorities.question()) == "callout.failed"


async def test_a_database_that_does_not_answer_in_time_refuses(authorities: Authorities) -> None:
    asked = threading.Event()

    def hanging(fingerprint: str) -> DevicePrincipal:
        asked.wait(15)
        return known(fingerprint)

    try:
        assert await refusal(authorities.callout(hanging, 0.05), authorities.question()) == "callout.timeout"
    finally:
        asked.set()


async def test_a_certificate_of_another_device_is_refused(authorities: Authorities) -> None:
    question = authorities.question("dev2", client_id="dev2")
    assert await refusal(authorities.callout(known), question) == "callout.wrong_device"


@pytest.mark.parametrize("name", ["*", ">", "dev1.up.>", "a/b", "DEV1", "$SYS"])
async def test_a_name_that_is_no_device_id_is_refused(authorities: Authorities, name: str) -> None:
    question = authorities.question(name, client_id=name)
    assert await refusal(authorities.callout(known), question) == "id.device"


async def test_other_protocols_than_mqtt_are_refused(authorities: Authorities) -> None:
    question = authorities.question(kind="nats")
    assert await refusal(authorities.callout(known), question) == "callout.no_certificate"
