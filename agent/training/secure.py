"""The device's half of secure aggregation: it masks its update, and reveals only what lets the hub read the sum.

Rules: keys are fresh for every session and live in memory only; stages come in their order, each once, so that no two
updates are masked alike and nothing is revealed twice; neighbours are those that follow from all members' keys
together, and each one's keys must be signed with its certificate, of the authority that issued this device's own;
nothing happens with fewer members than `MIN_DEVICES`, nor is anything revealed when less than the threshold of the
neighbourhood has answered; of a neighbour the share of one secret is revealed, never of both.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable
from enum import StrEnum

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.serialization import Encoding

from shared.errors import Conflict, InvalidInput, SkerryError, Untrusted
from shared.federated.secagg import keys, shamir
from shared.federated.secagg.graph import MIN_DEVICES, Ring, threshold
from shared.federated.secagg.masks import Words, add_masks
from shared.federated.secagg.messages import (
    Advert,
    Open,
    Reveal,
    Roster,
    Sealed,
    Shares,
    Unmask,
    decode_question,
    encode,
)

__all__ = ["SecureSession"]


class _Stage(StrEnum):
    """What this device has done last."""

    IDLE = "idle"
    ADVERTISED = "advertised"
    SHARED = "shared"
    MASKED = "masked"
    REVEALED = "revealed"


class SecureSession:
    """This device in secure aggregation, one session after the other. `certificate`: its own, PEM.

    random: where secrets come from; only tests choose it.
    """

    def __init__(
        self,
        device_id: str,
        key: EllipticCurvePrivateKey,
        certificate: bytes,
        random: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        self._device_id = device_id
        self._key = key
        self._certificate = x509.load_pem_x509_certificate(certificate)
        self._random = random
        self._stage = _Stage.IDLE
        self._session = self._sealing = self._masking = self._seed = b""
        self._neighbours: dict[str, Advert] = {}
        self._held: dict[str, tuple[bytes, bytes]] = {}
        self._threshold = self._members = 0

    @property
    def under_way(self) -> bool:
        """Whether a session has begun and is not over."""
        return self._stage not in (_Stage.IDLE, _Stage.REVEALED)

    @property
    def least(self) -> int:
        """How many updates the sum of this session must have. From 32 devices on this one sees its neighbours only, of
        whom it demands the same share; that the rest is there is the hub's word."""
        return threshold(self._members)

    def answer(self, question: bytes) -> bytes:
        """The answer to a question that is not about training.

        Errors: `secure.malformed`, `secure.order`, `secure.roster`, `secure.untrusted`, `secure.few`,
        `secure.survivors`.
        """
        match decode_question(question):
            case Open() as asked:
                return encode(self._advertise(asked))
            case Roster() as asked:
                return encode(self._share(asked))
            case Unmask() as asked:
                return encode(self._reveal(asked))
            case _:
                raise _out_of_order("a task was put as a question")

    def accept(self, question: bytes) -> Sealed:
        """The question beside a training task, before any work is put into it; errors `secure.order`, `secure.few`."""
        asked = decode_question(question)
        if not isinstance(asked, Sealed):
            raise _out_of_order("a training task came with something else")
        self._expect(_Stage.SHARED, asked.session)
        strange = sorted(set(asked.sealed) - set(self._neighbours))
        if strange:
            raise _roster(f"{strange[0]} is no neighbour of this device")
        if len(asked.sealed) + 1 < self._threshold:
            raise _few(len(asked.sealed) + 1, self._threshold)
        return asked

    def mask(self, asked: Sealed, packed: Words) -> bytes:
        """The update's words under this device's masks; works once in a session."""
        self._expect(_Stage.SHARED, asked.session)
        self._stage = _Stage.MASKED
        masks = [(self._seed, True)]
        for other in asked.sealed:
            key = keys.mask_key(self._session, self._masking, self._neighbours[other].masking)
            masks.append((key, self._device_id < other))
            self._take(other, asked.sealed[other])
        masked = packed.copy()
        add_masks(masked, masks)
        return masked.astype("<u4").tobytes()

    def _advertise(self, asked: Open) -> Advert:
        self._forget()
        self._session = asked.session
        self._sealing, self._masking, self._seed = (self._random(32) for _ in range(3))
        bare = Advert(
            sealing=keys.public_of(self._sealing),
            masking=keys.public_of(self._masking),
            commitment=keys.commitment(self._session, self._seed),
            certificate=self._certificate.public_bytes(Encoding.DER),
        )
        self._advert = Advert(
            sealing=bare.sealing,
            masking=bare.masking,
            commitment=bare.commitment,
            certificate=bare.certificate,
            signature=keys.sign_advert(self._session, bare, self._key),
        )
        self._stage = _Stage.ADVERTISED
        return self._advert

    def _share(self, asked: Roster) -> Shares:
        self._expect(_Stage.ADVERTISED, asked.session)
        ring = self._checked(asked)
        self._neighbours = asked.neighbours
        self._threshold = ring.threshold(self._device_id)
        self._members = len(ring.ids)
        everybody = {other: ring.points[other] for other in [*asked.neighbours, self._device_id]}
        points = list(everybody.values())
        seeds = shamir.split(self._seed, points, self._threshold, self._random)
        masking = shamir.split(self._masking, points, self._threshold, self._random)
        own = everybody[self._device_id]
        self._held = {self._device_id: (seeds[own], masking[own])}
        self._stage = _Stage.SHARED
        return Shares(
            sealed={
                other: keys.seal(
                    self._session,
                    self._sealing,
                    advert.sealing,
                    seeds[everybody[other]] + masking[everybody[other]],
                    _about(self._device_id, other),
                )
                for other, advert in asked.neighbours.items()
            }
        )

    def _checked(self, asked: Roster) -> Ring:
        """The neighbourhood, when everything that the hub says of it holds."""
        if len(asked.members) < MIN_DEVICES:
            raise _few(len(asked.members), MIN_DEVICES)
        if asked.members.get(self._device_id) != _digest(self._advert):
            raise _roster("this device's own keys are not in it")
        ring = Ring(self._session, asked.members)
        if sorted(asked.neighbours) != ring.neighbours(self._device_id):
            raise _roster("the neighbours are not those that follow from its members")
        authority = self._authority(asked.authority)
        masking, sealing = {self._advert.masking}, {self._advert.sealing}
        for device_id, advert in asked.neighbours.items():
            if asked.members[device_id] != _digest(advert):
                raise _roster(f"{device_id} has other keys than it says")
            keys.check_advert(self._session, advert, device_id, authority)
            masking.add(advert.masking)
            sealing.add(advert.sealing)
        if min(len(masking), len(sealing)) <= len(asked.neighbours):
            raise _roster("two devices have the same key")
        return ring

    def _authority(self, der: bytes) -> x509.Certificate:
        """The authority's certificate: whichever the hub sends, it must be that of this device's own certificate."""
        try:
            authority = x509.load_der_x509_certificate(der)
            self._certificate.verify_directly_issued_by(authority)
        except (InvalidSignature, ValueError, TypeError) as error:
            raise Untrusted(
                "secure.untrusted", "The hub names an authority that did not issue this device's certificate."
            ) from error
        return authority

    def _take(self, other: str, sealed: bytes) -> None:
        """Keep a neighbour's shares; one that sealed nonsense loses only this device's help."""
        about = _about(other, self._device_id)
        try:
            text = keys.open_sealed(self._session, self._sealing, self._neighbours[other].sealing, sealed, about)
        except SkerryError:
            return
        if len(text) == 2 * shamir.SHARE_BYTES:
            self._held[other] = (text[: shamir.SHARE_BYTES], text[shamir.SHARE_BYTES :])

    def _reveal(self, asked: Unmask) -> Reveal:
        self._expect(_Stage.MASKED, asked.session)
        answered, missing = set(asked.answered), set(asked.missing)
        listed = len(asked.answered) + len(asked.missing)
        known = {self._device_id, *self._neighbours}
        if len(answered | missing) != listed or not answered | missing <= known or self._device_id not in answered:
            raise InvalidInput("secure.survivors", "The hub contradicts itself about who has answered.")
        if len(answered) < max(self._threshold, MIN_DEVICES):
            raise _few(len(answered), max(self._threshold, MIN_DEVICES))
        self._stage = _Stage.REVEALED
        reveal = Reveal(
            seeds={other: self._held[other][0] for other in sorted(answered & self._held.keys())},
            keys={other: self._held[other][1] for other in sorted(missing & self._held.keys())},
        )
        self._held = {}
        return reveal

    def _expect(self, stage: _Stage, session: bytes) -> None:
        if session != self._session or self._stage is not stage:
            raise _out_of_order(f"this device has {self._stage}")

    def _forget(self) -> None:
        self._stage = _Stage.IDLE
        self._session = self._sealing = self._masking = self._seed = b""
        self._neighbours, self._held = {}, {}
        self._threshold = self._members = 0


def _about(sender: str, receiver: str) -> bytes:
    return hashlib.sha256(sender.encode()).digest() + hashlib.sha256(receiver.encode()).digest()


def _digest(advert: Advert) -> bytes:
    return hashlib.sha256(encode(advert)).digest()


def _out_of_order(state: str) -> Conflict:
    return Conflict("secure.order", f"A stage of secure aggregation does not follow the one before: {state}.")


def _roster(problem: str) -> InvalidInput:
    return InvalidInput("secure.roster", f"The hub's list of devices is refused: {problem}."[:300])


def _few(there: int, wanted: int) -> Conflict:
    return Conflict("secure.few", f"There are {there} devices; a sum of fewer than {wanted} is not told.")
