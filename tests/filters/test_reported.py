"""What devices report is what filters ask about: through the ingest, and for devices from before the columns were."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import select, text

from hub.ingest.service import IngestService, Received
from hub.store import migrate as migrations
from hub.store import schema
from hub.store.database import Database
from shared.wire.up import Envelope, Heartbeat, Inventory, encode_body, encode_envelope
from tests.databases import Backend
from tests.fleet_kit import FleetKit

INVENTORY = Inventory(
    profile="raspberry-pi-4",
    agent_version="1.10.0",
    runtime="ai-edge-litert",
    runtime_version="2.1",
    arch="aarch64",
    os="Debian 12",
    python="3.11.7",
    cpu_count=4,
    memory_bytes=4 * 1024**3,
    storage_bytes=32 * 1000**3,
)
HEARTBEAT = Heartbeat(
    agent_version="1.10.0", uptime_s=60, rss_bytes=70 * 1024**2, cpu_percent=float("nan"), disk_free_bytes=1000**3
)


@pytest.fixture
def kit(tmp_path: Path, database_url: str) -> Iterator[FleetKit]:
    kit = FleetKit(tmp_path, database_url)
    kit.add_device("pi-1")
    kit.add_device("silent")
    yield kit
    kit.close()


def say(kit: FleetKit, *bodies: msgspec.Struct) -> None:
    kinds = {Inventory: "inventory", Heartbeat: "heartbeat"}
    messages = [
        Envelope(
            device_id="pi-1",
            epoch="a" * 16,
            first_seq=seq,
            seq=seq,
            created_s=0.0,
            kind=kinds[type(body)],  # type: ignore[arg-type]
            body=encode_body(body),
        )
        for seq, body in enumerate(bodies, 1)
    ]
    IngestService(kit.db, kit.clock).commit([Received("pi-1", encode_envelope(one)) for one in messages])


def found(kit: FleetKit, text: str) -> list[str]:
    with kit.db.read() as connection:
        condition = kit.filters.condition(connection, text)
        return list(connection.scalars(select(schema.devices.c.device_id).where(condition)))


@pytest.mark.parametrize(
    "text",
    [
        "agent_version==1.10.0;agent_version>1.9;agent_version<2",
        "runtime==ai-edge-litert;runtime_version=ge=2.1",
        "arch==aarch64;os=li='debian *';python=ge=3.11",
        "cpu_count=ge=4;memory_bytes==4GiB;storage_bytes=gt=30GB",
        "rss<100MiB;disk_free==1GB;outbox_count==0",
        "online==true;last_seen=gt=-1s",
    ],
)
def test_a_filter_asks_what_the_device_said_last(kit: FleetKit, text: str) -> None:
    say(kit, INVENTORY, HEARTBEAT)
    assert found(kit, text) == ["pi-1"]


def test_a_number_that_is_none_is_not_there(kit: FleetKit) -> None:
    say(kit, HEARTBEAT)
    assert found(kit, "cpu_percent==*") == []


def test_an_agent_that_was_renewed_is_found_by_its_new_version(kit: FleetKit) -> None:
    say(kit, INVENTORY, msgspec.structs.replace(INVENTORY, agent_version="2.0-strange", memory_bytes=1))
    assert found(kit, "agent_version<2") == found(kit, "agent_version>1") == []
    assert found(kit, "agent_version=li=*STRANGE;memory_bytes<2") == ["pi-1"]


def test_devices_from_before_are_found_after_the_migration(backend: Backend, tmp_path: Path) -> None:
    with backend.empty(tmp_path) as url:
        db = Database(url)
        _upgrade(db, "0002")
        _store_as_before(db)
        assert migrations.migrate(db)
        kit = FleetKit(tmp_path, url)
        assert found(kit, "agent_version=ge=1.10;memory_bytes==4GiB;disk_free==1GB") == ["old-1"]
        assert found(kit, "agent_version!=*;id==old-*") == ["old-2"]
        kit.close()
        db.close()


def _upgrade(db: Database, revision: str) -> None:
    with db.write() as connection:
        config = Config()
        config.set_main_option("script_location", str(Path(migrations.__file__).parent / "migrations"))
        config.set_main_option("path_separator", "os")
        config.attributes["connection"] = connection
        command.upgrade(config, revision)


def _store_as_before(db: Database) -> None:
    device = "INSERT INTO devices (device_id, status, profile, hardware_id, enrolled_s, inventory, assignment_counter,"
    device += " desired_revision, published_revision) VALUES (:d, 'active', 'x', '', 0, :i, 0, 0, 0)"
    status = "INSERT INTO device_status (device_id, last_seen_s, epoch, watermark, heartbeat, messages, dropped,"
    status += " malformed) VALUES (:d, 0, '', 0, :h, 0, 0, 0)"
    with db.write() as connection:
        connection.execute(text(device), {"d": "old-1", "i": msgspec.json.encode(INVENTORY).decode()})
        connection.execute(text(device), {"d": "old-2", "i": None})
        connection.execute(text(status), {"d": "old-1", "h": msgspec.json.encode(HEARTBEAT).decode()})
