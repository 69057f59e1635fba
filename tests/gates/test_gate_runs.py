"""Whole gate runs: real bundles, real data, a real child process that is bounded and may fail in any way."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hub.gates.datasets import DatasetService
from hub.gates.protocol import Limits
from hub.gates.runner import GateRunner
from hub.gates.service import GateService
from hub.registry.models import ModelChange
from hub.store.blobs_index import DatasetRow
from hub.store.page import PageRequest
from hub.store.registry import GateRow, Status
from shared.errors import Conflict, InvalidInput, NotFound, SkerryError
from tests.databases import Backend, SqliteBackend
from tests.fleet_kit import FleetKit
from tests.models import digits_bundle, load_digits

LIMITS = Limits(timeout_s=60.0)


class GateKit(FleetKit):
    """The services with gates."""

    def __init__(self, folder: Path, database_url: str) -> None:
        super().__init__(folder, database_url)
        self.datasets = DatasetService(self.db, self.clock, self.audit, self.blobs)
        self.gates = self.gate_service()
        self.models.create("digits", ModelChange(), "dana")

    def gate_service(self, command: list[str] | None = None, limits: Limits = LIMITS) -> GateService:
        runner = GateRunner(self.folder / "scratch", limits, command=command)
        return GateService(self.db, self.clock, self.audit, self.blobs, runner, 0.8)

    def digits(self, version: int, **more: Any) -> None:
        """Register a digits bundle."""
        path = self.folder / f"d{version}.bundle"
        digits_bundle(path, version, **more)
        self.upload(path)

    def dataset(self, rows: int = 540, name: str = "held-out", **arrays: Any) -> DatasetRow:
        """Keep the digits' test data, or other arrays."""
        data = load_digits()
        path = self.folder / "d.npz"
        x, y = arrays.get("x", data.test_x[:rows]), arrays.get("y", data.test_y[:rows])
        np.savez_compressed(path, x=x, y=y)
        upload = self.datasets.receive()
        try:
            upload.write(path.read_bytes())
            return self.datasets.add(upload, name, "dana")
        finally:
            upload.discard()

    def policy(self, *checks: dict[str, Any], min_samples: int = 100) -> None:
        """Set the model's policy."""
        gate = {"checks": list(checks), "min_samples": min_samples}
        self.models.change("digits", ModelChange(gate=gate), "dana")

    def gate(self, version: int, dataset: DatasetRow, service: GateService | None = None) -> GateRow:
        """Run a gate."""
        return (service or self.gates).evaluate("digits", version, dataset.sha256, "dana")


@pytest.fixture(scope="module")
def backend(tmp_path_factory: pytest.TempPathFactory) -> Backend:
    """One kind is enough here: this is about child processes, and the rows are written like those of the registry."""
    return SqliteBackend(tmp_path_factory.mktemp("template"))


@pytest.fixture
def kit(tmp_path: Path, database_url: str) -> Iterator[GateKit]:
    kit = GateKit(tmp_path, database_url)
    yield kit
    kit.close()


def failed(result: GateRow) -> dict[str, str]:
    return {check["metric"]: check["reason"] for check in result.checks if not check["passed"]}


def code_of(kit: GateKit, version: int, dataset: DatasetRow) -> str:
    with pytest.raises(SkerryError) as caught:
        kit.gate(version, dataset)
    return caught.value.code


def test_a_good_version_passes_the_default_policy_and_leaves_evidence(kit: GateKit) -> None:
    kit.digits(1)
    dataset = kit.dataset()
    result = kit.gate(1, dataset)
    assert result.passed, result.checks
    values = result.metrics["values"]
    assert values["samples"] == 540
    assert 0.9 < values["accuracy_low"] < values["accuracy"] < values["accuracy_high"] < 1.0
    assert values["golden_passed"] == 1.0
    assert values["bundle_bytes"] == kit.versions.get("digits", 1).bundle_bytes
    assert values["latency_p50_ms"] > 0
    assert (result.dataset_sha256, result.dataset_name, result.by) == (dataset.sha256, "held-out", "dana")
    assert [check["metric"] for check in result.checks] == ["samples", "golden_passed", "accuracy"]
    assert kit.versions.get("digits", 1).status is Status.GATED
    assert kit.gates.page("digits", 1, PageRequest(limit=5)) == [result]
    assert os.listdir(kit.folder / "scratch") == []


def test_broken_golden_outputs_fail_the_default_policy(kit: GateKit) -> None:
    kit.digits(3, broken=True)
    result = kit.gate(3, kit.dataset())
    assert set(failed(result)) == {"golden_passed"}
    assert kit.versions.get("digits", 3).status is Status.REJECTED


def test_a_bundle_that_cannot_be_loaded_fails_whatever_the_policy_asks(kit: GateKit) -> None:
    kit.policy({"metric": "bundle_bytes", "op": "<=", "value": 10**9}, min_samples=1)
    kit.register("digits", 1)  # not a model
    result = kit.gate(1, kit.dataset())
    assert not result.passed
    assert "model.load_failed" in failed(result)["evaluation"]
    assert kit.versions.get("digits", 1).status is Status.REJECTED


def test_a_metric_that_the_task_does_not_have_fails(kit: GateKit) -> None:
    kit.policy({"metric": "mean_absolute_error", "op": "<=", "value": 1.0})
    kit.digits(1)
    assert "not measured" in failed(kit.gate(1, kit.dataset()))["mean_absolute_error"]


def test_a_version_is_compared_with_production_on_the_same_data(kit: GateKit) -> None:
    kit.digits(1)
    data = kit.dataset()
    assert kit.gate(1, data).passed
    kit.set_status("digits", 1, Status.APPROVED)
    kit.aliases.move("digits", "production", 1, "", "olga")
    kit.policy(
        {"metric": "accuracy", "op": ">=", "relative_to": "production", "tolerance": 0.05},
        {"metric": "bundle_bytes", "op": "<=", "relative_to": "production", "factor": 0.5},
    )
    kit.digits(2)
    result = kit.gate(2, data)
    assert result.metrics["production"]["version"] == 1
    assert result.metrics["production"]["values"]["samples"] == 540
    assert set(failed(result)) == {"bundle_bytes"}


def test_the_first_version_of_a_model_has_nothing_to_be_compared_with(kit: GateKit) -> None:
    kit.policy({"metric": "accuracy", "op": ">=", "relative_to": "production"})
    kit.digits(1)
    assert "no production version" in failed(kit.gate(1, kit.dataset()))["accuracy"]


@pytest.mark.parametrize(
    "arrays",
    [
        {"x": np.zeros((540, 8, 8), np.uint8)},
        {"x": np.zeros((540, 64), np.float32)},
        {"x": np.full((540, 8, 8), np.nan, np.float32)},
        {"y": np.full(540, 10)},
        {"y": np.full(540, -1)},
        {"y": np.zeros(540, np.float32)},
        {"y": np.zeros((540, 2), np.int64)},
    ],
)
def test_data_that_does_not_fit_is_the_callers_mistake_and_not_the_versions(kit: GateKit, arrays: Any) -> None:
    kit.digits(1)
    assert code_of(kit, 1, kit.dataset(**arrays)) == "gate.dataset_mismatch"
    assert kit.versions.get("digits", 1).status is Status.REGISTERED
    assert kit.gates.page("digits", 1, PageRequest(limit=5)) == []


def test_a_later_failure_takes_a_gated_version_back_but_not_an_approved_one(kit: GateKit) -> None:
    kit.digits(1)
    kit.digits(2, seed=1)
    good = kit.dataset()
    bad = kit.dataset(y=(load_digits().test_y + 1) % 10, name="wrong labels")
    for version in (1, 2):
        assert kit.gate(version, good).passed
    kit.set_status("digits", 2, Status.APPROVED)
    for version in (1, 2):
        assert not kit.gate(version, bad).passed
    assert kit.versions.get("digits", 1).status is Status.REJECTED
    assert kit.versions.get("digits", 2).status is Status.APPROVED


def test_what_is_not_there_cannot_be_gated(kit: GateKit) -> None:
    kit.digits(1)
    with pytest.raises(NotFound) as caught:
        kit.gates.evaluate("digits", 1, "ab" * 32, "dana")
    assert caught.value.code == "dataset.unknown"
    data = kit.dataset()
    kit.versions.withdraw("digits", 1, "", "olga")
    with pytest.raises(Conflict):
        kit.gate(1, data)


def test_the_same_data_again_keeps_its_name(kit: GateKit) -> None:
    assert kit.dataset(name="first").sha256 == kit.dataset(name="second").sha256
    assert [row.name for row in kit.datasets.list()] == ["first"]


def test_data_that_is_not_data_is_not_kept(kit: GateKit) -> None:
    upload = kit.datasets.receive()
    upload.write(b"noise")
    with pytest.raises(InvalidInput):
        kit.datasets.add(upload, "", "dana")
    upload.discard()
    assert not [path for path in (kit.folder / "blobs").rglob("*") if path.is_file()]


# --- the child process ------------------------------------------------------------------------------------------------
def child(script: str) -> list[str]:
    return [sys.executable, "-c", script]


MISBEHAVIOUR = {
    "it crashes": ("import os; os.abort()", "exit code -6"),
    "it ends at once without reading": ("raise SystemExit(3)", "exit code 3"),
    "it answers with noise": ("import sys; sys.stdin.read(); print('{\"candidate\": 7')", "exit code 0"),
    "it never stops talking": ("import sys; sys.stdin.read(); print('x' * 10_000_000)", "too much"),
    "it throws": ("import sys; sys.stdin.read(); raise MemoryError('nothing left')", "nothing left"),
}


@pytest.mark.parametrize("case", list(MISBEHAVIOUR))
def test_a_child_that_misbehaves_fails_the_version(kit: GateKit, case: str) -> None:
    script, expected = MISBEHAVIOUR[case]
    kit.digits(1)
    result = kit.gate(1, kit.dataset(), kit.gate_service(child(script)))
    assert not result.passed
    assert expected in failed(result)["evaluation"]
    assert "gate.worker_crashed" in failed(result)["evaluation"]


def test_a_child_that_hangs_is_ended_with_all_that_it_started(kit: GateKit) -> None:
    script = (
        "import subprocess, sys, time, pathlib\n"
        "p = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        f"pathlib.Path({str(kit.folder / 'pid')!r}).write_text(str(p.pid))\n"
        "time.sleep(600)\n"
    )
    kit.digits(1)
    service = kit.gate_service(child(script), Limits(timeout_s=2.0))
    assert "gate.timeout" in failed(kit.gate(1, kit.dataset(), service))["evaluation"]
    grandchild = Path(f"/proc/{(kit.folder / 'pid').read_text()}/stat")
    assert not grandchild.exists() or grandchild.read_text().split()[2] == "Z"


def test_what_a_killed_hub_left_behind_is_removed(kit: GateKit) -> None:
    left, running = kit.folder / "scratch" / "gate-left", kit.folder / "scratch" / "gate-running"
    for folder in (left, running):
        folder.mkdir(parents=True)
        (folder / "model.tflite").write_bytes(b"x")
    os.utime(left, (0, 0))
    kit.digits(1)
    kit.gate(1, kit.dataset(), kit.gate_service(child("raise SystemExit(1)")))
    assert (left.exists(), running.exists()) == (False, True)


def test_the_child_sees_nothing_of_the_hubs_environment(kit: GateKit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SKERRY_HUB_SECRET", "hush")
    script = f"import os, pathlib; pathlib.Path({str(kit.folder / 'env')!r}).write_text(repr(dict(os.environ)))"
    kit.digits(1)
    kit.gate(1, kit.dataset(), kit.gate_service(child(script)))
    assert "PYTHONPATH" in (kit.folder / "env").read_text()
    assert "hush" not in (kit.folder / "env").read_text()


def test_the_real_worker_keeps_within_its_memory(kit: GateKit) -> None:
    kit.digits(1)
    service = kit.gate_service(limits=Limits(memory_bytes=64 * 1024**2))
    result = kit.gate(1, kit.dataset(), service)
    assert "gate.worker_crashed" in failed(result)["evaluation"]
