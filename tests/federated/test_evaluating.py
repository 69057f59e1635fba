"""The evaluation after the last round: who is asked, what counts, and that it ends."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from hub.federated.definition import RunDefinition
from hub.federated.evaluating import Evaluating
from hub.federated.run import Run
from hub.federated.tasks import Failure, Reply, Task
from tests.federated.fleet import Fleet, make_run

GOOD = {"held_out_loss": 0.2, "held_out_accuracy": 0.9, "base_loss": 0.5, "base_accuracy": 0.8}


def _answer(fleet: Fleet, task: Task, examples: object = 10, **metrics: object) -> Reply:
    assert task.kind == "evaluate"
    assert task.config == {"round": 1, "held_out": 0.2}
    return Reply(task_id="", node_id=task.node_id, examples=examples, metrics={**GOOD, **metrics})


def _evaluate(
    fleet: Fleet, devices: int, offline: tuple[int, ...] = (), **more: Any
) -> tuple[Run, Evaluating, list[str]]:
    plain = {"model": "m", "rounds": {"goal": 2, "quorum": 1, "deadline_s": 30}, "admission": {"max_examples": 100}}
    run = make_run(fleet, msgspec.convert({**plain, **more}, RunDefinition), devices, offline=offline)
    evaluating = Evaluating(run, fleet)
    return run, evaluating, [device.device_id for device in evaluating.evaluate()]


def test_all_who_may_take_part_are_asked_and_not_only_a_round_full() -> None:
    fleet = Fleet(dict.fromkeys(range(1, 8), _answer))
    _, evaluating, found = _evaluate(fleet, 7)
    assert evaluating.asked == found == [f"d-{n}" for n in range(1, 8)]
    assert fleet.asks == [(1, found)]
    assert evaluating.bytes_down == 7 * 24
    assert fleet.now < 30


def test_no_more_are_asked_than_the_definition_says() -> None:
    fleet = Fleet(dict.fromkeys(range(1, 8), _answer))
    _, evaluating, found = _evaluate(fleet, 7, evaluation={"devices": 3})
    assert len(found) == len(evaluating.asked) == 3


@pytest.mark.parametrize(
    "wrong",
    [
        {"held_out_accuracy": 1.1},
        {"held_out_accuracy": float("nan")},
        {"base_accuracy": -0.1},
        {"held_out_loss": float("inf")},
        {"held_out_loss": 1e7},
        {"base_loss": True},
        {"base_loss": "0"},
        {"other": 1.0},
        {"examples": 0},
        {"examples": True},
        {"examples": 3.0},
    ],
)
def test_an_answer_that_cannot_be_does_not_count(wrong: dict[str, object]) -> None:
    fleet = Fleet({1: lambda f, t: _answer(f, t, **wrong), 2: _answer})
    assert _evaluate(fleet, 2)[2] == ["d-2"]


def test_an_answer_without_the_base_does_not_count() -> None:
    def stock(fleet: Fleet, task: Task) -> Reply:
        return Reply(task_id="", node_id=task.node_id, examples=10, metrics={"held_out_accuracy": 0.9})

    assert _evaluate(Fleet({1: stock, 2: _answer}), 2)[2] == ["d-2"]


def test_a_device_that_claims_many_examples_counts_as_the_bound() -> None:
    fleet = Fleet({1: lambda f, t: _answer(f, t, examples=10**9)})
    run = make_run(fleet, msgspec.convert({"model": "m", "admission": {"max_examples": 100}}, RunDefinition), 1)
    assert [device.examples for device in Evaluating(run, fleet).evaluate()] == [100]


def test_who_is_silent_fails_or_is_away_holds_it_up_until_the_deadline_and_no_longer() -> None:
    def fails(fleet: Fleet, task: Task) -> Failure:
        return Failure(task_id="", node_id=task.node_id, reason="wet")

    fleet = Fleet({1: _answer, 2: fails, 3: lambda f, t: None, 4: _answer})
    assert _evaluate(fleet, 4, offline=(4,))[2] == ["d-1"]
    assert 30 <= fleet.now < 32


def test_who_declines_or_is_removed_is_not_waited_for() -> None:
    fleet = Fleet({1: _answer, 2: _answer, 3: lambda f, t: None})
    run = make_run(fleet, msgspec.convert({"model": "m"}, RunDefinition), 3, offline=(2,))

    def meanwhile() -> None:
        if fleet.now > 3:
            run.decline("d-2")
            run.roster.remove("d-3")

    fleet.meanwhile = meanwhile
    assert [device.device_id for device in Evaluating(run, fleet).evaluate()] == ["d-1"]
    assert fleet.now < 10


def test_a_cancelled_run_is_not_waited_for() -> None:
    fleet = Fleet({1: lambda f, t: None})
    run = make_run(fleet, msgspec.convert({"model": "m"}, RunDefinition), 1)
    fleet.meanwhile = run.cancel
    assert Evaluating(run, fleet).evaluate() == []
    assert fleet.now < 3


def test_nobody_to_ask_is_no_wait() -> None:
    fleet = Fleet()
    assert _evaluate(fleet, 0)[2] == []
    assert (fleet.now, fleet.asks) == (0.0, [])
