"""The agent as a real process against the whole hub: enrolled by its command, heard over MQTT or HTTPS, cut off."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from agent.identity.renew import renew
from agent.identity.store import IdentityStore
from agent.paths import AgentPaths
from tests.daemon.device import install_digits, running
from tests.hub_kit import HubKit, running_hub
from tests.ports import free_port

QUICK = """\
telemetry_interval_s: 0.2
link:
  retry_base_s: 0.05
  retry_cap_s: 0.3
  fallback_after_s: 0.2
  fallback_interval_s: 0.2
"""


async def until(condition: Callable[[], Any]) -> None:
    async with asyncio.timeout(60):
        while not await asyncio.to_thread(condition):  # noqa: ASYNC110 - the truth is behind an HTTP API
            await asyncio.sleep(0.05)


@asynccontextmanager
async def messaging(kit: HubKit) -> AsyncIterator[None]:
    task = asyncio.create_task(kit.hub.messaging.run())
    try:
        async with asyncio.timeout(30):
            await kit.hub.messaging.ready.wait()
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


def enrol(kit: HubKit, paths: AgentPaths) -> None:
    """A device that was enrolled and has a model."""
    enrol_only(kit, paths)
    install_digits(paths)


def enrol_only(kit: HubKit, paths: AgentPaths) -> None:
    """By the command, with the join string that the hub makes."""
    wish = {"device_id": "pi-1", "tags": {"site": "north"}}
    join = kit.admin.post("/v1/enrolment-tokens", json=wish).raise_for_status().json()["join"]
    command = [sys.executable, "-m", "agent.main", "enrol", join, "--profile", "x86-gateway", "--json"]
    done = subprocess.run([*command, "--state", str(paths.root)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["device_id"] == "pi-1"
    paths.settings.write_text(QUICK)


def device(kit: HubKit) -> dict[str, Any]:
    found: dict[str, Any] = kit.admin.get("/v1/devices/pi-1").raise_for_status().json()
    return found


async def test_an_enrolled_agent_is_seen_over_mqtt_renews_and_is_cut_off_when_revoked(tmp_path: Path) -> None:
    paths = AgentPaths(tmp_path / "state")
    with running_hub(tmp_path, mqtt_port=free_port()) as kit:
        async with messaging(kit):
            await asyncio.to_thread(enrol, kit, paths)
            with running(paths) as agent:
                await until(lambda: "digits" in json.dumps(device(kit)) and device(kit)["inventory"])
                await until(lambda: agent.ask("/skerry/status")["hub"]["connected"])
                before = IdentityStore(paths.identity).validity()
                await asyncio.to_thread(renew, paths)
                assert IdentityStore(paths.identity).validity().sha256 != before.sha256
                body = {"reason": "stolen"}
                await asyncio.to_thread(lambda: kit.admin.post("/v1/devices/pi-1/revoke", json=body).raise_for_status())
                await until(lambda: not agent.ask("/skerry/status")["hub"]["connected"])
                await until(lambda: "link.refused" in agent.ask("/skerry/status")["hub"]["problem"])


async def test_without_a_broker_the_agent_is_heard_over_https(tmp_path: Path) -> None:
    paths = AgentPaths(tmp_path / "state")
    with running_hub(tmp_path, mqtt_port=free_port()) as kit:
        await asyncio.to_thread(enrol, kit, paths)
        with running(paths) as agent:
            await until(lambda: "digits" in json.dumps(device(kit)) and device(kit)["inventory"])
            await until(lambda: agent.ask("/skerry/status")["hub"]["https_ok_s"])
            await until(lambda: agent.ask("/skerry/status")["hub"]["desired_revision"] is not None)
            assert not agent.ask("/skerry/status")["hub"]["connected"]
