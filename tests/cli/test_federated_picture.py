"""The picture of a federated run: on a terminal, and what a view makes of the hub's answers."""

from __future__ import annotations

import io
from typing import Any

import httpx
import pytest
from rich.console import Console

from hub.cli.client import HubClient
from hub.cli.config import Connection
from hub.cli.federated_view import rounds_table, run_views
from hub.cli.federated_watch import watch
from hub.cli.session import Session


def made(number: int, **more: Any) -> dict[str, Any]:
    plain = {
        "attempt": number, "round_no": number, "at_s": 0.0, "seconds": 1.5, "abandoned": "", "asked": 4, "joined": 3,
        "admitted": 2, "rejected": 1, "dropped": 0, "bytes_down": 4096, "bytes_up": 1024,
        "metrics": {"held_out_accuracy": 0.5 + number / 10},
        "devices": {"a": "admitted", "b": "admitted", "c": "update.norm", "d": "absent"},
    }  # fmt: skip
    return {**plain, **more}


def run(state: str, changes: int, **more: Any) -> dict[str, Any]:
    plain = {
        "run_id": "f-1", "model": "digits", "version": 1, "state": state, "rounds": 3, "round_no": changes,
        "attempts": changes, "weights": 650, "bytes_down": 4096, "bytes_up": 1024, "code": "", "message": "",
        "privacy": {}, "evaluation": None, "result": {}, "trigger": "", "reason": "", "cancelled_by": "", "port": 8450,
        "changes": changes, "created_s": 0.0, "created_by": "dana", "started_s": 1.0, "ended_s": None,
    }  # fmt: skip
    return {**plain, **more}


class ScriptedHub(Session):
    """A session whose hub answers each look with the next state, the last one for ever; None: it is away."""

    def __init__(self, *states: dict[str, Any] | None) -> None:
        super().__init__()
        self._states = list(states)
        self._seen = 0
        self._http = HubClient(Connection("http://127.0.0.1:1", "sk_x", None), httpx.MockTransport(self._answer))

    @property
    def client(self) -> HubClient:
        return self._http

    def _answer(self, request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/rounds"):
            items = [made(number) for number in range(1, self._seen + 1)]
            return httpx.Response(200, json={"items": items, "next": None})
        state = self._states.pop(0) if len(self._states) > 1 else self._states[0]
        if state is None:
            raise httpx.ConnectError("no route")
        self._seen = state["round_no"]
        return httpx.Response(200, json=state, headers={"ETag": f'"{state["changes"]}"'})


def drawn(*views: object) -> str:
    console = Console(file=io.StringIO(), width=160)
    for view in views:
        console.print(view)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_a_bar_is_parted_as_the_devices_of_the_round_are() -> None:
    text = drawn(rounds_table([made(1), made(2, abandoned="federated.quorum")]))
    assert "█████████···" in text
    assert "2 of 4" in text
    assert "abandoned: federated.quorum; 1 update.norm" in text


def test_a_round_is_one_line_on_a_narrow_terminal() -> None:
    console = Console(file=io.StringIO(), width=80)
    console.print(rounds_table([made(1)]))
    assert isinstance(console.file, io.StringIO)
    (line,) = [line for line in console.file.getvalue().splitlines() if "2 of 4" in line]
    assert "0.600" in line
    assert "1.0 KiB" in line
    assert "update.norm" in line


def test_the_headline_tells_what_privacy_was_spent_and_what_devices_say() -> None:
    whole = {"devices": 3, "accuracy": 0.91, "base_accuracy": 0.85}
    privacy = {"mode": "server", "epsilon": 3.217, "delta": 1e-5, "secure_aggregation": True, "releases": 3}
    text = drawn(*run_views(run("finished", 3, evaluation={"asked": 4, "whole": whole}, privacy=privacy), [], 60.0))
    assert "epsilon 3.22 at delta 1e-05 spent (noise of the hub, 3 times, sums only)" in text
    assert "accuracy 0.910 on their held-out samples, 0.850 with the version before (3 of 4 devices)" in text


def test_a_result_without_a_version_says_why() -> None:
    result = {"version": None, "gate_passed": None, "code": "federated.accuracy_dropped", "reason": "It got worse."}
    assert "no version: It got worse. [federated.accuracy_dropped]" in drawn(
        *run_views(run("finished", 3, result=result), [], 60.0)
    )


def test_watching_tells_each_round_once_and_waits_for_a_hub_that_is_away(capsys: pytest.CaptureFixture[str]) -> None:
    hub = ScriptedHub(run("running", 1), None, run("running", 2), run("finished", 3))
    watch(hub, "f-1", interval_s=0)
    said = capsys.readouterr()
    told = [line.partition("Z  ")[2].partition(":")[0] for line in said.out.splitlines()]
    assert told == ["round 1", "running", "round 2", "round 3", "finished"]
    assert "cannot be reached" in said.err or "no route" in said.err or "Warning" in said.err
