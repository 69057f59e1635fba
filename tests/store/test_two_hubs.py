"""Two hubs on one database: whatever people and devices ask of both at once, it happens once or is refused."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import msgspec
import pytest
from securesystemslib.signer import CryptoSigner
from sqlalchemy import select

from hub.devices.tokens import TokenWish
from hub.ingest.service import IngestService, Received
from hub.pki.authority import new_key
from hub.registry.collection import GarbageCollector
from hub.registry.models import ModelChange
from hub.store.audit import AuditFilter
from hub.store.garbage import Retention
from hub.store.page import PageRequest
from hub.store.schema import devices
from hub.trust import metadata
from hub.wiring import Hub, build_hub
from shared.errors import SkerryError
from shared.wire.http import EnrolRequest
from shared.wire.up import Envelope, Inventory, encode_body
from tests.fleet_kit import FleetKit, tiny_bundle
from tests.hub_kit import csr_pem, data_hub
from tests.trust_kit import TrustKit

DEADLINE_S = 60.0
EVERYTHING = PageRequest(limit=1000)


def at_once(actions: Sequence[Callable[[], object]]) -> list[str]:
    """Start all actions together; the codes of their errors, empty for success, sorted."""
    start = threading.Barrier(len(actions))

    def run(action: Callable[[], object]) -> str:
        start.wait(DEADLINE_S)
        try:
            action()
        except SkerryError as error:
            return error.code
        return ""

    with ThreadPoolExecutor(len(actions)) as pool:
        return sorted(pool.map(run, actions))


@pytest.fixture
def hubs(tmp_path: Path, database_url: str) -> Iterator[tuple[Hub, Hub]]:
    with data_hub(tmp_path, database_url=database_url) as (hub, clock):
        other = build_hub(hub.settings, clock)
        yield hub, other
        other.close()


@pytest.fixture
def kits(tmp_path: Path, database_url: str) -> Iterator[tuple[FleetKit, FleetKit]]:
    """The same registry and fleet by two sets of services."""
    both = FleetKit(tmp_path, database_url), FleetKit(tmp_path, database_url)
    yield both
    for kit in both:
        kit.close()


def enrol(hub: Hub, token: str, device_id: str) -> None:
    csr = csr_pem(new_key())
    hub.enrolment.enrol(EnrolRequest(token=token, csr_pem=csr, device_id=device_id, profile="raspberry-pi-4"))


def test_an_enrolment_token_admits_one_device(hubs: tuple[Hub, Hub]) -> None:
    (made,) = hubs[0].enrolment_tokens.create(TokenWish(tags={}), "test")
    ask = [partial(enrol, hubs[number % 2], made.token, f"pi-{number}") for number in range(8)]
    assert at_once(ask) == ["", *["enrolment.token_used"] * 7]
    with hubs[0].db.read() as connection:
        assert len(connection.execute(select(devices)).all()) == 1


def test_a_device_id_is_taken_once(hubs: tuple[Hub, Hub]) -> None:
    tokens = [made.token for made in hubs[0].enrolment_tokens.create(TokenWish(tags={}, count=6), "test")]
    ask = [partial(enrol, hubs[number % 2], token, "pi-1") for number, token in enumerate(tokens)]
    assert at_once(ask) == ["", *["device.exists"] * 5]


def test_the_audit_log_is_one_chain(kits: tuple[FleetKit, FleetKit]) -> None:
    def write(number: int) -> None:
        for n in range(10):
            kits[number % 2].models.create(f"m-{number}-{n}", ModelChange(), "dana")

    assert at_once([partial(write, number) for number in range(6)]) == [""] * 6
    verdict = kits[0].audit.verify()
    assert (verdict.intact, verdict.entries) == (True, 60)


def test_a_model_is_created_once(kits: tuple[FleetKit, FleetKit]) -> None:
    create = [partial(kit.models.create, "digits", ModelChange(), "dana") for kit in kits * 3]
    assert at_once(create) == ["", *["model.exists"] * 5]


def test_of_different_bytes_for_one_version_one_is_registered(kits: tuple[FleetKit, FleetKit]) -> None:
    kits[0].models.create("digits", ModelChange(), "dana")

    paths = [kits[0].folder / f"{number}.bundle" for number in range(6)]
    for number, path in enumerate(paths):
        tiny_bundle(path, 1, extractor=b"model %d" % number)
    assert at_once([partial(kits[number % 2].upload, path) for number, path in enumerate(paths)]) == [
        "",
        *["version.exists"] * 5,
    ]


def test_each_move_of_an_alias_starts_where_the_last_one_ended(kits: tuple[FleetKit, FleetKit]) -> None:
    for version in range(1, 7):
        kits[0].register("digits", version)

    move = [partial(kits[v % 2].aliases.move, "digits", "canary", v, "", "olga") for v in range(1, 7)]
    assert at_once(move) == [""] * 6
    moves = [a.detail for a in kits[0].audit.list(AuditFilter(action="alias.move"), EVERYTHING)][::-1]
    history = [m.version for m in kits[0].aliases.history("digits", "canary", EVERYTHING)][::-1]
    before = [None, *history[:-1]]
    expected = [
        f'{{"from":{"null" if a is None else a},"reason":"","to":{b}}}' for a, b in zip(before, history, strict=True)
    ]
    assert moves == expected


def test_a_version_is_deployed_or_withdrawn_and_never_both(kits: tuple[FleetKit, FleetKit]) -> None:
    one, other = kits
    for number in range(20):
        one.add_device(f"pi-{number}")
    for version in range(1, 6):
        one.release("digits", version)
        other.approvals.releases.update(one.approvals.releases)
        deploy = partial(other.deployments.create, "digits", version, "all", "", "olga")
        withdraw = partial(one.versions.withdraw, "digits", version, "", "olga")
        assert at_once([deploy, withdraw]) in (["", ""], ["", "deployment.withdrawn"])
        assert all(one.assigned(f"pi-{number}") is None for number in range(20))


def test_a_bundle_is_collected_or_named_and_never_both(kits: tuple[FleetKit, FleetKit]) -> None:
    one, other = kits
    collector = GarbageCollector(one.db, one.clock, one.audit, one.blobs, Retention(approved_count=1, fresh_s=1.0))
    for version in range(1, 7):
        one.register("digits", version)
        one.clock.now_s = other.clock.now_s = one.clock.now_s + 100.0
        move = partial(other.aliases.move, "digits", f"a{version}", version, "", "olga")
        codes = at_once([move, partial(collector.run, "adam", dry_run=False)])
        kept = one.versions.get("digits", version).available
        assert codes == (["", ""] if kept else ["", "version.collected"])


def inventory(device_id: str, seq: int) -> Received:
    what = Inventory(
        profile="x", agent_version="1", runtime="litert", runtime_version="2", arch="x86_64", os="linux",
        python="3.11", cpu_count=2, memory_bytes=1, storage_bytes=1,
    )  # fmt: skip
    envelope = Envelope(
        device_id=device_id,
        epoch="a" * 16,
        first_seq=seq,
        seq=seq,
        created_s=5.0,
        kind="inventory",
        body=encode_body(what),
    )
    return Received(device_id, msgspec.msgpack.encode(envelope))


def report_inventories(kit: FleetKit, first: int) -> None:
    """What 30 devices send, every other one to this hub, in no order."""
    service = IngestService(kit.db, kit.clock)
    for seq in range(1, 11):
        ids = [f"pi-{number}" for number in reversed(range(first, 30, 2))]
        service.commit([inventory(device_id, seq) for device_id in ids])


def test_counters_are_used_once_while_devices_report(kits: tuple[FleetKit, FleetKit]) -> None:
    one, other = kits
    for number in range(30):
        one.add_device(f"pi-{number}")
    models = [f"m{number}" for number in range(4)]
    for model in models:
        one.release(model, 1)
    other.approvals.releases.update(one.approvals.releases)

    def publish(kit: FleetKit) -> None:
        for _ in range(5):
            kit.desired.mark_published(kit.desired.pending_publications(100))

    deploy = [partial(kits[n % 2].deployments.create, model, 1, "all", "", "olga") for n, model in enumerate(models)]
    report = [partial(report_inventories, kit, number) for number, kit in enumerate(kits)]
    assert at_once([*deploy, *report, *(partial(publish, kit) for kit in kits)]) == [""] * 8
    for number in range(30):
        found = [one.assigned(f"pi-{number}", model) for model in models]
        assert sorted(row["counter"] for row in found if row is not None) == [1, 2, 3, 4]
        assert one.device(f"pi-{number}")["assignment_counter"] == 4


def test_signatures_through_both_hubs_publish_a_release_once(tmp_path: Path, database_url: str) -> None:
    kit = TrustKit(tmp_path / "hub", database_url=database_url)
    kit.create_model("digits", reviewers=4, threshold=3)
    kit.add_version("digits", 1, b"bundle")
    staged = kit.stage("digits", 1)
    hubs = [kit.open(), kit.open()]

    def sign(number: int, reviewer: CryptoSigner) -> None:
        given = metadata.make_signature(staged.data, reviewer)
        hubs[number % 2].add_signature(staged.role, staged.version, given.keyid, given.signature, "rita")

    codes = at_once([partial(sign, number, reviewer) for number, reviewer in enumerate(kit.reviewers["digits"])])
    assert codes == ["", "", "", "release.stale"]
    assert kit.registry.approvals == [("digits", 1)]
    assert kit.repository.is_approved("digits", 1)
    kit.close()
