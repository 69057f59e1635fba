"""Every key can be replaced, and clients that were away follow: python-tuf's client over HTTP, before and after."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from securesystemslib.signer import CryptoSigner
from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Root

from hub.trust import metadata
from shared.assignment_keys import ASSIGNMENT_KEYS_PATH, build_assignment_keys, parse_assignment_keys
from shared.errors import Forbidden, InvalidInput
from tests.trust.client import Client
from tests.trust_kit import TrustKit


@pytest.fixture
def client(kit: TrustKit, tmp_path: Path) -> Iterator[Client]:
    """A client that knew the repository before the change; digits 1 is approved."""
    kit.create_model("digits")
    kit.approve("digits", 1, b"one")
    with kit.serve() as url:
        made = Client(tmp_path / "client", url, kit.root)
        assert made.download("digits/1.bundle") == b"one"
        yield made


def _goes_on(kit: TrustKit, client: Client) -> None:
    """New releases still reach the client, and old ones stay."""
    kit.approve("digits", 2, b"two")
    assert client.download("digits/2.bundle") == b"two"
    assert client.knows("digits/1.bundle")


def _replaced(kit: TrustKit, index: int) -> list[CryptoSigner]:
    return [*kit.roots[:index], CryptoSigner.generate_ed25519(), *kit.roots[index + 1 :]]


def _quorum(signers: list[CryptoSigner], threshold: int = 2) -> metadata.Quorum:
    return metadata.Quorum(tuple(signer.public_key for signer in signers), threshold)


def test_a_root_key_is_replaced(kit: TrustKit, client: Client) -> None:
    new = _replaced(kit, 2)
    data = metadata.revise_root(kit.root, root=_quorum(new), targets=_quorum(new), expires_s=kit.year_s)
    assert kit.propose("root", data).published
    kit.roots = new
    _goes_on(kit, client)


def test_all_root_keys_are_replaced_when_old_and_new_holders_sign(kit: TrustKit, client: Client) -> None:
    old, new = kit.roots, [CryptoSigner.generate_ed25519() for _ in range(3)]
    data = metadata.revise_root(kit.root, root=_quorum(new), targets=_quorum(new), expires_s=kit.year_s)
    staged = kit.propose("root", data, signers=[old[0], old[1], new[0], new[1]])
    assert not staged.published, "the targets are still signed by the old keys only"
    assert "targets" in staged.waiting_for
    targets = metadata.renew(kit.current("targets"), expires_s=kit.year_s)
    assert not kit.propose("targets", targets, signers=new[:1]).published
    assert client.knows("digits/1.bundle")
    assert kit.sign(kit.repository.staged("targets"), new[1]).published
    assert metadata.parse(kit.root, Root).signed.version == 2
    kit.roots = new
    kit.create_model("fashion")
    _goes_on(kit, client)


def test_a_root_signed_by_its_new_holders_only_is_never_published(kit: TrustKit, client: Client) -> None:
    new = [CryptoSigner.generate_ed25519() for _ in range(3)]
    data = metadata.revise_root(kit.root, root=_quorum(new), expires_s=kit.year_s)
    staged = kit.propose("root", data, signers=new)
    assert not staged.published
    assert [requirement.missing for requirement in staged.requirements] == [2, 0]
    assert not kit.sign(staged, kit.roots[0]).published
    assert kit.sign(staged, kit.roots[1]).published
    _goes_on(kit, client)


def test_a_root_may_not_be_proposed_with_a_strangers_signature(kit: TrustKit) -> None:
    data = metadata.revise_root(kit.root, expires_s=kit.year_s)
    with pytest.raises(Forbidden):
        kit.propose("root", data, signers=[*kit.roots[:1], CryptoSigner.generate_ed25519()])


def test_the_targets_keys_are_replaced(kit: TrustKit, client: Client) -> None:
    new = [CryptoSigner.generate_ed25519() for _ in range(2)]
    data = metadata.revise_root(kit.root, targets=_quorum(new), expires_s=kit.year_s)
    assert not kit.propose("root", data).published
    targets = metadata.renew(kit.current("targets"), expires_s=kit.year_s)
    assert kit.propose("targets", targets, signers=new).published
    _goes_on(kit, client)
    old_holders = metadata.renew(kit.current("targets"), expires_s=kit.year_s)
    with pytest.raises(Forbidden):
        kit.propose("targets", old_holders, signers=kit.roots[:2])


def test_the_online_key_is_replaced_in_the_transaction_of_the_new_root(kit: TrustKit, client: Client) -> None:
    old = kit.repository.online_keys().online
    key = kit.repository.prepare_online_key("online", "admin")
    assert kit.repository.prepare_online_key("online", "admin") == key
    assert kit.propose("root", metadata.revise_root(kit.root, online=key, expires_s=kit.year_s)).published
    assert kit.repository.online_keys().online == key
    assert kit.repository.online_keys().online_next is None
    assert old.keyid not in metadata.parse_any(kit.current("timestamp")).signatures
    _goes_on(kit, client)


def test_a_hub_cut_off_before_its_key_files_were_renamed_goes_on(kit: TrustKit, client: Client) -> None:
    key = kit.repository.prepare_online_key("online", "admin")
    folder = kit.directory / "keys"
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    kit.propose("root", metadata.revise_root(kit.root, online=key, expires_s=kit.year_s))
    for name, data in before.items():
        (folder / name).write_bytes(data)
    kit.repository = kit.open()
    assert kit.repository.online_keys().online_next == key
    _goes_on(kit, client)
    kit.repository.refresh_online(kit.clock.now())
    assert kit.repository.online_keys().online == key


def test_a_root_that_names_an_online_key_of_nobody_is_refused(kit: TrustKit) -> None:
    stranger = CryptoSigner.generate_ed25519().public_key
    with pytest.raises(InvalidInput) as caught:
        kit.propose("root", metadata.revise_root(kit.root, online=stranger, expires_s=kit.year_s))
    assert caught.value.code == "trust.unknown_online_key"


def test_the_assignment_key_is_replaced_through_targets(kit: TrustKit, client: Client) -> None:
    old = kit.repository.online_keys().assignment
    new = kit.repository.prepare_online_key("assignment", "admin")
    files = {ASSIGNMENT_KEYS_PATH: build_assignment_keys([new])}
    data = metadata.revise_targets(kit.current("targets"), files=files, expires_s=kit.year_s)
    assert kit.pending.renewals == 0
    assert kit.propose("targets", data, files=files).published
    assert kit.pending.renewals == 1, "what the old key signed no longer counts"
    assert kit.repository.online_keys().assignment == new
    assert parse_assignment_keys(client.download(ASSIGNMENT_KEYS_PATH)).keys() == {new.keyid}
    assert new.keyid.encode() in kit.assignment("pi-1", "digits", 1, counter=1)
    assert old.keyid.encode() not in kit.assignment("pi-1", "digits", 1, counter=2)


def test_a_reviewer_is_replaced(kit: TrustKit, client: Client) -> None:
    reviewers = [*kit.reviewers["digits"][:2], CryptoSigner.generate_ed25519()]
    assert kit.appoint("digits", reviewers).published
    kit.reviewers["digits"] = reviewers[1:]
    _goes_on(kit, client)


def test_all_reviewers_are_replaced_when_the_new_ones_sign_again_what_was_approved(
    kit: TrustKit, client: Client
) -> None:
    new = [CryptoSigner.generate_ed25519() for _ in range(3)]
    staged = kit.appoint("digits", new)
    assert not staged.published, "no client would find the approved versions signed by the new reviewers"
    release = metadata.renew(kit.current("model-digits"), expires_s=kit.year_s)
    assert not kit.propose("model-digits", release, signers=new[:1]).published
    assert kit.sign(kit.repository.staged("model-digits"), new[2]).published
    assert kit.repository.status().staged == ()
    _goes_on(kit, client)


def test_a_client_with_an_old_root_walks_through_every_root(kit: TrustKit, client: Client) -> None:
    for _ in range(5):
        data = metadata.revise_root(kit.root, expires_s=kit.year_s)
        assert kit.propose("root", data).published
    _goes_on(kit, client)


def test_a_client_that_starts_from_a_foreign_root_refuses_everything(
    kit: TrustKit, client: Client, tmp_path: Path
) -> None:
    foreign = TrustKit(tmp_path / "foreign")
    with kit.serve() as url, pytest.raises(RepositoryError):
        Client(tmp_path / "stranger", url, foreign.root).knows("digits/1.bundle")
    foreign.close()
