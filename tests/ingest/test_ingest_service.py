"""The batch commit against a real database: bodies become fleet state once, and nothing holds up the rest."""

from __future__ import annotations

import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec
import pytest
from sqlalchemy import insert, select, update

from hub.ingest.service import IngestService, Received, Totals
from hub.store.database import Database
from hub.store.federated_devices import answers_since, samples_of
from hub.store.schema import device_events, device_models, device_status, devices, install_reports
from shared.errors import Unavailable
from shared.limits import MAX_MQTT_MESSAGE_BYTES, MAX_SEQ
from shared.wire.down import Watermark
from shared.wire.health import Health
from shared.wire.training import SampleCount, TrainingReport
from shared.wire.up import Dropped, Envelope, Event, Heartbeat, InstallReport, Inventory, ModelStatus, encode_body

EPOCH, LATER = "a" * 16, "b" * 16
PICKY_POSTGRESQL = "ALTER TABLE install_reports ADD CONSTRAINT picky CHECK (reason <> 'poison')"
PICKY_SQLITE = (
    "CREATE TRIGGER picky BEFORE INSERT ON install_reports WHEN NEW.reason = 'poison' "
    "BEGIN SELECT RAISE(ABORT, 'constraint failed'); END"
)
KINDS: dict[type, Any] = {
    Heartbeat: "heartbeat",
    Inventory: "inventory",
    InstallReport: "install",
    Event: "event",
    Dropped: "dropped",
    Health: "health",
    TrainingReport: "training",
}


def mark(epoch: str, seq: int) -> Watermark:
    """A watermark of the hub's clock as it stands at first."""
    return Watermark(epoch=epoch, seq=seq, hub_s=FixedClock().at)


class FixedClock:
    def __init__(self) -> None:
        self.at = 1_000_000.0

    def now(self) -> float:
        return self.at

    def monotonic(self) -> float:
        return self.at


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    database = Database(database_url)
    with database.write() as connection:
        connection.execute(
            insert(devices),
            [
                {"device_id": d, "status": "active", "profile": "x86-gateway", "hardware_id": "", "enrolled_s": 1.0}
                for d in ("dev1", "dev2", "gone")
            ],
        )
        connection.execute(update(devices).where(devices.c.device_id == "gone").values(status="revoked"))
    yield database
    database.close()


@pytest.fixture
def service(database: Database) -> IngestService:
    return IngestService(database, FixedClock())


def message(
    body: msgspec.Struct | bytes,
    seq: int,
    *,
    device: str = "dev1",
    epoch: str = EPOCH,
    first: int | None = None,
    kind: Any = None,
    sender: str | None = None,
) -> Received:
    envelope = Envelope(
        device_id=device,
        epoch=epoch,
        first_seq=first or seq,
        seq=seq,
        created_s=5.0,
        kind=kind or KINDS[type(body)],
        body=body if isinstance(body, bytes) else encode_body(body),
    )
    return Received(sender or device, msgspec.msgpack.encode(envelope))


def heartbeat(**model: Any) -> Heartbeat:
    return Heartbeat(agent_version="1", uptime_s=3, models=[ModelStatus(model="digits", **model)] if model else [])


def report(state: str, active: int | None, version: int = 2, **more: Any) -> InstallReport:
    return InstallReport(
        model="digits",
        version=version,
        bundle_sha256=str(version) * 64,
        assignment_counter=7,
        previous="staged",
        state=state,
        event="x",
        active_version=active,
        **more,
    )


def rows(database: Database, table: Any, device: str = "dev1") -> list[dict[str, Any]]:
    with database.read() as connection:
        found = connection.execute(select(table).where(table.c.device_id == device)).mappings().all()
    return [dict(row) for row in found]


def test_a_heartbeat_becomes_status_and_its_counters_add_up(service: IngestService, database: Database) -> None:
    beat = heartbeat(version=1, requests=10, errors=2, latency_p99_us=900)
    assert service.commit([message(beat, 1), message(beat, 2)]) == {"dev1": mark(EPOCH, 2)}
    service.commit([message(beat, 3)])
    (status,) = rows(database, device_status)
    assert (status["watermark"], status["messages"], status["last_seen_s"]) == (3, 3, 1_000_000.0)
    assert status["heartbeat"]["uptime_s"] == 3
    (model,) = rows(database, device_models)
    assert (model["version"], model["requests"], model["errors"], model["latency_p99_us"]) == (1, 30, 6, 900)


def test_a_redelivered_batch_changes_nothing(service: IngestService, database: Database) -> None:
    batch = [message(heartbeat(version=1, requests=10), 1), message(Event(code="x", message="y"), 2)]
    service.commit(batch)
    before = rows(database, device_models), rows(database, device_events)
    assert service.commit(batch) == {"dev1": mark(EPOCH, 2)}
    assert (rows(database, device_models), rows(database, device_events)) == before
    assert service.totals == Totals(accepted=2, duplicates=2)


def test_many_devices_share_one_transaction(service: IngestService, database: Database) -> None:
    marks = service.commit([message(heartbeat(version=1), 1), message(heartbeat(version=2), 1, device="dev2")])
    assert set(marks) == {"dev1", "dev2"}
    assert rows(database, device_models, "dev2")[0]["version"] == 2


def test_an_install_report_moves_the_fleet_state(service: IngestService, database: Database) -> None:
    service.commit([message(report("committed", 1, 1), 1), message(report("probation", 2), 2)])
    (model,) = rows(database, device_models)
    assert (model["version"], model["previous_version"], model["state"]) == (2, 1, "probation")
    assert (model["target_version"], model["counter"], model["bundle_sha256"]) == (2, 7, "2" * 64)
    assert [r["state"] for r in rows(database, install_reports)] == ["committed", "probation"]


def test_a_roll_back_reports_its_reason_and_an_idle_heartbeat_does_not_erase_it(
    service: IngestService, database: Database
) -> None:
    service.commit(
        [
            message(report("committed", 1, 1), 1),
            message(report("rolled_back", 1, reason_code="golden.mismatch", reason="0.4 over 0.01"), 2),
            message(heartbeat(version=1, state="idle"), 3),
        ]
    )
    (model,) = rows(database, device_models)
    assert (model["version"], model["target_version"], model["state"]) == (1, 2, "rolled_back")
    assert (model["reason_code"], model["reason"]) == ("golden.mismatch", "0.4 over 0.01")


def test_after_a_roll_back_there_is_no_previous_version(service: IngestService, database: Database) -> None:
    steps = [report("committed", 1, 1), report("probation", 2), report("rolled_back", 1)]
    service.commit([message(step, seq) for seq, step in enumerate(steps, 1)])
    (model,) = rows(database, device_models)
    assert (model["version"], model["previous_version"], model["bundle_sha256"]) == (1, None, None)


def test_inventory_and_dropped_ranges_are_kept(service: IngestService, database: Database) -> None:
    what = Inventory(
        profile="x", agent_version="1", runtime="litert", runtime_version="2", arch="x86_64", os="linux",
        python="3.11", cpu_count=2, memory_bytes=1, storage_bytes=1,
    )  # fmt: skip
    service.commit([message(what, 1), message(Dropped(count=4, kinds={"heartbeat": 4}), 5, first=2)])
    assert rows(database, devices)[0]["inventory"]["runtime"] == "litert"
    (status,) = rows(database, device_status)
    assert (status["watermark"], status["dropped"]) == (5, 4)
    (event,) = rows(database, device_events)
    assert (event["code"], event["count"]) == ("outbox.dropped", 4)


def test_a_malformed_body_uses_up_its_number_and_is_counted(service: IngestService, database: Database) -> None:
    marks = service.commit([message(b"\xc1", 1, kind="heartbeat"), message(Event(code="x", message="y"), 2)])
    assert marks["dev1"].seq == 2
    assert rows(database, device_status)[0]["malformed"] == 1
    assert [e["code"] for e in rows(database, device_events)] == ["ingest.malformed_body", "x"]


@pytest.mark.parametrize(
    "bad",
    [
        Received("dev1", b"not an envelope"),
        Received("dev1", b"\x00" * (MAX_MQTT_MESSAGE_BYTES + 1)),
        message(Event(code="x", message="y"), 1, device="dev2", sender="dev1"),
    ],
    ids=["unparsable", "oversized", "another device's"],
)
def test_a_bad_envelope_is_counted_for_its_sender_and_holds_up_nothing(
    service: IngestService, database: Database, bad: Received
) -> None:
    assert service.commit([bad, message(Event(code="x", message="y"), 1)])["dev1"].seq == 1
    assert rows(database, device_status)[0]["malformed"] == 1
    assert rows(database, device_status, "dev2") == []


def test_unknown_and_revoked_devices_are_refused_and_counted(service: IngestService, database: Database) -> None:
    beat = heartbeat(version=1)
    marks = service.commit([message(beat, 1, device="gone"), message(beat, 1, device="nobody"), message(beat, 1)])
    assert set(marks) == {"dev1"}
    assert service.totals.refused == 2
    assert rows(database, device_models, "gone") == []


def test_a_new_epoch_is_accepted_and_the_old_one_never_returns(service: IngestService, database: Database) -> None:
    old = [message(Event(code="old", message="y"), seq) for seq in (1, 2)]
    new = message(Event(code="new", message="y"), 1, epoch=LATER)
    service.commit(old)
    assert service.commit([new]) == {"dev1": mark(LATER, 1)}
    assert service.commit(old) == {"dev1": mark(EPOCH, MAX_SEQ)}
    assert service.commit([*old, new]) == {"dev1": mark(LATER, 1)}
    assert service.commit([new]) == {"dev1": mark(LATER, 1)}
    assert sorted(e["code"] for e in rows(database, device_events)) == ["new", "old", "old"]
    assert service.totals.stale == 4


def test_hostile_values_are_stored_within_their_columns(service: IngestService, database: Database) -> None:
    huge = heartbeat(version=1, requests=MAX_SEQ, state="s" * 128)
    nul = Event(code="c\x00", message="m\x00")
    odd = Heartbeat(agent_version="\x00", uptime_s=1, cpu_percent=math.nan)
    service.commit([message(huge, 1), message(huge, 2), message(nul, 3), message(odd, 4)])
    (model,) = rows(database, device_models)
    assert (model["requests"], len(model["state"])) == (MAX_SEQ, 32)
    (event,) = rows(database, device_events)
    assert (event["code"], event["message"]) == ("c\ufffd", "m\ufffd")
    assert rows(database, device_status)[0]["heartbeat"]["cpu_percent"] is None


def test_a_message_that_the_database_refuses_is_isolated(service: IngestService, database: Database) -> None:
    with database.engine.begin() as connection:  # a database with a stricter opinion than ours
        connection.exec_driver_sql(PICKY_SQLITE if database.is_sqlite else PICKY_POSTGRESQL)
    batch = [message(Event(code="x", message="y"), seq) for seq in range(1, 8)]
    batch[4] = message(report("committed", 1, reason="poison"), 5)
    assert service.commit(batch)["dev1"].seq == 7
    assert sum(e["code"] == "ingest.malformed_body" for e in rows(database, device_events)) == 1
    assert rows(database, install_reports) == []


def test_nothing_is_confirmed_when_the_database_is_away(service: IngestService, database: Database) -> None:
    with database.engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE device_events RENAME TO elsewhere")
    with pytest.raises(Unavailable) as raised:
        service.commit([message(Event(code="x", message="y"), 1)])
    assert raised.value.code == "database.unavailable"
    with database.engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE elsewhere RENAME TO device_events")
    assert service.commit([message(Event(code="x", message="y"), 1)])["dev1"].seq == 1


def test_two_hubs_on_one_database_apply_each_message_once(database: Database) -> None:
    batches = [
        [message(heartbeat(version=1, requests=1), seq, device=device) for device in ("dev1", "dev2")]
        for seq in range(1, 41)
    ]
    services = [IngestService(database, FixedClock()) for _ in range(2)]

    def deliver(service: IngestService) -> None:
        for batch in batches:
            service.commit(batch)

    with ThreadPoolExecutor(2) as pool:
        for finished in [pool.submit(deliver, service) for service in services]:
            finished.result(60)
    assert sum(service.totals.accepted for service in services) == 80
    for device in ("dev1", "dev2"):
        assert rows(database, device_models, device)[0]["requests"] == 40
        assert rows(database, device_status, device)[0]["messages"] == 40


def test_answers_to_offers_are_kept_once_however_often_they_come(database: Database, service: IngestService) -> None:
    said = TrainingReport(
        run="f-0123456789ab", round_no=3, model="digits", state="declined", code="training.not_idle",
        reason="Busy\x00.", retry_s=600.0,
    )  # fmt: skip
    for _ in range(2):
        service.commit([message(said, 1), message(said, 1)])
    service.commit([message(said, 1, device="gone")])
    with database.read() as connection:
        (kept,) = answers_since(connection, "f-0123456789ab", 0.0)
        assert answers_since(connection, "f-0123456789ab", 2e9) == []
    assert (kept.device_id, kept.seq, kept.state, kept.code) == ("dev1", 1, "declined", "training.not_idle")
    assert (kept.reason, kept.retry_s) == ("Busy\ufffd.", 600.0)


def test_what_a_device_has_to_train_on_is_what_its_last_heartbeat_said(
    database: Database, service: IngestService
) -> None:
    def with_samples(*counts: SampleCount) -> Heartbeat:
        return msgspec.structs.replace(heartbeat(), samples=list(counts))

    many = SampleCount(model="digits", kept=40, seen=90, classes=3, personal=True)
    service.commit([message(with_samples(many, SampleCount(model="faces", kept=1)), 1), message(heartbeat(), 2)])
    with database.read() as connection:
        (row,) = samples_of(connection, "digits")
        assert len(samples_of(connection, "faces")) == 1
    assert (row.device_id, row.kept, row.seen, row.classes, row.personal) == ("dev1", 40, 90, 3, True)
    service.commit([message(with_samples(SampleCount(model="faces", kept=2)), 3)])
    with database.read() as connection:
        assert samples_of(connection, "digits") == []
        assert [row.kept for row in samples_of(connection, "faces")] == [2]
