"""A device is not asked beyond its budget, and a run ends at its own: with what it has, or with a reason."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.federated.definition import Rounds, RunBudget, RunDefinition, Strategy, Training, run_of
from hub.federated.run import Run, RunEnd
from hub.federated.spending import device_bytes
from shared.errors import Conflict, InvalidInput
from shared.federated.codec import Scheme
from shared.limits import MIB
from tests.federated.fleet import SIZES, Fleet, go, make_run

MODES = pytest.mark.parametrize("mode", ["synchronous", "buffered"])


def definition(budget: RunBudget, mode: Any = "synchronous", **rounds: Any) -> RunDefinition:
    chosen = {"count": 20, "goal": 2, "quorum": 2, "deadline_s": 10, "wait_s": 60, **rounds}
    return RunDefinition(
        model="m",
        rounds=Rounds(mode=mode, **chosen),
        strategy=Strategy(name="fedavg"),
        training=Training(scheme=Scheme.FLOAT32),
        budget=budget,
    )


EACH = sum(device_bytes(definition(RunBudget()), SIZES))


def moved(run: Run) -> int:
    return sum(one.bytes_down + one.bytes_up for one in run.roster.standings())


@MODES
def test_no_device_moves_more_than_its_budget_and_the_run_ends_when_none_has_room(mode: str) -> None:
    fleet = Fleet()
    run = make_run(fleet, definition(RunBudget(device_bytes=3 * EACH), mode), 4)
    assert go(run) is RunEnd.SPENT
    assert all(one.bytes_down + one.bytes_up <= 3 * EACH for one in run.roster.standings())
    assert 4 <= run.round_no <= 6
    assert run.out_of_budget().code == "federated.budget"
    assert fleet.now < 60, "it does not wait for devices that will not come"


@MODES
def test_a_run_ends_before_its_own_budget_is_exceeded(mode: str) -> None:
    run = make_run(Fleet(), definition(RunBudget(bytes=9 * EACH), mode), 4)
    assert go(run) is RunEnd.SPENT
    assert 6 * EACH <= moved(run) <= 9 * EACH
    assert run.round_no >= 2


@MODES
def test_a_run_that_cannot_pay_for_its_first_round_fails_with_the_reason(mode: str) -> None:
    least = EACH - 1 if mode == "buffered" else 2 * EACH - 1
    run = make_run(Fleet(), definition(RunBudget(bytes=least), mode), 4)
    with pytest.raises(Conflict) as caught:
        go(run)
    assert (caught.value.code, run.round_no) == ("federated.budget", 0)


def test_cost_is_counted_by_each_devices_link_and_the_cheap_go_on_when_the_dear_cannot() -> None:
    price = EACH / MIB
    run = make_run(Fleet(), definition(RunBudget(cost=5 * price), count=8), 4)
    for number in (3, 4):
        run.roster.enrol(f"d-{number}", number, 100, "cellular", 1.0)
    assert go(run) is RunEnd.FINISHED
    dear = [run.roster.of(f"d-{number}") for number in (3, 4)]
    assert 0 < sum(one.bytes_down + one.bytes_up for one in dear) <= 5 * EACH
    assert run.roster.of("d-1").answered + run.roster.of("d-2").answered >= 8


def test_a_restarted_worker_remembers_what_was_spent() -> None:
    first, again = Fleet(), Fleet()
    budget = definition(RunBudget(bytes=9 * EACH))
    run = make_run(first, budget, 4)
    assert go(run) is RunEnd.SPENT
    resumed = make_run(again, budget, 4, kept=first.kept[0])
    assert resumed.round_no == 1
    assert go(resumed) is RunEnd.SPENT
    assert moved(resumed) <= 9 * EACH


def test_too_few_devices_are_waited_for_and_not_blamed_on_the_budget() -> None:
    run = make_run(Fleet(), definition(RunBudget(bytes=100 * EACH)), 1)
    assert not run.spending.over(2)
    assert not make_run(Fleet(), definition(RunBudget()), 4).spending.over(1)


@given(st.integers(0, 12), st.lists(st.sampled_from([0.0, 0.5, 2.0]), min_size=1, max_size=8), st.integers(0, 12))
def test_whoever_is_asked_can_be_paid(total: int, prices: list[float], cost: int) -> None:
    budget = RunBudget(bytes=max(1, total * EACH), cost=max(1e-9, cost * EACH / MIB))
    run = make_run(Fleet(), definition(budget), 0)
    for number, price in enumerate(prices):
        run.roster.enrol(f"d-{number}", number + 1, 100, "", price)
    asked = run.spending.fitting([f"d-{number}" for number in range(len(prices))])
    assert len(asked) <= total
    paid = sum(EACH / MIB * prices[int(name[2:])] for name in asked)
    assert paid <= cost * EACH / MIB * (1 + 1e-9) + 1e-12


def test_a_budget_out_of_bounds_is_refused() -> None:
    for bad in ({"bytes": 0}, {"device_bytes": -1}, {"cost": 0}, {"byte": 5}):
        with pytest.raises(InvalidInput) as caught:
            run_of({"model": "m", "budget": bad})
        assert caught.value.detail["field"].startswith("budget.")
