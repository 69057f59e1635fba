"""From a finished run to a gated candidate: the right bytes, once, whatever happens in between."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from hub.blobs.store import BlobWriter
from hub.federated.candidate import cohort_digest
from hub.federated.definition import EvaluationRule, RunDefinition, Training
from hub.federated.handover import ACTOR, HandOver, refusal
from hub.federated.outcome import HandedOver, PrivacySpent
from hub.federated.trial import Trial, TrialResponse
from hub.gates.protocol import Limits
from hub.gates.service import GateService
from hub.registry.models import ModelChange
from hub.registry.versions import RegistryEntry, VersionService
from hub.store import registry
from hub.store.page import PageRequest
from hub.store.registry import GateRow, Status
from shared.drift.reference import parse_calibration, parse_reference
from shared.errors import SkerryError, Unavailable
from shared.runtime.arrays import array_bytes, parse_array
from tests.databases import Backend, SqliteBackend
from tests.federated.handover_kit import HandOverKit, changed_paths, evaluation, finished
from tests.models import digits_model


@pytest.fixture(scope="module")
def backend(tmp_path_factory: pytest.TempPathFactory) -> Backend:
    """One kind is enough: the queries are in `tests/registry`, on both."""
    return SqliteBackend(tmp_path_factory.mktemp("template"))


@pytest.fixture
def kit(tmp_path: Path, database_url: str) -> Iterator[HandOverKit]:
    kit = HandOverKit(tmp_path, database_url)
    yield kit
    kit.close()


def test_a_run_becomes_the_next_version_with_only_its_head_changed(kit: HandOverKit) -> None:
    kit.base()
    dataset = kit.dataset()
    found = kit.hand_over().finish(kit.outcome(privacy_spent=PrivacySpent(mode="server", epsilon=3.5, delta=1e-5)))
    assert (found.version, found.gate_passed, found.code) == (2, True, "")
    row = kit.versions.get("digits", 2)
    assert (row.status, row.created_by, row.parent_version) == (Status.GATED, ACTOR, 1)
    before, old = kit.contents(1)
    after, new = kit.contents(2)
    assert changed_paths(old, new) == [
        "calibration.json", "card.md", "golden/outputs.npy", "reference.json", "weights/0.npy", "weights/1.npy",
    ]  # fmt: skip
    assert [entry.path for entry in after.files] == [entry.path for entry in before.files]
    assert np.array_equal(parse_array(new["weights/1.npy"]), digits_model(1).weights["w"])
    lineage = after.lineage
    assert (lineage.parent_version, lineage.training_run) == (1, "f-0123456789ab")
    assert lineage.parameters["cohort_sha256"] == cohort_digest(["cam-3", "cam-2", "cam-1"])
    assert lineage.parameters["rounds"] == 30
    assert lineage.parameters["privacy"]["epsilon"] == 3.5
    assert lineage.parameters["evaluation"]["whole"]["accuracy"] == pytest.approx(0.9)
    assert lineage.parameters["reference"] == "input of version 1; predictions on held-out"
    assert "epsilon 3.5" in row.card
    assert "Worst: hall, 0.900." in row.card
    assert "## Card of version 1\n\n# Digits" in row.card
    (gate,) = kit.gates.page("digits", 2, PageRequest(limit=5))
    assert (gate.dataset_sha256, gate.by, gate.passed) == (dataset.sha256, ACTOR, True)
    assert gate.metrics["values"]["accuracy"] > 0.9  # of what is released: int8 extractor, float head of the run
    assert gate.metrics["values"]["golden_max_difference"] == 0.0


def test_the_reference_keeps_the_input_and_counts_predictions_anew(kit: HandOverKit) -> None:
    kit.base()
    kit.dataset()
    kit.hand_over().finish(kit.outcome())
    before, after = (parse_reference(kit.contents(version)[1]["reference.json"]) for version in (1, 2))
    assert after.of("input") == before.of("input")
    assert (after.rows, after.predicted) == (200, 540)
    assert after.classes is not None
    assert sum(after.classes.counts) == 540
    calibration = parse_calibration(kit.contents(2)[1]["calibration.json"])
    assert calibration.rows == 540
    right = kit.gates.page("digits", 2, PageRequest(limit=1))[0].metrics["values"]["accuracy"]
    assert sum(calibration.correct) / 540 == pytest.approx(right)


def test_without_a_data_set_the_reference_stays_and_the_calibration_goes(kit: HandOverKit) -> None:
    kit.base()
    found = kit.hand_over().finish(kit.outcome())
    assert (found.version, found.gate_passed, found.code) == (2, None, "federated.no_dataset")
    manifest, new = kit.contents(2)
    assert new["reference.json"] == kit.contents(1)[1]["reference.json"]
    assert manifest.calibration is None
    assert "calibration.json" not in new
    assert manifest.lineage.parameters["reference"] == "of version 1"
    assert kit.versions.get("digits", 2).status is Status.REGISTERED


def test_a_data_set_that_is_too_small_for_a_reference_is_said(kit: HandOverKit) -> None:
    kit.models.change(
        "digits",
        ModelChange(gate={"checks": [{"metric": "golden_passed", "op": ">=", "value": 1}], "min_samples": 1}),
        "dana",
    )
    kit.base()
    kit.dataset(rows=30)
    assert kit.hand_over().finish(kit.outcome()).gate_passed is True
    assert kit.contents(2)[0].lineage.parameters["reference"] == "of version 1 (reference.data)"


def test_the_same_run_gives_the_same_bytes(kit: HandOverKit) -> None:
    kit.base()
    kit.dataset()
    digests = set()
    for run_id in ("f-0123456789ab", "f-0123456789ab"):
        assembly = _Recorder(kit.db, kit.clock, kit.audit, kit.blobs)
        with pytest.raises(_Killed):
            kit.hand_over(versions=assembly).finish(kit.outcome(run_id=run_id))
        digests.add(assembly.sealed)
    assert len(digests) == 1


class _Killed(BaseException):
    """The hub ended here."""


class _Recorder(VersionService):
    """Looks at what would be registered."""

    sealed = ""

    def register(self, model: str, upload: BlobWriter, actor: str) -> RegistryEntry:
        self.sealed = upload.seal().sha256
        raise _Killed


class _Before(VersionService):
    def register(self, model: str, upload: BlobWriter, actor: str) -> RegistryEntry:
        raise _Killed


class _After(VersionService):
    def register(self, model: str, upload: BlobWriter, actor: str) -> RegistryEntry:
        super().register(model, upload, actor)
        raise _Killed


class _Within(VersionService):
    def _record(self, *arguments: Any) -> RegistryEntry:
        raise _Killed  # the bytes are stored, the version is not


class _GateBefore(GateService):
    def evaluate(self, model: str, version: int, dataset_sha256: str, actor: str) -> GateRow:
        raise _Killed


class _GateAfter(GateService):
    def evaluate(self, model: str, version: int, dataset_sha256: str, actor: str) -> GateRow:
        super().evaluate(model, version, dataset_sha256, actor)
        raise _Killed


class _DyingTrial(Trial):
    def run(self, bundle: Path, dataset: Path | None, scratch: Path) -> TrialResponse:
        raise _Killed


def _dying(kit: HandOverKit, where: str) -> HandOver:
    gates = (kit.db, kit.clock, kit.audit, kit.blobs, kit.gates._runner, 0.8)
    registry_parts = (kit.db, kit.clock, kit.audit, kit.blobs)
    parts: dict[str, dict[str, Any]] = {
        "trial": {"trial": _DyingTrial(Limits())},
        "registration": {"versions": _Before(*registry_parts)},
        "blob": {"versions": _Within(*registry_parts)},
        "registered": {"versions": _After(*registry_parts)},
        "gate": {"gates": _GateBefore(*gates)},
        "gated": {"gates": _GateAfter(*gates)},
    }
    return kit.hand_over(**parts[where])


@pytest.mark.parametrize("where", ["trial", "registration", "blob", "registered", "gate", "gated"])
def test_a_hand_over_killed_anywhere_goes_on_and_registers_once(kit: HandOverKit, where: str) -> None:
    kit.base()
    kit.dataset()
    with pytest.raises(_Killed):
        _dying(kit, where).finish(kit.outcome())
    found = kit.hand_over().finish(kit.outcome())
    assert (found.version, found.gate_passed) == (2, True)
    assert kit.hand_over().finish(kit.outcome()) == found
    assert kit.all_versions() == [1, 2]
    assert len(kit.gates.page("digits", 2, PageRequest(limit=9))) == 1
    assert list((kit.folder / "scratch").iterdir()) == []


def test_what_a_killed_hub_left_behind_is_removed(kit: HandOverKit) -> None:
    kit.base()
    old, fresh = kit.folder / "scratch" / "candidate-old", kit.folder / "scratch" / "candidate-new"
    for folder in (old, fresh):
        folder.mkdir(parents=True)
        (folder / "bundle").write_bytes(b"x")
    os.utime(old, (1.0, 1.0))
    kit.hand_over().finish(kit.outcome())
    assert not old.exists()
    assert fresh.exists()


def test_another_run_on_the_same_base_gets_the_next_number(kit: HandOverKit) -> None:
    kit.base()
    first = kit.hand_over().finish(kit.outcome())
    second = kit.hand_over().finish(kit.outcome(run_id="f-ffffffffffff"))
    assert (first.version, second.version) == (2, 3)


def test_a_version_that_somebody_else_says_is_of_the_run_is_not_taken_for_it(kit: HandOverKit) -> None:
    kit.base()
    kit.hand_over().finish(kit.outcome(run_id="f-ffffffffffff"))
    manifest, _ = kit.contents(2)
    forged = msgspec.structs.replace(manifest.lineage, training_run="f-0123456789ab")
    kit.base(version=3, lineage=forged)
    assert kit.hand_over().finish(kit.outcome()).version == 4


class _Overtaken(VersionService):
    """Somebody registers the number first."""

    def register(self, model: str, upload: BlobWriter, actor: str) -> RegistryEntry:
        if self.overtake is not None:
            overtake, self.overtake = self.overtake, None
            overtake(version=2)
        return super().register(model, upload, actor)

    overtake: Any = None


def test_a_number_that_somebody_takes_meanwhile_is_left_to_them(kit: HandOverKit) -> None:
    kit.base()
    versions = _Overtaken(kit.db, kit.clock, kit.audit, kit.blobs)
    versions.overtake = kit.base
    assert kit.hand_over(versions=versions).finish(kit.outcome()).version == 3
    assert kit.contents(3)[0].version == 3


def test_a_candidate_that_fails_its_gate_stays_and_says_why(kit: HandOverKit) -> None:
    kit.base()
    kit.dataset()
    found = kit.hand_over().finish(kit.outcome(weights=np.zeros(650, np.float32)))
    assert (found.version, found.gate_passed, found.code) == (2, False, "federated.gate_failed")
    assert "accuracy is" in found.reason
    assert kit.versions.get("digits", 2).status is Status.REJECTED


def test_a_candidate_that_devices_find_worse_is_not_handed_over(kit: HandOverKit) -> None:
    kit.base()
    kit.dataset()
    found = kit.hand_over().finish(kit.outcome(evaluation=evaluation(0.67, 0.7)))
    assert (found.version, found.code) == (None, "federated.accuracy_dropped")
    assert "0.6700" in found.reason
    assert kit.all_versions() == [1]


def _definition(**more: Any) -> RunDefinition:
    return msgspec.structs.replace(RunDefinition(model="digits"), **more)


@pytest.mark.parametrize(
    ("found", "definition", "code"),
    [
        ((0.69, 0.7, 3), _definition(), ""),
        ((0.67, 0.7, 3), _definition(), "federated.accuracy_dropped"),
        ((0.67, 0.7, 3), _definition(evaluation=EvaluationRule(max_drop=0.05)), ""),
        ((0.9, 0.7, 2), _definition(evaluation=EvaluationRule(min_devices=3)), "federated.not_evaluated"),
        (None, _definition(), "federated.not_evaluated"),
        (None, _definition(evaluation=EvaluationRule(on_devices=False)), ""),
        (None, _definition(training=Training(held_out=0.0)), ""),
        (None, _definition(evaluation=EvaluationRule(min_devices=0)), ""),
    ],
)
def test_what_devices_measured_decides_before_anything_is_made(
    found: tuple[float, float, int] | None, definition: RunDefinition, code: str
) -> None:
    measured = None if found is None else evaluation(*found)
    refused = refusal(finished(base_bundle_sha256="0" * 64, definition=definition, evaluation=measured))
    assert ("" if refused is None else refused.code) == code


def test_weights_that_do_not_fit_are_registered_nowhere(kit: HandOverKit) -> None:
    kit.base()
    wrong = {"update.not_finite": np.full(650, np.nan, np.float32), "update.shape": np.zeros(651, np.float32)}
    for code, weights in wrong.items():
        with pytest.raises(SkerryError) as caught:
            kit.hand_over().finish(kit.outcome(weights=weights))
        assert caught.value.code == code
    assert kit.all_versions() == [1]


def test_a_base_that_is_withdrawn_or_another_is_refused(kit: HandOverKit) -> None:
    kit.base()
    outcome = kit.outcome()
    with pytest.raises(SkerryError) as caught:
        kit.hand_over().finish(msgspec.structs.replace(outcome, base_bundle_sha256="0" * 64))
    assert caught.value.code == "federated.base"
    kit.versions.withdraw("digits", 1, "test", "dana")
    with pytest.raises(SkerryError) as caught:
        kit.hand_over().finish(outcome)
    assert caught.value.code == "version.withdrawn"


def test_the_second_cycle_keeps_the_first_card_and_does_not_stack_up(kit: HandOverKit) -> None:
    kit.base()
    kit.dataset()
    kit.hand_over().finish(kit.outcome())
    digest = kit.versions.get("digits", 2).bundle_sha256
    again = kit.outcome(run_id="f-ffffffffffff", base_version=2, base_bundle_sha256=digest)
    found = kit.hand_over().finish(again)
    assert (found.version, found.gate_passed) == (3, True)
    card = kit.versions.get("digits", 3).card
    assert card.startswith("# digits 3\n\nTrained on 3 devices from version 2")
    assert card.count("## Card of version") == 1
    assert "## Card of version 1\n\n# Digits" in card
    assert [entry.path for entry in kit.contents(3)[0].files] == [entry.path for entry in kit.contents(1)[0].files]


def _answering(kit: HandOverKit, answer: str) -> Trial:
    script = f"import sys, msgspec; sys.stdin.buffer.read(); {answer}"
    return Trial(Limits(timeout_s=60.0), [sys.executable, "-c", script])


def test_a_child_that_dies_or_lies_registers_nothing(kit: HandOverKit) -> None:
    kit.base()
    other = array_bytes(np.full((8, 10), np.nan, np.float32))
    for answer in (
        "sys.exit('no luck')",
        "sys.stdout.write('nonsense')",
        f"sys.stdout.buffer.write(msgspec.msgpack.encode({{'golden': {other!r}}}))",
    ):
        with pytest.raises(SkerryError) as caught:
            kit.hand_over(trial=_answering(kit, answer)).finish(kit.outcome())
        assert caught.value.code == "federated.trial_failed"
    lie = json.dumps({"schema_version": 1}).encode()
    golden = kit.contents(1)[1]["golden/outputs.npy"]
    answer = f"sys.stdout.buffer.write(msgspec.msgpack.encode({{'golden': {golden!r}, 'reference': {lie!r}}}))"
    with pytest.raises(SkerryError) as caught:
        kit.hand_over(trial=_answering(kit, answer)).finish(kit.outcome())
    assert caught.value.code == "reference.malformed"
    assert kit.all_versions() == [1]


def test_a_stopped_hub_ends_the_trial_and_may_go_on_later(kit: HandOverKit) -> None:
    kit.base()
    kit.trial.stop()
    with pytest.raises(Unavailable) as caught:
        kit.hand_over().finish(kit.outcome())
    assert (caught.value.code, caught.value.retriable) == ("federated.stopped", True)


def test_a_gate_that_cannot_run_now_is_for_later(kit: HandOverKit) -> None:
    class Busy(GateService):
        def evaluate(self, model: str, version: int, dataset_sha256: str, actor: str) -> GateRow:
            raise Unavailable("gate.busy", "Other gates are running.", retriable=True)

    kit.base()
    kit.dataset()
    busy = Busy(kit.db, kit.clock, kit.audit, kit.blobs, kit.gates._runner, 0.8)
    with pytest.raises(Unavailable):
        kit.hand_over(gates=busy).finish(kit.outcome())
    found = kit.hand_over().finish(kit.outcome())
    assert isinstance(found, HandedOver)
    assert (found.version, found.gate_passed) == (2, True)
    with kit.db.read() as connection:
        assert registry.children(connection, "digits", 1, ACTOR) == [2]
