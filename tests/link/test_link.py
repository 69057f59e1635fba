"""The link's behaviour against a hub in memory: delivery, stalls, reconnects, desired state, HTTPS."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from agent.link.desired import DesiredStore
from agent.link.link import Link
from agent.outbox.outbox import Outbox
from agent.settings import LinkSettings
from shared.clock import SystemClock
from shared.errors import Untrusted
from shared.wire.down import DesiredState, Watermark, decode_desired, encode
from shared.wire.up import Dropped, Event, Heartbeat, decode_body
from tests.link.broker import Broker
from tests.link.hub_side import MemoryFallback, MemoryHub

QUICK = LinkSettings(
    retry_base_s=0.01,
    retry_cap_s=0.05,
    stall_base_s=0.02,
    stall_cap_s=0.1,
    window_count=8,
    fallback_after_s=0.05,
    fallback_interval_s=0.02,
)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 - conditions are about files and counters, which set no event
            await asyncio.sleep(0.005)


class Device:
    """A running link with its outbox."""

    def __init__(
        self,
        root: Path,
        hub: MemoryHub,
        outbox_bytes: int,
        desired: DesiredStore | None = None,
        on_offer: Callable[[bytes], None] | None = None,
    ) -> None:
        self.hub = hub
        self.fallback = MemoryFallback(hub.ledger)
        self.offered: list[int] = []
        self.kept = root / "desired.msgpack"
        self.outbox = Outbox(root / "o.db", device_id="dev1", limit_bytes=outbox_bytes, clock=SystemClock())
        self.desired = desired or DesiredStore(self.kept, "dev1")
        self.link = Link(
            store=Broker(root / "broker").identity(root / "identity", "dev1"),
            outbox=self.outbox,
            desired=self.desired,
            connector=hub,
            fallback=self.fallback,
            on_desired=self.offer,
            clock=SystemClock(),
            settings=QUICK,
            random=lambda: 0.5,
            on_offer=on_offer,
        )

    async def offer(self, desired: DesiredState) -> None:
        kept = await asyncio.to_thread(self.kept.read_bytes)
        assert decode_desired(kept) == desired
        self.offered.append(desired.revision)

    async def put(self, count: int) -> None:
        for number in range(count):
            await self.outbox.put(Event(code="test", message=str(number)))

    async def delivered(self) -> None:
        await until(lambda: self.outbox.state.pending_count == 0)


@asynccontextmanager
async def device(
    root: Path,
    hub: MemoryHub,
    outbox_bytes: int = 1 << 20,
    desired: DesiredStore | None = None,
    on_offer: Callable[[bytes], None] | None = None,
) -> AsyncIterator[Device]:
    made = Device(root, hub, outbox_bytes, desired, on_offer)
    await made.outbox.start()
    running = asyncio.create_task(made.link.run())
    try:
        yield made
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await made.outbox.close()


class SlowStore(DesiredStore):
    """A disk that takes its time: keeping a document ends when the test says so."""

    def __init__(self, path: Path, device_id: str) -> None:
        super().__init__(path, device_id)
        self.begun, self.may_end = threading.Event(), threading.Event()

    def accept(self, data: bytes) -> DesiredState | None:
        kept = super().accept(data)
        self.begun.set()
        self.may_end.wait(20)
        return kept


async def test_a_document_that_is_being_kept_when_the_connection_ends_is_still_acted_upon(tmp_path: Path) -> None:
    """It comes again with the next connection, but then it is nothing new; so the first time must count."""
    hub = MemoryHub()
    hub.retained = DesiredState(device_id="dev1", revision=1)
    store = SlowStore(tmp_path / "desired.msgpack", "dev1")
    async with device(tmp_path, hub, desired=store) as dev:
        await until(store.begun.is_set)
        hub.connections[0].cut()
        await until(lambda: len(hub.connections) == 2)
        store.may_end.set()
        await until(lambda: dev.offered == [1])


async def test_messages_arrive_in_order_and_are_forgotten_when_confirmed(tmp_path: Path) -> None:
    hub = MemoryHub()
    async with device(tmp_path, hub) as dev:
        await dev.put(30)
        await dev.delivered()
    assert hub.ledger.log == [(seq, seq) for seq in range(1, 31)]
    assert set(hub.published) == {"up/event"}


async def test_the_link_tells_its_round_trip_and_how_far_off_the_clock_is(tmp_path: Path) -> None:
    hub = MemoryHub()
    hub.ledger.now = lambda: SystemClock().now() - 3600.0
    async with device(tmp_path, hub) as dev:
        await dev.put(3)
        await dev.delivered()
        read = dev.link.take_readings()
        assert (read.way, read.reconnects) == ("mqtt", 0)
        assert read.rtt_s is not None
        assert read.clock_ahead_s is not None
        assert abs(read.clock_ahead_s - 3600.0) <= read.rtt_s + 0.01
        hub.connections[0].cut()
        await until(lambda: len(hub.connections) == 2 and dev.link.status().connected)
        assert dev.link.take_readings().reconnects == 1


async def test_over_https_the_clock_is_told_too(tmp_path: Path) -> None:
    hub = MemoryHub()
    hub.reachable = False
    async with device(tmp_path, hub) as dev:
        await dev.put(2)
        await dev.delivered()
        read = dev.link.take_readings()
    assert (read.way, read.reconnects, read.rtt_s, read.clock_ahead_s) == ("https", 0, 0.5, 60.0)


async def test_lost_messages_are_sent_again_until_the_hub_has_them(tmp_path: Path) -> None:
    hub = MemoryHub()
    hub.takes = lambda number: number % 3 != 0
    async with device(tmp_path, hub) as dev:
        await dev.put(40)
        await dev.delivered()
    assert hub.ledger.log == [(seq, seq) for seq in range(1, 41)]


async def test_a_hub_that_does_not_confirm_is_probed_and_not_flooded(tmp_path: Path) -> None:
    hub = MemoryHub()
    hub.confirms = hub.reachable = False
    async with device(tmp_path, hub) as dev:
        dev.fallback.reachable = False
        await dev.put(20)
        hub.reachable = True
        await until(lambda: len(hub.published) >= 12)
        assert [envelope.seq for envelope in hub.ledger.received[:8]] == list(range(1, 9))
        assert {envelope.seq for envelope in hub.ledger.received[8:12]} == {1}
        hub.confirms = True
        await dev.delivered()
    assert hub.ledger.watermark == 20


async def test_a_cut_connection_resumes_after_the_watermark(tmp_path: Path) -> None:
    hub = MemoryHub()
    hub.confirms = hub.reachable = False
    async with device(tmp_path, hub) as dev:
        dev.fallback.reachable = False
        await dev.put(5)
        hub.reachable = True
        await until(lambda: hub.ledger.watermark == 5)
        hub.confirms = True
        hub.connections[-1].cut()
        await dev.delivered()
    assert hub.ledger.log == [(seq, seq) for seq in range(1, 6)]


async def test_what_a_full_outbox_gave_up_arrives_as_a_count(tmp_path: Path) -> None:
    hub = MemoryHub()
    hub.reachable = False
    async with device(tmp_path, hub, outbox_bytes=16_384) as dev:
        dev.fallback.reachable = False
        for number in range(300):
            await dev.outbox.put(Heartbeat(agent_version="1", uptime_s=number))
        hub.reachable = True
        await dev.delivered()
    first = hub.ledger.received[0]
    body = decode_body(first)
    assert isinstance(body, Dropped)
    assert (first.first_seq, first.seq) == (1, body.count)
    assert hub.ledger.watermark == 300


async def test_a_desired_state_is_on_the_disk_before_it_is_offered(tmp_path: Path) -> None:
    hub = MemoryHub()
    hub.retained = DesiredState(device_id="dev1", revision=7)
    async with device(tmp_path, hub) as dev:
        await until(lambda: dev.offered == [7])
        assert dev.link.status().desired_revision == 7


async def test_a_device_that_boots_without_network_still_knows_its_desired_state(tmp_path: Path) -> None:
    hub = MemoryHub()
    hub.retained = DesiredState(device_id="dev1", revision=3)
    async with device(tmp_path, hub) as dev:
        await until(lambda: dev.offered == [3])
    hub.reachable = False
    async with device(tmp_path, hub) as dev:
        await until(lambda: dev.offered == [3])


async def test_an_older_revision_changes_nothing(tmp_path: Path) -> None:
    hub = MemoryHub()
    hub.retained = DesiredState(device_id="dev1", revision=7)
    async with device(tmp_path, hub) as dev:
        await until(lambda: dev.offered == [7])
        hub.connections[-1].receive("down", encode(DesiredState(device_id="dev1", revision=6)))
        hub.connections[-1].receive("down/ack", b"")
        await until(lambda: dev.outbox.state.next_seq == 2)
        assert dev.offered == [7]


async def test_a_document_for_another_device_is_refused_and_told_once(tmp_path: Path) -> None:
    hub = MemoryHub()
    async with device(tmp_path, hub) as dev:
        await until(lambda: dev.link.status().connected)
        for revision in (1, 2):
            hub.connections[-1].receive("down", encode(DesiredState(device_id="dev2", revision=revision)))
            await asyncio.sleep(0)
        await until(lambda: len(hub.ledger.committed) == 1)
        await dev.put(1)
        await dev.delivered()
    codes = [decode_body(envelope) for envelope in hub.ledger.committed]
    assert [body.code for body in codes if isinstance(body, Event)] == ["desired.other_device", "test"]
    assert dev.offered == []


async def test_without_mqtt_messages_and_desired_state_go_over_https(tmp_path: Path) -> None:
    hub = MemoryHub()
    hub.reachable = False
    async with device(tmp_path, hub) as dev:
        dev.fallback.desired = DesiredState(device_id="dev1", revision=4)
        await dev.put(600)
        await dev.delivered()
        await until(lambda: dev.offered == [4])
        await until(lambda: dev.fallback.requests[-1].etag == '"4"')
        assert not dev.link.status().connected
        assert dev.link.status().https_ok_s is not None
    assert hub.ledger.log == [(seq, seq) for seq in range(1, 601)]
    assert all(len(request.messages) <= 256 for request in dev.fallback.requests)


async def test_failures_are_kept_for_the_status_and_tried_again(tmp_path: Path) -> None:
    hub = MemoryHub()
    hub.reachable = False
    async with device(tmp_path, hub) as dev:
        await until(lambda: hub.attempts >= 3)
        assert "no way" in dev.link.status().problem
        assert dev.link.status().attempts >= 1
        hub.reachable = True
        await until(lambda: dev.link.status().connected)
        assert dev.link.status().problem == ""


async def test_a_renewed_certificate_makes_a_new_connection(tmp_path: Path) -> None:
    hub = MemoryHub()
    async with device(tmp_path, hub) as dev:
        await until(lambda: len(hub.connections) == 1)
        dev.link.reconnect()
        await until(lambda: len(hub.connections) == 2)
        await dev.put(1)
        await dev.delivered()


async def test_a_new_epoch_of_the_outbox_is_sent_from_its_beginning(tmp_path: Path) -> None:
    hub = MemoryHub()
    async with device(tmp_path, hub) as dev:
        await dev.put(3)
        await dev.delivered()
        assert await dev.outbox.confirm(dev.outbox.state.epoch, 50)
        await dev.delivered()
    last = decode_body(hub.ledger.committed[-1])
    assert isinstance(last, Event)
    assert last.code == "outbox.went_back"


async def test_a_hub_restored_from_a_backup_is_followed_into_a_new_epoch(tmp_path: Path) -> None:
    hub = MemoryHub()
    async with device(tmp_path, hub) as dev:
        await dev.put(10)
        await dev.delivered()
        hub.takes = lambda _number: False  # until all three wait, so that the event comes after them
        hub.ledger.watermark = 4
        await dev.put(3)
        hub.takes = lambda _number: True
        await dev.delivered()
        await until(lambda: hub.ledger.log[-1] == (4, 4))
    bodies = [decode_body(envelope) for envelope in hub.ledger.committed if envelope.epoch == hub.ledger.epoch]
    assert [body.code for body in bodies if isinstance(body, Event)] == ["test"] * 3 + ["link.hub_went_back"]


async def test_a_hub_that_lost_everything_is_followed_over_https_too(tmp_path: Path) -> None:
    hub = MemoryHub()
    async with device(tmp_path, hub) as dev:
        await dev.put(10)
        await dev.delivered()
        hub.reachable = False
        hub.ledger.epoch, hub.ledger.watermark = "", 0
        hub.connections[-1].cut()
        await dev.put(3)
        await dev.delivered()
    assert hub.ledger.watermark == 4


async def test_a_late_answer_over_https_is_not_taken_for_a_hub_that_went_back(tmp_path: Path) -> None:
    hub = MemoryHub()
    hub.reachable = False
    async with device(tmp_path, hub) as dev:
        epoch = dev.outbox.state.epoch
        dev.fallback.answers.clear()
        await dev.put(10)
        await until(lambda: hub.ledger.watermark > 0)
        hub.reachable = True
        await dev.put(5)
        await dev.delivered()
        dev.fallback.answers.set()
        await until(lambda: dev.link.status().https_ok_s is not None)
        await dev.put(1)
        await dev.delivered()
        assert dev.outbox.state.epoch == epoch
    assert hub.ledger.log == [(seq, seq) for seq in range(1, 17)]


async def test_a_late_watermark_is_not_taken_for_a_hub_that_went_back(tmp_path: Path) -> None:
    hub = MemoryHub()
    async with device(tmp_path, hub) as dev:
        await dev.put(10)
        await dev.delivered()
        epoch = dev.outbox.state.epoch
        for seq in (3, 4, 5, 6, 7):
            hub.connections[-1].receive("down/ack", encode(Watermark(epoch=epoch, seq=seq)))
        await dev.put(5)
        await dev.delivered()
        assert dev.outbox.state.epoch == epoch
    assert hub.ledger.log == [(seq, seq) for seq in range(1, 16)]


async def test_offers_to_train_are_handed_on_and_what_is_refused_is_told_once(tmp_path: Path) -> None:
    taken: list[bytes] = []

    def take(data: bytes) -> None:
        if data == b"other":
            raise Untrusted("training.other_device", "The training offer is for dev2.")
        taken.append(data)

    hub = MemoryHub()
    async with device(tmp_path, hub, on_offer=take) as dev:
        await until(lambda: dev.link.status().connected)
        for data in (b"one", b"other", b"other", b"two"):
            hub.connections[-1].receive("down/training", data)
        await until(lambda: taken == [b"one", b"two"])
        await until(lambda: len(hub.ledger.committed) == 1)
    (told,) = [decode_body(envelope) for envelope in hub.ledger.received]
    assert isinstance(told, Event)
    assert told.code == "training.other_device"


async def test_a_flood_of_offers_is_bounded(tmp_path: Path) -> None:
    taken: list[bytes] = []
    hub = MemoryHub()
    async with device(tmp_path, hub, on_offer=taken.append) as dev:
        await until(lambda: dev.link.status().connected)
        for number in range(1000):
            hub.connections[-1].receive("down/training", str(number).encode())
        await until(lambda: bool(taken))
        assert taken == [str(number).encode() for number in range(992, 1000)]
