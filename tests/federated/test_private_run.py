"""Runs that protect their devices: sums instead of updates, noise, and a budget that ends them."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest

from hub.federated.accountant import epsilon_at
from hub.federated.checkpoint import PrivacyState, read_checkpoint
from hub.federated.definition import RunDefinition, check_run
from hub.federated.report import RoundReport
from hub.federated.run import Run, RunEnd
from hub.federated.tasks import Reply, Task
from shared.errors import Conflict, InvalidInput
from shared.federated.codec import Scheme, encode
from tests.federated.fleet import SIZES, Fleet, Killed, go, make_run, trained
from tests.federated.secure_fleet import Guarded
from tests.federated.secure_kit import authority

SECURE = {"secure_aggregation": True}
SERVER = {"mode": "server", "noise_multiplier": 1.0, "epsilon": 8.0, "clip": 0.5}
CLIENT = {**SERVER, "mode": "client"}
FAINT = {"noise_multiplier": 0.06, "epsilon": 1000.0}  # nearly none, to see what else happens


def _definition(
    privacy: dict[str, Any], strategy: str = "fedavg", examples_factor: float = 1000.0, **rounds: Any
) -> RunDefinition:
    plain = {
        "model": "vision",
        "rounds": {"count": 3, "goal": 6, "quorum": 4, "deadline_s": 40, "patience": 1, **rounds},
        "training": {"scheme": "float32"},
        "strategy": {"name": strategy},
        "admission": {"examples_factor": examples_factor},
        "privacy": privacy,
    }
    run = msgspec.convert(plain, RunDefinition)
    check_run(run)
    return run


def _run(fleet: Fleet, definition: RunDefinition, script: Any = None, devices: int = 6, **more: Any) -> Run:
    if script is not None:
        fleet.scripts = dict.fromkeys(range(1, devices + 1), script)
    return make_run(fleet, definition, devices, authority=authority().der, **more)


def _finished(definition: RunDefinition, script: Any = None, devices: int = 6) -> tuple[Run, list[RoundReport]]:
    fleet = Fleet()
    run = _run(fleet, definition, script, devices)
    assert go(run) is RunEnd.FINISHED
    return run, fleet.reports


# --- secure aggregation ---------------------------------------------------------------------------------------------
def test_a_run_by_sums_ends_where_one_with_open_updates_does() -> None:
    secure, reports = _finished(_definition(SECURE), Guarded())
    plain, _ = _finished(_definition({}), Guarded())
    np.testing.assert_allclose(secure.weights, plain.weights, atol=1e-4)
    mean = sum(10 * n * n for n in range(1, 7)) / sum(10 * n for n in range(1, 7))
    assert reports[0].metrics == {"loss": pytest.approx(mean, abs=0.01)}
    assert reports[0].admitted == [f"d-{n}" for n in range(1, 7)]
    assert all(standing.answered == 3 for standing in secure.roster.standings())


def test_no_device_outweighs_the_others_of_a_sum_by_its_number_of_examples() -> None:
    """All are known to have 100 samples: a device counts for 20 at the most."""
    run, _ = _finished(_definition(SECURE, count=1, examples_factor=0.2), Guarded())
    weights = [min(10 * n, 20) for n in range(1, 7)]
    expected = sum(w * 0.5 * (1 + n / 10) for n, w in enumerate(weights, 1)) / sum(weights)
    np.testing.assert_allclose(run.weights, expected, atol=1e-4)


def test_the_hub_is_never_handed_an_update_that_it_could_read() -> None:
    """What it gets of one device twice, for the same weights and samples, has nothing in common."""
    fleet = Fleet()
    seen: list[bytes] = []
    pull = fleet.pull

    def watched() -> list[Any]:
        outcomes = pull()
        seen.extend(o.update for o in outcomes if isinstance(o, Reply) and o.update and len(o.update) == 4 * (6 + 11))
        return outcomes

    fleet.pull = watched  # type: ignore[method-assign]
    go(_run(fleet, _definition(SECURE, count=1), Guarded()))
    assert len(seen) == 6
    words = [np.frombuffer(update, "<u4") for update in seen]
    assert all((row > 2**20).sum() > 12 for row in words)  # small numbers would be near 0 or 2**32
    assert len({int(word) for row in words for word in row}) == 6 * 17


@pytest.mark.parametrize("stage", ["adverts", "shares", "inputs", "reveals"])
@pytest.mark.parametrize("how", ["silent", "failing"])
def test_a_device_that_is_gone_in_any_stage_costs_only_itself(stage: str, how: str) -> None:
    script = Guarded(silent={2: stage}) if how == "silent" else Guarded(failing={2: stage})
    run, reports = _finished(_definition(SECURE, count=2, goal=6), script)
    there = [1, 3, 4, 5, 6] if stage != "reveals" else [1, 2, 3, 4, 5, 6]
    weights = sum(10 * n for n in there)
    first = sum(10 * n * 0.5 * (1 + n / 10) for n in there) / weights
    second = first + sum(10 * n * 0.5 * (1 + n / 10 - first) for n in there) / weights
    np.testing.assert_allclose(run.weights, second, atol=1e-4)
    assert [report.dropped for report in reports] == [["d-2"] if stage != "reveals" or how == "failing" else []] * 2
    assert run.roster.of("d-2").dropped == (2 if stage != "reveals" or how == "failing" else 0)


def test_below_the_threshold_the_round_is_abandoned_and_nothing_is_read() -> None:
    fleet = Fleet()
    run = _run(fleet, _definition(SECURE), Guarded(silent={1: "inputs", 2: "inputs", 3: "shares"}))
    with pytest.raises(Conflict) as caught:
        go(run)
    assert caught.value.code == "federated.abandoned"
    assert fleet.abandons[0].abandoned in ("federated.quorum", "secure.few")
    assert fleet.kept == []


def test_a_masked_update_of_another_length_is_refused_and_the_others_count() -> None:
    run, reports = _finished(_definition(SECURE, count=1), Guarded(short=3))
    assert reports[0].rejected == {"d-3": "update.shape"}
    assert len(reports[0].admitted) == 5
    assert run.roster.of("d-3").rejected == 1


def test_an_update_of_a_device_that_is_removed_meanwhile_is_not_in_the_sum() -> None:
    fleet = Fleet(after_s={6: 3.0})
    run = _run(fleet, _definition(SECURE, count=1), Guarded())

    def remove() -> None:
        if any(task.kind == "train" for task in fleet.given) and len(fleet.out) == 1:
            run.roster.remove("d-1")

    fleet.meanwhile = remove
    assert go(run) is RunEnd.FINISHED
    assert fleet.reports[0].admitted == [f"d-{n}" for n in range(2, 7)]
    expected = sum(10 * n * 0.5 * (1 + n / 10) for n in range(2, 7)) / sum(10 * n for n in range(2, 7))
    np.testing.assert_allclose(run.weights, expected, atol=1e-4)


def test_updates_that_reach_too_far_are_cut_off_and_the_next_round_reaches_further() -> None:
    far = Guarded()
    fleet = Fleet()
    run = _run(fleet, _definition(SECURE, count=2), far)
    run.mechanism.state = PrivacyState(clip=1.0, reach=0.25)
    go(run)
    np.testing.assert_allclose(read_checkpoint(fleet.kept[0]).weights, 0.25, atol=1e-3)
    assert read_checkpoint(fleet.kept[0]).privacy.reach == 1.0
    assert run.weights.min() > 0.6


def test_without_the_devices_authority_a_secure_run_does_not_begin() -> None:
    fleet = Fleet(dict.fromkeys(range(1, 7), Guarded()))
    with pytest.raises(InvalidInput) as caught:
        go(make_run(fleet, _definition(SECURE), 6))
    assert caught.value.code == "federated.privacy"


# --- noise of the hub -----------------------------------------------------------------------------------------------
def _huge(fleet: Fleet, task: Task) -> Reply:
    update = encode(np.full(6, 900, np.float32), SIZES, Scheme.FLOAT32)[0]
    return Reply(task_id="", node_id=task.node_id, examples=10_000, metrics={}, update=update)


@pytest.mark.parametrize("privacy", [SERVER, {**SERVER, **SECURE}])
def test_one_device_moves_the_model_by_at_most_its_share_of_the_clip(privacy: dict[str, Any]) -> None:
    """With the same noise: the device whose update is zero, and one whose update is as large as it likes."""

    class Loud(Guarded):
        def __init__(self, loud: float) -> None:
            super().__init__()
            self._loud = loud

        def __call__(self, fleet: Fleet, task: Task) -> Any:
            if task.node_id == 6 and task.weights.size:
                task = msgspec.structs.replace(task, weights=np.full(6, 1.6 - 2 * self._loud, np.float32))
            return super().__call__(fleet, task)

    moved = []
    for loud in (0.0, 1e4):
        fleet = Fleet()
        run = _run(fleet, _definition({**privacy, **FAINT}, count=1), Loud(loud), seed_bytes=bytes(32))
        go(run)
        moved.append(run.weights)
    assert 0.9 * 0.5 / 6 < np.linalg.norm(moved[1] - moved[0]) <= 0.5 / 6 + 1e-4


def test_the_noise_has_the_deviation_that_is_paid_for() -> None:
    spread = []
    for seed in range(60):
        fleet = Fleet(dict.fromkeys(range(1, 7), _huge))
        run = _run(fleet, _definition(SERVER, count=1), seed_bytes=bytes([seed]) * 32)
        go(run)
        spread.append(run.weights - 0.5 / np.sqrt(6))
    deviation = float(np.std(np.concatenate(spread)))
    assert deviation == pytest.approx(1.0 * 0.5 / 6, rel=0.15)


def test_no_outlier_is_sorted_out_where_noise_must_cover_what_one_device_changes() -> None:
    fleet = Fleet({6: _huge})
    go(_run(fleet, _definition({**SERVER, **FAINT}, count=1)))
    assert fleet.reports[0].rejected == {}
    assert len(fleet.reports[0].admitted) == 6


@pytest.mark.parametrize("privacy", [SERVER, {**SERVER, **SECURE}, CLIENT, {**CLIENT, **SECURE}])
def test_an_adaptive_clip_follows_the_updates_and_is_kept(privacy: dict[str, Any]) -> None:
    fleet = Fleet()
    wanted = {**privacy, "noise_multiplier": 0.2, "epsilon": 1000.0, "clip": 100.0, "adaptive": True}
    go(_run(fleet, _definition(wanted, count=12), Guarded()))
    clips = [report.privacy.clip for report in fleet.reports if report.privacy is not None]
    assert len(clips) == 12
    assert clips == sorted(clips, reverse=True)  # all updates are shorter than 100
    assert clips[-1] < 40
    assert read_checkpoint(fleet.kept[-1]).privacy.clip == clips[-1]


# --- noise of the devices -------------------------------------------------------------------------------------------
def test_devices_that_add_noise_say_nothing_without_it() -> None:
    script = Guarded()
    _, reports = _finished(_definition({**CLIENT, **FAINT}, count=1), script)
    (order, *_) = script.orders
    assert order.config["clip"] == 0.5
    assert order.config["noise_multiplier"] == 0.06
    assert reports[0].metrics == {}
    fleet = Fleet({1: lambda fleet, task: trained(fleet, task, examples=10_000)})
    run = _run(fleet, _definition({**CLIENT, **FAINT}, count=1))
    fleet.scripts |= dict.fromkeys(range(2, 7), Guarded())
    go(run)
    assert fleet.reports[0].rejected == {"d-1": "update.metrics"}


def test_devices_share_the_noise_of_a_sum_so_that_the_smallest_sum_has_enough() -> None:
    script = Guarded()
    _finished(_definition({**CLIENT, **FAINT, **SECURE}, count=1), script)
    order = next(order for order in script.orders if order.kind == "train")
    assert order.config["noise_multiplier"] == pytest.approx(0.06 / np.sqrt(5))  # at least 5 of 6 are in the sum


# --- the budget -----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("privacy", [SERVER, CLIENT, {**SERVER, **SECURE}, {**CLIENT, **SECURE}])
def test_the_budget_ends_the_run_before_it_is_overdrawn(privacy: dict[str, Any]) -> None:
    fleet = Fleet()
    run = _run(fleet, _definition(privacy, count=10), Guarded())
    assert go(run) is RunEnd.SPENT
    assert len(fleet.reports) == 2
    spent = fleet.reports[-1].privacy
    assert spent is not None
    assert spent.releases == 2
    assert spent.epsilon == epsilon_at(1e-5, 1.0, 2) <= 8.0 < epsilon_at(1e-5, 1.0, 3)
    assert (spent.mode, spent.secure_aggregation) == (privacy["mode"], privacy.get("secure_aggregation", False))
    resumed = _run(Fleet(), _definition(privacy, count=10), Guarded(), kept=fleet.kept[-1])
    assert go(resumed) is RunEnd.SPENT


def test_a_run_killed_between_two_rounds_spends_nothing_twice() -> None:
    fleet = Fleet()
    run = _run(fleet, _definition(SERVER, count=2), Guarded())
    run.around = fleet

    def kill() -> None:
        if fleet.reports and fleet.given[-1].weights is not fleet.given[0].weights:
            raise Killed

    fleet.meanwhile = kill
    with pytest.raises(Killed):
        go(run)
    assert read_checkpoint(fleet.kept[-1]).privacy.releases == 1
    after = Fleet()
    resumed = _run(after, _definition(SERVER, count=2), Guarded(), kept=fleet.kept[-1])
    assert go(resumed) is RunEnd.FINISHED
    assert after.reports[-1].privacy is not None
    assert after.reports[-1].privacy.releases == 2


@pytest.mark.parametrize("privacy", [CLIENT, {**CLIENT, **SECURE}])
def test_what_devices_have_answered_is_paid_for_also_when_the_round_never_counts(privacy: dict[str, Any]) -> None:
    fleet = Fleet()
    run = _run(fleet, _definition(privacy, count=5), Guarded())

    def kill() -> None:
        if any(task.kind == "train" for task in fleet.given):
            raise Killed

    fleet.meanwhile = kill
    with pytest.raises(Killed):
        go(run)
    kept = read_checkpoint(fleet.kept[-1])
    assert (kept.round_no, kept.privacy.releases) == (0, 1)
    after = Fleet()
    assert go(_run(after, _definition(privacy, count=5), Guarded(), kept=fleet.kept[-1])) is RunEnd.SPENT
    assert len(after.reports) == 1  # of the two rounds that the budget pays for


def test_an_abandoned_round_costs_the_devices_noise_and_not_the_hubs() -> None:
    for privacy, releases in ((CLIENT, 1), (SERVER, 0)):
        fleet = Fleet()
        script = Guarded(failing=dict.fromkeys(range(1, 4), "inputs"))
        run = _run(fleet, _definition(privacy), script)
        with pytest.raises(Conflict):
            go(run)
        assert run.mechanism.state.releases == releases


# --- what cannot be promised ----------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("privacy", "rest", "named"),
    [
        ({"mode": "server", "noise_multiplier": 0}, {}, "noise_multiplier"),
        ({"mode": "server", "noise_multiplier": 0.1, "epsilon": 1}, {}, "budget"),
        ({"adaptive": True}, {}, "adaptive"),
        (CLIENT, {"mode": "buffered"}, "buffered"),
        (SERVER, {"strategy": "median"}, "sorts out"),
        (SECURE, {"strategy": "krum"}, "sums only"),
        (SECURE, {"goal": 2, "quorum": 2}, "fewer than 3"),
    ],
)
def test_a_run_that_could_not_keep_its_promise_is_refused(
    privacy: dict[str, Any], rest: dict[str, Any], named: str
) -> None:
    with pytest.raises(InvalidInput, match=named) as caught:
        _definition(privacy, **rest)
    assert caught.value.code == "federated.invalid"


def test_devices_that_add_their_own_noise_may_be_sorted_out() -> None:
    assert _definition(CLIENT, strategy="median").strategy.name == "median"
