"""The online roles: re-signed when due and only then, always consistent, also with several publishers at once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tuf.api.exceptions import ExpiredMetadataError
from tuf.api.metadata import Snapshot, Timestamp

from hub.store import trust as store
from hub.trust import metadata
from hub.trust.online_keys import OnlineKeys
from shared.errors import Conflict, NotFound, StorageFailure
from tests.trust.client import Client
from tests.trust_kit import DAY_S, TrustKit


def _versions(kit: TrustKit) -> tuple[int, int]:
    snapshot = metadata.parse(kit.current("snapshot"), Snapshot).signed
    timestamp = metadata.parse(kit.current("timestamp"), Timestamp).signed
    assert timestamp.snapshot_meta.version == snapshot.version
    timestamp.snapshot_meta.verify_length_and_hashes(kit.current("snapshot"))
    return snapshot.version, timestamp.version


def test_nothing_is_signed_again_before_it_is_due(kit: TrustKit) -> None:
    before = _versions(kit)
    assert not kit.repository.refresh_online(kit.clock.now())
    assert not kit.repository.refresh_online(kit.clock.now() + 3599)
    assert _versions(kit) == before


def test_the_timestamp_is_signed_every_hour_and_the_snapshot_after_half_its_life(kit: TrustKit) -> None:
    kit.clock.time_s += 3600
    assert kit.repository.refresh_online(kit.clock.now())
    assert not kit.repository.refresh_online(kit.clock.now())
    assert _versions(kit) == (1, 2)
    kit.clock.time_s += 3.6 * DAY_S
    assert kit.repository.refresh_online(kit.clock.now())
    assert _versions(kit) == (2, 3)


def test_metadata_never_expires_while_the_hub_runs(kit: TrustKit) -> None:
    for _ in range(24 * 20):
        kit.clock.time_s += 3600
        kit.repository.refresh_online(kit.clock.now())
        for role in ("timestamp", "snapshot"):
            assert metadata.expiry_s(metadata.parse_any(kit.current(role)).signed) > kit.clock.now() + 12 * 3600


def test_a_hub_that_was_off_for_a_month_is_fresh_again_after_one_refresh(tmp_path: Path) -> None:
    old = TrustKit(tmp_path / "old", age_s=30 * DAY_S)
    old.clock.time_s += 30 * DAY_S
    with old.serve() as url:
        with pytest.raises(ExpiredMetadataError):
            Client(tmp_path / "before", url, old.root).updater()
        assert old.repository.refresh_online(old.clock.now())
        Client(tmp_path / "after", url, old.root).updater()
    old.close()


def test_several_hubs_refresh_once(kit: TrustKit) -> None:
    kit.clock.time_s += 7200
    repositories = [kit.open() for _ in range(8)]
    with ThreadPoolExecutor(8) as pool:
        done = list(pool.map(lambda repository: repository.refresh_online(kit.clock.now()), repositories))
    assert done.count(True) == 1
    assert _versions(kit) == (1, 2)


def test_concurrent_publications_are_one_after_the_other(kit: TrustKit, tmp_path: Path) -> None:
    models = [f"m{number}" for number in range(6)]
    for model in models:
        kit.create_model(model, reviewers=1, threshold=1)
    before = _versions(kit)
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda model: kit.approve(model, 1, model.encode(), signatures=1), models))
    assert _versions(kit) == (before[0] + 6, before[1] + 6)
    with kit.serve() as url:
        client = Client(tmp_path / "c", url, kit.root)
        assert [client.download(f"{model}/1.bundle") for model in models] == [model.encode() for model in models]


def test_old_metadata_stays_available(kit: TrustKit) -> None:
    kit.create_model("digits")
    for version in (1, 2, 3):
        kit.approve("digits", version, b"%d" % version)
    for filename in ("1.root.json", "1.targets.json", "2.targets.json", "1.model-digits.json", "1.snapshot.json"):
        assert kit.repository.published(filename)


@pytest.mark.parametrize(
    "filename",
    [
        "root.json", "0.root.json", "01.root.json", "2.root.json", "1.timestamp.json", "1.model-x.json", "timestamp",
        "../1.root.json", "1.root.json/..", "1.Root.json", "99999999999.root.json", "1.root.json\n", "x" * 500,
    ],
)  # fmt: skip
def test_what_is_not_published_is_not_found(kit: TrustKit, filename: str) -> None:
    with pytest.raises(NotFound) as caught:
        kit.repository.published(filename)
    assert caught.value.code == "trust.no_such_metadata"


def test_a_hub_without_a_root_says_so(kit: TrustKit) -> None:
    with kit.db.write() as connection:
        connection.exec_driver_sql("DELETE FROM tuf_metadata")
    assert not kit.repository.refresh_online(kit.clock.now() + DAY_S)
    assert not kit.repository.status().initialised
    with pytest.raises(Conflict) as caught:
        kit.repository.root()
    assert caught.value.code == "trust.not_initialised"


def test_the_same_bootstrap_again_is_fine_and_another_is_refused(kit: TrustKit) -> None:
    with kit.db.write() as connection:
        connection.exec_driver_sql("DELETE FROM tuf_metadata")
    first = kit.first_metadata()
    kit.repository.bootstrap(*first, actor="admin")
    kit.repository.bootstrap(*first, actor="admin")
    kit.clock.time_s += 60
    with pytest.raises(Conflict) as caught:
        kit.repository.bootstrap(*kit.first_metadata(), actor="mallory")
    assert caught.value.code == "trust.initialised"


def test_a_failed_publication_leaves_nothing_behind(kit: TrustKit) -> None:
    kit.create_model("digits", reviewers=1, threshold=1)
    kit.add_version("digits", 1, b"one")
    staged = kit.stage("digits", 1)
    with kit.db.read() as connection:
        before = [(row.role, row.version) for row in store.all_published(connection)]
    (kit.directory / "keys" / "online.key").unlink()
    kit.repository = kit.open()
    with pytest.raises(StorageFailure) as caught:
        kit.sign(staged, kit.reviewers["digits"][0])
    assert caught.value.code == "trust.no_online_key"
    with kit.db.read() as connection:
        assert [(row.role, row.version) for row in store.all_published(connection)] == before


def test_key_files_are_private_and_never_replaced(tmp_path: Path) -> None:
    keys = OnlineKeys(tmp_path / "keys")
    keys.create_missing()
    first = keys.current("online").public_key, keys.current("assignment").public_key
    assert first[0] != first[1]
    OnlineKeys(tmp_path / "keys").create_missing()
    again = OnlineKeys(tmp_path / "keys")
    assert (again.current("online").public_key, again.current("assignment").public_key) == first
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "keys").iterdir()} == {0o600}
