"""The outbox in front: durable answers, batching, damage, and what is confirmed."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from agent.outbox.outbox import Message, Outbox
from shared.clock import SystemClock
from shared.errors import StorageFailure, TooLarge, Unavailable
from shared.wire.up import Event, Heartbeat, ModelStatus, decode_body, decode_envelope

HEARTBEAT = Heartbeat(agent_version="1", uptime_s=1)


def event(number: int) -> Event:
    return Event(code="test.event", message=str(number))


def with_outbox(path: Path, use: Callable[[Outbox], Awaitable[None]], limit_bytes: int = 1 << 20) -> None:
    async def run() -> None:
        outbox = Outbox(path, device_id="dev1", limit_bytes=limit_bytes, clock=SystemClock())
        await outbox.start()
        try:
            await use(outbox)
        finally:
            await outbox.close()

    asyncio.run(run())


async def everything(outbox: Outbox) -> list[Message]:
    return await outbox.pending(0, count=10_000, limit_bytes=1 << 24)


def test_messages_come_back_in_order_after_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "outbox.db"

    async def write(outbox: Outbox) -> None:
        assert await asyncio.gather(*(outbox.put(event(n)) for n in range(50))) == list(range(1, 51))

    async def read(outbox: Outbox) -> None:
        envelopes = [decode_envelope(message.data) for message in await everything(outbox)]
        assert [envelope.seq for envelope in envelopes] == list(range(1, 51))
        assert {envelope.device_id for envelope in envelopes} == {"dev1"}
        assert [decode_body(envelope) for envelope in envelopes] == [event(n) for n in range(50)]

    with_outbox(path, write)
    with_outbox(path, read)


def test_only_what_is_confirmed_is_forgotten(tmp_path: Path) -> None:
    async def use(outbox: Outbox) -> None:
        for n in range(5):
            await outbox.put(event(n))
        assert not await outbox.confirm("f" * 16, 5)
        assert await outbox.confirm(outbox.state.epoch, 3)
        assert not await outbox.confirm(outbox.state.epoch, 2)
        assert [message.seq for message in await everything(outbox)] == [4, 5]
        assert outbox.state.watermark == 3

    with_outbox(tmp_path / "outbox.db", use)


def test_a_confirmation_from_a_future_that_the_storage_has_lost_starts_a_new_epoch(tmp_path: Path) -> None:
    async def use(outbox: Outbox) -> None:
        await outbox.put(event(1))
        epoch = outbox.state.epoch
        assert await outbox.confirm(epoch, 100)
        assert outbox.state.epoch != epoch
        bodies = [decode_body(decode_envelope(message.data)) for message in await everything(outbox)]
        assert bodies[0] == event(1)
        assert isinstance(bodies[1], Event)
        assert bodies[1].code == "outbox.went_back"

    with_outbox(tmp_path / "outbox.db", use)


def test_a_damaged_file_is_moved_aside_and_told(tmp_path: Path) -> None:
    path = tmp_path / "outbox.db"
    path.write_bytes(b"this is not a database" * 100)

    async def use(outbox: Outbox) -> None:
        bodies = [decode_body(decode_envelope(message.data)) for message in await everything(outbox)]
        assert [body.code for body in bodies if isinstance(body, Event)] == ["outbox.damaged"]
        assert await outbox.put(event(1)) == 2

    with_outbox(path, use)
    assert (tmp_path / "outbox.db.damaged").read_bytes().startswith(b"this is not a database")


def test_damage_while_running_begins_anew_and_is_told(tmp_path: Path) -> None:
    path = tmp_path / "outbox.db"

    async def fill(outbox: Outbox) -> None:
        for _ in range(10):
            await asyncio.gather(*(outbox.put(Event(code="x", message="y" * 500)) for n in range(250)))

    async def damage(outbox: Outbox) -> None:
        before = outbox.state.epoch
        with path.open("r+b") as file:
            file.seek(4096)
            file.write(os.urandom(path.stat().st_size - 4096))
        bodies = [decode_body(decode_envelope(message.data)) for message in await everything(outbox)]
        assert [body.code for body in bodies if isinstance(body, Event)] == ["outbox.damaged"]
        assert outbox.state.epoch != before
        assert await outbox.put(event(1000)) == 2

    with_outbox(path, fill, limit_bytes=1 << 22)
    with_outbox(path, damage, limit_bytes=1 << 22)


def test_a_folder_that_cannot_be_written_is_a_clear_failure(tmp_path: Path) -> None:
    async def run() -> None:
        outbox = Outbox(tmp_path / "missing" / "o.db", device_id="dev1", limit_bytes=1 << 20, clock=SystemClock())
        with pytest.raises(StorageFailure, match="cannot be written"):
            await outbox.start()

    asyncio.run(run())


def test_one_message_that_is_too_large_does_not_harm_its_neighbours(tmp_path: Path) -> None:
    async def use(outbox: Outbox) -> None:
        big = Heartbeat(agent_version="1", uptime_s=1, models=[])
        huge = Event(code="x", message="y" * 400)
        results = await asyncio.gather(outbox.put(big), *(outbox.put(huge) for _ in range(3)), return_exceptions=True)
        assert results == [1, 2, 3, 4]

    with_outbox(tmp_path / "outbox.db", use)

    async def refuse(outbox: Outbox) -> None:
        models = [ModelStatus(model=f"m{n}", state="x" * 128) for n in range(16)]
        many = Heartbeat(agent_version="1" * 128, uptime_s=1, models=models * 8)
        puts = [outbox.put(body) for body in (event(1), many, event(2))]
        results = await asyncio.gather(*puts, return_exceptions=True)
        assert isinstance(results[1], TooLarge)
        assert (results[0], results[2]) == (1, 2)

    with_outbox(tmp_path / "small.db", refuse, limit_bytes=16_384)


def test_posting_from_another_thread_reaches_the_disk_and_wakes_the_listener(tmp_path: Path) -> None:
    async def use(outbox: Outbox) -> None:
        changed = asyncio.Event()
        loop = asyncio.get_running_loop()

        def wake() -> None:
            loop.call_soon_threadsafe(changed.set)

        outbox.on_change(wake)
        threading.Thread(target=outbox.post, args=(HEARTBEAT,)).start()
        await asyncio.wait_for(changed.wait(), 5)
        assert outbox.state.pending_count == 1
        assert outbox.lost_count == 0

    with_outbox(tmp_path / "outbox.db", use)


def test_what_cannot_be_stored_is_counted(tmp_path: Path) -> None:
    async def run() -> None:
        outbox = Outbox(tmp_path / "o.db", device_id="dev1", limit_bytes=1 << 20, clock=SystemClock())
        await outbox.close()
        outbox.post(HEARTBEAT)
        assert outbox.lost_count == 1
        with pytest.raises(Unavailable):
            await outbox.put(HEARTBEAT)

    asyncio.run(run())


def test_what_is_posted_before_the_start_is_kept(tmp_path: Path) -> None:
    async def run() -> None:
        outbox = Outbox(tmp_path / "o.db", device_id="dev1", limit_bytes=1 << 20, clock=SystemClock())
        outbox.post(event(1))
        await outbox.start()
        await outbox.put(event(2))
        assert [message.seq for message in await everything(outbox)] == [1, 2]
        await outbox.close()

    asyncio.run(run())


def test_a_cancelled_write_does_not_stop_the_writer(tmp_path: Path) -> None:
    async def use(outbox: Outbox) -> None:
        tasks = [asyncio.create_task(outbox.put(event(n))) for n in range(20)]
        await asyncio.sleep(0)
        for task in tasks[::2]:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert await outbox.put(event(99)) >= 11

    with_outbox(tmp_path / "outbox.db", use)


_WRITER = """
import asyncio, sys
from pathlib import Path
from agent.outbox.outbox import Outbox
from shared.clock import SystemClock
from shared.wire.up import Event

async def main():
    outbox = Outbox(Path(sys.argv[1]), device_id="dev1", limit_bytes=1 << 22, clock=SystemClock())
    await outbox.start()
    while True:
        numbers = await asyncio.gather(*(outbox.put(Event(code="k", message="m")) for _ in range(7)))
        print(numbers[-1], flush=True)

asyncio.run(main())
"""


def test_what_was_answered_is_there_after_kill_9(tmp_path: Path) -> None:
    path = tmp_path / "outbox.db"
    answered = 0
    for _ in range(3):
        with subprocess.Popen([sys.executable, "-c", _WRITER, str(path)], stdout=subprocess.PIPE, text=True) as child:
            assert child.stdout is not None
            for _ in range(20):
                answered = int(child.stdout.readline())
            child.send_signal(signal.SIGKILL)
            rest = child.stdout.read().splitlines()
            answered = int(rest[-1]) if rest else answered

        async def check(outbox: Outbox, answered: int = answered) -> None:
            seqs = [message.seq for message in await everything(outbox)]
            assert seqs == list(range(1, len(seqs) + 1))
            assert len(seqs) >= answered

        with_outbox(path, check, limit_bytes=1 << 22)


def test_an_end_while_the_outbox_opens_still_writes_what_waits(tmp_path: Path) -> None:
    async def run() -> None:
        outbox = Outbox(tmp_path / "outbox.db", device_id="dev1", limit_bytes=1 << 20, clock=SystemClock())
        outbox.post(event(1))
        starting = asyncio.create_task(outbox.start())
        await asyncio.sleep(0)
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)
        assert await asyncio.wait_for(outbox.put(event(2)), 20) == 2
        await outbox.close()

    async def read(outbox: Outbox) -> None:
        assert [message.seq for message in await everything(outbox)] == [1, 2]

    asyncio.run(run())
    with_outbox(tmp_path / "outbox.db", read)


def test_the_outbox_takes_no_pandas_along(tmp_path: Path) -> None:
    code = "import sys, agent.outbox.store; sys.exit('pandas' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
