"""The agent's TUF client against honest, broken and hostile repositories; each test asserts the state that is kept."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from securesystemslib.signer import CryptoSigner

from agent.ota.trusted_time import Uptime
from agent.ota.update_client import UpdateClient
from shared import limits
from shared.errors import SkerryError, StorageFailure
from tests.ota.repository import FixedClock, Repository

YEAR_S = 365 * 86400.0
BUNDLE = "digits/1.bundle"


class Fleet:
    """One device's folder, clock and first root; every call is a new client, as a new process would be."""

    def __init__(self, repository: Repository, folder: Path) -> None:
        self.repository = repository
        self.folder = folder
        self.clock = FixedClock(repository.now_s)
        self.up = Uptime(100.0, "first")
        self.first_root = repository.files["1.root.json"]

    def client(self, *, not_before_s: float = 0.0, bootstrap: bool = True) -> UpdateClient:
        root = self.first_root if bootstrap else None
        return UpdateClient(
            self.folder,
            self.repository,
            self.clock,
            bootstrap=root,
            not_before_s=not_before_s,
            uptime=lambda: self.up,
        )

    def refresh(self) -> UpdateClient:
        client = self.client()
        client.refresh()
        return client

    def refused(self, target: str = "") -> str:
        with pytest.raises(SkerryError) as caught:
            self.client().target(target or BUNDLE)
        return caught.value.code

    def kept(self, role: str) -> int:
        """The version of a role that the folder holds; 0 when there is none that is whole."""
        try:
            version: int = json.loads((self.folder / f"{role}.json").read_bytes())["signed"]["version"]
            return version
        except (OSError, ValueError):
            return 0


@pytest.fixture
def repository() -> Repository:
    made = Repository()
    made.releases[BUNDLE] = b"bundle one"
    made.publish()
    return made


@pytest.fixture
def device(repository: Repository, tmp_path: Path) -> Fleet:
    return Fleet(repository, tmp_path / "tuf")


def test_a_refresh_keeps_the_bytes_as_received(device: Fleet) -> None:
    info = device.refresh().target(BUNDLE)
    assert info is not None
    assert (info.length, set(info.hashes)) == (10, {"sha256"})
    for role, source in [("root", "1.root.json"), ("timestamp", "timestamp.json"), ("snapshot", "2.snapshot.json")]:
        assert (device.folder / f"{role}.json").read_bytes() == device.repository.files[source]
    assert device.refresh().target("digits/9.bundle") is None
    assert device.refresh().target("letters/1.bundle") is None


def test_what_is_unchanged_is_not_fetched_again(device: Fleet) -> None:
    device.refresh().target(BUNDLE)
    device.repository.requests.clear()
    device.refresh().target(BUNDLE)
    assert device.repository.requests == ["2.root.json", "timestamp.json"]


def test_a_small_target_is_verified_kept_and_verified_again(device: Fleet) -> None:
    device.repository.targets["skerry/x.json"] = b"content"
    device.repository.publish()
    assert device.client().target_bytes("skerry/x.json", 100) == b"content"
    (device.folder / "targets" / "skerry%2Fx.json").write_bytes(b"damaged")
    assert device.client().target_bytes("skerry/x.json", 100) == b"content"
    with pytest.raises(SkerryError):
        device.client().target_bytes("skerry/x.json", 3)


@pytest.mark.parametrize("role", ["root", "timestamp", "snapshot", "targets", "model-digits"])
@pytest.mark.parametrize("damage", ["empty", "torn", "flipped", "gone"])
def test_a_torn_local_file_is_fetched_again(device: Fleet, role: str, damage: str) -> None:
    device.refresh().target(BUNDLE)
    before = device.kept(role)
    path = device.folder / f"{role}.json"
    data = path.read_bytes()
    if damage == "gone":
        path.unlink()
    else:
        position = data.index(b'"version"') + 5
        flipped = data[:position] + b"X" + data[position + 1 :]
        path.write_bytes({"empty": b"", "torn": data[: len(data) // 2], "flipped": flipped}[damage])
    assert device.client(bootstrap=False).target(BUNDLE) is not None
    if role != "root":
        assert device.kept(role) == before


@pytest.mark.parametrize("lost", ["timestamp", "snapshot", "model-digits", "everything but the floor", "the floor"])
def test_a_lost_file_does_not_lose_the_rollback_floor(device: Fleet, lost: str) -> None:
    repository = device.repository
    old_files, _ = repository.remember()
    repository.releases["digits/2.bundle"] = b"two"
    repository.publish()
    device.refresh().target("digits/2.bundle")
    if lost == "the floor":
        (device.folder / "rollback.floor").write_bytes(b"torn")
    elif lost == "everything but the floor":
        for path in device.folder.glob("*.json"):
            path.unlink()
    else:
        (device.folder / f"{lost}.json").unlink()
    repository.files = old_files
    assert device.refused() == "trust.rollback"
    assert device.kept("timestamp") != 2


def test_an_older_snapshot_under_a_newer_timestamp_is_refused(device: Fleet) -> None:
    device.refresh()
    repository = device.repository
    repository.versions["snapshot"] = 0
    repository.publish_snapshot()
    repository.publish_timestamp()
    (device.folder / "timestamp.json").unlink()
    assert device.refused() == "trust.rollback"
    assert device.kept("snapshot") == 2


def test_a_role_that_goes_back_in_a_new_snapshot_is_refused(device: Fleet) -> None:
    device.refresh()
    (device.folder / "snapshot.json").unlink()
    device.repository.publish_snapshot(**{"model-digits": 1})
    device.repository.publish_timestamp()
    assert device.refused() == "trust.rollback"


def test_a_role_that_disappears_from_the_snapshot_is_refused(device: Fleet) -> None:
    device.refresh()
    repository = device.repository
    repository.versions.pop("model-digits")
    repository.versions["model-digits"] = 0
    (device.folder / "snapshot.json").unlink()
    repository.publish_snapshot(**{"model-digits": 1})
    repository.publish_timestamp()
    assert device.refused() == "trust.rollback"


def test_roots_older_than_the_one_known_are_refused_even_when_the_local_root_is_lost(device: Fleet) -> None:
    repository = device.repository
    repository.publish_root()
    device.refresh()
    assert device.kept("root") == 2
    (device.folder / "root.json").write_bytes(b"")
    del repository.files["2.root.json"]
    assert device.refused() == "trust.rollback"


def test_keys_of_every_role_can_be_rotated(device: Fleet) -> None:
    repository = device.repository
    device.refresh()
    old_root_keys = repository.keys["root"]
    for role in repository.ROLES:
        repository.keys[role] = [CryptoSigner.generate_ed25519() for _ in repository.keys[role]]
    repository.publish_root(old_root_keys)
    repository.publish()
    assert device.refresh().target(BUNDLE) is not None
    assert (device.kept("root"), device.kept("timestamp")) == (2, 3)


def test_a_root_not_signed_by_the_one_before_is_refused(device: Fleet) -> None:
    device.refresh()
    device.repository.keys["root"] = [CryptoSigner.generate_ed25519() for _ in range(2)]
    device.repository.publish_root()
    assert device.refused() == "trust.unsigned"
    assert device.kept("root") == 1


def test_a_repository_recovers_from_a_fast_forward_by_new_online_keys(device: Fleet) -> None:
    repository = device.repository
    repository.versions |= {"timestamp": 10_000, "snapshot": 10_000}
    repository.publish_snapshot()
    repository.publish_timestamp()
    device.refresh()
    assert device.kept("timestamp") == 10_001
    old_root_keys = repository.keys["root"]
    repository.versions |= {"timestamp": 2, "snapshot": 2}
    repository.publish()
    assert device.refused() == "trust.rollback"
    for role in ("timestamp", "snapshot"):
        repository.keys[role] = [CryptoSigner.generate_ed25519()]
    repository.publish_root(old_root_keys)
    repository.publish()
    assert device.refresh().target(BUNDLE) is not None
    assert device.kept("timestamp") < 10


@pytest.mark.parametrize("role", ["timestamp", "snapshot", "targets", "model-digits"])
def test_metadata_signed_by_another_key_is_refused(device: Fleet, role: str) -> None:
    repository = device.repository
    genuine = repository.keys[role]
    repository.keys[role] = [CryptoSigner.generate_ed25519()]
    if role == "model-digits":  # the delegation itself stays genuine
        stranger, repository.keys[role] = repository.keys[role], genuine
        repository.publish()
        repository.keys[role] = stranger
        data = json.loads(repository.files[f"{repository.versions[role]}.{role}.json"])
        data["signatures"][0]["sig"] = "00" * 64
        repository.files[f"{repository.versions[role]}.{role}.json"] = json.dumps(data).encode()
    else:
        repository.publish()
    assert device.refused() == "trust.unsigned"
    assert device.kept(role) == 0


def test_parts_of_different_states_do_not_go_together(device: Fleet) -> None:
    repository = device.repository
    old = repository.files[f"{repository.versions['model-digits']}.model-digits.json"]
    repository.publish()
    repository.files[f"{repository.versions['model-digits']}.model-digits.json"] = old
    assert device.refused() == "trust.rollback"
    assert device.kept("model-digits") == 0


@pytest.mark.parametrize("role", ["root", "timestamp", "snapshot", "targets", "model-digits"])
def test_expired_metadata_is_refused(device: Fleet, role: str) -> None:
    repository = device.repository
    repository.lifetimes_s[role] = 3600.0
    if role == "root":
        repository.publish_root()
    repository.publish()
    device.clock.now_s += 3601
    assert device.refused() == "trust.expired"


def test_a_clock_at_its_beginning_neither_blocks_nor_forgets_the_time_known_before(device: Fleet) -> None:
    repository = device.repository
    device.clock.now_s = repository.now_s = repository.now_s + 10 * 86400
    repository.publish()
    device.refresh()
    device.clock.now_s = 0.0
    assert device.refresh().now_s == repository.now_s
    repository.lifetimes_s["timestamp"] = -5 * 86400.0  # expired five days before the time that this device knows of
    repository.publish()
    assert device.refused() == "trust.expired"


def test_the_certificate_bounds_the_clock_of_a_new_device(device: Fleet) -> None:
    device.repository.lifetimes_s["timestamp"] = 3600.0
    device.repository.publish()
    device.clock.now_s = 0.0
    assert device.client(not_before_s=device.repository.now_s).now_s == device.repository.now_s
    with pytest.raises(SkerryError) as caught:
        device.client(not_before_s=device.repository.now_s + 7200).refresh()
    assert caught.value.code == "trust.expired"


def test_a_clock_that_ran_ahead_does_not_block_for_ever(device: Fleet) -> None:
    device.clock.now_s += 20 * YEAR_S
    assert device.refused() == "trust.expired"
    device.clock.now_s = device.repository.now_s
    assert device.refresh().now_s == device.repository.now_s


@pytest.mark.parametrize(
    ("path", "size"),
    [
        ("2.root.json", limits.MAX_ROOT_BYTES),
        ("timestamp.json", limits.MAX_TIMESTAMP_BYTES),
        ("3.snapshot.json", limits.MAX_SNAPSHOT_BYTES),
        ("3.targets.json", limits.MAX_TARGETS_BYTES),
    ],
)
def test_endless_metadata_is_refused(device: Fleet, path: str, size: int) -> None:
    device.refresh()
    device.repository.publish()
    device.repository.files[path] = b" " * (size + 1)
    with pytest.raises(SkerryError) as caught:
        device.client().refresh()
    assert caught.value.code == "trust.too_large"
    assert device.kept("targets") == 2


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b'{"signed": NaN}', b'{"a":1,"a":2}', b"[" * 9000, b"\xff"])
@pytest.mark.parametrize("path", ["2.root.json", "timestamp.json"])
def test_malformed_metadata_is_refused(device: Fleet, path: str, data: bytes) -> None:
    device.refresh()
    device.repository.files[path] = data
    assert device.refused() == "trust.malformed"
    assert (device.kept("root"), device.kept("timestamp")) == (1, 2)


def test_a_file_that_the_metadata_names_but_nobody_serves_is_an_error_that_may_pass(device: Fleet) -> None:
    del device.repository.files["2.snapshot.json"]
    with pytest.raises(SkerryError) as caught:
        device.client().refresh()
    assert (caught.value.code, caught.value.retriable) == ("trust.missing", True)


def test_without_any_root_nothing_is_trusted(device: Fleet) -> None:
    with pytest.raises(SkerryError) as caught:
        device.client(bootstrap=False)
    assert caught.value.code == "trust.no_root"


def test_a_folder_that_cannot_be_written_refuses_without_half_a_state(device: Fleet) -> None:
    device.refresh()
    device.repository.publish()
    (device.folder / "timestamp.json").unlink()
    (device.folder / "timestamp.json").mkdir()
    with pytest.raises((StorageFailure, OSError)):
        device.client().refresh()
    (device.folder / "timestamp.json").rmdir()
    assert device.refresh().target(BUNDLE) is not None
