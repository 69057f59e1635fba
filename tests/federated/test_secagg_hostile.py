"""Secure aggregation against hostile hubs and devices: neither side can be talked into more than the sum."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import partial

import msgspec
import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from agent.training.secure import SecureSession
from shared.errors import SkerryError
from shared.federated.secagg import keys
from shared.federated.secagg.fixed import words
from shared.federated.secagg.graph import threshold
from shared.federated.secagg.messages import Advert, Open, Reveal, Roster, Shares, Unmask, decode, encode
from tests.federated.secure_kit import SCALE, SESSION, WEIGHTS, Authority, Troop, authority, update


def _code(act: Callable[[], object]) -> str:
    with pytest.raises(SkerryError) as caught:
        act()
    return caught.value.code


# --- what a device refuses ------------------------------------------------------------------------------------------
def _masked(count: int = 4) -> Troop:
    troop = Troop(count)
    troop.adverts()
    troop.shares()
    troop.inputs()
    return troop


def _unmask(answered: list[str], missing: list[str], session: bytes = SESSION) -> bytes:
    return encode(Unmask(session=session, answered=answered, missing=missing))


def test_a_device_reveals_only_once() -> None:
    troop = _masked()
    question = troop.hub.unmask()["d-000"]
    troop.sessions["d-000"].answer(question)
    assert _code(lambda: troop.sessions["d-000"].answer(question)) == "secure.order"
    other = _unmask(troop.ids[:3], ["d-003"])
    assert _code(lambda: troop.sessions["d-000"].answer(other)) == "secure.order"


@pytest.mark.parametrize(
    ("answered", "missing", "code"),
    [
        ([0, 1, 2, 3], [3], "secure.survivors"),  # both shares of one device
        ([0, 1, 2, 3, 3], [], "secure.survivors"),
        ([1, 2, 3], [0], "secure.survivors"),  # this device itself has answered
        ([0, 1], [2, 3], "secure.few"),
        ([0], [1, 2, 3], "secure.few"),
        ([0, 1, 2, 9], [3], "secure.survivors"),  # a stranger
    ],
)
def test_a_device_reveals_nothing_to_a_hub_that_contradicts_itself(
    answered: list[int], missing: list[int], code: str
) -> None:
    troop = _masked()
    question = _unmask([f"d-{n:03}" for n in answered], [f"d-{n:03}" for n in missing])
    assert _code(lambda: troop.sessions["d-000"].answer(question)) == code
    reveal = decode(troop.sessions["d-000"].answer(troop.hub.unmask()["d-000"]), Reveal)
    assert not set(reveal.seeds) & set(reveal.keys)


def test_no_device_shares_both_secrets_of_a_neighbour_whatever_each_is_told() -> None:
    """A hub that tells half of the devices that d-006 answered, and the other half that it did not, opens nothing."""
    troop = _masked(7)
    seeds, masks = 0, 0
    for number, device_id in enumerate(troop.ids[:6]):
        gone = ["d-006"] if number % 2 else []
        question = _unmask([d for d in troop.ids if d not in gone], gone)
        reveal = decode(troop.sessions[device_id].answer(question), Reveal)
        seeds += "d-006" in reveal.seeds
        masks += "d-006" in reveal.keys
    assert (seeds, masks) == (3, 3)
    assert max(seeds, masks) < threshold(7)


def test_stages_out_of_order_and_of_other_sessions_are_refused() -> None:
    troop = Troop(3)
    session = troop.sessions["d-000"]
    assert _code(lambda: session.answer(_unmask(troop.ids, []))) == "secure.order"
    troop.adverts()
    rosters = troop.hub.rosters()
    other = msgspec.structs.replace(_roster(rosters["d-000"]), session=bytes(16))
    assert _code(lambda: session.answer(encode(other))) == "secure.order"
    troop.shares()
    assert _code(lambda: session.answer(rosters["d-000"])) == "secure.order"  # a replay
    payload = troop.hub.tasks(SCALE)["d-000"]
    assert _code(lambda: session.answer(payload)) == "secure.order"
    asked = session.accept(payload)
    session.mask(asked, update(0))
    assert _code(lambda: session.mask(asked, update(1))) == "secure.order"  # the same masks over another update
    assert _code(lambda: session.accept(payload)) == "secure.order"
    session.answer(encode(Open(session=bytes(16))))
    assert _code(lambda: session.answer(_unmask(troop.ids, []))) == "secure.order"


def _roster(question: bytes) -> Roster:
    return msgspec.msgpack.decode(question, type=Roster)


def _with_stranger(roster: Roster) -> Roster:
    """The hub puts a device of its own in the place of a neighbour, with a certificate of another authority."""
    stranger = Authority()
    session = SecureSession("d-001", *stranger.device("d-001"))
    advert = decode(session.answer(encode(Open(session=SESSION))), Advert)
    members = {**roster.members, "d-001": hashlib.sha256(encode(advert)).digest()}
    neighbours = {**roster.neighbours, "d-001": advert}
    return msgspec.structs.replace(roster, members=members, neighbours=neighbours)


def _swapped(roster: Roster) -> Roster:
    """The hub gives one neighbour another's keys, which it has not signed."""
    false = msgspec.structs.replace(roster.neighbours["d-001"], masking=bytes(31) + b"\x09")
    members = {**roster.members, "d-001": hashlib.sha256(encode(false)).digest()}
    return msgspec.structs.replace(roster, members=members, neighbours={**roster.neighbours, "d-001": false})


def _renamed(roster: Roster) -> Roster:
    """The hub lets one device appear under another's name."""
    advert = roster.neighbours["d-002"]
    members = {**roster.members, "d-001": roster.members["d-002"]}
    return msgspec.structs.replace(roster, members=members, neighbours={**roster.neighbours, "d-001": advert})


def _fewer(roster: Roster) -> Roster:
    few = {"d-000": roster.members["d-000"], "d-001": roster.members["d-001"]}
    return msgspec.structs.replace(roster, members=few, neighbours={"d-001": roster.neighbours["d-001"]})


def _without_one(roster: Roster) -> Roster:
    return msgspec.structs.replace(roster, neighbours={k: v for k, v in roster.neighbours.items() if k != "d-001"})


def _without_self(roster: Roster) -> Roster:
    return msgspec.structs.replace(roster, members={**roster.members, "d-000": bytes(32)})


def _own_authority(roster: Roster) -> Roster:
    return msgspec.structs.replace(_with_stranger(roster), authority=Authority().der)


@pytest.mark.parametrize(
    ("false", "code"),
    [
        (_with_stranger, "secure.untrusted"),
        (_swapped, "secure.untrusted"),
        (_renamed, "secure.untrusted"),
        (_own_authority, "secure.untrusted"),
        (_fewer, "secure.few"),
        (_without_one, "secure.roster"),
        (_without_self, "secure.roster"),
    ],
)
def test_a_device_refuses_a_list_that_is_not_what_it_must_be(false: Callable[[Roster], Roster], code: str) -> None:
    troop = Troop(4)
    troop.adverts()
    question = _roster(troop.hub.rosters()["d-000"])
    assert _code(lambda: troop.sessions["d-000"].answer(encode(false(question)))) == code
    troop.sessions["d-000"].answer(encode(question))  # as it was, it is taken


# --- what the hub refuses -------------------------------------------------------------------------------------------
def test_a_device_whose_keys_are_not_its_own_costs_only_itself() -> None:
    troop = Troop(4)
    honest = {d: troop.sessions[d].answer(troop.hub.open()) for d in troop.ids}
    advert = decode(honest["d-001"], Advert)
    weak = msgspec.structs.replace(advert, masking=bytes(32))
    unsigned = encode(msgspec.structs.replace(advert, signature=bytes(70)))
    assert _code(lambda: troop.hub.advert("d-001", b"\xc1")) == "secure.malformed"
    for false in (honest["d-002"], encode(weak), unsigned):
        assert _code(partial(troop.hub.advert, "d-001", false)) == "secure.untrusted"
    for device_id, answer in honest.items():
        troop.hub.advert(device_id, answer)
    assert len(troop.hub.rosters()) == 4


def test_keys_without_a_secret_and_keys_of_others_are_refused() -> None:
    troop = Troop(3)
    troop.adverts(["d-000"])
    key, pem = authority().device("d-000")
    certificate = decode(SecureSession("d-000", key, pem).answer(troop.hub.open()), Advert).certificate
    taken = troop.hub._adverts["d-001"].masking
    fresh = X25519PrivateKey.generate().public_key().public_bytes_raw()
    for masking, code in ((bytes(32), "secure.key"), (taken, "secure.roster")):
        bare = Advert(sealing=fresh, masking=masking, commitment=bytes(32), certificate=certificate)
        signed = msgspec.structs.replace(bare, signature=keys.sign_advert(SESSION, bare, key))
        assert _code(partial(troop.hub.advert, "d-000", encode(signed))) == code


def test_shares_updates_and_reveals_that_nobody_asked_for_are_refused() -> None:
    troop = Troop(4)
    troop.adverts()
    troop.hub.rosters()
    assert _code(lambda: troop.hub.shares("d-000", encode(Shares(sealed={"d-001": b"x"})))) == "secure.roster"
    troop.shares()
    payloads = troop.hub.tasks(SCALE)
    size = words(WEIGHTS)
    assert _code(lambda: troop.hub.masked("d-009", bytes(4 * size), size)) == "update.unasked"
    assert _code(lambda: troop.hub.masked("d-000", bytes(4 * size - 1), size)) == "update.shape"
    for device_id, payload in payloads.items():
        session = troop.sessions[device_id]
        troop.hub.masked(device_id, session.mask(session.accept(payload), update(0)), size)
    assert _code(lambda: troop.hub.masked("d-000", bytes(4 * size), size)) == "update.repeated"
    false = encode(Reveal(seeds={}, keys={"d-001": bytes(33)}))  # of one that has answered
    assert _code(lambda: troop.hub.reveal("d-000", false)) == "secure.survivors"
    assert _code(lambda: troop.hub.reveal("d-000", b"\x80")) == "secure.malformed"


def test_a_false_share_is_found_out_and_the_sum_stays_exact() -> None:
    troop = _masked(6)
    for device_id, question in troop.hub.unmask().items():
        answer = troop.sessions[device_id].answer(question)
        if device_id == "d-000":
            reveal = decode(answer, Reveal)
            answer = encode(msgspec.structs.replace(reveal, seeds={d: bytes(33) for d in reveal.seeds}))
        troop.hub.reveal(device_id, answer)
    assert np.array_equal(troop.total(), troop.expected())
    assert troop.hub.liars == {"d-000"}


def test_a_device_that_seals_nonsense_costs_nobody_else_the_sum() -> None:
    troop = Troop(5)
    troop.adverts()
    for device_id, question in troop.hub.rosters().items():
        answer = troop.sessions[device_id].answer(question)
        if device_id == "d-000":
            shares = decode(answer, Shares)
            first = {"d-001": b"nonsense" * 20}
            answer = encode(msgspec.structs.replace(shares, sealed={**shares.sealed, **first}))
        troop.hub.shares(device_id, answer)
    troop.inputs()
    troop.reveals()
    assert troop.refused == {}
    assert np.array_equal(troop.total(), troop.expected())


def test_a_certificate_for_another_key_is_refused() -> None:
    troop = Troop(3)
    key = ec.generate_private_key(ec.SECP256R1())
    pem = authority().certify("d-000", ec.generate_private_key(ec.SECP256R1()).public_key())
    answer = SecureSession("d-000", key, pem).answer(troop.hub.open())
    assert _code(lambda: troop.hub.advert("d-000", answer)) == "secure.untrusted"
