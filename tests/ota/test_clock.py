"""Devices whose clock says 1970, stands still, or once ran ahead: the rules of docs/clock.md."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from agent.identity.store import IdentityStore
from agent.lock import exclusive
from agent.ota.floor import Floor
from agent.ota.running_time import RunningTime
from agent.ota.settings import OtaSettings
from agent.ota.trusted_time import RELEASED_S, Uptime, least_s, now_s, running_s, system_uptime
from agent.ota.worker_protocol import (
    Check,
    Checked,
    Failed,
    Fetch,
    Fetched,
    Hello,
    Progress,
    Request,
    decode_reply,
    encode,
)
from agent.paths import AgentPaths
from shared.errors import SkerryError
from tests.daemon.device import give_identity
from tests.ota.hub_sim import DEVICE, HubSim
from tests.ota.repository import Repository
from tests.ota.test_update_client import BUNDLE, Fleet
from tests.trust_kit import TrustKit

DAY_S = 86_400.0


@pytest.fixture
def repository() -> Repository:
    made = Repository()
    made.releases[BUNDLE] = b"bundle one"
    made.lifetimes_s["timestamp"] = DAY_S
    made.publish()
    return made


@pytest.fixture
def device(repository: Repository, tmp_path: Path) -> Fleet:
    """A device that has verified metadata once and then lost its clock."""
    made = Fleet(repository, tmp_path / "tuf")
    made.refresh()
    made.clock.now_s = 0.0
    return made


def test_the_software_is_not_from_the_future() -> None:
    assert time.time() > RELEASED_S
    assert system_uptime().seconds > 0
    assert system_uptime().boot == system_uptime().boot


def test_running_time_is_never_counted_twice() -> None:
    floor = Floor(verified_s=1.0, uptime_s=100.0, boot="a")
    assert running_s(floor, Uptime(160.0, "a")) == 60.0
    assert running_s(floor, Uptime(160.0, "b")) == 160.0, "started again since"
    assert running_s(floor, Uptime(40.0, "a")) == 40.0, "a machine that cannot name its starts"


@pytest.mark.parametrize(
    ("floor", "uptime_s", "not_before_s", "expected"),
    [
        (Floor(), 50.0, 0.0, 0.0),
        (Floor(), 50.0, 1000.0, 1000.0),
        (Floor(verified_s=2000.0, uptime_s=50.0), 80.0, 1000.0, 2030.0),
        (Floor(verified_s=2000.0, uptime_s=50.0), 20.0, 1000.0, 2020.0),
        (Floor(verified_s=2000.0, uptime_s=50.0), 20.0, 3000.0, 3000.0),
    ],
)
def test_the_floor_is_the_latest_of_what_is_known(
    floor: Floor, uptime_s: float, not_before_s: float, expected: float
) -> None:
    assert least_s(floor, Uptime(uptime_s), not_before_s) == expected


def test_the_clock_counts_when_it_is_later_and_a_mad_one_is_bounded() -> None:
    assert now_s(5000.0, 3000.0) == 5000.0
    assert now_s(1.0, 3000.0) == 3000.0
    assert now_s(1e30, 3000.0) < 1e12


def test_a_frozen_mirror_is_found_out_by_the_time_that_the_device_runs(device: Fleet) -> None:
    device.up = Uptime(0.9 * DAY_S, "first")
    assert device.refresh().target(BUNDLE) is not None
    device.up = Uptime(1.1 * DAY_S, "first")
    assert device.refused() == "trust.expired"


def test_starting_again_and_again_does_not_stop_the_time(device: Fleet) -> None:
    codes = []
    for number in range(30):
        device.up = Uptime(3600.0, f"start {number}")
        try:
            device.refresh()
            codes.append("")
        except SkerryError as error:
            codes.append(error.code)
    assert codes[0] == ""
    assert codes[-6:] == ["trust.expired"] * 6
    device.repository.now_s += 2 * DAY_S
    device.repository.publish()
    assert device.refresh().target(BUNDLE) is not None, "a living repository is taken again at once"


def test_the_time_that_an_agent_runs_is_noted_without_any_assignment(device: Fleet, tmp_path: Path) -> None:
    """A device without a clock runs for two days, is assigned nothing, and is switched off and on."""
    device.up = Uptime(100.0, "first")
    device.refresh()
    give_identity(AgentPaths(tmp_path / "state"))
    running = RunningTime(
        tmp_path / "tuf", IdentityStore(tmp_path / "state" / "identity"), uptime=lambda: Uptime(2 * DAY_S, "first")
    )
    assert running.note()
    device.up = Uptime(100.0, "second")
    assert device.refused() == "trust.expired", "an old mirror shows what was new two days ago"


def test_running_time_that_is_not_noted_is_forgotten(device: Fleet) -> None:
    device.up = Uptime(100.0, "first")
    device.refresh()
    device.up = Uptime(100.0, "second")
    assert device.refresh().target(BUNDLE) is not None


def test_nothing_is_noted_before_anything_was_verified_or_while_another_writes(device: Fleet, tmp_path: Path) -> None:
    give_identity(AgentPaths(tmp_path / "state"))
    store = IdentityStore(tmp_path / "state" / "identity")
    assert not RunningTime(tmp_path / "nowhere", store).note()
    (tmp_path / "empty").mkdir()
    assert not RunningTime(tmp_path / "empty", store).note()
    assert list((tmp_path / "empty").iterdir()) == []
    with exclusive(tmp_path / "tuf"):
        assert not RunningTime(tmp_path / "tuf", store).note()
    assert RunningTime(tmp_path / "tuf", store).note()


def test_a_clock_that_ran_ahead_within_an_expiry_is_forgiven_by_new_metadata(device: Fleet) -> None:
    device.clock.now_s = device.repository.now_s + 0.9 * DAY_S
    device.refresh()
    device.clock.now_s = device.repository.now_s
    device.repository.publish()
    assert device.refresh().target(BUNDLE) is not None


def faketime(*words: str) -> list[str]:
    """The beginning of a command that runs by another clock; the test is skipped without the package."""
    if shutil.which("faketime") is None:
        if os.environ.get("CI") == "true":
            pytest.fail("faketime is not installed")
        pytest.skip("faketime is not installed")
    return ["faketime", *words]


def ask_in_1970(paths: AgentPaths, envelope: bytes) -> Checked | Failed:
    """The real worker's answer on a machine that believes that it is 1970."""
    with Asked(paths, faketime("1970-01-03 00:00:00"), {}) as worker:
        reply = worker.ask(Check(envelope=envelope, floors={}))
    assert isinstance(reply, Checked | Failed)
    return reply


class Asked:
    """The real worker, under a command that runs it."""

    def __init__(self, paths: AgentPaths, under: list[str], environ: dict[str, str]) -> None:
        command = [*under, sys.executable, "-m", "agent.ota.worker"]
        environ = {**os.environ, **environ}
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environ)
        self._send(encode(Hello(state=str(paths.root), settings=OtaSettings(transfer_max_attempts=1))))

    def __enter__(self) -> Asked:
        return self

    def __exit__(self, *_: object) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(30)
        assert self.process.stdout is not None
        self.process.stdout.close()

    def _send(self, data: bytes) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(data)
        self.process.stdin.flush()

    def ask(self, request: Request) -> object:
        """Its reply; progress is passed over."""
        self._send(encode(request))
        assert self.process.stdout is not None
        while isinstance(reply := decode_reply(self.process.stdout.readline()), Progress):
            pass
        return reply


def test_the_clock_jumps_under_a_worker_at_work(kit: TrustKit, hub: HubSim, tmp_path: Path) -> None:
    """One real process, whose clock is set back and forth between its requests, as by NTP or a person."""
    paths, clock = AgentPaths(tmp_path / "state"), tmp_path / "clock"
    hub.enrol(paths)
    kit.approve("digits", 1, b"bundle")
    counters = iter(range(1, 100))

    def jump(days: float) -> None:
        clock.write_text(f"{days * DAY_S:+.0f}")

    def check(lifetime_s: float = DAY_S) -> str:
        envelope = kit.assignment(DEVICE, "digits", 1, counter=next(counters), lifetime_s=lifetime_s)
        reply = worker.ask(Check(envelope=envelope, floors={}))
        if isinstance(reply, Failed):
            return reply.error.code
        assert isinstance(reply, Checked)
        return reply.refusal.code if reply.refusal is not None else ""

    jump(0)
    environ = {"FAKETIME_TIMESTAMP_FILE": str(clock), "FAKETIME_NO_CACHE": "1", "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
    under = [*faketime("-f", "+0"), "env", "-u", "FAKETIME"]  # or else the command's own offset would count
    with Asked(paths, under, environ) as worker:
        assert check() == ""
        jump(-20_000)
        assert check() == "", "1970: the floor is used"
        assert check(lifetime_s=-60.0) == "assignment.expired", "and does not let pass what has expired"
        jump(+3_650)
        assert check() in ("hub.certificate", "trust.expired"), "ten years ahead: nothing is valid"
        jump(0)
        assert check() == "", "and nothing of that was kept"
        assignment = kit.assignment(DEVICE, "digits", 1, counter=next(counters))
        checked = worker.ask(Check(envelope=assignment, floors={}))
        assert isinstance(checked, Checked)
        jump(-1)
        fetched = worker.ask(Fetch(assignment=checked.assignment, envelope=assignment, recheck=True))
        assert isinstance(fetched, Fetched), "deadlines go by the running time, not by the clock"


def test_a_device_that_wakes_up_in_1970_works(kit: TrustKit, hub: HubSim, tmp_path: Path) -> None:
    paths = AgentPaths(tmp_path / "state")
    hub.enrol(paths)
    kit.approve("digits", 1, b"bundle")
    reply = ask_in_1970(paths, kit.assignment(DEVICE, "digits", 1, counter=1))
    assert isinstance(reply, Checked), reply
    assert reply.refusal is None
    late = ask_in_1970(paths, kit.assignment(DEVICE, "digits", 1, counter=2, lifetime_s=-86_400.0))
    assert isinstance(late, Checked)
    assert late.refusal is not None
    assert late.refusal.code == "assignment.expired"


def test_in_1970_an_impostor_is_refused_all_the_same(kit: TrustKit, hub: HubSim, tmp_path: Path) -> None:
    paths = AgentPaths(tmp_path / "state")
    with HubSim(kit, tmp_path / "impostor").serve() as impostor:
        hub.enrol(paths)
        genuine = IdentityStore(paths.identity).credentials().hub_ca.read_bytes()
        impostor.enrol(paths)
        IdentityStore(paths.identity).credentials().hub_ca.write_bytes(genuine)
        reply = ask_in_1970(paths, b"{}")
        assert isinstance(reply, Failed)
        assert reply.error.code == "hub.certificate"
        assert impostor.requests == []
