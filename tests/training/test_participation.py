"""What a device does with offers, and with a training process that dies, hangs or talks nonsense."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from shared.wire.training import Promise
from tests.agent_identity.authority import Authority
from tests.training.device import COOL, FederatedDevice, labelled_digits
from tests.training.processes import training_processes

OTHER = "f-000000000002"


@pytest.fixture
async def device(tmp_path: Path) -> AsyncIterator[FederatedDevice]:
    (tmp_path / "ca.pem").write_text(Authority("hub ca").pem)
    made = FederatedDevice(
        tmp_path / "state", tmp_path / "ca.pem", start_s=60.0, rest_s=50.0, require_secure_aggregation=False
    )
    made.module = "tests.training.acting_child"
    made.keep(labelled_digits(0, 40))
    async with made.running():
        yield made


def children() -> list[int]:
    return training_processes("tests.training.acting_child")


async def gone() -> None:
    async with asyncio.timeout(60):
        while children():  # noqa: ASYNC110 - another process ends
            await asyncio.sleep(0.01)


async def test_a_refusal_says_why_and_starts_nothing(device: FederatedDevice) -> None:
    device.machine.now = msgspec.structs.replace(COOL, temperature_c=99.0)
    device.take(device.offer("joins:1"))
    report = await device.told("declined")
    assert (report.code, report.retry_s) == ("training.too_hot", 0.0)
    assert children() == []
    assert device.part.status().offers[0].code == "training.too_hot"


async def test_less_privacy_than_the_owner_demands_is_declined(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text(Authority("hub ca").pem)
    strict = FederatedDevice(tmp_path / "state", tmp_path / "ca.pem", require_secure_aggregation=True)
    strict.keep(labelled_digits(0, 40))
    strict.module = "tests.training.acting_child"
    async with strict.running():
        strict.take(strict.offer("joins:1"))
        assert (await strict.told("declined")).code == "training.promise"
        strict.take(strict.offer("joins:1", 2, promise=Promise(secure_aggregation=True)))
        await strict.told("done", 1)
        assert strict.reports[-2].state == "joined"


async def test_another_version_than_the_one_that_serves_is_declined(device: FederatedDevice) -> None:
    device.take(device.offer("joins:1", bundle_sha256="f" * 64))
    assert (await device.told("declined")).code == "training.model_missing"


async def test_a_process_that_stays_gives_way_to_another_run(device: FederatedDevice) -> None:
    device.take(device.offer("joins:1"))
    await device.told("done")
    (first,) = children()
    device.take(device.offer("joins:1", run=OTHER))
    async with asyncio.timeout(60):
        while device.part.status().running != OTHER:  # noqa: ASYNC110 - another process ends
            await asyncio.sleep(0.01)
    assert first not in children()


async def test_while_it_trains_a_device_is_busy_for_other_runs(device: FederatedDevice) -> None:
    device.take(device.offer("hangs:1", task_s=40.0))
    await device.told("joined")
    async with asyncio.timeout(60):
        while device.part._attendance is None or device.part._attendance._task is None:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    device.take(device.offer("joins:1", run=OTHER, round_no=3))
    declined = await device.told("declined", 3)
    assert declined.code == "training.busy"
    assert 30 < declined.retry_s <= 70


@pytest.mark.parametrize(("part", "code"), [("dies", "training.crashed"), ("junk", "training.frame")])
async def test_a_process_that_fails_is_told_and_the_device_rests(
    device: FederatedDevice, part: str, code: str
) -> None:
    device.take(device.offer(f"{part}:1"))
    assert (await device.told("failed")).code == code
    await gone()
    device.take(device.offer("joins:1", 2))
    declined = await device.told("declined", 2)
    assert declined.code == "training.resting"
    assert 0 < declined.retry_s <= 50.0


async def test_rests_grow_with_each_failure_and_end_with_a_success(device: FederatedDevice) -> None:
    for number, longest in enumerate((50.0, 100.0, 200.0), 1):
        device.part.failed(device.offer("x:1", number), number, "training.crashed", "", rest=True)
        rest_s = device.part._rested_s - time.monotonic()
        assert longest - 10 < rest_s <= longest
    device.part.done(device.offer("x:1"), 1, 1.0, 1)
    assert device.part.may(device.offer("joins:1")).accepted


async def test_a_process_that_does_not_join_or_end_in_time_is_ended(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text(Authority("hub ca").pem)
    quick = FederatedDevice(tmp_path / "state", tmp_path / "ca.pem", start_s=0.3, rest_s=0.0)
    quick.keep(labelled_digits(0, 40))
    quick.module = "tests.training.acting_child"
    async with quick.running():
        quick.take(quick.offer("silent:1", valid_s=1.0))
        assert (await quick.told("failed")).code == "training.not_joined"
        await gone()


async def test_what_changes_meanwhile_halts_the_training(device: FederatedDevice) -> None:
    device.take(device.offer("halts:1"))
    await device.told("joined")
    device.machine.now = msgspec.structs.replace(COOL, temperature_c=99.0)
    failed = await device.told("failed")
    assert failed.code == "training.too_hot"
    assert device.part.may(device.offer("joins:1")).code == "training.too_hot"  # it was no failure of the process


async def test_another_version_halts_the_training(device: FederatedDevice) -> None:
    device.take(device.offer("halts:1"))
    await device.told("joined")
    device.record = msgspec.structs.replace(device.record, bundle_sha256="e" * 64)
    assert (await device.told("failed")).code == "training.model_missing"


async def test_an_offer_that_meets_a_process_on_its_way_out_is_not_lost(device: FederatedDevice) -> None:
    device.take(device.offer("leaves:1"))
    await device.told("done")
    device.take(device.offer("joins:1", 2))
    await device.told("accepted", 2)
    async with asyncio.timeout(60):
        while device.part.status().rounds < 2:  # noqa: ASYNC110 - another process works
            await asyncio.sleep(0.01)


async def test_an_address_that_is_none_is_told(device: FederatedDevice) -> None:
    device.take(device.offer("nowhere"))
    assert (await device.told("failed")).code == "training.address"


async def test_nothing_is_left_behind_when_the_agent_ends(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text(Authority("hub ca").pem)
    made = FederatedDevice(tmp_path / "state", tmp_path / "ca.pem")
    made.keep(labelled_digits(0, 40))
    made.module = "tests.training.acting_child"
    async with made.running():
        made.take(made.offer("hangs:1"))
        await made.told("joined")
        assert children()
    assert children() == []
