"""What comes from outside in the middle of things: newer assignments, withdrawals, other models, no hub."""

from __future__ import annotations

import asyncio
import os
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest

from agent.ota.children import environment
from agent.ota.installer import Installer
from agent.ota.settings import OtaSettings
from agent.ota.worker_client import WorkerSession
from agent.ota.worker_protocol import Check, Checked
from shared.errors import SkerryError
from tests.ota.conftest import Release
from tests.ota.device import QUICK, Device
from tests.ota.hub_sim import ARTEFACT, Fault, HubSim
from tests.trust_kit import TrustKit

Assign = Callable[..., bytes]


async def committed(device: Device, envelope: bytes, counter: int) -> None:
    await device.assign(envelope)
    await device.until_state("committed", counter=counter)


def stuck() -> Fault:
    """A transfer that stops in its middle for as long as the test lasts."""
    return Fault(piece=10_000, hold=threading.Event())


def state_of(installer: Installer, model: str = "digits") -> str:
    """Where a model stands; empty before it is known."""
    return next((status.state for status in installer.status() if status.model == model), "")


async def downloading(device: Device, hub: HubSim, asked: int = 1) -> None:
    """Wait until the hub was asked for a bundle so many times, and bytes are on the disk."""
    folder = device.paths.model("digits").download
    await device.until(lambda: len(hub.asked()) >= asked and any(p.stat().st_size for p in folder.glob("*.part")))


async def test_a_newer_assignment_supersedes_a_download_under_way(
    hub: HubSim, device: Device, release: Release, assign: Assign
) -> None:
    release(1)
    release(2)
    release(3)
    device.in_process = False
    async with device.run():
        await committed(device, assign(1, 1), 1)
        hub.faults = [stuck()]
        await device.assign(assign(2, 2))
        await downloading(device, hub, asked=2)
        await committed(device, assign(3, 3), 3)
        assert device.serves() == 3
        assert device.states(2) == ["assigned", "downloading", "rolling_back", "rolled_back"]
        ended = [report for report in device.reports() if report.assignment_counter == 2][-1]
        assert (ended.reason_code, ended.active_version) == ("install.superseded", 1)


async def test_a_withdrawn_assignment_stops_a_download_under_way(
    hub: HubSim, device: Device, release: Release, assign: Assign
) -> None:
    release(1)
    release(2)
    device.in_process = False
    async with device.run():
        await committed(device, assign(1, 1), 1)
        hub.faults = [stuck()]
        await device.assign(assign(2, 2))
        await downloading(device, hub, asked=2)
        await device.assign()
        status = await device.until_state("rolled_back")
        assert (status.reason_code, device.serves()) == ("install.cancelled", 1)


async def test_a_renewed_assignment_does_not_start_again(
    hub: HubSim, device: Device, release: Release, assign: Assign
) -> None:
    release(1)
    device.in_process = False
    fault = stuck()
    hub.faults = [fault]
    async with device.run() as installer:
        await device.assign(assign(1, 1))
        await downloading(device, hub)
        await device.assign(assign(1, 2))
        await device.until(lambda: installer.status()[0].assignment_counter == 2)
        assert state_of(installer) == "downloading"
        if fault.hold is not None:
            fault.hold.set()
        await device.until_state("committed", counter=2)
        assert len(hub.asked()) == 1
        assert device.states(2)[-1] == "committed"
        assert device.installer.status()[0].assignment_counter == 2


async def test_an_assignment_of_what_is_active_installs_nothing(
    hub: HubSim, device: Device, release: Release, assign: Assign
) -> None:
    release(1)
    release(2)
    async with device.run():
        await committed(device, assign(1, 1), 1)
        await committed(device, assign(2, 2), 2)
        await committed(device, assign(2, 3), 3)
        assert device.states(3) == ["assigned", "committed"]
        assert len(hub.asked()) == 2
        status = device.installer.status()[0]
        assert (status.active_version, status.previous_version) == (2, 1)


async def test_going_back_by_assignment_needs_no_download(
    hub: HubSim, device: Device, release: Release, assign: Assign
) -> None:
    release(1)
    release(2)
    async with device.run():
        await committed(device, assign(1, 1), 1)
        await committed(device, assign(2, 2), 2)
        await committed(device, assign(1, 3), 3)
        assert device.states(3) == ["assigned", "staged", "probing", "activating", "probation", "committed"]
        assert (device.serves(), len(hub.asked())) == (1, 2)


async def test_a_version_that_fails_requests_on_probation_is_rolled_back(
    device: Device, release: Release, assign: Assign
) -> None:
    release(1)
    release(2)
    async with device.run() as installer:
        await committed(device, assign(1, 1), 1)
        device.settings = QUICK
        device.profile = msgspec.structs.replace(device.profile, latency_p99_ms=1e-9)
    async with device.run() as installer:
        await device.assign(assign(2, 2, bake_s=3600))
        await device.until(lambda: state_of(installer) == "probation")
        for _ in range(25):
            device.host.predict("digits", np.zeros((1, 8, 8), np.float32))
        status = await device.until_state("rolled_back")
        assert (status.reason_code, device.serves()) == ("probation.too_slow", 1)


async def test_a_newer_assignment_ends_a_long_probation(device: Device, release: Release, assign: Assign) -> None:
    release(1)
    release(2)
    release(3)
    async with device.run() as installer:
        await committed(device, assign(1, 1), 1)
        await device.assign(assign(2, 2, bake_s=3600))
        await device.until(lambda: state_of(installer) == "probation")
        await committed(device, assign(3, 3), 3)
        assert device.serves() == 3


async def test_probation_of_one_model_keeps_no_other_waiting(
    kit: TrustKit, device: Device, release: Release, assign: Assign
) -> None:
    kit.create_model("letters")
    release(1)
    release(1, model="letters")
    first, second = assign(1, 1, bake_s=3600), assign(1, 1, model="letters")
    async with device.run() as installer:
        await device.assign(first, second)
        await device.until_state("committed", model="letters")
        states = {status.model: status.state for status in installer.status()}
        assert states == {"digits": "probation", "letters": "committed"}
        assert device.serves("letters") == 1


async def test_a_refused_assignment_does_not_disturb_an_installation(
    hub: HubSim, device: Device, release: Release, assign: Assign
) -> None:
    release(1)
    hub.kit.add_version("digits", 2, b"never approved")
    async with device.run() as installer:
        await device.assign(assign(1, 1, bake_s=3600))
        await device.until(lambda: state_of(installer) == "probation")
        await device.assign(assign(2, 2))
        await device.until(lambda: any(report.reason_code == "release.not_approved" for report in device.reports()))
        assert state_of(installer) == "probation"
        assert device.serves() == 1


async def test_a_hub_that_is_away_is_waited_for_and_told_of_once(
    hub: HubSim, device: Device, release: Release, assign: Assign
) -> None:
    release(1)
    hub.faults = [Fault(path="/v1/tuf/", status=503, times=20)]
    async with device.run():
        await committed(device, assign(1, 1), 1)
        assert device.events() == ["hub.busy"]


async def test_downloads_that_fail_are_tried_a_bounded_number_of_times(
    hub: HubSim, device: Device, release: Release, assign: Assign
) -> None:
    release(1)
    hub.faults = [Fault(path=ARTEFACT, status=503, times=10_000)]
    async with device.run():
        await device.assign(assign(1, 1))
        status = await device.until_state("rolled_back")
        assert (status.reason_code, status.active_version) == ("hub.busy", None)
        assert len(hub.asked()) == QUICK.max_attempts * QUICK.transfer_max_attempts
        assert device.active() == ""


async def test_a_first_version_that_fails_leaves_no_model(device: Device, release: Release, assign: Assign) -> None:
    release(1, broken=True)
    device.in_process = False
    async with device.run():
        await device.assign(assign(1, 1))
        status = await device.until_state("rolled_back")
        assert (status.reason_code, status.active_version, device.serves()) == ("probe.golden_mismatch", None, 0)
        assert not list(device.paths.model("digits").slots.iterdir())


async def test_a_worker_that_is_killed_is_replaced_and_the_download_goes_on(
    hub: HubSim, device: Device, release: Release, assign: Assign
) -> None:
    release(1)
    device.in_process = False
    sessions: list[WorkerSession] = []

    def open_worker() -> WorkerSession:
        sessions.append(WorkerSession(device.paths, device.settings))
        return sessions[-1]

    device.more["open_worker"] = open_worker
    hub.faults = [stuck()]
    async with device.run():
        await device.assign(assign(1, 1))
        await downloading(device, hub)
        pid = sessions[-1].pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        await device.until_state("committed")
        assert [report.reason_code for report in device.reports() if report.event == "interrupted"] == [
            "worker.crashed"
        ]
        assert hub.asked()[-1].range.startswith("bytes=")


async def test_a_stopped_agent_leaves_no_worker_behind(
    hub: HubSim, device: Device, release: Release, assign: Assign
) -> None:
    release(1)
    device.in_process = False
    hub.faults = [stuck()]
    async with device.run():
        await device.assign(assign(1, 1))
        await downloading(device, hub)
    assert not children(device)


async def test_a_worker_ends_with_its_parent(device: Device) -> None:
    script = (
        "import asyncio, os, sys\n"
        "from pathlib import Path\n"
        "from agent.ota.settings import OtaSettings\n"
        "from agent.ota.worker_client import WorkerSession\n"
        "from agent.ota.worker_protocol import Check, Checked\n"
        "from agent.paths import AgentPaths\n"
        "async def main():\n"
        "    session = WorkerSession(AgentPaths(Path(sys.argv[1])), OtaSettings())\n"
        "    asyncio.get_running_loop().call_later(0.3, lambda: (print(session.pid, flush=True), os._exit(1)))\n"
        "    await session.ask(Check(envelope=b'', floors={}), Checked, 60)\n"
        "asyncio.run(main())\n"
    )
    device.hub.faults = [Fault(path="/v1/tuf/timestamp", pause_s=0.2, piece=1)]
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-P", "-c", script, str(device.root)],
        env=environment(),
        stdout=subprocess.PIPE,
        timeout=60,
        check=False,
    )
    pid = int(done.stdout)
    await asyncio.to_thread(wait_until_gone, pid)


async def test_a_worker_that_takes_too_long_is_killed(device: Device) -> None:
    device.hub.faults = [Fault(path="/v1/tuf/timestamp", pause_s=0.2, piece=1)]
    session = WorkerSession(device.paths, OtaSettings())
    with pytest.raises(SkerryError) as caught:
        await session.ask(Check(envelope=b"", floors={}), Checked, 0.5)
    assert (caught.value.code, caught.value.retriable, session.pid) == ("worker.timeout", True, None)
    assert not children(device)


def test_the_daemon_side_imports_no_cryptography_tuf_or_http() -> None:
    heavy = "{'tuf', 'securesystemslib', 'cryptography', 'httpx', 'urllib3', 'ssl'}"
    code = f"import agent.ota.installer, sys; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], env=environment(), capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() in ("[]", "['ssl']")  # asyncio itself loads ssl


def children(device: Device) -> list[str]:
    """Worker processes of this test that still run."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().split(b"\0")
            status = (path.parent / "status").read_text()
        except OSError:
            continue
        if b"agent.ota.worker" in words and f"PPid:\t{os.getpid()}\n" in status and "State:\tZ" not in status:
            found.append(path.parent.name)
    return found


def wait_until_gone(pid: int) -> None:
    """Wait for the end of a process that is not a child of this one."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        assert select.select([fd], [], [], 30.0)[0]
    finally:
        os.close(fd)
