"""A run keeps its promises: what counts in a round, who is asked, when it ends, and how it goes on after a kill."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest

from hub.federated.checkpoint import read_checkpoint
from hub.federated.definition import RunDefinition, Strategy
from hub.federated.run import RunEnd
from hub.federated.selection import QUARANTINE_REJECTIONS
from hub.federated.tasks import Failure, Reply, Task
from shared.errors import Conflict, InvalidInput, SkerryError, Unavailable
from shared.federated.codec import Scheme, encode
from tests.federated.fleet import SIZES, Fleet, Killed, Script, go, make_run, trained


def _definition(strategy: str = "fedavg", **rounds: Any) -> RunDefinition:
    plain = {"model": "vision", "rounds": {"count": 3, "goal": 4, "quorum": 3, "deadline_s": 20, **rounds}}
    run = msgspec.convert(plain, RunDefinition)
    return msgspec.structs.replace(run, strategy=Strategy(name=strategy))


def _silent(fleet: Fleet, task: Task) -> None:
    return None


def _failing(fleet: Fleet, task: Task) -> Failure:
    return Failure(task_id="", node_id=task.node_id, reason="the sensor is wet")


def _with(**changes: Any) -> Script:
    def script(fleet: Fleet, task: Task) -> Reply:
        return msgspec.structs.replace(trained(fleet, task), **changes)

    return script


NAN = _with(update=b"\x01" + np.full(6, np.nan, "<f4").tobytes())
HUGE = _with(update=encode(np.full(6, 1e3, np.float32), SIZES, Scheme.FLOAT32)[0])


@pytest.mark.parametrize("mode", ["synchronous", "buffered"])
def test_a_run_goes_to_its_end_and_the_model_moves(mode: str) -> None:
    fleet = Fleet()
    run = make_run(fleet, _definition(mode=mode, count=12), 5)
    assert go(run) is RunEnd.FINISHED
    assert [report.round_no for report in fleet.reports] == list(range(1, 13))
    np.testing.assert_allclose(run.weights, 1.3, atol=0.1)
    assert run.exchange.bytes_down >= 12 * 4 * 24
    assert run.exchange.bytes_up >= 12 * 4 * 25
    assert fleet.out == {}


def test_a_round_over_selects_and_closes_at_its_goal() -> None:
    fleet = Fleet(after_s={1: 90.0, 2: 90.0})
    run = make_run(fleet, _definition(), 6)
    go(run)
    first = fleet.reports[0]
    assert len(first.asked) == 6
    assert len(first.admitted) == 4
    assert first.dropped == []  # what nobody waited for is no drop-out
    assert all(task.ttl_s <= 20 for task in fleet.given)


def test_a_round_closes_at_its_deadline_with_a_quorum_and_counts_who_dropped() -> None:
    fleet = Fleet({1: _silent, 2: _failing})
    run = make_run(fleet, _definition(count=1), 5)
    go(run)
    (report,) = fleet.reports
    assert report.seconds >= 20 or report.joined == ["d-1", "d-2", "d-3", "d-4", "d-5"]
    assert report.admitted == ["d-3", "d-4", "d-5"]
    assert report.dropped == ["d-1", "d-2"]
    assert run.roster.of("d-1").dropped == run.roster.of("d-2").dropped == 1


@pytest.mark.parametrize(
    ("script", "code"),
    [
        (NAN, "update.not_finite"),
        (HUGE, "update.outlier"),
        (_with(update=b"\x01\x00"), "update.shape"),
        (_with(update=None), "update.shape"),
        (_with(update=None, weights=np.full(6, np.nan, np.float32)), "update.not_finite"),
        (_with(update=None, weights=np.array(["x"] * 6)), "update.shape"),
        (_with(examples=-1), "update.examples"),
        (_with(metrics={"secret": 1.0}), "update.metrics"),
    ],
)
@pytest.mark.parametrize("strategy", ["fedavg", "fedyogi", "multikrum"])
def test_a_bad_answer_costs_itself_and_ends_in_quarantine(script: Script, code: str, strategy: str) -> None:
    bad, clean = Fleet({1: script}), Fleet({1: _silent})
    definition = _definition(strategy, count=QUARANTINE_REJECTIONS + 1, goal=5)
    run = make_run(bad, definition, 5)
    assert go(run) is RunEnd.FINISHED
    assert [r.rejected for r in bad.reports] == [{"d-1": code}] * QUARANTINE_REJECTIONS + [{}]
    assert "d-1" not in bad.reports[-1].asked
    without = make_run(clean, definition, 5)
    go(without)
    np.testing.assert_array_equal(run.weights, without.weights)


def test_a_lie_about_examples_does_not_take_the_model_over() -> None:
    fleet = Fleet({1: _with(examples=10**9)})
    definition = _definition(count=1, goal=5)
    definition = msgspec.structs.replace(
        definition, admission=msgspec.structs.replace(definition.admission, max_examples=10)
    )
    run = make_run(fleet, definition, 5)
    go(run)
    honest = make_run(Fleet(), definition, 5)
    go(honest)
    np.testing.assert_array_equal(run.weights, honest.weights)


def test_a_stock_node_that_sends_all_weights_counts_as_well() -> None:
    def stock(fleet: Fleet, task: Task) -> Reply:
        moved = task.weights + np.float32(0.5) * (np.full(6, 1 + task.node_id / 10, np.float32) - task.weights)
        return msgspec.structs.replace(trained(fleet, task), update=None, weights=moved)

    ours, mixed = make_run(Fleet(), _definition(), 4), make_run(Fleet({2: stock}), _definition(), 4)
    go(ours)
    go(mixed)
    np.testing.assert_allclose(mixed.weights, ours.weights, rtol=1e-6)


@pytest.mark.parametrize("mode", ["synchronous", "buffered"])
def test_rounds_that_are_abandoned_too_often_end_the_run(mode: str) -> None:
    fleet = Fleet(dict.fromkeys((1, 2, 3), NAN) | {4: _failing, 5: _failing})
    run = make_run(fleet, _definition(mode=mode, patience=2, goal=3), 12 if mode == "buffered" else 5)
    fleet.scripts |= dict.fromkeys(range(6, 13), _failing)
    with pytest.raises(Conflict) as caught:
        go(run)
    assert caught.value.code == "federated.abandoned"
    assert [report.abandoned for report in fleet.abandons] == ["federated.quorum"] * 2
    assert fleet.kept == []
    assert (run.weights == 0).all()


@pytest.mark.parametrize("mode", ["synchronous", "buffered"])
def test_waiting_for_devices_has_an_end(mode: str) -> None:
    fleet = Fleet()
    run = make_run(fleet, _definition(mode=mode, wait_s=300), 5, offline=range(1, 6))
    with pytest.raises(Unavailable) as caught:
        go(run)
    assert caught.value.code == "federated.no_devices"
    assert 300 <= fleet.now < 400
    assert fleet.abandons == []


def test_devices_that_come_late_begin_the_round() -> None:
    fleet = Fleet()
    run = make_run(fleet, _definition(count=1, wait_s=300), 5, offline=range(1, 6))

    def meanwhile() -> None:
        if fleet.now > 50:
            fleet.online |= {1, 2, 3}

    fleet.meanwhile = meanwhile
    assert go(run) is RunEnd.FINISHED
    assert fleet.reports[0].admitted == ["d-1", "d-2", "d-3"]


def test_who_declines_is_not_waited_for_and_not_pestered() -> None:
    fleet = Fleet()
    run = make_run(fleet, _definition(count=2, wait_s=600), 5, offline=(4, 5))
    said: list[str] = []

    def meanwhile() -> None:
        for device_id in ("d-4", "d-5"):
            if device_id not in said:
                said.append(device_id)
                run.decline(device_id)

    fleet.meanwhile = meanwhile
    go(run)
    assert fleet.now < 20
    assert run.roster.of("d-4").declined == 1
    assert fleet.asks[1][1] == ["d-1", "d-2", "d-3"]


@pytest.mark.parametrize("mode", ["synchronous", "buffered"])
def test_a_device_that_is_removed_does_not_count_from_then_on(mode: str) -> None:
    fleet = Fleet(after_s={2: 3.0, 3: 3.0, 4: 3.0, 5: 3.0})
    run = make_run(fleet, _definition(mode=mode, count=1, goal=4), 5)

    def meanwhile() -> None:
        if fleet.now >= 0.5:
            run.roster.remove("d-1")

    fleet.meanwhile = meanwhile
    go(run)
    assert fleet.reports[0].admitted == ["d-2", "d-3", "d-4", "d-5"]


def test_a_cancelled_run_ends_where_it_stood() -> None:
    fleet = Fleet()
    run = make_run(fleet, _definition(count=50), 5)

    def meanwhile() -> None:
        if len(fleet.reports) == 2:
            run.cancel()

    fleet.meanwhile = meanwhile
    assert go(run) is RunEnd.CANCELLED
    assert len(fleet.reports) == 2


@pytest.mark.parametrize("strategy", ["fedavg", "fedavgm", "fedadam", "fedyogi", "median"])
@pytest.mark.parametrize("mode", ["synchronous", "buffered"])
def test_a_killed_run_goes_on_to_the_same_bits(strategy: str, mode: str) -> None:
    if (strategy, mode) == ("median", "buffered"):
        pytest.skip("refused by the definition")
    definition = _definition(strategy, mode=mode, count=6, goal=4)
    whole = Fleet({1: NAN})
    uncut = make_run(whole, definition, 5)
    go(uncut)

    cut = Fleet({1: NAN})
    first = make_run(cut, definition, 5)

    def meanwhile() -> None:
        if len(cut.reports) == 3 and cut.out:
            raise Killed

    cut.meanwhile = meanwhile
    with pytest.raises(Killed):
        go(first)
    resumed = Fleet({1: NAN})
    run = make_run(resumed, definition, 5, kept=cut.kept[-1])
    go(run)
    assert [r.round_no for r in resumed.reports] == [4, 5, 6]
    assert run.roster.of("d-1").refused == uncut.roster.of("d-1").refused == QUARANTINE_REJECTIONS
    if mode == "synchronous":  # a buffered run makes its step of whoever was first
        np.testing.assert_array_equal(run.weights, uncut.weights)
        assert resumed.asks == whole.asks[3:]
    read = read_checkpoint(resumed.kept[-1])
    np.testing.assert_array_equal(read.weights, run.weights)


def test_a_checkpoint_of_another_run_is_refused() -> None:
    fleet = Fleet()
    go(make_run(fleet, _definition(), 5))
    with pytest.raises(InvalidInput) as caught:
        make_run(Fleet(), _definition(count=7), 5, kept=fleet.kept[-1])
    assert caught.value.code == "federated.checkpoint"


def test_weights_that_are_not_finite_end_the_run_and_are_not_kept() -> None:
    class Exploding:
        def step(self, weights: Any, updates: Any, round_no: int) -> Any:
            return weights * np.float32(np.inf)

        def memory(self) -> dict[str, Any]:
            return {}

        def restore(self, memory: dict[str, Any]) -> None:
            return None

    fleet = Fleet()
    run = make_run(fleet, _definition(), 5)
    run._step = Exploding()
    with pytest.raises(SkerryError) as caught:
        go(run)
    assert caught.value.code == "federated.diverged"
    assert fleet.kept == []
