"""The JWTs of the NATS auth callout: reading what the server asks, signing what the hub answers.

The format is NATS's own: header `{"typ":"JWT","alg":"ed25519-nkey"}`, claims with a `nats` object, Ed25519 by an
account nkey. The question is not verified: only the server can publish it, and the answer is bound to the server's
id and to the connection's one-time key.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import msgspec
import nkeys
from msgspec import Meta

from hub.messaging.config import ACCOUNT
from shared.errors import InvalidInput

__all__ = ["CalloutQuestion", "CalloutSigner", "Permissions", "parse_question"]

_MAX_QUESTION_BYTES = 256 * 1024
_HEADER = {"typ": "JWT", "alg": "ed25519-nkey"}
Pem = Annotated[str, Meta(max_length=16 * 1024)]


@dataclass(frozen=True, slots=True)
class CalloutQuestion:
    """Who wants to connect. `chain`: the verified certificates as PEM, leaf first, or empty."""

    user_nkey: str
    server_id: str
    protocol: str
    client_id: str
    address: str
    chain: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Permissions:
    """Subjects that a connection may publish and subscribe; anything else is refused."""

    publish: Sequence[str]
    subscribe: Sequence[str]


class _Client(msgspec.Struct):
    type: str = ""
    mqtt_id: str = ""
    host: str = ""


class _Tls(msgspec.Struct):
    verified_chains: Annotated[list[Annotated[list[Pem], Meta(max_length=8)]], Meta(max_length=8)] = []


class _Server(msgspec.Struct):
    id: str


class _Request(msgspec.Struct):
    user_nkey: str
    server_id: _Server
    client_info: _Client = msgspec.field(default_factory=_Client)
    client_tls: _Tls = msgspec.field(default_factory=_Tls)


class _Claims(msgspec.Struct):
    nats: _Request


_DECODER = msgspec.json.Decoder(_Claims)


def parse_question(data: bytes) -> CalloutQuestion:
    """The server's question; `callout.malformed`."""
    if len(data) > _MAX_QUESTION_BYTES:
        raise InvalidInput("callout.malformed", f"The callout has {len(data)} bytes.")
    try:
        body = data.split(b".")[1]
        request = _DECODER.decode(base64.urlsafe_b64decode(body + b"=" * (-len(body) % 4))).nats
    except (IndexError, binascii.Error, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidInput("callout.malformed", f"The callout cannot be read: {error}."[:300]) from error
    chains = request.client_tls.verified_chains
    return CalloutQuestion(
        user_nkey=request.user_nkey,
        server_id=request.server_id.id,
        protocol=request.client_info.type,
        client_id=request.client_info.mqtt_id,
        address=request.client_info.host,
        chain=tuple(chains[0]) if chains else (),
    )


class CalloutSigner:
    """Signs answers with the account key whose public half the server's configuration names."""

    def __init__(self, seed: str) -> None:
        self._key = nkeys.from_seed(seed.encode())
        self.issuer: str = self._key.public_key.decode()

    def allow(self, question: CalloutQuestion, name: str, permissions: Permissions, expires_s: float) -> bytes:
        """Let the connection in as `name` until `expires_s` (seconds since 1970), limited to `permissions`."""
        user = {
            "sub": question.user_nkey,
            "name": name,
            "aud": ACCOUNT,
            "exp": int(expires_s),
            "nats": {
                "pub": _only(permissions.publish),
                "sub": _only(permissions.subscribe),
                "subs": 16,
                "data": -1,
                "payload": -1,
                "type": "user",
                "version": 2,
            },
        }
        return self._answer(question, {"jwt": self._sign(user)})

    def refuse(self, question: CalloutQuestion, reason: str) -> bytes:
        """Turn the connection away; the reason is for the server's log."""
        return self._answer(question, {"error": reason})

    def _answer(self, question: CalloutQuestion, body: dict[str, Any]) -> bytes:
        claims = {
            "sub": question.user_nkey,
            "aud": question.server_id,
            "nats": {**body, "type": "authorization_response", "version": 2},
        }
        return self._sign(claims).encode()

    def _sign(self, claims: dict[str, Any]) -> str:
        claims = {**claims, "iss": self.issuer, "iat": int(time.time())}
        digest = hashlib.new("sha512_256", json.dumps(claims).encode()).digest()
        claims["jti"] = base64.b32encode(digest).rstrip(b"=").decode()
        signed = f"{_base64(_HEADER)}.{_base64(claims)}"
        signature = base64.urlsafe_b64encode(self._key.sign(signed.encode())).rstrip(b"=").decode()
        return f"{signed}.{signature}"


def _only(subjects: Sequence[str]) -> dict[str, list[str]]:
    # To NATS an empty list of allowed subjects means all of them.
    return {"allow": list(subjects)} if subjects else {"deny": [">"]}


def _base64(value: dict[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()
