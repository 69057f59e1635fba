"""The loop closes three times in a row: an alarm, a run, a candidate that passes its gate, signatures, a rollout.

The hub's own services, a real gate and real signatures; the rounds are played by a worker without devices.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from hub.deployments.compatibility import Compatibility
from hub.federated.conductor import Conductor
from hub.federated.handover import HandOver
from hub.federated.membership import RunMembers
from hub.federated.stage import Places, Stage
from hub.federated.trial import Trial
from hub.gates.protocol import Limits
from hub.ingest.service import Received
from hub.monitoring.evaluation import FLEET
from hub.store import schema
from hub.store.drift import ResultRow, put_result
from hub.store.federated import RunState
from hub.store.page import PageRequest
from shared.wire.up import Envelope, InstallReport, encode_body, encode_envelope
from tests.alerts.test_rules_and_lifecycle import verdict
from tests.hub_api.test_monitoring_api import DRIFTED, ESTIMATED
from tests.registry_kit import Flow, released_hub

PAGE = PageRequest(limit=50)
MODEL = "digits"
PERIOD_S = 3600
TRAIN = """
when: [{alarm: {severity: info, causes: [input_drift]}}]
cooldown_s: 60
run: {rounds: {count: 2, goal: 2}, evaluation: {on_devices: false}}
"""
DEPLOY = """
action: rollout
rollout: {targets: {filter: all}, strategy: all-at-once, gates: [], each_group: {bake_s: 0}}
"""


@dataclass
class Loop:
    """One hub and two devices that install what they are given."""

    flow: Flow
    folder: Path
    devices: tuple[str, ...] = ("cam-1", "cam-2")
    period: int = 0

    def __post_init__(self) -> None:
        self.hub = self.flow.kit.hub
        self._seq = dict.fromkeys(self.devices, 0)

    def alarm(self, version: int) -> None:
        """The inputs of the version that serves have moved, says a period's verdict."""
        self.period += 1
        plain = {**verdict(0.0), "faults": [], "drifted": [DRIFTED], "estimated": [{**ESTIMATED, "worse": False}]}
        row = ResultRow(
            model=MODEL, period_s=self.period * PERIOD_S, version=version, arm="", level=FLEET, severity=1, rows=90,
            result={**plain, "score": 0.3, "windows": 1, "predicted": 90, "skipped": 0}, state=b"",
        )  # fmt: skip
        with self.hub.db.write() as connection:
            put_result(connection, [row])
            self.hub.alerts.hear(connection, [row])

    def trigger(self) -> int:
        """Time goes by, and the hub looks at its triggers."""
        self.flow.kit.clock.ahead_s += 100.0
        return self.hub.policies.train.run()

    def train(self) -> Any:
        """The one run that is open, to its end, by a worker that plays two rounds; its row."""
        (row,) = self.hub.federated.page(PAGE, MODEL, active=True)
        conductor = Conductor(self._stage(row.run_id), row, 8450)
        conductor.start()
        conductor.join(120.0)
        assert not conductor.alive
        return self.hub.federated.get(row.run_id)

    def _stage(self, name: str) -> Stage:
        hub = self.hub
        folder = self.folder / name
        folder.mkdir()
        places = Places(
            host="127.0.0.1", public_host="hub.example", port=8450, certificate=Path("c"), key=Path("k"),
            ca=Path("ca"), folder=self.folder / "runs",
            command=[sys.executable, "-m", "tests.federated.scripted_worker", str(folder), "round", "round"],
        )  # fmt: skip
        limits = Limits(timeout_s=90.0)
        handover = HandOver(hub.db, hub.blobs, hub.versions, hub.gates, Trial(limits), hub.settings.scratch_path)
        members = RunMembers(hub.clock, hub.filters, Compatibility(), 300.0)
        return Stage(
            db=hub.db, clock=hub.clock, audit=hub.audit, blobs=hub.blobs, members=members, places=places,
            holder="test", tell=lambda _device_id, _data: None, handover=handover,
        )  # fmt: skip

    def install(self) -> None:
        """The engine moves, and devices install what they were given."""
        done = dict.fromkeys(self.devices, 0)
        for _ in range(6):
            self.hub.rollout_engine.run()
            for device in self.devices:
                for assignment, _ in self.hub.desired.signed_assignments(device):
                    if assignment.counter > done[device]:
                        done[device] = assignment.counter
                        self._report(device, assignment)
        self.hub.rollout_engine.run()

    def _report(self, device: str, assignment: Any) -> None:
        report = InstallReport(
            model=MODEL, version=assignment.version, bundle_sha256=assignment.bundle_sha256,
            assignment_counter=assignment.counter, previous="probation", state="committed", event="done",
            reason_code="", reason="", active_version=assignment.version,
        )  # fmt: skip
        seq = self._seq[device] = self._seq[device] + 1
        envelope = Envelope(
            device_id=device, epoch="a" * 16, first_seq=seq, seq=seq, created_s=self.hub.clock.now(), kind="install",
            body=encode_body(report),
        )  # fmt: skip
        self.hub.ingest.commit([Received(device, encode_envelope(envelope))])

    def serving(self) -> set[int | None]:
        table = schema.device_models
        with self.hub.db.read() as connection:
            return set(connection.scalars(select(table.c.version).where(table.c.model == MODEL)))


@pytest.fixture
def loop(tmp_path: Path) -> Iterator[Loop]:
    with released_hub(tmp_path) as flow:
        loop = Loop(flow, tmp_path)
        flow.create_model(MODEL)
        flow.digits(1).raise_for_status()
        flow.gate(MODEL, 1, flow.put_dataset())
        flow.approve(MODEL, 1)
        for device in loop.devices:
            flow.kit.enrol(device)
        flow.deploy(MODEL, 1).raise_for_status()
        loop.install()
        assert loop.serving() == {1}
        for path, text in (("federated/triggers", TRAIN), ("deploy-policies", DEPLOY)):
            flow.admin.put(f"/v1/{path}/{MODEL}", content=text.encode()).raise_for_status()
        yield loop


def test_three_times_in_a_row_from_an_alarm_to_a_version_that_serves(loop: Loop) -> None:
    hub = loop.hub
    for cycle in (1, 2, 3):
        serving, candidate = cycle, cycle + 1
        assert loop.trigger() == 0
        loop.alarm(serving)
        assert loop.trigger() == 1, hub.policies.train.test(MODEL).decision.reason
        run = loop.train()
        assert (run.state, run.result["version"], run.result["gate_passed"]) == (RunState.FINISHED, candidate, True)
        assert run.version == serving
        firing = hub.policies.train.firings(PAGE)[0]
        assert (firing.run_id, run.trigger) == (run.run_id, f"t-{firing.firing_id}")
        assert hub.policies.deploy.run() == 0, "nobody has signed it"
        assert loop.trigger() == 0, "and a candidate that waits is a veto"
        assert hub.policies.deploy.test(MODEL).choice.code == "not_approved"
        loop.flow.approve(MODEL, candidate)
        assert hub.policies.deploy.run() == 1
        decision = hub.policies.deploy.decided(MODEL, PAGE)[0]
        assert (decision.version, decision.state, decision.evidence["run"]) == (candidate, "deployed", run.run_id)
        assert len(decision.evidence["approvers"]) == 2
        loop.install()
        assert loop.serving() == {candidate}
    assert len({row.run_id for row in hub.policies.train.firings(PAGE)}) == 3
    alerts = loop.flow.admin.get("/v1/alerts").json()["items"]
    fired = [loop.flow.admin.get(f"/v1/alerts/{one['alert_id']}/firings").json()["items"] for one in alerts]
    assert [len(items) for items in fired] == [1, 1, 1]
