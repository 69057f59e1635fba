"""A candidate beside the version that serves, as a real process: compared, bounded, and harmless when it fails."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from agent.inference.host import ModelHost
from agent.ota.ports import Shadow
from agent.shadow.shadows import Shadows
from shared.runtime.model import LoadedModel
from shared.wire.down import CONDITIONAL_SCHEMA, ShadowRun
from shared.wire.health import ShadowHealth
from tests.models import load_digits, unpacked_digits
from tests.ota.conftest import Release
from tests.ota.device import Device
from tests.ota.test_install_restarts import Assign, install

ALL = ShadowRun(share_bp=10_000, cpu_bp=10_000)


class Lab:
    """A device whose candidates are watched. `taken` is all that was counted."""

    def __init__(self, device: Device) -> None:
        self.device = device
        self.more: dict[str, Any] = {}
        self.shadows: Shadows | None = None
        self.taken: list[ShadowHealth] = []
        device.shadow = self.make

    def make(self, host: ModelHost) -> Shadow:
        self.shadows = Shadows(host, self.device.profile, self.device.settings, **({"answer_s": 60.0} | self.more))
        return self.shadows

    def take(self) -> list[ShadowHealth]:
        assert self.shadows is not None
        self.taken += [health for key, health in self.shadows.take() if key[0] == "digits"]
        return self.taken

    def total(self, name: str) -> int:
        return sum(getattr(health, name) for health in self.take())

    def ask(self, x: Any) -> int:
        return int(np.argmax(self.device.host.predict("digits", x)))

    async def until(self, condition: Callable[[], Any]) -> None:
        """Wait for the candidate's thread, which tells nobody."""
        async with asyncio.timeout(60):
            while not condition():  # noqa: ASYNC110
                await asyncio.sleep(0.01)

    async def until_it_runs(self) -> None:
        """Ask until the candidate has answered, then forget what was counted."""
        async with asyncio.timeout(60):
            while not self.total("compared"):
                self.ask(load_digits().test_x[:1])
                await asyncio.sleep(0.02)
        await asyncio.sleep(0.1)
        self.take()
        self.taken.clear()


@pytest.fixture
def lab(device: Device) -> Lab:
    return Lab(device)


def shadow(assign: Assign, version: int, counter: int, run: ShadowRun = ALL) -> bytes:
    return assign(version, counter, schema_version=CONDITIONAL_SCHEMA, mode="shadow", shadow=run)


async def begin(lab: Lab, release: Release, assign: Assign, run: ShadowRun = ALL) -> None:
    """Version 1 serves; version 2 is released."""
    await install(lab.device, release, assign, 1)
    release(2)


def disagreements(tmp_path: Path, count: int) -> int:
    """How often versions 1 and 2 differ on the first digits, computed apart from everything."""
    classes = []
    for version in (1, 2):
        model = LoadedModel.load(tmp_path / f"v{version}", unpacked_digits(tmp_path / f"v{version}", version), 1)
        classes.append(np.argmax(model.predict(load_digits().test_x[:count]), axis=1))
        model.close()
    return int((classes[0] != classes[1]).sum())


async def test_disagreement_is_counted_exactly_and_the_live_answer_is_the_live_versions(
    lab: Lab, release: Release, assign: Assign, tmp_path: Path
) -> None:
    await begin(lab, release, assign)
    async with lab.device.run():
        await lab.device.assign(shadow(assign, 2, 2))
        await lab.device.until_state("held", counter=2)
        await lab.until_it_runs()
        for index in range(200):
            lab.ask(load_digits().test_x[index : index + 1])
            await lab.until(lambda: lab.total("compared") == index + 1)  # noqa: B023
        assert lab.total("disagreed") == disagreements(tmp_path, 200)
        assert sum(count for health in lab.taken for _, count in health.latency) == 200
        assert lab.total("errors") == lab.total("crashes") == 0
        assert {health.version for health in lab.taken} == {2}
        assert lab.device.serves() == 1
        assert lab.device.active().startswith("v1-")


async def test_it_goes_on_after_a_restart_and_is_promoted_without_a_second_download(
    lab: Lab, release: Release, assign: Assign
) -> None:
    await begin(lab, release, assign)
    async with lab.device.run():
        await lab.device.assign(shadow(assign, 2, 2))
        await lab.device.until_state("held", counter=2)
    asked = len(lab.device.hub.asked())
    async with lab.device.run():
        await lab.until_it_runs()
        await lab.device.assign(assign(2, 3))
        await lab.device.until_state("committed", counter=3)
        assert lab.device.serves() == 2
    assert len(lab.device.hub.asked()) == asked


async def test_it_ends_with_its_assignment_and_its_slot_goes(lab: Lab, release: Release, assign: Assign) -> None:
    await begin(lab, release, assign)
    async with lab.device.run():
        await lab.device.assign(shadow(assign, 2, 2))
        await lab.until(lambda: lab.device.states(2)[-1:] == ["held"])
        await lab.until_it_runs()
        await lab.device.assign(assign(1, 3))
        await lab.device.until_state("committed", counter=3)
        assert lab.device.serves() == 1
        for _ in range(20):
            lab.ask(load_digits().test_x[:1])
        assert lab.total("compared") == 0
    assert not list(lab.device.paths.model("digits").slots.glob("v2-*"))


@pytest.mark.parametrize(("first", "code", "crashes"), [(1001, "crashed", 1), (1002, "hung", 1), (1003, "crashed", 1)])
async def test_a_candidate_that_fails_is_over_and_the_live_version_answers_all_the_while(
    lab: Lab, release: Release, assign: Assign, first: int, code: str, crashes: int
) -> None:
    lab.more = {"module": "tests.shadow.misbehaving_child", "answer_s": 1.0}
    await begin(lab, release, assign)
    async with lab.device.run():
        await lab.device.assign(shadow(assign, 2, 2))
        await lab.device.until_state("held", counter=2)
        await lab.until_it_runs()
        bad = load_digits().test_x[:1].copy()
        bad[0, 0, 0] = first
        lab.ask(bad)
        while lab.device.reports()[-1].state != "rolled_back":
            assert lab.ask(load_digits().test_x[:1]) in range(10)
            await asyncio.sleep(0.01)
        status = await lab.device.until_state("rolled_back", counter=2)
        assert (status.reason_code, status.active_version, lab.device.serves()) == (f"shadow.{code}", 1, 1)
        assert (lab.total("crashes"), [health.stopped for health in lab.taken][-1]) == (crashes, f"shadow.{code}")
    async with lab.device.run():
        assert lab.device.serves() == 1
        assert lab.device.installer.status()[0].state == "rolled_back"


async def test_the_share_the_processor_budget_and_a_busy_candidate_bound_what_is_tried(
    lab: Lab, release: Release, assign: Assign
) -> None:
    await begin(lab, release, assign)
    numbers = iter([0.0] * 10_000)
    lab.more = {"random": lambda: next(numbers)}
    async with lab.device.run():
        await lab.device.assign(shadow(assign, 2, 2, ShadowRun(share_bp=1, cpu_bp=1)))
        await lab.device.until_state("held", counter=2)
        await lab.until_it_runs()
        for _ in range(300):
            lab.ask(load_digits().test_x[:1])
        await lab.until(lambda: lab.total("compared") + lab.total("skipped") == 300)
        assert lab.total("skipped") > 250
        assert lab.device.serves() == 1


async def test_predictions_outside_the_share_are_not_even_offered(lab: Lab, release: Release, assign: Assign) -> None:
    await begin(lab, release, assign)
    drawn = [0.0]
    lab.more = {"random": lambda: drawn[0]}
    async with lab.device.run():
        await lab.device.assign(shadow(assign, 2, 2, ShadowRun(share_bp=5000, cpu_bp=10_000)))
        await lab.device.until_state("held", counter=2)
        await lab.until_it_runs()
        drawn[0] = 0.5
        for _ in range(50):
            lab.ask(load_digits().test_x[:1])
        assert lab.total("compared") == lab.total("skipped") == 0


async def test_without_memory_or_without_a_live_version_it_is_refused_with_the_reason(
    lab: Lab, release: Release, assign: Assign
) -> None:
    release(1)
    async with lab.device.run():
        await lab.device.assign(shadow(assign, 1, 1))
        status = await lab.device.until_state("rolled_back", counter=1)
        assert status.reason_code == "shadow.nothing_live"
        await lab.device.assign(assign(1, 2))
        await lab.device.until_state("committed", counter=2)
    lab.more = {"available": lambda: 1000}
    release(2)
    async with lab.device.run():
        await lab.device.assign(shadow(assign, 2, 3))
        status = await lab.device.until_state("rolled_back", counter=3)
        assert (status.reason_code, lab.device.serves()) == ("shadow.no_memory", 1)


async def test_a_process_that_takes_more_than_the_class_of_device_gives_is_refused(
    lab: Lab, release: Release, assign: Assign, monkeypatch: pytest.MonkeyPatch
) -> None:
    await begin(lab, release, assign)
    monkeypatch.setattr("agent.shadow.memory.PROCESS_BYTES", 0)
    lab.device.profile = msgspec.structs.replace(lab.device.profile, model_memory_bytes=8 << 20)
    async with lab.device.run():
        await lab.device.assign(shadow(assign, 2, 2))
        status = await lab.device.until_state("rolled_back", counter=2)
        assert (status.reason_code, lab.device.serves()) == ("shadow.no_memory", 1)


async def test_the_hub_may_change_how_much_is_tried_without_a_new_install(
    lab: Lab, release: Release, assign: Assign
) -> None:
    await begin(lab, release, assign)
    async with lab.device.run():
        await lab.device.assign(shadow(assign, 2, 2, ShadowRun(share_bp=1, cpu_bp=1)))
        await lab.device.until_state("held", counter=2)
        await lab.device.assign(shadow(assign, 2, 3))
        await lab.device.until_state("held", counter=3)
        await lab.until_it_runs()
    assert "probing" not in lab.device.states(3)


async def test_it_may_be_ended_while_it_is_still_being_loaded(lab: Lab, release: Release, assign: Assign) -> None:
    lab.more = {"module": "tests.shadow.silent_child"}
    await begin(lab, release, assign)
    async with lab.device.run():
        await lab.device.assign(shadow(assign, 2, 2))
        await lab.device.until_state("held", counter=2)
        await lab.device.assign(assign(1, 3))
        await lab.device.until_state("committed", counter=3)
