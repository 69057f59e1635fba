"""Heartbeat and inventory of this very machine."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from msgspec import UNSET

from agent.link.meter import LinkReadings
from agent.outbox.outbox import Outbox
from agent.telemetry.hardware import hardware_id
from agent.telemetry.heartbeat import HeartbeatSource
from agent.telemetry.inventory import take_inventory
from shared.clock import SystemClock
from shared.wire.system import System
from shared.wire.up import Heartbeat, Inventory, ModelStatus, decode_body, decode_envelope, encode_body


async def test_the_first_heartbeat_comes_at_once_and_tells_the_truth(tmp_path: Path) -> None:
    clock = SystemClock()
    outbox = Outbox(tmp_path / "o.db", device_id="dev1", limit_bytes=1 << 20, clock=clock)
    await outbox.start()
    beating = HeartbeatSource(
        tmp_path,
        outbox,
        lambda: [ModelStatus(model="digits", version=3, requests=7)],
        clock=clock,
        interval_s=0.02,
        random=lambda: 0.5,
    )
    task = asyncio.create_task(beating.run())
    async with asyncio.timeout(10):
        while outbox.state.pending_count < 3:  # noqa: ASYNC110 - the counter sets no event here
            await asyncio.sleep(0.005)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    messages = await outbox.pending(0, count=10, limit_bytes=1 << 20)
    await outbox.close()
    beat = decode_body(decode_envelope(messages[0].data))
    assert isinstance(beat, Heartbeat)
    assert 5_000_000 < beat.rss_bytes < 10**10
    assert beat.disk_free_bytes > 0
    assert beat.models == [ModelStatus(model="digits", version=3, requests=7)]


def test_what_the_link_measured_is_told_and_what_it_did_not_is_left_out(tmp_path: Path) -> None:
    clock = SystemClock()
    outbox = Outbox(tmp_path / "o.db", device_id="dev1", limit_bytes=1 << 20, clock=clock)
    read = [LinkReadings(way="mqtt", reconnects=2, rtt_s=0.25, clock_ahead_s=-3.0), LinkReadings()]
    beating = HeartbeatSource(
        tmp_path, outbox, list, clock=clock, interval_s=1.0, random=lambda: 0.5, link=lambda: read.pop(0)
    )
    first, second = beating.take().system, beating.take().system
    assert isinstance(first, System)
    assert isinstance(second, System)
    assert (first.link, first.link_rtt_s, first.link_reconnects, first.clock_ahead_s) == ("mqtt", 0.25, 2, -3.0)
    assert (second.link, second.link_rtt_s, second.link_reconnects, second.clock_ahead_s) == ("none", UNSET, 0, UNSET)


def test_the_inventory_fits_the_wire_and_describes_this_machine(tmp_path: Path) -> None:
    inventory = take_inventory(
        tmp_path, profile="x86-gateway", runtime="ai-edge-litert", runtime_version="2", hardware_id="h"
    )
    assert inventory.arch == os.uname().machine
    assert inventory.cpu_count == os.cpu_count()
    assert inventory.memory_bytes > 10**8
    assert isinstance(inventory, Inventory)
    assert len(encode_body(inventory)) < 2000


def test_a_boards_serial_number_names_the_hardware(tmp_path: Path) -> None:
    serial = tmp_path / "serial"
    serial.write_bytes(b"10000000abcdef01\x00")
    assert hardware_id((tmp_path / "none", serial)) == "10000000abcdef01"


def test_the_machine_id_itself_never_leaves_the_machine(tmp_path: Path) -> None:
    machine = tmp_path / "machine-id"
    machine.write_text("0123456789abcdef0123456789abcdef\n")
    named = hardware_id((), machine)
    assert len(named) == 32
    assert named != "0123456789abcdef0123456789abcdef"
    assert hardware_id((), machine) == named
    assert hardware_id((), tmp_path / "none") == ""
