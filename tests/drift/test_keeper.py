"""Windows end in time, survive restarts and cuts, and are told under ids that only grow."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from agent.drift.feedback import Labelled
from agent.drift.keeper import DriftKeeper
from agent.drift.settings import DriftSettings
from agent.drift.snapshot import Snapshot, load_snapshot, new_snapshot, save_snapshot
from agent.inference.host import ModelHost
from shared.drift.check import read_window
from shared.drift.reference import parse_reference
from shared.errors import StorageFailure, Unavailable
from shared.wire.up import Event
from shared.wire.window import Metrics, Window
from tests.drift.kit import CONTRACT
from tests.models import load_digits, unpacked_digits


class Clock:
    """Time that the test owns; both clocks move together."""

    def __init__(self) -> None:
        self.at_s = 1_700_000_000.0

    def now(self) -> float:
        return self.at_s

    def monotonic(self) -> float:
        return self.at_s


class Device:
    """A host of models with its keeper over a folder, and what was told."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.folder, self.clock = folder, Clock()
        self.told: list[msgspec.Struct] = []
        self.events: list[Event] = []
        self.outbox_fails = False
        self.keeper = DriftKeeper(
            folder / "drift",
            DriftSettings(**({"window_s": 100.0, "snapshot_s": 10.0} | settings)),
            put=self.put,
            post=self.events.append,
            clock=self.clock,
            random=lambda: 1.0,
            geometric=np.random.default_rng(2).geometric,
        )
        (folder / "drift").mkdir(exist_ok=True)
        self.host = ModelHost()
        self.host.watcher = self.keeper

    async def put(self, body: msgspec.Struct) -> int:
        if self.outbox_fails:
            raise Unavailable("outbox.busy", "The disk is full.")
        self.told.append(body)
        return len(self.told)

    def serve(self, version: int) -> None:
        directory = self.folder / f"v{version}"
        if not directory.exists():
            data = load_digits()
            from shared.drift.build import ReferenceData

            reference = ReferenceData(data.test_x, data.test_y)
            unpacked_digits(directory, version, reference=reference, contract=CONTRACT)
        self.host.swap("digits", self.host.load("digits", directory))

    def predict(self, count: int) -> None:
        x = load_digits().test_x
        for index in range(count):
            self.host.predict("digits", x[index : index + 1])

    async def after(self, seconds: float) -> None:
        self.clock.at_s += seconds
        await self.keeper.tick()

    @property
    def windows(self) -> list[Window]:
        return [body for body in self.told if isinstance(body, Window)]

    def ids(self) -> list[tuple[int, int, int]]:
        return [(window.version, window.window_id, window.rows) for window in self.windows]


@pytest.fixture
def device(tmp_path: Path) -> Device:
    found = Device(tmp_path)
    found.serve(1)
    return found


def reborn(device: Device, version: int = 1, **settings: Any) -> Device:
    """The device after a power cut: a new process over the same folder."""
    fresh = Device(device.folder, **settings)
    fresh.clock.at_s = device.clock.at_s
    fresh.serve(version)
    return fresh


async def test_a_window_is_told_when_it_ends_and_can_be_read(device: Device) -> None:
    device.predict(40)
    await device.after(50)
    assert device.told == []
    await device.after(51)
    (window,) = device.windows
    reference = parse_reference((device.folder / "v1" / "reference.json").read_bytes())
    found = read_window(window, reference, window.reference_sha256)
    assert (window.rows, window.predicted, window.window_id, window.arm) == (40, 40, 1, "")
    assert (window.started_s, window.ended_s) == (1_700_000_000.0, 1_700_000_101.0)
    assert int(found.scores.sum()) == 40
    device.predict(3)
    await device.after(101)
    assert device.ids() == [(1, 1, 40), (1, 2, 3)]
    assert len({window.series for window in device.windows}) == 1


async def test_a_window_in_which_nothing_happened_is_not_told_and_nothing_is_written(device: Device) -> None:
    for _ in range(20):
        await device.after(60)
    assert device.told == []
    assert list((device.folder / "drift").iterdir()) == []


async def test_counts_survive_a_cut_up_to_the_last_snapshot(device: Device) -> None:
    device.predict(30)
    await device.after(11)
    device.predict(7)
    again = reborn(device)
    again.predict(5)
    await again.after(101)
    assert again.ids() == [(1, 1, 35)]
    assert again.windows[0].started_s == 1_700_000_000.0


async def test_a_window_that_the_outbox_did_not_get_is_told_after_the_cut_under_the_same_id(device: Device) -> None:
    device.predict(10)
    device.outbox_fails = True
    await device.after(101)
    assert device.told == []
    again = reborn(device)
    again.predict(4)
    await again.after(1)
    await again.after(101)
    assert again.ids() == [(1, 1, 10), (1, 2, 4)]
    once_more = reborn(again)
    await once_more.after(1)
    assert set(once_more.ids()) <= set(again.ids()), "told again at the most, and the same"


async def test_a_window_is_told_again_when_the_outbox_recovers(device: Device) -> None:
    device.outbox_fails = True
    for _ in range(3):
        device.predict(2)
        await device.after(101)
    device.outbox_fails = False
    await device.after(1)
    assert device.ids() == [(1, 1, 2), (1, 2, 2), (1, 3, 2)]


async def test_what_a_version_counted_is_told_when_another_takes_its_place(device: Device) -> None:
    device.predict(12)
    device.serve(2)
    device.predict(3)
    await device.after(1)
    assert device.ids() == [(1, 1, 12)]
    await device.after(101)
    assert device.ids() == [(1, 1, 12), (2, 2, 3)]
    assert len({window.reference_sha256 for window in device.windows}) == 2


async def test_counts_of_a_version_that_left_during_a_cut_are_told_as_its_own(device: Device) -> None:
    device.predict(12)
    await device.after(11)
    again = reborn(device, version=2)
    again.predict(1)
    await again.after(101)
    assert again.ids() == [(1, 1, 12), (2, 2, 1)]


async def test_a_damaged_snapshot_begins_a_new_series_and_says_so(device: Device) -> None:
    device.predict(12)
    await device.after(101)
    path = device.folder / "drift" / "digits.state"
    data = bytearray(path.read_bytes())
    data[40] ^= 1
    path.write_bytes(bytes(data))
    again = reborn(device)
    again.predict(1)
    await again.after(101)
    assert [event.code for event in again.events] == ["drift.snapshot_damaged"]
    assert again.ids() == [(1, 1, 1)]
    assert again.windows[0].series != device.windows[0].series


async def test_closing_keeps_everything_that_was_counted(device: Device) -> None:
    device.predict(9)
    await device.keeper.close()
    again = reborn(device)
    await again.after(101)
    assert again.ids() == [(1, 1, 9)]


async def test_a_clock_that_jumps_back_gives_no_window_that_ends_before_it_begins(device: Device) -> None:
    device.predict(9)
    device.keeper._clock = type("Jumped", (), {"now": lambda self: 5.0, "monotonic": lambda self: 1_700_000_200.0})()
    await device.keeper.tick()
    assert device.windows[0].ended_s == device.windows[0].started_s


async def test_noise_leaves_the_device_and_exact_counts_do_not(tmp_path: Path) -> None:
    device = Device(tmp_path, epsilon=40.0)
    device.serve(1)
    device.predict(300)
    await device.after(101)
    (window,) = device.windows
    reference = parse_reference((tmp_path / "v1" / "reference.json").read_bytes())
    found = read_window(window, reference, window.reference_sha256)
    assert (window.epsilon, window.findings, window.row_causes) == (40.0, [], {})
    assert (found.cells.sum(axis=1) != 300).any()
    assert abs(int(found.cells.sum()) / found.cells.shape[0] - 300) < 40
    saved = load_snapshot(tmp_path / "drift" / "digits.state")
    assert saved is not None
    assert [kept.epsilon for kept in saved.pending] == [40.0]


async def test_a_reference_that_cannot_be_read_is_told_and_predictions_go_on(tmp_path: Path) -> None:
    device = Device(tmp_path)
    device.serve(1)
    device.host.unload("digits")
    (tmp_path / "v1" / "reference.json").write_bytes(b"{}")
    device.serve(1)
    device.predict(5)
    await device.after(201)
    assert [event.code for event in device.events] == ["drift.reference_unreadable"]
    assert (device.windows[-1].rows, device.windows[-1].reference_sha256) == (5, None)


async def test_a_bundle_without_a_reference_is_served_as_before(tmp_path: Path) -> None:
    device = Device(tmp_path)
    unpacked_digits(tmp_path / "v1", 1)
    device.serve(1)
    device.predict(5)
    await device.after(101)
    assert device.ids() == [(1, 1, 5)]
    assert (device.windows[0].cells, device.events) == (b"", [])


async def test_nothing_is_counted_when_the_settings_say_so(tmp_path: Path) -> None:
    device = Device(tmp_path, enabled=False)
    device.serve(1)
    device.predict(5)
    await device.after(101)
    assert device.told == []


async def test_the_loop_ends_windows_by_itself(tmp_path: Path) -> None:
    device = Device(tmp_path, window_s=1.0, snapshot_s=1.0, metrics_interval_s=1.0)
    device.serve(1)
    told = asyncio.Event()

    async def put(body: msgspec.Struct) -> int:
        device.told.append(body)
        told.set()
        return 1

    device.keeper._put = put
    device.predict(40)
    task = asyncio.create_task(device.keeper.run())
    await asyncio.sleep(0)
    device.clock.at_s += 1.1
    device.serve(2)
    async with asyncio.timeout(10):
        await told.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert device.ids()[0] == (1, 1, 40)


async def test_whoever_trains_gets_samples_whose_truth_became_known(tmp_path: Path) -> None:
    device, samples = Device(tmp_path), list[Labelled]()
    device.keeper.sink = samples.append
    device.serve(1)
    x = load_digits().test_x[:2]
    y, handle = device.host.answer("digits", x)
    assert handle.monitor is not None
    handle.monitor.remember("a", x, y)
    handle.monitor.feedback("a", labels=[3, None])
    assert [(sample.model, sample.version, sample.label) for sample in samples] == [("digits", 1, 3)]
    assert np.array_equal(samples[0].x, x[0])


async def test_metrics_are_told_every_interval(device: Device) -> None:
    from agent.drift.metrics import Given, MetricKey

    device.keeper.metrics.push([Given(MetricKey("sold", "counter", "digits", 1, "a"), 2.0)] * 3, device.clock.now())
    await device.after(61)
    await device.after(61)
    (message,) = [body for body in device.told if isinstance(body, Metrics)]
    assert [(m.name, m.total, m.count, m.arm) for m in message.metrics] == [("sold", 6.0, 3, "a")]


def test_a_snapshot_comes_back_and_a_torn_one_is_recognised(tmp_path: Path) -> None:
    path = tmp_path / "x.state"
    assert load_snapshot(path) is None
    snapshot = msgspec.structs.replace(new_snapshot(), next_id=7, sequences=b"abc")
    save_snapshot(path, snapshot)
    assert load_snapshot(path) == snapshot
    for data in (b"", b"short", path.read_bytes()[:-1], bytes(32) + msgspec.msgpack.encode(snapshot)):
        path.write_bytes(data)
        with pytest.raises(StorageFailure) as caught:
            load_snapshot(path)
        assert caught.value.code == "storage.damaged"
    assert isinstance(snapshot, Snapshot)
