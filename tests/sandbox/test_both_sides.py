"""The agent's probe and the hub's gate are really confined: each is looked at while it waits inside."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from agent.ota.children import environment
from agent.ota.probe import ProbeOrder, ProbeResult
from agent.ota.prober import Prober
from agent.ota.settings import OtaSettings
from hub.gates.protocol import BundleFile, Limits, Request
from shared.profiles import load_profile
from shared.sandbox.wish import Confinement, Shortfall
from shared.wire.up import Event
from tests.models import unpacked_digits


@contextmanager
def waiting(command: list[str], order: bytes, pipe: Path) -> Iterator[dict[str, str]]:
    """The status of a child that waits in the opening of a named pipe."""
    os.mkfifo(pipe)
    process = subprocess.Popen(
        [sys.executable, "-m", *command], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, env=environment()
    )
    try:
        assert process.stdin is not None
        process.stdin.write(order)
        process.stdin.close()
        deadline = time.monotonic() + 60
        while True:
            text = Path(f"/proc/{process.pid}/status").read_text()
            status = dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)
            if status.get("Seccomp") == "2" or time.monotonic() > deadline:
                break
            assert process.poll() is None
        yield status
    finally:
        process.kill()
        process.wait()


def assert_confined(status: dict[str, str]) -> None:
    assert (status["Seccomp"], status["NoNewPrivs"]) == ("2", "1")
    assert os.geteuid() != 0 or set(status["Uid"].split()) == {"65534"}


def test_the_probe_is_confined(tmp_path: Path) -> None:
    wish = Confinement(read=[str(tmp_path)], wall_s=60)
    order = ProbeOrder(directory=str(tmp_path), threads=1, runs=1, confinement=wish)
    with waiting(["agent.ota.probe"], msgspec.json.encode(order), tmp_path / "manifest.json") as status:
        assert_confined(status)


def test_the_gate_is_confined(tmp_path: Path) -> None:
    dataset, scratch = tmp_path / "d.npz", tmp_path / "scratch"
    scratch.mkdir()
    request = Request(
        scratch=str(scratch), dataset=str(dataset), candidate=BundleFile(path="/nowhere", sha256="", bytes=0)
    )
    limits = msgspec.json.encode(Limits()).decode()
    with waiting(["hub.gates.worker", limits], msgspec.json.encode(request), dataset) as status:
        assert_confined(status)


async def test_a_real_version_is_tried_in_full_confinement(tmp_path: Path) -> None:
    unpacked_digits(tmp_path / "slot")
    profile = msgspec.structs.replace(load_profile("x86-gateway"), latency_p99_ms=60_000.0)
    told: list[Event] = []
    result = await Prober(profile, OtaSettings(probe_runs=5), told.append).probe(tmp_path / "slot")
    assert result.golden_passed
    assert result.shortfalls == []
    assert told == []


async def test_a_shortfall_is_reported_once(tmp_path: Path) -> None:
    profile = load_profile("x86-gateway")
    told: list[Event] = []
    prober = Prober(profile, OtaSettings(), told.append, module="tests.sandbox.short_probe")
    for _ in range(3):
        assert isinstance(await prober.probe(tmp_path), ProbeResult)
    assert [(event.code, event.severity) for event in told] == [("sandbox.shortfall", "warning")]
    assert "files: the kernel is too old" in told[0].message


def test_shortfalls_are_plain_data() -> None:
    missing = Shortfall(part="files", reason="old")
    assert msgspec.json.decode(msgspec.json.encode(missing), type=Shortfall) == missing
