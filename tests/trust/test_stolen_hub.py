"""Whoever owns the hub and its online keys can delay releases, but cannot make a client accept one."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from securesystemslib.signer import CryptoSigner
from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Root, Targets

from hub.store import trust as store
from hub.store.trust import PublishedMetadata
from hub.trust import metadata
from hub.trust.publication import Publisher
from shared.errors import Conflict, InvalidInput, Untrusted
from tests.trust.client import Client
from tests.trust_kit import DAY_S, TrustKit


def _publish_by_force(kit: TrustKit, role: str, data: bytes) -> None:
    """What a thief does with the hub's database and both online keys: no rule of ours runs."""
    online = kit.keys.current("online")
    with kit.db.write() as connection:
        snapshot, timestamp = store.latest(connection, "snapshot"), store.latest(connection, "timestamp")
        assert snapshot is not None
        assert timestamp is not None
        version = metadata.parse_any(data).signed.version
        forged = metadata.sign(
            metadata.build_snapshot(
                snapshot.data, [(role, version, data)], version=snapshot.version + 1, expires_s=kit.year_s
            ),
            online,
        )
        stamp = metadata.sign(
            metadata.build_timestamp(snapshot.version + 1, forged, version=timestamp.version + 1, expires_s=kit.year_s),
            online,
        )
        rows = [
            PublishedMetadata(role, version, data, kit.year_s, 0.0),
            PublishedMetadata("snapshot", snapshot.version + 1, forged, kit.year_s, 0.0),
            PublishedMetadata("timestamp", timestamp.version + 1, stamp, kit.year_s, 0.0),
        ]
        store.add_published(connection, rows)


def _evil_release(kit: TrustKit) -> bytes:
    digest = kit.blobs.put(b"evil")
    return metadata.build_release(kit.current("model-digits"), "digits", 2, digest, 4, expires_s=kit.year_s)


@pytest.fixture
def client(kit: TrustKit, tmp_path: Path) -> Client:
    kit.create_model("digits")
    kit.approve("digits", 1, b"one")
    return Client(tmp_path / "client", "", kit.root)


def _refused(kit: TrustKit, tmp_path: Path, path: str = "digits/2.bundle") -> None:
    with kit.serve() as url, pytest.raises(RepositoryError):
        Client(tmp_path / "victim", url, kit.repository.published("1.root.json")).download(path)


@pytest.mark.parametrize("signers", ["nobody", "the hub", "one reviewer", "one reviewer and the hub"])
def test_a_release_below_the_threshold_is_refused_by_the_client(
    kit: TrustKit, client: Client, tmp_path: Path, signers: str
) -> None:
    chosen: list[CryptoSigner] = []
    if "reviewer" in signers:
        chosen.append(kit.reviewers["digits"][0])
    if "hub" in signers:
        chosen += [kit.keys.current("online"), kit.keys.current("assignment")]
    _publish_by_force(kit, "model-digits", metadata.sign(_evil_release(kit), *chosen))
    _refused(kit, tmp_path)


def test_new_reviewers_appointed_by_the_hub_are_refused_by_the_client(
    kit: TrustKit, client: Client, tmp_path: Path
) -> None:
    mine = CryptoSigner.generate_ed25519()
    quorum = metadata.Quorum((mine.public_key,), 1)
    data = metadata.revise_targets(kit.current("targets"), models={"digits": quorum}, expires_s=kit.year_s)
    _publish_by_force(kit, "targets", metadata.sign(data, mine, kit.keys.current("online"), kit.roots[0]))
    _refused(kit, tmp_path, "digits/1.bundle")


def test_assignment_keys_of_a_thief_are_refused_by_the_client(kit: TrustKit, client: Client, tmp_path: Path) -> None:
    files = {"skerry/assignment-keys.json": b'{"schema_version":1,"keys":{}}'}
    data = metadata.revise_targets(kit.current("targets"), files=files, expires_s=kit.year_s)
    _publish_by_force(kit, "targets", metadata.sign(data, kit.keys.current("online")))
    _refused(kit, tmp_path, "skerry/assignment-keys.json")


def test_another_bundle_under_an_approved_digest_is_refused_by_the_client(
    kit: TrustKit, client: Client, tmp_path: Path
) -> None:
    (kit.directory / "blobs" / hashlib.sha256(b"one").hexdigest()).write_bytes(b"0ne")
    _refused(kit, tmp_path, "digits/1.bundle")


def test_the_hub_itself_refuses_a_release_below_the_threshold(kit: TrustKit, client: Client) -> None:
    with kit.db.read() as connection:
        publisher = Publisher(
            lambda role: store.latest(connection, role),
            lambda _ids: kit.keys.current("online"),
            kit.settings,
            kit.clock.now(),
        )
        with pytest.raises(Untrusted) as caught:
            publisher.prepare({"model-digits": metadata.sign(_evil_release(kit), kit.reviewers["digits"][0])})
    assert caught.value.code == "trust.would_be_refused"
    assert caught.value.detail["role"] == "model-digits"


@pytest.mark.parametrize(
    ("paths", "code"), [(["digits/*", "fashion/*"], "bad_delegation"), (["*/*"], "bad_delegation")]
)
def test_a_delegation_beyond_its_model_is_not_staged(
    kit: TrustKit, client: Client, paths: list[str], code: str
) -> None:
    found = metadata.parse(kit.current("targets"), Targets)
    assert found.signed.delegations is not None
    assert found.signed.delegations.roles is not None
    found.signed.delegations.roles["model-digits"].paths = paths
    found.signed.version += 1
    with pytest.raises(InvalidInput) as caught:
        kit.propose("targets", found.to_bytes())
    assert caught.value.code == f"trust.{code}"


def test_top_level_targets_cannot_carry_a_bundle(kit: TrustKit, client: Client) -> None:
    data = metadata.revise_targets(kit.current("targets"), files={"digits/9.bundle": b"x"}, expires_s=kit.year_s)
    with pytest.raises(InvalidInput) as caught:
        kit.propose("targets", data)
    assert caught.value.code == "trust.foreign_target"


def test_a_model_cannot_be_called_as_the_hubs_own_folder(kit: TrustKit) -> None:
    with pytest.raises(InvalidInput) as caught:
        kit.create_model("skerry")
    assert caught.value.code == "trust.reserved_name"


@pytest.mark.parametrize("days", [-1, 0, 4000])
def test_an_odd_expiry_is_not_staged(kit: TrustKit, client: Client, days: int) -> None:
    data = metadata.renew(kit.current("targets"), expires_s=kit.clock.now() + days * DAY_S)
    with pytest.raises(InvalidInput) as caught:
        kit.propose("targets", data)
    assert caught.value.code == "trust.bad_expiry"


@pytest.mark.parametrize(("skip", "family"), [(-1, Conflict), (0, Conflict), (2, InvalidInput)])
def test_a_version_that_does_not_follow_is_not_staged(
    kit: TrustKit, client: Client, skip: int, family: type[Exception]
) -> None:
    found = metadata.parse(kit.current("root"), Root)
    found.signed.version = max(1, found.signed.version + skip)
    with pytest.raises(family):
        kit.propose("root", found.to_bytes())


@pytest.mark.parametrize(
    "data", [b"", b"{}", b"[]", b'{"signed":1}', b'{"signed":{},"signed":{}}', b"\xff", b"[" * 9999]
)
def test_malformed_metadata_is_refused_with_a_code(kit: TrustKit, data: bytes) -> None:
    for role in ("root", "targets", "model-digits"):
        with pytest.raises(InvalidInput):
            kit.repository.propose(role, data, "mallory")
