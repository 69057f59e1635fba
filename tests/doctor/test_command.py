"""`skerry-agent doctor` with a device that is healthy at a real hub, agent up and down; and on an empty folder."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from agent.paths import AgentPaths
from tests.daemon.device import running
from tests.daemon.test_with_hub import enrol, messaging, until
from tests.hub_kit import running_hub
from tests.ports import free_port


def doctor(paths: AgentPaths, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "agent.main", "doctor", "--state", str(paths.root), *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def levels(paths: AgentPaths) -> dict[str, str]:
    found: dict[str, Any] = json.loads(doctor(paths, "--json").stdout)
    out: dict[str, str] = {}
    for finding in found["findings"]:
        out[finding["check"]] = f"{finding['level']} {finding['code']}"
    return out


async def test_a_healthy_device_with_the_agent_up_and_down(tmp_path: Path) -> None:
    paths = AgentPaths(tmp_path / "state")
    with running_hub(tmp_path, mqtt_port=free_port()) as kit:
        async with messaging(kit):
            await asyncio.to_thread(enrol, kit, paths)
            with running(paths) as agent:
                await until(lambda: agent.ask("/skerry/status")["hub"]["connected"])
                found = await asyncio.to_thread(levels, paths)
                good = (
                    "agent",
                    "identity",
                    "clock",
                    "runtime",
                    "hub over HTTPS",
                    "hub over MQTT",
                    "versions",
                    "outbox",
                )
                assert [found[check] for check in good] == ["fine doctor.fine"] * len(good)
                agent.stop()
            found = await asyncio.to_thread(levels, paths)
            assert found["agent"] == "problem doctor.agent_not_running"
            assert found["hub over MQTT"] == "fine doctor.fine"
            kit.admin.post("/v1/devices/pi-1/revoke", json={"reason": "stolen"}).raise_for_status()
            found = await asyncio.to_thread(levels, paths)
            assert found["hub over HTTPS"] == "problem doctor.https_refused"
            assert found["hub over MQTT"] == "problem doctor.mqtt_refused"


def test_an_empty_folder_is_a_problem_in_words(tmp_path: Path) -> None:
    done = doctor(AgentPaths(tmp_path / "state"))
    assert done.returncode == 21
    assert "not enrolled" in done.stdout
    assert "skerry-agent enrol" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr
