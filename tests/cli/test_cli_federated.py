"""Federated runs from the command line, against a real hub; what a worker would do is written into the database."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hub.store import federated as store
from hub.store import registry, schema
from hub.store.federated import RoundRow, RunState
from hub.store.federated_devices import set_samples
from hub.store.registry import Status
from shared.wire.training import SampleCount
from tests.cli.paper_fleet import PaperFleet
from tests.cli.rig import RunningHub, Skerry
from tests.fleet_kit import tiny_bundle

WEIGHTS = {"w": np.zeros((2, 4), np.float32), "b": np.zeros(2, np.float32)}


class Trained(PaperFleet):
    """Devices that serve a version with a head and have samples."""

    def release(self, version: int) -> None:
        path = self._folder / f"{version}.bundle"
        tiny_bundle(path, version, self.model, weights=WEIGHTS)
        writer = self.hub.versions.receive()
        try:
            writer.write(path.read_bytes())
            self.hub.versions.register(self.model, writer, "dana")
        finally:
            writer.discard()
        with self.hub.db.write() as connection:
            row = registry.get_version(connection, self.model, version)
            registry.set_status(connection, row, Status.GATED, self.hub.clock.now())
        self._running.approve(self.model, version)

    def collect(self, samples: int) -> None:
        """Every device serves version 1, was heard of just now, and has so many samples."""
        now = self.hub.clock.now()
        with self.hub.db.write() as connection:
            for device in self.devices:
                connection.execute(
                    schema.device_models.insert().values(
                        device_id=device, model=self.model, version=1, state="committed", updated_s=now
                    )
                )
                connection.execute(
                    schema.device_status.insert().values(device_id=device, last_seen_s=now, epoch="", watermark=0)
                )
            said = [SampleCount(model=self.model, kept=samples, seen=samples, classes=2)]
            set_samples(connection, dict.fromkeys(self.devices, said), now)

    def work(self, run_id: str, *states: RunState, rounds: int = 0, **values: Any) -> None:
        """What the hub's loop and a worker would write."""
        for state in states:
            with self.hub.db.write() as connection:
                store.set_state(connection, store.get_run(connection, run_id), state, **values)
        for number in range(1, rounds + 1):
            with self.hub.db.write() as connection:
                row = store.get_run(connection, run_id)
                store.add_round(connection, row, _round(number, self.devices), b"checkpoint")


def _round(number: int, devices: list[str]) -> RoundRow:
    fate = {devices[0]: "admitted", devices[1]: "update.norm"}
    return RoundRow(
        attempt=0, round_no=number, at_s=5.0, seconds=1.5, abandoned="", asked=2, joined=2, admitted=1, rejected=1,
        dropped=0, bytes_down=2048, bytes_up=512, metrics={"held_out_accuracy": 0.5 + number / 10}, devices=fate,
    )  # fmt: skip


@pytest.fixture
def fleet(running_hub: RunningHub, skerry: Skerry, tmp_path: Path) -> Trained:
    fleet = Trained(running_hub, skerry, tmp_path)
    fleet.release(1)
    fleet.enrol(2)
    fleet.collect(500)
    return fleet


def file(fleet: Trained, folder: Path, more: str = "") -> Path:
    path = folder / "run.yaml"
    path.write_text(f"model: {fleet.model}\nfilter: tag.site=={fleet.tag}\nrounds: {{count: 2, goal: 2}}\n{more}")
    return path


def begin(skerry: Skerry, fleet: Trained, folder: Path) -> str:
    made: str = skerry.json("federated", "run", file(fleet, folder))["run"]["run_id"]
    return made


def test_a_dry_run_shows_who_would_take_part_and_makes_nothing(skerry: Skerry, fleet: Trained, tmp_path: Path) -> None:
    path = file(fleet, tmp_path, "training: {min_samples: 900}\n")
    said = skerry("federated", "run", path, "--dry-run")
    assert said.code == 0, said.err
    for word in (f"version 1 of {fleet.model} (10 weights)", "0 devices", "too few", "training.few_samples"):
        assert word in said.out
    planned = skerry.json("federated", "run", file(fleet, tmp_path), "--dry-run")
    assert planned["run"] is None
    assert (planned["forecast"]["devices"], planned["forecast"]["enough"]) == (2, True)
    assert skerry.json("federated", "list", "--model", fleet.model) == []


def test_a_run_is_made_from_a_file_or_from_standard_input(skerry: Skerry, fleet: Trained, tmp_path: Path) -> None:
    path = file(fleet, tmp_path)
    said = skerry("federated", "run", "-", "--reason", "winter", "--json", stdin=path.read_text())
    assert said.code == 0, said.err
    run = said.json["run"]
    assert (run["state"], run["version"], run["reason"], run["created_by"]) == ("queued", 1, "winter", "admin")
    other = begin(skerry, fleet, tmp_path)
    listed = skerry.json("federated", "list", "--model", fleet.model, "--active")
    assert [one["run_id"] for one in listed] == [other, run["run_id"]]
    assert "0 of 2" in skerry("federated", "list", "--model", fleet.model).out


@pytest.mark.parametrize(
    ("text", "code", "exit_code"),
    [("rounds: {goal: 0}", "federated.invalid", 2), ("strategy: {name: magic}", "federated.strategy", 2)],
)
def test_a_definition_that_cannot_work_is_refused_with_its_field(
    skerry: Skerry, fleet: Trained, tmp_path: Path, text: str, code: str, exit_code: int
) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(f"model: {fleet.model}\n{text}\n")
    said = skerry("federated", "run", path, "--json")
    assert (said.code, said.error["code"]) == (exit_code, code)
    missing = skerry("federated", "run", tmp_path / "none.yaml", "--json")
    assert (missing.code, missing.error["code"]) == (2, "cli.file")


def test_watching_tells_each_round_and_ends_well_when_the_run_does(
    skerry: Skerry, fleet: Trained, tmp_path: Path
) -> None:
    run = begin(skerry, fleet, tmp_path)
    fleet.work(run, RunState.RUNNING, rounds=2)
    fleet.work(run, RunState.HANDING_OVER)
    result = {"version": 2, "gate_passed": True, "code": "", "reason": ""}
    fleet.work(run, RunState.FINISHED, result=result, ended_s=9.0)
    png = tmp_path / "curve.png"
    said = skerry("federated", "watch", run, "--png", png)
    assert said.code == 0, said.err
    for word in ("round 1: 1 of 2 devices", "accuracy 0.700", "1 update.norm", "finished"):
        assert word in said.out
    assert png.read_bytes().startswith(b"\x89PNG")
    lines = [json.loads(line) for line in skerry("federated", "watch", run, "--json").out.splitlines()]
    assert [line["state"] for line in lines] == ["finished"]
    assert [made["round_no"] for made in lines[0]["history"]] == [1, 2]
    shown = skerry("federated", "show", run)
    for word in ("2 of 2", "4.0 KiB down, 1.0 KiB up", "version 2; its gate passed", "0.600", "1 update.norm"):
        assert word in shown.out


def test_watching_a_run_that_fails_ends_with_5_and_one_that_takes_too_long_with_7(
    skerry: Skerry, fleet: Trained, tmp_path: Path
) -> None:
    run = begin(skerry, fleet, tmp_path)
    late = skerry("federated", "watch", run, "--timeout", "0s", "--json")
    assert (late.code, late.error["code"]) == (7, "cli.wait_timeout")
    fleet.work(run, RunState.RUNNING)
    fleet.work(run, RunState.FAILED, code="federated.diverged", message="Training diverged.")
    failed = skerry("federated", "watch", run, "--json")
    assert (failed.code, failed.error["code"]) == (5, "federated.not_finished")
    assert "Training diverged. [federated.diverged]" in failed.error["message"]
    assert "Training diverged." in skerry("federated", "show", run, "--answers").out


def test_a_run_is_cancelled_and_resumed(skerry: Skerry, fleet: Trained, tmp_path: Path) -> None:
    run = begin(skerry, fleet, tmp_path)
    assert skerry("federated", "cancel", run, "--json").error["code"] == "cli.not_confirmed"
    assert skerry.json("federated", "cancel", run, "--yes")["state"] == "cancelled"
    assert skerry.json("federated", "resume", run)["state"] == "queued"
    fleet.work(run, RunState.RUNNING)
    said = skerry("federated", "cancel", run, "--yes", "--reason", "enough")
    assert said.code == 0
    assert "It ends before its next round" in said.out
    again = skerry("federated", "resume", run, "--json")
    assert (again.code, again.error["code"]) == (5, "federated.state")


@pytest.mark.parametrize("words", [("show",), ("watch",), ("cancel", "--yes"), ("resume",)])
def test_what_is_not_the_id_of_a_run_is_told_apart_from_an_unknown_one(skerry: Skerry, words: tuple[str, ...]) -> None:
    wrong = skerry("federated", words[0], "../x", *words[1:], "--json")
    assert (wrong.code, wrong.error["code"]) == (2, "cli.run_id")
    unknown = skerry("federated", words[0], "f-000000000000", *words[1:], "--json")
    assert (unknown.code, unknown.error["code"]) == (4, "federated.unknown")
