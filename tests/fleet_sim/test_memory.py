"""The outbox in memory keeps the promises of the one on disk; held against that one, step by step."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.outbox.rows import Item
from agent.outbox.store import OutboxStore
from scripts.fleet_sim_app.memory import MemoryDocuments, MemoryOutbox
from shared.errors import Untrusted
from shared.limits import MIB
from shared.wire.down import DesiredState, encode
from shared.wire.up import Event, Heartbeat, decode_body, decode_envelope, encode_body
from tests.fleet_kit import ManualClock


def epochs() -> Callable[[], str]:
    numbers = iter(range(1, 1000))
    return lambda: f"{next(numbers):016x}"


def outbox(limit_bytes: int = MIB) -> MemoryOutbox:
    return MemoryOutbox("dev-1", limit_bytes=limit_bytes, clock=ManualClock(), new_epoch=epochs())


def body(code: int) -> Event | Heartbeat:
    return Event(code=f"e.{code}", message="") if code % 2 else Heartbeat(agent_version="1", uptime_s=code)


Steps = st.lists(st.one_of(st.just(-1), st.integers(0, 30)), max_size=40)


@settings(max_examples=40, deadline=None)
@given(Steps)
def test_numbers_are_those_of_the_outbox_on_disk(tmp_path_factory: pytest.TempPathFactory, steps: list[int]) -> None:
    """-1 puts a message; any other number is a confirmation."""
    memory = outbox()
    path = tmp_path_factory.mktemp("outbox") / "outbox.db"
    disk = OutboxStore(path, limit_bytes=MIB, new_epoch=memory.state.epoch)
    try:
        for number, step in enumerate(steps):
            if step < 0:
                memory.post(body(number))
                kind = "event" if number % 2 else "heartbeat"
                with disk.transaction():
                    disk.add([Item(kind=kind, created_s=1.0, body=encode_body(body(number)))])
            elif step < disk.state.next_seq:
                with disk.transaction():
                    taken = disk.confirm(disk.state.epoch, step)
                assert asyncio.run(memory.confirm(memory.state.epoch, step)) == taken
        now, then = memory.state, disk.state
        assert (now.next_seq, now.watermark, now.pending_count) == (then.next_seq, then.watermark, then.pending_count)
        kept = [(row.seq, row.kind) for row in disk.read(0, count=-1, limit_bytes=None)]
        pending = asyncio.run(memory.pending(0, count=100, limit_bytes=MIB))
        assert [(message.seq, message.kind) for message in pending] == kept
    finally:
        disk.close()


async def test_a_full_outbox_leaves_tombstones_without_holes() -> None:
    full = outbox(limit_bytes=1500)
    for number in range(40):
        full.post(body(number))
    pending = [decode_envelope(message.data) for message in await full.pending(0, count=100, limit_bytes=MIB)]
    assert pending[0].first_seq == 1
    for before, after in pairwise(pending):
        assert after.first_seq == before.seq + 1
    assert pending[-1].seq == 40
    lost = sum(getattr(decode_body(envelope), "count", 0) for envelope in pending if envelope.kind == "dropped")
    assert lost == full.state.dropped_count > 0
    assert full.state.pending_bytes <= 1500


async def test_a_number_that_was_never_made_begins_a_new_epoch() -> None:
    box = outbox()
    box.post(body(1))
    before = box.state.epoch
    assert await box.confirm(before, 7)
    assert box.state.epoch != before
    messages = [decode_envelope(m.data) for m in await box.pending(0, count=10, limit_bytes=MIB)]
    assert [(m.seq, m.kind) for m in messages] == [(1, "event"), (2, "event")]
    told = decode_body(messages[1])
    assert isinstance(told, Event)
    assert told.code == "outbox.went_back"


def test_only_a_newer_document_for_this_device_counts() -> None:
    documents = MemoryDocuments("dev-1")
    newer = encode(DesiredState(device_id="dev-1", revision=2))
    assert documents.accept(newer) is not None
    assert documents.accept(newer) is None
    assert documents.accept(encode(DesiredState(device_id="dev-1", revision=1))) is None
    with pytest.raises(Untrusted):
        documents.accept(encode(DesiredState(device_id="dev-2", revision=3)))
