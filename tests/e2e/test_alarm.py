"""A dirty lens on one of two devices: real agents, a real hub and broker, and a webhook that names device and cause.

Inputs are really disturbed: blurred and brightened pictures through the agent's own API, nothing injected behind it.
The hub's clock is the test's, so that periods end when the windows are there.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import math
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy import select

from agent.paths import AgentPaths
from hub.alerts.delivery import SIGNATURE_HEADER
from hub.settings import MonitoringSettings
from hub.store.schema import drift_sums, window_marks
from shared.drift.build import ReferenceData
from tests.alerts.test_service import SECRET, receiver
from tests.daemon.device import SETTINGS, RunningAgent, launch
from tests.daemon.test_with_hub import QUICK, messaging, until
from tests.drift.kit import CONTRACT
from tests.hub_kit import HubKit
from tests.models import Floats, load_digits
from tests.ports import free_port
from tests.registry_kit import Flow, released_hub

PERIOD_S = 600
ROWS = 320
WINDOWS = {"SKERRY_AGENT_DRIFT__WINDOW_S": "1", **SETTINGS}
ROUTES = """\
routes:
  ops: {{kind: webhook, url: "{url}", secret_file: "{secret}"}}
default_routes: [ops]
"""
DEVICES = ("clean", "dirty")


def dirty_lens(pictures: Floats) -> Floats:
    """What grease on the lens does: each pixel is the mean of its neighbourhood, and light is scattered over all."""
    padded = np.pad(pictures, ((0, 0), (1, 1), (1, 1)), mode="edge")
    blurred = sum(padded[:, y : y + 8, x : x + 8] for y in range(3) for x in range(3)) / 9.0
    return np.asarray(np.clip(0.75 * blurred + 4.0, 0, 16), np.float32)


def as_they_are(pictures: Floats) -> Floats:
    return pictures


@contextmanager
def fleet(kit: HubKit, folder: Path) -> Iterator[dict[str, RunningAgent]]:
    """The agents of all devices, enrolled by their command."""
    with ExitStack() as exits:
        agents = {}
        with ThreadPoolExecutor(len(DEVICES)) as pool:
            enrolled = list(pool.map(lambda name: enrol(kit, AgentPaths(folder / name / "state"), name), DEVICES))
        for name, paths in zip(DEVICES, enrolled, strict=True):
            agents[name] = launch(paths, settings=WINDOWS)
            exits.callback(agents[name].stop)
        yield agents


def enrol(kit: HubKit, paths: AgentPaths, name: str) -> AgentPaths:
    paths.root.parent.mkdir()
    join = kit.admin.post("/v1/enrolment-tokens", json={"device_id": name}).raise_for_status().json()["join"]
    command = [sys.executable, "-m", "agent.main", "enrol", join, "--profile", "x86-gateway"]
    subprocess.run([*command, "--state", str(paths.root)], capture_output=True, timeout=90, check=True)
    paths.settings.write_text(QUICK)
    return paths


def clock_of(kit: HubKit, device: str) -> float:
    """How far off the device says that its clock is, in seconds; the hub's is the machine's so far."""
    items = kit.admin.get("/v1/odd-devices").raise_for_status().json()["items"]
    told = {one["device_id"]: one["readings"].get("clock_ahead_s") for one in items}
    return math.inf if told.get(device) is None else abs(told[device])


def look(agent: RunningAgent, lens: Callable[[Floats], Floats], begin: int) -> None:
    """An application asks about 320 pictures, 32 at a time; none comes again soon."""
    data = load_digits()
    chosen = (begin + np.arange(ROWS)) % len(data.test_x)
    for batch in np.split(lens(data.test_x[chosen]), 10):
        tensor = {"name": "image", "datatype": "FP32", "shape": [len(batch), 8, 8], "data": batch.ravel().tolist()}
        agent.ask("/v2/models/digits/infer", {"inputs": [tensor]})


def counted(kit: HubKit) -> dict[str, int]:
    """The newest window that was counted of each device."""
    with kit.hub.db.read() as connection:
        return {row.device_id: row.window_id for row in connection.execute(select(window_marks))}


def release(flow: Flow) -> None:
    """Version 1, approved, with a reference and a contract."""
    data = load_digits()
    flow.create_model("digits", bake_s=0)
    flow.digits(1, reference=ReferenceData(data.test_x, data.test_y), contract=CONTRACT).raise_for_status()
    assert flow.gate("digits", 1, flow.put_dataset())["passed"]
    flow.approve("digits", 1)


async def one_period(kit: HubKit, agents: dict[str, RunningAgent], lenses: dict[str, Any], number: int) -> None:
    """Applications ask, windows arrive, the period ends and is judged, and what is to be told is told."""
    before = counted(kit)
    for name, agent in agents.items():
        await asyncio.to_thread(look, agent, lenses[name], ROWS * number)
    await until(lambda: all(counted(kit).get(name, 0) > before.get(name, 0) for name in DEVICES))
    await until(lambda: rows_told(kit) >= ROWS * len(DEVICES) * number)
    kit.clock.ahead_s += PERIOD_S + 120
    assert await asyncio.to_thread(kit.hub.evaluation.run) >= 1
    await asyncio.to_thread(kit.hub.alerts.deliver_due)


def rows_told(kit: HubKit) -> int:
    """Rows that were looked at, or skipped because they came too fast."""
    with kit.hub.db.read() as connection:
        return sum(row.rows + row.skipped for row in connection.execute(select(drift_sums)))


@pytest.mark.slow
async def test_a_dirty_lens_is_told_by_cause_and_device_over_a_signed_webhook(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(SECRET)
    (tmp_path / "hub").mkdir()
    with receiver([]) as (url, got):
        (tmp_path / "hub" / "alerts.yaml").write_text(ROUTES.format(url=url, secret=secret))
        monitoring = MonitoringSettings(period_s=PERIOD_S)
        with released_hub(tmp_path, mqtt_port=free_port(), monitoring=monitoring) as flow:
            await asyncio.to_thread(release, flow)
            async with messaging(flow.kit):
                with fleet(flow.kit, tmp_path) as agents:
                    await _told(flow, agents, got)


async def _told(flow: Flow, agents: dict[str, RunningAgent], got: list[tuple[dict[str, str], bytes]]) -> None:
    kit = flow.kit
    made = (await asyncio.to_thread(flow.deploy, "digits", 1)).raise_for_status().json()
    path = f"/v1/deployments/{made['deployment_id']}"
    await until(lambda: flow.admin.get(path).json()["progress"]["succeeded"] == len(DEVICES))
    await until(lambda: all(clock_of(kit, name) < 60 for name in DEVICES))
    calm = dict.fromkeys(DEVICES, as_they_are)
    await one_period(kit, agents, calm, 1)
    assert got == [], "nothing is wrong yet"
    for number in (2, 3):
        await one_period(kit, agents, calm | {"dirty": dirty_lens}, number)
    told = {}
    for headers, body in got:
        at, _, digest = headers[SIGNATURE_HEADER].partition(",v1=")
        assert digest == hmac.new(SECRET, at[2:].encode() + b"." + body, hashlib.sha256).hexdigest()
        alert = json.loads(body)["alert"]
        told[alert["rule"]] = alert
    (named,) = told["drifted-devices"]["detail"]["devices"]
    assert named["device_id"] == "dirty"
    assert set(named["causes"]) == {"blur", "brighter"}
    assert told["drifted-devices"]["level"] == "devices"
    assert {one["feature"] for one in told["input-drift"]["detail"]["features"]} >= {"sharpness", "brightness"}
    everything = "".join(body.decode() for _, body in got)
    assert '"clean"' not in everything, "nothing is said of the device whose lens is clean"
    assert not {"data-quality", "faulty-devices", "refused-requests"} & set(told)
