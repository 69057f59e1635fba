"""Devices with certificates for secure aggregation without sockets."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Collection
from datetime import UTC, datetime, timedelta
from functools import cache

import numpy as np
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from agent.training.secure import SecureSession
from hub.federated.secure import Aggregation
from shared.errors import SkerryError
from shared.federated.secagg.fixed import Scale, Total, pack, unpack, words
from shared.federated.secagg.masks import Words

__all__ = ["WEIGHTS", "Authority", "Troop", "authority", "update"]

WEIGHTS = 40
SESSION = bytes(range(16))
SCALE = Scale(reach=4.0, max_weight=100, devices=64)


class Authority:
    """Issues device certificates."""

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"ca {secrets.token_hex(4)}")])
        self.certificate = self._issue(self._name, self._key.public_key())
        self.der = self.certificate.public_bytes(Encoding.DER)

    def device(self, device_id: str) -> tuple[ec.EllipticCurvePrivateKey, bytes]:
        """A key and its certificate (PEM)."""
        key = ec.generate_private_key(ec.SECP256R1())
        return key, self.certify(device_id, key.public_key())

    def certify(self, device_id: str, key: ec.EllipticCurvePublicKey) -> bytes:
        """The certificate (PEM) of a key."""
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, device_id)])
        return self._issue(name, key).public_bytes(Encoding.PEM)

    def _issue(self, subject: x509.Name, key: ec.EllipticCurvePublicKey) -> x509.Certificate:
        now = datetime.now(UTC)
        builder = x509.CertificateBuilder().subject_name(subject).issuer_name(self._name).public_key(key)
        builder = builder.serial_number(x509.random_serial_number()).not_valid_before(now - timedelta(hours=1))
        return builder.not_valid_after(now + timedelta(hours=1)).sign(self._key, SHA256())


@cache
def authority() -> Authority:
    """The one of most tests."""
    return Authority()


@cache
def _identity(device_id: str) -> tuple[ec.EllipticCurvePrivateKey, bytes]:
    return authority().device(device_id)


def update(number: int) -> Words:
    """The words of the update of one device."""
    difference = np.random.default_rng(number).normal(size=WEIGHTS).astype(np.float32)
    return pack(SCALE, difference, 1 + number, True, {"loss": number / 4})


class Troop:
    """Devices and the hub of one round; each stage leaves out those that are in `dropped` for it."""

    def __init__(self, count: int, random: Callable[[int], bytes] = secrets.token_bytes) -> None:
        self.ids = [f"d-{number:03}" for number in range(count)]
        self.number = {device_id: number for number, device_id in enumerate(self.ids)}
        self.sessions = {d: SecureSession(d, *_identity(d), random) for d in self.ids}
        self.hub = Aggregation(SESSION, authority().der)
        self.masked: dict[str, bytes] = {}
        self.refused: dict[str, str] = {}

    def adverts(self, dropped: Collection[str] = ()) -> None:
        """Stage 1."""
        for device_id in self._left(dropped):
            self.hub.advert(device_id, self.sessions[device_id].answer(self.hub.open()))

    def shares(self, dropped: Collection[str] = ()) -> None:
        """Stage 2."""
        for device_id, question in self.hub.rosters().items():
            if device_id not in dropped:
                self._try(device_id, question, self.hub.shares)

    def inputs(self, dropped: Collection[str] = ()) -> None:
        """Stage 3."""
        for device_id, payload in self.hub.tasks(SCALE).items():
            if device_id not in dropped:
                session = self.sessions[device_id]
                words_ = update(self.number[device_id])
                self.masked[device_id] = session.mask(session.accept(payload), words_)
                self.hub.masked(device_id, self.masked[device_id], words(WEIGHTS))

    def reveals(self, dropped: Collection[str] = ()) -> None:
        """Stage 4."""
        for device_id, question in self.hub.unmask().items():
            if device_id not in dropped:
                self._try(device_id, question, self.hub.reveal)

    def total(self) -> Words:
        """The sum."""
        return self.hub.total(words(WEIGHTS))

    def meaning(self) -> Total:
        """What the sum says."""
        return unpack(SCALE, self.total(), WEIGHTS, len(self.masked))

    def expected(self) -> Words:
        """The sum of what came, added up in the clear."""
        return np.asarray(np.sum([update(self.number[d]) for d in self.masked], axis=0, dtype=np.uint32))

    def _left(self, dropped: Collection[str]) -> list[str]:
        return [device_id for device_id in self.ids if device_id not in dropped]

    def _try(self, device_id: str, question: bytes, give: Callable[[str, bytes], None]) -> None:
        try:
            answer = self.sessions[device_id].answer(question)
        except SkerryError as error:
            self.refused[device_id] = error.code
        else:
            give(device_id, answer)
