"""From feedback to the buffer: nothing waits, memory is bounded, losses are counted and told once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from agent.drift.feedback import Labelled, Recent, Remembered, label_space
from agent.drift.keeper import DriftKeeper
from agent.drift.settings import DriftSettings
from agent.training.buffer import SampleBuffer
from agent.training.intake import SampleIntake
from agent.training.keep import keep
from agent.training.samples import Outcome, Sample, decode_batch
from agent.training.settings import SampleSettings
from shared.clock import SystemClock
from shared.errors import NotFound, Unavailable
from shared.wire.up import Event
from tests.models import unpacked_digits
from tests.training.kit import SPACE


def labelled(number: int, size: int = 64) -> Labelled:
    return Labelled("digits", 3, np.full((size,), number, np.float32), number % 10, SPACE)


class Child:
    """The process that keeps samples, in this one; it can be told to fail."""

    def __init__(self) -> None:
        self.fails = False
        self.ran = asyncio.Event()
        self.batches: list[int] = []

    async def __call__(self, module: str, arguments: list[str], data: bytes, **limits: Any) -> bytes:
        assert module == "agent.training.keep"
        self.batches.append(len(decode_batch(data).samples))
        self.ran.set()
        if self.fails:
            raise Unavailable("child.failed", "It ended.")
        return msgspec.msgpack.encode(await asyncio.to_thread(keep, Path(arguments[0]), data))


class Device:
    """An intake over a folder."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.folder, self.child, self.events = folder / "samples", Child(), list[Event]()
        self.settings = SampleSettings(**({"hold_s": 0.0} | settings))
        self.intake = SampleIntake(
            self.folder, self.settings, post=self.events.append, min_free_bytes=0, run=self.child
        )

    def kept(self) -> list[Sample]:
        return SampleBuffer(self.folder, self.settings, SystemClock()).read("digits", SPACE)

    async def living(self, work: Callable[[], Awaitable[None]]) -> None:
        task = asyncio.create_task(self.intake.run())
        try:
            async with asyncio.timeout(30):
                await work()
        finally:
            task.cancel()
            await asyncio.wait({task})
            await self.intake.close()


async def test_samples_that_came_are_kept_with_their_type_shape_and_class(tmp_path: Path) -> None:
    device = Device(tmp_path)

    async def work() -> None:
        device.intake.put(labelled(7))
        await device.child.ran.wait()

    await device.living(work)
    (found,) = device.kept()
    assert (found.model, found.version, found.label, found.dtype, found.shape) == ("digits", 3, 7, "float32", [64])
    assert np.array_equal(np.frombuffer(found.data, np.float32), np.full(64, 7, np.float32))


async def test_what_waits_at_the_end_is_kept_and_together(tmp_path: Path) -> None:
    device = Device(tmp_path, hold_s=3600.0)

    async def work() -> None:
        for number in range(20):
            device.intake.put(labelled(number))
            await asyncio.sleep(0)

    await device.living(work)
    assert (len(device.kept()), device.child.batches) == (20, [20])


async def test_the_daemon_knows_how_many_samples_there_are_also_after_a_restart_and_an_erasure(tmp_path: Path) -> None:
    device, again = Device(tmp_path), Device(tmp_path)
    for number in range(12):
        device.intake.put(labelled(number))
    await device.intake.close()
    wanted = {label: 2 if label < 2 else 1 for label in range(10)}
    assert device.intake.samples("digits", SPACE) == wanted
    assert device.intake.samples("digits", "1" * 16) == device.intake.samples("other", SPACE) == {}
    assert again.intake.samples("digits", SPACE) == {}

    async def work() -> None:
        await again.child.ran.wait()

    await again.living(work)
    assert again.intake.samples("digits", SPACE) == wanted
    SampleBuffer(device.folder, device.settings, SystemClock()).erase()
    assert again.intake.samples("digits", SPACE) == device.intake.samples("digits", SPACE) == {}


async def test_memory_is_bounded_and_what_does_not_fit_is_counted(tmp_path: Path) -> None:
    device = Device(tmp_path, waiting_bytes=1000)
    for number in range(10):
        device.intake.put(labelled(number))
    device.intake.put(labelled(1, size=1 << 20))
    assert device.intake.dropped_count == 8
    await device.intake.close()
    _, kept = SampleBuffer(device.folder, device.settings, SystemClock()).counts()
    assert (kept.samples, kept.dropped) == (3, 8)


async def test_what_cannot_be_kept_is_dropped_counted_and_told_once(tmp_path: Path) -> None:
    device = Device(tmp_path)
    device.child.fails = True

    async def work() -> None:
        for number in range(3):
            device.child.ran.clear()
            device.intake.put(labelled(number))
            await device.child.ran.wait()
            while device.intake.dropped_count <= number:  # noqa: ASYNC110 - a count sets no event
                await asyncio.sleep(0)
        device.child.fails = False
        device.child.ran.clear()
        device.intake.put(labelled(9))
        await device.child.ran.wait()

    await device.living(work)
    assert [event.code for event in device.events] == ["samples.not_kept"]
    assert [sample.label for sample in device.kept()] == [9]
    assert SampleBuffer(device.folder, device.settings, SystemClock()).counts()[1].dropped == 3


async def test_what_waits_while_a_person_erases_does_not_come_back(tmp_path: Path) -> None:
    device = Device(tmp_path)
    device.intake.put(labelled(1))
    SampleBuffer(device.folder, device.settings, SystemClock()).erase()
    await device.intake.close()
    assert device.kept() == []
    device.intake.put(labelled(2))
    SampleBuffer(device.folder, device.settings, SystemClock()).erase()
    device.intake.put(labelled(3))
    await device.intake.close()
    assert [sample.label for sample in device.kept()] == [3]


def test_a_batch_that_is_none_is_an_error_and_not_an_end(tmp_path: Path) -> None:
    outcome: Outcome = keep(tmp_path, b"\xc1")
    assert outcome.error is not None
    assert outcome.error.code == "samples.storage"


# --- inputs that wait for their truth --------------------------------------------------------------------------------
def test_only_versions_that_can_be_trained_remember_inputs(tmp_path: Path) -> None:
    keeper = DriftKeeper(
        tmp_path, DriftSettings(), put=_nothing, post=lambda event: None, clock=SystemClock(), random=lambda: 0.5
    )
    keeper.sink = lambda labelled: None
    trainable = unpacked_digits(tmp_path / "v1", 1)
    assert trainable.head is not None
    found = [trainable, msgspec.structs.replace(trainable, head=None)]
    found.append(msgspec.structs.replace(trainable, task="regression"))
    monitors = [keeper.open(tmp_path / "v1", manifest, None) for manifest in found]
    assert [monitor is not None and monitor.sink is not None for monitor in monitors] == [True, False, False]


async def _nothing(body: msgspec.Struct) -> None:
    """An outbox that takes everything."""


def test_remembered_inputs_have_a_bound_and_the_truth_is_still_counted() -> None:
    recent = Recent(1000, inputs_bytes=1000)
    for number in range(20):
        recent.remember(str(number), Remembered([1], 1, np.zeros((1, 64), np.float32)))
    assert [recent.answer(str(number)).x is None for number in range(20)] == [True] * 17 + [False] * 3
    assert recent.take_input("0") is None
    assert recent.take_input("19") is not None
    assert recent.take_input("19") is None
    with pytest.raises(NotFound):
        recent.answer("20")


def test_an_input_that_is_too_large_alone_is_not_remembered() -> None:
    recent = Recent(10, inputs_bytes=100)
    recent.remember("a", Remembered([1], 1, np.zeros((1, 64), np.float32)))
    assert recent.take_input("a") is None
    recent.remember("b", Remembered([1], 1, np.zeros((1, 8), np.float32)))
    recent.remember("b", Remembered([1], 1, np.zeros((1, 8), np.float32)))
    recent.remember("c", Remembered([1], 1, np.zeros((1, 16), np.float32)))
    assert recent.take_input("b") is not None


def test_classes_mean_the_same_only_with_the_same_labels_in_the_same_order() -> None:
    same = label_space(["a", "b"], 2)
    assert label_space(["a", "b"], 2) == same
    assert len({same, label_space(["b", "a"], 2), label_space(None, 2), label_space(None, 3)}) == 4
