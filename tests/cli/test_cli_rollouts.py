"""Rollouts from the command line, against a real hub whose devices report through its ingest."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest

from tests.cli.paper_fleet import PaperFleet
from tests.cli.rig import RunningHub, Said, Skerry

QUICK = ("--bake", "0s", "--no-gates", "--min-sample", "1")


@pytest.fixture
def fleet(running_hub: RunningHub, skerry: Skerry, tmp_path: Path) -> PaperFleet:
    """Six devices that serve version 1, and an approved version 2."""
    fleet = PaperFleet(running_hub, skerry, tmp_path)
    fleet.release(1)
    fleet.enrol(6)
    skerry.json("deploy", fleet.model, "1", "--filter", f"tag.site=={fleet.tag}")
    fleet.answer()
    fleet.release(2)
    return fleet


def what(fleet: PaperFleet, *more: str, strategy: str = "canary") -> list[str]:
    target = ("--filter", f"tag.site=={fleet.tag}")
    return ["--model", fleet.model, "--version", "2", *target, "--strategy", strategy, *QUICK, *more]


def create(skerry: Skerry, fleet: PaperFleet, *more: str, strategy: str = "canary") -> str:
    made: str = skerry.json("rollout", "create", *what(fleet, *more, strategy=strategy))["rollout_id"]
    return made


def in_two_waves(skerry: Skerry, fleet: PaperFleet, folder: Path, targets: str = "") -> str:
    """A rollout whose canary is exactly the first three devices; a person lets the others follow."""
    file = folder / "two-waves.yaml"
    file.write_text(
        f"model: {fleet.model}\nversion: 2\ntargets: {{{targets or f'filter: tag.site=={fleet.tag}'}}}\n"
        f"groups:\n  - {{name: canary, devices: [{', '.join(fleet.devices[:3])}]}}\n  - {{name: rest, percent: 100}}\n"
        "each_group: {success_percent: 100, max_failures: 0, bake_s: 0s, approve: true}\ngates: []\n"
    )
    made: str = skerry.json("rollout", "create", file)["rollout_id"]
    return made


# --- before anything happens ------------------------------------------------------------------------------------------
def test_a_plan_shows_waves_devices_bytes_and_changes_nothing(skerry: Skerry, fleet: PaperFleet) -> None:
    said = skerry("rollout", "plan", *what(fleet, "--steps", "10,50,100"))
    assert said.code == 0, said.err
    for word in (f"version 2 of {fleet.model} to 6 devices", "canary", "wave-2", "wave-3", "x86-gateway", "at most"):
        assert word in said.out
    planned = skerry.json("rollout", "create", *what(fleet), "--dry-run")
    assert planned["rollout_id"] is None
    assert planned["forecast"]["devices"] == 6
    assert sum(link["bytes"] for link in planned["forecast"]["links"]) > 0
    assert skerry.json("rollout", "list", "--model", fleet.model) == []


def test_what_a_plan_shows_is_what_is_made(skerry: Skerry, fleet: PaperFleet) -> None:
    words = what(fleet, "--steps", "30,60,100")
    shown = skerry.json("rollout", "plan", *words)["forecast"]
    assert skerry.json("rollout", "plan", *words)["forecast"] == shown
    made = skerry.json("rollout", "create", *words)
    assert made["forecast"] == shown
    groups = skerry.json("rollout", "show", made["rollout_id"])["groups"]
    assert [group["counts"]["waiting"] for group in groups] == [wave["devices"] for wave in shown["waves"]]


def test_a_file_and_options_say_the_same(skerry: Skerry, fleet: PaperFleet, tmp_path: Path) -> None:
    file = tmp_path / "rollout.yaml"
    file.write_text(
        f"model: {fleet.model}\nversion: 2\ntargets: {{filter: 'tag.site=={fleet.tag}'}}\nstrategy: canary\n"
        "each_group: {bake_s: 0s, min_sample: 1}\ngates: []\n"
    )
    from_file = skerry.json("rollout", "plan", file)["plan"]
    from_options = skerry.json("rollout", "plan", *what(fleet))["plan"]
    assert from_file == from_options


@pytest.mark.parametrize(
    ("words", "code", "error"),
    [
        (["--model", "digits"], 2, "cli.rollout"),
        (["-m", "digits", "--version", "1", "-s", "canary"], 2, "cli.target"),
        (["-m", "digits", "--version", "1", "-s", "canary", "--all", "--group", "x"], 2, "cli.target"),
        (["-m", "digits", "--version", "1", "-s", "canary", "--all", "--window", "0 2 * * *"], 2, "cli.window"),
        (["-m", "digits", "--version", "1", "-s", "canary", "--all", "--bake", "soon"], 2, "rollout.invalid"),
        (["/nowhere/rollout.yaml"], 2, "cli.file"),
        (["/nowhere/rollout.yaml", "--all"], 2, "cli.rollout"),
    ],
)
def test_what_is_wrong_with_a_rollout_is_said(skerry: Skerry, words: list[str], code: int, error: str) -> None:
    said = skerry("rollout", "create", *words, "--json")
    assert (said.code, said.error["code"]) == (code, error)


def test_a_version_that_nobody_approved_is_refused(skerry: Skerry, fleet: PaperFleet) -> None:
    words = [*what(fleet), "--json"]
    words[words.index("2")] = "9"
    said = skerry("rollout", "create", *words)
    assert (said.code, said.error["code"]) == (4, "version.unknown")


# --- watching ---------------------------------------------------------------------------------------------------------
def _watched(skerry: Skerry, fleet: PaperFleet, rollout: str, *more: str) -> Said:
    """Watch while the engine and the devices work."""
    stop = threading.Event()

    def work() -> None:
        while not stop.is_set():
            fleet.settle(1)

    worker = threading.Thread(target=work, name="fleet")
    worker.start()
    try:
        return skerry("rollout", "watch", rollout, "--interval", "0.1", "--timeout", "60s", *more)
    finally:
        stop.set()
        worker.join()


def test_watching_ends_with_the_rollout_and_tells_each_step(skerry: Skerry, fleet: PaperFleet) -> None:
    rollout = create(skerry, fleet, "--steps", "20,100")
    said = _watched(skerry, fleet, rollout)
    assert said.code == 0, said.out + said.err
    assert fleet.serving() == [2] * 6
    for word in ("rollout started", "group started canary", "group passed wave-2", "(100.0 %)", "succeeded"):
        assert word in said.out, said.out
    assert [line for line in said.out.splitlines() if "Z  " not in line] == []


def test_watching_a_rollout_that_turns_round_ends_with_code_5(skerry: Skerry, fleet: PaperFleet) -> None:
    fleet.refusing = fleet.devices
    rollout = create(skerry, fleet, "--steps", "40,100", "--on-failure", "roll_back")
    said = _watched(skerry, fleet, rollout, "--json")
    assert (said.code, said.error["code"]) == (5, "rollout.not_succeeded")
    looks = [json.loads(line) for line in said.out.splitlines()]
    assert looks[-1]["status"] == "rolled_back"
    assert fleet.serving() == [1] * 6
    shown = skerry("rollout", "show", rollout)
    for word in ("rolled_back", "probe.golden", "The golden outputs differ", f"pi-{fleet.tag}-", "Newest events"):
        assert word in shown.out, shown.out


def test_watching_a_paused_rollout_can_end_at_once(skerry: Skerry, fleet: PaperFleet) -> None:
    rollout = create(skerry, fleet)
    assert skerry.json("rollout", "pause", rollout, "--reason", "lunch")["status"] == "paused"
    said = skerry("rollout", "watch", rollout, "--fail-on-pause", "--json")
    assert (said.code, said.error["code"]) == (5, "rollout.paused")
    said = skerry("rollout", "watch", rollout, "--timeout", "0s")
    assert said.code == 7
    assert "goes on" in said.err


def test_creating_can_watch_too(skerry: Skerry, fleet: PaperFleet) -> None:
    said = skerry("rollout", "create", *what(fleet), "--watch", "--timeout", "0s")
    assert said.code == 7
    assert "Rolling out version 2" in said.err


# --- steering ---------------------------------------------------------------------------------------------------------
def test_pause_resume_approve_and_finish(skerry: Skerry, fleet: PaperFleet) -> None:
    rollout = create(skerry, fleet, "--steps", "20,100", "--approve-each")
    fleet.settle()
    said = skerry("rollout", "show", rollout)
    assert "awaiting approval" in said.out
    assert 2 in fleet.serving()
    assert skerry("rollout", "pause", rollout).code == 0
    again = skerry("rollout", "pause", rollout, "--json")
    assert (again.code, again.error["code"]) == (5, "rollout.state")
    assert skerry.json("rollout", "resume", rollout)["status"] == "running"
    assert skerry("rollout", "approve", rollout, "--reason", "looks good").code == 0
    fleet.settle()
    assert fleet.serving() == [2] * 6
    skerry("rollout", "approve", rollout)
    fleet.settle()
    assert skerry.json("rollout", "show", rollout)["status"] in ("keeping", "finished")
    assert "command" in skerry("rollout", "events", rollout).out


def test_aborting_and_rolling_back_ask_first(skerry: Skerry, fleet: PaperFleet, tmp_path: Path) -> None:
    rollout = in_two_waves(skerry, fleet, tmp_path)
    fleet.settle()
    moved = fleet.serving().count(2)
    assert moved == 3
    for name in ("abort", "rollback"):
        said = skerry("rollout", name, rollout, "--json", stdin="")
        assert (said.code, said.error["code"]) == (2, "cli.not_confirmed")
    assert f"{moved} device" in skerry("rollout", "rollback", rollout, stdin="").err
    skerry.json("rollout", "rollback", rollout, "--yes", "--reason", "no")
    fleet.settle()
    assert skerry.json("rollout", "show", rollout)["status"] == "rolled_back"
    assert fleet.serving() == [1] * 6


def test_an_aborted_rollout_leaves_what_succeeded(skerry: Skerry, fleet: PaperFleet, tmp_path: Path) -> None:
    rollout = in_two_waves(skerry, fleet, tmp_path)
    fleet.settle()
    moved = fleet.serving()
    skerry.json("rollout", "abort", rollout, "--yes")
    fleet.settle()
    assert skerry.json("rollout", "show", rollout)["status"] == "aborted"
    assert fleet.serving() == moved
    assert rollout in skerry("rollout", "list").out
    assert skerry.json("rollout", "list", "--active", "--model", fleet.model) == []


def test_one_wave_is_named_by_its_name_or_number(skerry: Skerry, fleet: PaperFleet) -> None:
    rollout = create(skerry, fleet, "--steps", "50,100")
    said = skerry("rollout", "rollback", rollout, "--wave", "wave-9", "--yes", "--json")
    assert (said.code, said.error["code"]) == (2, "cli.wave")
    first = skerry.json("rollout", "devices", rollout, "--wave", "canary")
    assert first == skerry.json("rollout", "devices", rollout, "--wave", "0")
    assert {row["state"] for row in first} == {"waiting"}


# --- explaining -------------------------------------------------------------------------------------------------------
def test_a_device_is_explained_in_words(skerry: Skerry, fleet: PaperFleet, tmp_path: Path) -> None:
    rollout = in_two_waves(skerry, fleet, tmp_path)
    fleet.settle()
    has = fleet.devices[fleet.serving().index(2)]
    waits = fleet.devices[fleet.serving().index(1)]
    said = skerry("rollout", "explain", has)
    assert f"It serves version 2, which rollout {rollout} (group canary) assigned." in said.out
    assert "Nothing is outstanding." in said.out
    said = skerry("rollout", "explain", waits, "-m", fleet.model)
    assert "It serves version 1" in said.out
    assert f"Rollout {rollout} will give it version 2 in its group rest" in said.out
    assert skerry("rollout", "explain", "nobody-there").code == 4


def test_a_group_that_a_rollout_targets_is_not_deleted_and_asks_before_it_grows(
    skerry: Skerry, fleet: PaperFleet
) -> None:
    group = f"g-{fleet.tag}"
    skerry.json("groups", "create", group, "--filter", f"id=={fleet.devices[0]}")
    words = ["--model", fleet.model, "--version", "2", "--group", group, "--strategy", "all-at-once", *QUICK]
    rollout = skerry.json("rollout", "create", *words)["rollout_id"]
    said = skerry("groups", "delete", group, "--yes", "--json")
    assert (said.code, said.error["code"]) == (5, "group.in_use")
    assert said.error["detail"]["rollouts"] == [rollout]
    change = ("groups", "update", group, "--filter", f"tag.site=={fleet.tag}")
    said = skerry(*change, "--json", stdin="")
    assert (said.code, said.error["code"]) == (2, "cli.not_confirmed")
    assert skerry.json(*change, "--yes")["joining"] == 5
    assert rollout in skerry("groups", "show", group).out


def test_who_leaves_a_group_before_its_turn_gets_nothing(skerry: Skerry, fleet: PaperFleet, tmp_path: Path) -> None:
    group = f"g-{fleet.tag}"
    skerry.json("groups", "create", group, "--filter", f"tag.site=={fleet.tag}")
    rollout = in_two_waves(skerry, fleet, tmp_path, targets=f"group: {group}")
    fleet.settle()
    leaving = fleet.devices[4]
    changed = skerry.json("groups", "update", group, "--filter", f"tag.site=={fleet.tag};id!={leaving}", "--yes")
    assert changed["leaves"] == [leaving]
    skerry.json("rollout", "approve", rollout)
    fleet.settle()
    assert fleet.serving() == [2, 2, 2, 2, 1, 2]
    (row,) = [row for row in skerry.json("rollout", "devices", rollout) if row["device_id"] == leaving]
    assert row["state"] == "skipped"
