"""What a rollout costs the hub: time, memory and each tick, from the start until all devices are assigned.

`python -m tests.bench.rollout [DEVICES ...]` prints JSON for 1,000, 10,000 and 100,000 devices (or those given),
each in a process of its own, on SQLite with full sync. "Assigned" is what a device can act on: picked by a tick,
written, signed (DSSE, the hub's real key), encoded, and marked as sent. Sending itself is the broker's work.

While the largest rollout runs, devices check in: heartbeats through the ingest, in batches as the message queue hands
them over, and polls of the desired state as over HTTPS. Their latency counts from when they were due.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sqlalchemy import func, insert, select

from hub.deployments.compatibility import Compatibility
from hub.ingest.service import Received
from hub.registry.models import ModelChange
from hub.rollouts.evidence import standard_sources
from hub.rollouts.service import RolloutService
from hub.serving import prepare_interpreter
from hub.store import registry, schema
from hub.store.registry import Status
from hub.wiring import Hub
from shared.wire.down import encode
from shared.wire.up import Envelope, Heartbeat, ModelStatus, encode_body, encode_envelope
from tests.fleet_kit import Approvals, tiny_bundle
from tests.hub_kit import data_hub

SIZES = (1_000, 10_000, 100_000)
CHECK_INS_PER_S = 400
_CHECK_IN_BATCH = 500
_PUBLISHED_AT_ONCE = 256
_DEFINITION: dict[str, Any] = {
    "model": "digits",
    "version": 2,
    "targets": {"filter": "all"},
    "groups": [{"name": "all", "percent": 100}],
    "each_group": {"success_percent": 90, "error_percent": 5, "min_sample": 10, "observe_s": 86400},
    "gates": [],
}


class Fleet:
    """A hub with devices that serve version 1, and version 2 approved."""

    def __init__(self, folder: Path, hub: Hub, count: int) -> None:
        self.hub = hub
        self.ids = [f"dev-{number:06d}" for number in range(count)]
        self._release(folder)
        digest = self._digest(1)
        for start in range(0, count, 10_000):
            self._enrol(self.ids[start : start + 10_000], digest)
        with hub.db.write() as connection:
            connection.execute(schema.rollout_arrivals.delete())

    def _release(self, folder: Path) -> None:
        self.hub.models.create("digits", ModelChange(), "bench")
        self.approvals = Approvals()
        for version in (1, 2):
            path = folder / f"digits-{version}.bundle"
            tiny_bundle(path, version)
            writer = self.hub.versions.receive()
            writer.write(path.read_bytes())
            self.hub.versions.register("digits", writer, "bench")
            for step in (Status.GATED, Status.APPROVED):
                with self.hub.db.write() as connection:
                    row = registry.get_version(connection, "digits", version)
                    registry.set_status(connection, row, step, self.hub.clock.now())
            found = self.hub.versions.get("digits", version)
            self.approvals.releases["digits", version] = (found.bundle_sha256, found.bundle_bytes)

    def _digest(self, version: int) -> str:
        return self.hub.versions.get("digits", version).bundle_sha256

    def _enrol(self, ids: list[str], digest: str) -> None:
        now = self.hub.clock.now()
        device = {"status": "active", "profile": "raspberry-pi-4", "hardware_id": "", "enrolled_s": now}
        counters = {"assignment_counter": 1, "desired_revision": 1, "published_revision": 1}
        given: dict[str, Any] = {"model": "digits", "version": 1, "bundle_sha256": digest, "counter": 1}
        assignment = {**given, "bundle_bytes": 1000, "bake_s": 60, "issued_s": now, "expires_s": now + 10**6}
        assignment |= {"deployment_id": "d-before", "published_s": now}
        model = {**given, "state": "committed", "target_version": 1, "updated_s": now}
        status = {"last_seen_s": now, "epoch": "e" * 16, "watermark": 1}
        with self.hub.db.write() as connection:
            connection.execute(insert(schema.devices), [{"device_id": one, **device, **counters} for one in ids])
            connection.execute(insert(schema.assignments), [{"device_id": one, **assignment} for one in ids])
            connection.execute(insert(schema.device_models), [{"device_id": one, **model} for one in ids])
            connection.execute(insert(schema.device_status), [{"device_id": one, **status} for one in ids])

    def start(self) -> str:
        measured = frozenset(standard_sources())
        engine = self.hub.rollout_engine
        service = RolloutService(
            self.hub.db,
            self.hub.clock,
            self.hub.audit,
            self.approvals,
            self.hub.assignments,
            Compatibility(),
            engine._memberships,
            engine,
            measured,
        )
        return service.create(json.dumps(_DEFINITION).encode(), "bench").rollout_id

    def assigned(self, rollout_id: str) -> int:
        table = schema.assignments
        with self.hub.db.read() as connection:
            query = select(func.count()).where(table.c.deployment_id == rollout_id, table.c.published_s.is_not(None))
            return int(connection.execute(query).scalar_one())


def publish(hub: Hub, done: Callable[[], bool]) -> tuple[int, float]:
    """Sign, encode and mark until nothing is pending and `done` says so; (devices, seconds at work)."""
    count, busy = 0, 0.0
    while True:
        started = time.perf_counter()
        states = hub.desired.pending_publications(_PUBLISHED_AT_ONCE)
        for state in states:
            encode(state)
        if states:
            hub.desired.mark_published(states)
            count += len(states)
            busy += time.perf_counter() - started
        elif done():
            return count, busy
        else:
            time.sleep(0.002)


class CheckIns:
    """Devices that report and ask, at a steady rate, until told to stop; latencies from when they were due."""

    def __init__(self, hub: Hub, ids: list[str]) -> None:
        self._hub, self._ids = hub, ids
        self._digest = hub.versions.get("digits", 1).bundle_sha256
        self._stop = threading.Event()
        self.reports: list[float] = []
        self.polls: list[float] = []
        self._thread = threading.Thread(target=self._run, name="check-ins")

    def start(self) -> CheckIns:
        self.started = time.perf_counter()
        self._thread.start()
        return self

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()
        self.seconds = time.perf_counter() - self.started

    def _run(self) -> None:
        """As the loop that pulls from the queue: all that is due, at most so many at once, then the next."""
        done = 0
        while not self._stop.is_set():
            due = int((time.perf_counter() - self.started) * CHECK_INS_PER_S)
            if due <= done:
                self._stop.wait(1 / CHECK_INS_PER_S)
                continue
            until = min(due, done + _CHECK_IN_BATCH)
            batch = [self._heartbeat(number) for number in range(done, until)]
            self._hub.ingest.commit(batch)
            now = time.perf_counter() - self.started
            self.reports += [now - number / CHECK_INS_PER_S for number in range(done, until)]
            asked = time.perf_counter()
            self._hub.desired.revision(batch[0].device_id)
            self.polls.append(time.perf_counter() - asked)
            done = until

    def _heartbeat(self, number: int) -> Received:
        device_id = self._ids[number % len(self._ids)]
        model = ModelStatus(
            model="digits", version=1, bundle_sha256=self._digest, state="committed", requests=10, latency_p50_us=90
        )
        seq = 2 + number // len(self._ids)
        body = encode_body(Heartbeat(agent_version="1", uptime_s=number, rss_bytes=60_000_000, models=[model]))
        envelope = Envelope(
            device_id=device_id, epoch="e" * 16, first_seq=seq, seq=seq, created_s=1.0, kind="heartbeat", body=body
        )
        return Received(device_id, encode_envelope(envelope))


def resident() -> int:
    """Bytes of memory that this process has."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def percentile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * share))] if values else 0.0


def milliseconds(values: list[float]) -> dict[str, float]:
    return {
        "p50": round(percentile(values, 0.5) * 1000, 2),
        "p99": round(percentile(values, 0.99) * 1000, 2),
        "max": round(max(values, default=0.0) * 1000, 2),
    }


def measure(count: int, with_check_ins: bool) -> dict[str, Any]:
    """One rollout to `count` devices."""
    with tempfile.TemporaryDirectory() as name, data_hub(Path(name)) as (hub, _):
        fleet = Fleet(Path(name), hub, count)
        ticks: list[float] = []
        cpu: list[float] = []
        _time_ticks(hub, ticks, cpu)
        before = resident()
        started, started_cpu = time.perf_counter(), time.process_time()
        rollout_id = fleet.start()
        created_s = time.perf_counter() - started
        check_ins = CheckIns(hub, fleet.ids).start() if with_check_ins else None
        finished = threading.Event()
        engine_s: list[float] = []
        engine = threading.Thread(target=_drive, args=(hub, count, finished, engine_s), name="engine")
        engine.start()
        published, publish_s = publish(hub, finished.is_set)
        engine.join()
        total_s, cpu_s = time.perf_counter() - started, time.process_time() - started_cpu
        if check_ins is not None:
            check_ins.stop()
        done = fleet.assigned(rollout_id)
        figures: dict[str, Any] = {
            "devices": count,
            "assigned": done,
            "published": published,
            "total_s": round(total_s, 3),
            "create_s": round(created_s, 3),
            "engine_s": round(sum(engine_s), 3),
            "publish_s": round(publish_s, 3),
            "cpu_s": round(cpu_s, 3),
            "per_device_us": round(total_s / count * 1e6, 1),
            "per_device_cpu_us": round(cpu_s / count * 1e6, 1),
            "assigned_per_minute": round(done / total_s * 60),
            "ticks": len(ticks),
            "tick_ms": milliseconds(ticks),
            "tick_cpu_ms": milliseconds(cpu),
            "rss_before_mib": round(before / 2**20, 1),
            "rss_grown_mib": round((resident() - before) / 2**20, 1),
            "load_average": round(os.getloadavg()[0], 1),
        }
        if check_ins is not None:
            figures["check_ins"] = {
                "per_s": round(len(check_ins.reports) / check_ins.seconds, 1),
                "report_ms": milliseconds(check_ins.reports),
                "poll_ms": milliseconds(check_ins.polls),
            }
        figures["idle_tick_ms"] = milliseconds(_idle_ticks(hub))
        return figures


def _time_ticks(hub: Hub, ticks: list[float], cpu: list[float]) -> None:
    """Note the time of each tick by the clock, and of the processor: the machine may have other work."""
    inner = hub.rollout_engine.tick

    def timed(rollout_no: int) -> int:
        started, started_cpu = time.perf_counter(), time.thread_time()
        done = inner(rollout_no)
        ticks.append(time.perf_counter() - started)
        cpu.append(time.thread_time() - started_cpu)
        return done

    object.__setattr__(hub.rollout_engine, "tick", timed)


def _drive(hub: Hub, count: int, finished: threading.Event, seconds: list[float]) -> None:
    """The scheduler's part: the engine's rounds until every device was given the version."""
    left = count
    while left > 0:
        started = time.perf_counter()
        left -= hub.rollout_engine.run()
        seconds.append(time.perf_counter() - started)
    finished.set()


def _idle_ticks(hub: Hub) -> list[float]:
    """Ticks with nothing to do, everybody under way."""
    found = []
    for _ in range(20):
        started = time.perf_counter()
        hub.rollout_engine.run()
        found.append(time.perf_counter() - started)
    return found


def main() -> None:
    """All sizes, each in its own process."""
    if sys.argv[1:2] == ["--one"]:
        prepare_interpreter()  # as the hub does
        print(json.dumps(measure(int(sys.argv[2]), sys.argv[3] == "yes")))
        return
    sizes = [int(text) for text in sys.argv[1:]] or list(SIZES)
    runs = [_child(size, "no") for size in sizes]
    loaded = _child(sizes[-1], "yes")
    work = [run["per_device_cpu_us"] for run in runs]
    print(
        json.dumps(
            {
                "benchmark": "rollout",
                "cores": os.cpu_count(),
                "runs": runs,
                "per_device_cpu_ratio": round(work[-1] / work[0], 2),
                "with_check_ins": loaded,
            },
            indent=2,
        )
    )


def _child(size: int, loaded: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "tests.bench.rollout", "--one", str(size), loaded]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


if __name__ == "__main__":
    main()
