"""Collecting signatures: each key once, only the appointed ones, only over what is staged now."""

from __future__ import annotations

import pytest
from securesystemslib.signer import CryptoSigner

from hub.store import trust as store
from hub.store.audit import AuditFilter
from hub.store.page import PageRequest
from hub.trust import metadata
from shared.errors import Conflict, Forbidden, InvalidInput, NotFound, Untrusted
from tests.trust_kit import DAY_S, TrustKit


@pytest.fixture
def digits(kit: TrustKit) -> list[CryptoSigner]:
    """Three reviewers of digits, two needed; version 1 is gated."""
    reviewers = kit.create_model("digits")
    kit.add_version("digits", 1, b"one")
    return reviewers


def test_the_signature_that_completes_the_threshold_publishes(kit: TrustKit, digits: list[CryptoSigner]) -> None:
    staged = kit.stage("digits", 1)
    assert (staged.missing, staged.published) == (2, False)
    first = kit.sign(staged, digits[2])
    assert (first.missing, first.published) == (1, False)
    assert kit.sign(staged, digits[0]).published
    assert kit.repository.require_approved("digits", 1)[1] == 3
    with pytest.raises(NotFound):
        kit.repository.staged("model-digits")


def test_the_same_reviewer_twice_counts_once(kit: TrustKit, digits: list[CryptoSigner]) -> None:
    staged = kit.stage("digits", 1)
    for _ in range(3):
        assert kit.sign(staged, digits[0], actor="alice").missing == 1
    assert not kit.repository.is_approved("digits", 1)


def test_the_same_key_under_two_ids_cannot_be_appointed(kit: TrustKit) -> None:
    key = CryptoSigner.generate_ed25519().public_key
    twin = type(key)("f" * 64, key.keytype, key.scheme, key.keyval)
    with pytest.raises(InvalidInput) as caught:
        metadata.Quorum((key, twin), 2)
    assert caught.value.code == "trust.same_key_twice"


@pytest.mark.parametrize("threshold", [0, -1, 4])
def test_an_impossible_threshold_is_refused(threshold: int) -> None:
    keys = tuple(CryptoSigner.generate_ed25519().public_key for _ in range(3))
    with pytest.raises(InvalidInput) as caught:
        metadata.Quorum(keys, threshold)
    assert caught.value.code == "trust.bad_threshold"


def test_a_key_that_was_not_appointed_is_refused(kit: TrustKit, digits: list[CryptoSigner]) -> None:
    staged = kit.stage("digits", 1)
    for stranger in (CryptoSigner.generate_ed25519(), kit.roots[0]):
        with pytest.raises(Forbidden) as caught:
            kit.sign(staged, stranger)
        assert caught.value.code == "trust.unknown_key"


def test_a_reviewer_of_another_model_is_refused(kit: TrustKit, digits: list[CryptoSigner]) -> None:
    other = kit.create_model("fashion")
    with pytest.raises(Forbidden):
        kit.sign(kit.stage("digits", 1), other[0])


def test_a_signature_over_other_bytes_is_refused(kit: TrustKit, digits: list[CryptoSigner]) -> None:
    staged = kit.stage("digits", 1)
    wrong = digits[0].sign(b"something else")
    with pytest.raises(Untrusted) as caught:
        kit.repository.add_signature(staged.role, staged.version, wrong.keyid, wrong.signature, "alice")
    assert caught.value.code == "trust.bad_signature"
    assert kit.repository.staged("model-digits").missing == 2


@pytest.mark.parametrize("garbage", ["", "zz", "ab" * 64, "ab" * 2000])
def test_a_signature_that_is_garbage_is_refused(kit: TrustKit, digits: list[CryptoSigner], garbage: str) -> None:
    staged = kit.stage("digits", 1)
    with pytest.raises((Untrusted, InvalidInput)):
        kit.repository.add_signature(staged.role, staged.version, digits[0].public_key.keyid, garbage, "alice")
    assert kit.repository.staged("model-digits").missing == 2


def test_a_replayed_signature_is_fine_before_and_after_publication(kit: TrustKit, digits: list[CryptoSigner]) -> None:
    staged = kit.stage("digits", 1)
    kit.sign(staged, digits[0])
    kit.sign(staged, digits[0])
    kit.sign(staged, digits[1])
    assert kit.sign(staged, digits[1]).published
    assert kit.registry.approvals == [("digits", 1)]


def test_a_signature_for_a_superseded_version_is_stale(kit: TrustKit, digits: list[CryptoSigner]) -> None:
    staged = kit.stage("digits", 1)
    kit.sign(staged, digits[0])
    kit.sign(staged, digits[1])
    with pytest.raises(Conflict) as caught:
        kit.sign(staged, digits[2])
    assert caught.value.code == "release.stale"


def test_what_was_overtaken_by_a_publication_is_staged_anew(kit: TrustKit, digits: list[CryptoSigner]) -> None:
    kit.approve("digits", 1, b"one")
    stale = kit.propose("model-digits", _with_version(kit, 2), signers=[])
    with kit.db.write() as connection:  # the role moves on by itself, as after a restored staging table
        row = store.get_published(connection, "model-digits", 1)
        assert row is not None
        data = metadata.sign(metadata.renew(row.data, expires_s=kit.year_s), *digits[:2])
        store.add_published(connection, [store.PublishedMetadata("model-digits", 2, data, kit.year_s, 0.0)])
    with pytest.raises(Conflict) as caught:
        kit.sign(stale, digits[0])
    assert caught.value.code == "release.stale"
    assert kit.stage("digits", 2).version == 3


def _with_version(kit: TrustKit, version: int) -> bytes:
    digest = kit.add_version("digits", version, b"two")
    return metadata.build_release(kit.current("model-digits"), "digits", version, digest, 3, expires_s=kit.year_s)


def test_a_second_release_waits_until_the_first_is_signed_or_withdrawn(
    kit: TrustKit, digits: list[CryptoSigner]
) -> None:
    kit.sign(kit.stage("digits", 1), digits[0])
    kit.add_version("digits", 2, b"two")
    with pytest.raises(Conflict) as caught:
        kit.stage("digits", 2)
    assert caught.value.code == "release.busy"
    kit.repository.withdraw("model-digits", "alice")
    assert kit.stage("digits", 2).missing == 2


def test_staging_again_keeps_the_bytes_and_their_signatures(kit: TrustKit, digits: list[CryptoSigner]) -> None:
    kit.sign(kit.stage("digits", 1), digits[0])
    kit.clock.time_s += 60
    again = kit.stage("digits", 1)
    assert again.missing == 1
    assert kit.sign(again, digits[1]).published


def test_a_version_without_a_passed_gate_cannot_be_staged(kit: TrustKit, digits: list[CryptoSigner]) -> None:
    with pytest.raises(Conflict) as caught:
        kit.stage("digits", 7)
    assert caught.value.code == "release.not_gated"


def test_a_version_whose_gate_no_longer_holds_is_not_published(kit: TrustKit, digits: list[CryptoSigner]) -> None:
    staged = kit.stage("digits", 1)
    kit.sign(staged, digits[0])
    kit.registry.gated.clear()
    with pytest.raises(Conflict):
        kit.sign(staged, digits[1])
    assert not kit.repository.is_approved("digits", 1)


def test_a_model_without_reviewers_cannot_be_released(kit: TrustKit) -> None:
    kit.add_version("digits", 1, b"one")
    with pytest.raises(InvalidInput) as caught:
        kit.stage("digits", 1)
    assert caught.value.code == "trust.not_delegated"


def test_an_approved_version_never_gets_another_digest(kit: TrustKit, digits: list[CryptoSigner]) -> None:
    kit.approve("digits", 1, b"one")
    digest = kit.add_version("digits", 1, b"another")
    data = metadata.build_release(kit.current("model-digits"), "digits", 1, digest, 7, expires_s=kit.year_s)
    with pytest.raises(Conflict) as caught:
        kit.propose("model-digits", data, signers=digits[:2])
    assert caught.value.code == "release.changed"


def test_a_proposal_with_a_bundle_that_is_not_the_registered_one_is_refused(
    kit: TrustKit, digits: list[CryptoSigner]
) -> None:
    data = metadata.build_release(None, "digits", 1, "0" * 64, 3, expires_s=kit.year_s)
    with pytest.raises(Conflict) as caught:
        kit.propose("model-digits", data, signers=digits[:2])
    assert caught.value.code == "release.other_bundle"


def test_a_version_is_approved_once(kit: TrustKit, digits: list[CryptoSigner]) -> None:
    kit.approve("digits", 1, b"one")
    with pytest.raises(Conflict) as caught:
        kit.stage("digits", 1)
    assert caught.value.code == "release.approved"


def test_an_expired_release_is_no_longer_approved(kit: TrustKit, digits: list[CryptoSigner]) -> None:
    kit.approve("digits", 1, b"one")
    kit.clock.time_s += 366 * DAY_S
    with pytest.raises(Conflict) as caught:
        kit.repository.require_approved("digits", 1)
    assert caught.value.code == "release.expired"


def test_every_step_is_in_the_audit_log(kit: TrustKit, digits: list[CryptoSigner]) -> None:
    staged = kit.stage("digits", 1)
    kit.sign(staged, digits[0], actor="alice")
    kit.sign(staged, digits[1], actor="bob")
    rows = kit.audit.list(AuditFilter(subject="model-digits"), PageRequest(limit=10))
    assert [(row.action, row.actor) for row in reversed(rows)] == [
        ("trust.staged", "kit"),
        ("trust.signed", "alice"),
        ("trust.signed", "bob"),
        ("trust.published", "bob"),
    ]
