"""The hub's half of secure aggregation: who is in, whose shares go where, and the sum once it may be read. Pure.

Rules: what a device says is checked as its neighbours would check it, so one bad device costs itself and not the round;
a device goes on only while its neighbourhood stays above the threshold; nothing but the sum of all updates that came is
ever computed. A share that does not fit the others is found out, and whose it is.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from itertools import combinations, islice

import numpy as np
from cryptography import x509

from shared.errors import Conflict, InvalidInput
from shared.federated.secagg import keys, shamir
from shared.federated.secagg.fixed import Scale
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
    decode,
    encode,
)

__all__ = ["Aggregation"]

_TRIES = 200


class Aggregation:
    """One attempt at one round. authority: the certificate (DER) of the authority of the devices' certificates."""

    def __init__(self, session: bytes, authority: bytes) -> None:
        self._session = session
        self._authority_der = authority
        self._authority = x509.load_der_x509_certificate(authority)
        self._adverts: dict[str, Advert] = {}
        self._ring = Ring(session, {})
        self._sealed: dict[str, dict[str, bytes]] = {}
        self._inside: list[str] = []
        self._masked: dict[str, Words] = {}
        self._reveals: dict[str, Reveal] = {}
        self.liars: set[str] = set()

    # --- 1: adverts -------------------------------------------------------------------------------------------------
    def open(self) -> bytes:
        """The question to every device."""
        return encode(Open(session=self._session))

    def advert(self, device_id: str, answer: bytes) -> None:
        """A device's keys; errors `secure.malformed`, `secure.untrusted`, `secure.roster`."""
        advert = decode(answer, Advert)
        keys.check_advert(self._session, advert, device_id, self._authority)
        keys.mask_key(self._session, bytes(31) + b"\x01", advert.masking)  # a key without a secret is refused here
        keys.mask_key(self._session, bytes(31) + b"\x01", advert.sealing)
        taken = {key for other in self._adverts.values() for key in (other.masking, other.sealing)}
        if {advert.masking, advert.sealing} & taken:
            raise InvalidInput("secure.roster", f"{device_id} has another device's key.")
        self._adverts[device_id] = advert

    # --- 2: shares --------------------------------------------------------------------------------------------------
    def rosters(self) -> dict[str, bytes]:
        """The question to each device whose keys came; error `secure.few`."""
        self._enough(len(self._adverts), MIN_DEVICES)
        members = {d: hashlib.sha256(encode(advert)).digest() for d, advert in self._adverts.items()}
        self._ring = Ring(self._session, members)
        return {
            device_id: encode(
                Roster(
                    session=self._session,
                    members=members,
                    neighbours={other: self._adverts[other] for other in self._ring.neighbours(device_id)},
                    authority=self._authority_der,
                )
            )
            for device_id in self._ring.ids
        }

    def members(self) -> list[str]:
        """The devices whose keys came."""
        return list(self._ring.ids)

    def least(self) -> int:
        """How many updates a sum must have: more than two thirds of the members."""
        return threshold(len(self._ring.ids))

    def shares(self, device_id: str, answer: bytes) -> None:
        """A device's sealed shares; errors `secure.malformed`, `secure.roster`."""
        sealed = decode(answer, Shares).sealed
        if sorted(sealed) != self._ring.neighbours(device_id):
            raise InvalidInput("secure.roster", f"{device_id} has sealed shares for others than its neighbours.")
        self._sealed[device_id] = sealed

    # --- 3: inputs --------------------------------------------------------------------------------------------------
    def tasks(self, scale: Scale) -> dict[str, bytes]:
        """What goes beside the training task of each device that is in the sum; error `secure.few`."""
        inside = set(self._sealed)
        while alone := {d for d in inside if len(self._among(d, inside)) < self._ring.threshold(d)}:
            inside -= alone
        self._enough(len(inside), MIN_DEVICES)
        self._inside = sorted(inside)
        return {
            device_id: encode(
                Sealed(
                    session=self._session,
                    scale=scale,
                    sealed={
                        other: self._sealed[other][device_id]
                        for other in self._ring.neighbours(device_id)
                        if other in inside
                    },
                )
            )
            for device_id in self._inside
        }

    def masked(self, device_id: str, answer: bytes, words: int) -> None:
        """A device's masked words; errors `update.shape`, `update.unasked`, `update.repeated`."""
        if device_id not in self._inside:
            raise InvalidInput("update.unasked", "The update is of a device that is not in the sum.")
        if device_id in self._masked:
            raise InvalidInput("update.repeated", "The device has given its update already.")
        if len(answer) != 4 * words:
            raise InvalidInput("update.shape", f"The masked update has {len(answer)} bytes; it must have {4 * words}.")
        self._masked[device_id] = np.frombuffer(answer, "<u4").astype(np.uint32)

    def forget(self, device_id: str) -> None:
        """An update that shall not be in the sum after all: its device counts as one that did not answer."""
        self._masked.pop(device_id, None)

    # --- 4: reveals -------------------------------------------------------------------------------------------------
    def unmask(self) -> dict[str, bytes]:
        """The question to each device that answered; error `secure.few` when the sum cannot be read any more."""
        there = set(self._masked)
        self._enough(len(there), max(MIN_DEVICES, self.least()))
        for device_id in self._inside:
            self._enough(len(self._among(device_id, there)), self._ring.threshold(device_id))
        return {device_id: self._question(device_id, there) for device_id in sorted(there)}

    def reveal(self, device_id: str, answer: bytes) -> None:
        """What a device reveals; errors `secure.malformed`, `secure.survivors`."""
        reveal = decode(answer, Reveal)
        near = {device_id, *self._ring.neighbours(device_id)}
        wrong = (set(reveal.seeds) - (near & self._masked.keys())) | (set(reveal.keys) - (near & self._lost()))
        if device_id not in self._masked or wrong:
            raise InvalidInput("secure.survivors", f"{device_id} reveals what it was not asked for.")
        self._reveals[device_id] = reveal

    def readable(self) -> bool:
        """Whether enough has been revealed for the sum."""
        return all(len(self._shares_of(d)) >= self._ring.threshold(d) for d in self._inside)

    def total(self, words: int) -> Words:
        """The sum of all updates that came; error `secure.unmask` when what was revealed does not open it."""
        total = np.zeros(words, np.uint32)
        for masked in self._masked.values():
            total += masked
        masks: list[tuple[bytes, bool]] = []
        for device_id in self._inside:
            advert = self._adverts[device_id]
            if device_id in self._masked:
                masks.append((self._secret(device_id, self._is_seed(advert)), False))
                continue
            key = self._secret(device_id, _is_key(advert))
            for other in self._among(device_id, set(self._masked)):
                mask = keys.mask_key(self._session, key, self._adverts[other].masking)
                masks.append((mask, not other < device_id))
        add_masks(total, masks)
        return total

    # ----------------------------------------------------------------------------------------------------------------
    def _question(self, device_id: str, there: set[str]) -> bytes:
        near = [device_id, *self._ring.neighbours(device_id)]
        missing = sorted(d for d in near if d in self._inside and d not in there)
        return encode(Unmask(session=self._session, answered=sorted(d for d in near if d in there), missing=missing))

    def _is_seed(self, advert: Advert) -> Callable[[bytes], bool]:
        return lambda secret: keys.commitment(self._session, secret) == advert.commitment

    def _among(self, device_id: str, these: Iterable[str]) -> list[str]:
        """Those of these that are in the neighbourhood of the device, itself included."""
        near = {device_id, *self._ring.neighbours(device_id)}
        return sorted(near.intersection(these))

    def _lost(self) -> set[str]:
        return set(self._inside) - self._masked.keys()

    def _shares_of(self, device_id: str) -> dict[int, bytes]:
        """The revealed shares of the secret that opens this device's masks, by point."""
        points = self._ring.points
        if device_id in self._masked:
            return {points[d]: r.seeds[device_id] for d, r in self._reveals.items() if device_id in r.seeds}
        return {points[d]: r.keys[device_id] for d, r in self._reveals.items() if device_id in r.keys}

    def _secret(self, device_id: str, right: Callable[[bytes], bool]) -> bytes:
        """The secret, whichever of the shares are wrong; who gave a wrong one is among `liars` from then on."""
        shares, threshold = self._shares_of(device_id), self._ring.threshold(device_id)
        for chosen in islice(combinations(sorted(shares), threshold), _TRIES) if len(shares) >= threshold else ():
            secret = shamir.join({point: shares[point] for point in chosen}, threshold)
            if right(secret):
                self._find_liars(shares, chosen, secret, threshold)
                return secret
        raise Conflict("secure.unmask", f"What was revealed of {device_id} does not open the sum.", retriable=True)

    def _find_liars(self, shares: Mapping[int, bytes], good: tuple[int, ...], secret: bytes, threshold: int) -> None:
        names = {point: device_id for device_id, point in self._ring.points.items()}
        for point in sorted(shares.keys() - set(good)):
            some = {other: shares[other] for other in (point, *good[1:])}
            if shamir.join(some, threshold) != secret:
                self.liars.add(names[point])

    def _enough(self, there: int, wanted: int) -> None:
        if there < wanted:
            raise Conflict(
                "secure.few", f"{there} devices are left where {wanted} are needed to read the sum.", retriable=True
            )


def _is_key(advert: Advert) -> Callable[[bytes], bool]:
    return lambda secret: keys.public_of(secret) == advert.masking
