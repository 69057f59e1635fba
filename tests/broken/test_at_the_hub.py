"""Broken deliveries from end to end: a real hub, a real agent, and the reason as the hub's API shows it."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from agent.paths import AgentPaths
from tests.daemon.device import RunningAgent, running
from tests.daemon.test_with_hub import enrol
from tests.models import load_digits
from tests.registry_kit import Flow, released_hub

BARELY_A_GATE = {"checks": [{"metric": "bundle_bytes", "op": "<=", "value": 10**9}], "min_samples": 1}
SETTINGS = """\
telemetry_interval_s: 0.2
link: {retry_base_s: 0.05, retry_cap_s: 0.3, fallback_after_s: 0.2, fallback_interval_s: 0.2}
ota: {retry_base_s: 0.05, retry_cap_s: 0.2, max_attempts: 3, transfer_retry_base_s: 0.02, transfer_retry_cap_s: 0.1,
      transfer_max_attempts: 2, delta_wait_s: 0}
"""


class Fleet:
    """The hub, its one device, and a dataset for the gates."""

    def __init__(self, flow: Flow) -> None:
        self.flow = flow
        flow.create_model("digits", gate=BARELY_A_GATE, bake_s=0)
        self._dataset = flow.put_dataset()

    def release(self, version: int, **more: Any) -> Path:
        """Register, gate and approve a version; where the hub keeps its bundle."""
        made = self.flow.digits(version, **more).raise_for_status().json()
        assert self.flow.gate("digits", version, self._dataset)["passed"]
        self.flow.approve("digits", version)
        return self.flow.kit.hub.blobs.local_path(made["bundle_sha256"])

    def deploy(self, version: int) -> str:
        """Deploy to the device; the deployment's id."""
        answer = self.flow.deploy("digits", version).raise_for_status().json()
        assert answer["devices"] == 1, answer
        return str(answer["deployment_id"])

    def failure(self, deployment: str) -> str | None:
        """The reason that the hub shows for a deployment's failure."""
        detail = self.flow.admin.get(f"/v1/deployments/{deployment}").raise_for_status().json()
        assert len(detail["failures"]) <= 1
        return str(detail["failures"][0]["reason_code"]) if detail["failures"] else None


async def until(condition: Callable[[], Any]) -> Any:
    async with asyncio.timeout(90):
        while not (found := await asyncio.to_thread(condition)):  # noqa: ASYNC110 - the truth is behind HTTP APIs
            await asyncio.sleep(0.05)
    return found


def answers(agent: RunningAgent) -> list[int]:
    return [agent.predict(index) for index in range(10)]


def installed(agent: RunningAgent) -> tuple[int, str]:
    """Version and state of the model; (0, "") when there is none."""
    models = agent.ask("/skerry/status")["models"]
    return (models[0]["active_version"] or 0, models[0]["state"]) if models else (0, "")


async def test_the_hub_shows_why_a_device_refused_and_the_device_serves_on(tmp_path: Path) -> None:
    paths = AgentPaths(tmp_path / "state")
    with released_hub(tmp_path) as flow:
        fleet = Fleet(flow)
        fleet.release(1)
        await asyncio.to_thread(enrol, flow.kit, paths)
        paths.settings.write_text(SETTINGS)
        shutil.rmtree(paths.models)
        with running(paths) as agent:
            fleet.deploy(1)
            await until(lambda: installed(agent) == (1, "committed"))
            before = await asyncio.to_thread(answers, agent)
            assert sum(found == load_digits().test_y[index] for index, found in enumerate(before)) >= 8

            fleet.release(2, broken=True)
            flipped, truncated, longer = (fleet.release(number) for number in (3, 4, 5))
            data = flipped.read_bytes()
            flipped.write_bytes(data[:5000] + bytes([data[5000] ^ 1]) + data[5001:])
            truncated.write_bytes(truncated.read_bytes()[:-512])
            longer.write_bytes(longer.read_bytes() + bytes(512))
            for number, codes in (
                (2, {"probe.golden_mismatch"}),
                (3, {"download.digest_mismatch"}),
                (4, {"hub.range", "hub.answer", "hub.unreachable", "download.truncated", "download.interrupted"}),
                (5, {"download.too_large", "hub.range", "download.digest_mismatch"}),
            ):
                deployment = fleet.deploy(number)
                assert await until(partial(fleet.failure, deployment)) in codes
                assert await asyncio.to_thread(installed, agent) == (1, "rolled_back")
                assert await asyncio.to_thread(answers, agent) == before

            assert fleet.flow.digits(6).status_code == 201
            refusal = fleet.flow.deploy("digits", 6)
            assert (refusal.status_code, refusal.json()["error"]["code"]) == (409, "deployment.not_approved")

            fleet.release(7)
            fleet.deploy(7)
            await until(lambda: installed(agent) == (7, "committed"))
            assert agent.process.poll() is None
