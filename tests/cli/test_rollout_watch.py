"""Watching a rollout through a hub that comes and goes: what is printed, how often it is asked, how it ends."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import httpx
import msgspec
import pytest

from hub.cli.client import HubClient
from hub.cli.config import Connection
from hub.cli.rollout_watch import watch
from hub.cli.session import Session
from hub.rollouts.counts import GroupCounts
from shared.errors import Conflict, Unavailable

Answer = Callable[[], httpx.Response]


def rollout(status: str, changes: int, **counts: int) -> dict[str, Any]:
    group = {"group_no": 0, "name": "canary", "status": "running", "percent_bp": 10_000, "waits_for": None}
    reason = {"code": "x", "message": "4 of 4 devices failed.", "numbers": {}}
    return {
        "rollout_id": "r-1",
        "status": status,
        "changes": changes,
        "reason": reason,
        "waits_for": None,
        "groups": [{**group, "counts": {**msgspec.to_builtins(GroupCounts()), **counts}}],
    }


def there(status: str, changes: int, **counts: int) -> Answer:
    return lambda: httpx.Response(200, json=rollout(status, changes, **counts), headers={"ETag": f'"{changes}"'})


def away() -> httpx.Response:
    raise httpx.ConnectError("no route")


class ScriptedHub(Session):
    """A session whose hub answers each look at the rollout with the next of `answers`, the last one for ever."""

    def __init__(self, *answers: Answer, as_json: bool = False) -> None:
        super().__init__(as_json=as_json)
        self.tags: list[str | None] = []
        self._answers = list(answers)
        self._http = HubClient(Connection("http://127.0.0.1:1", "sk_x", None), httpx.MockTransport(self._answer))

    @property
    def client(self) -> HubClient:
        return self._http

    def _answer(self, request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/events"):
            event = {"event_no": 7, "at_s": 0.0, "kind": "rollout_started", "group_no": None, "message": "Started."}
            return httpx.Response(200, json={"items": [{**event, "by": "hub"}], "next": None})
        self.tags.append(request.headers.get("If-None-Match"))
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        return answer()


def same() -> httpx.Response:
    return httpx.Response(304)


def test_each_event_and_each_change_is_told_once(capsys: pytest.CaptureFixture[str]) -> None:
    hub = ScriptedHub(there("running", 1, waiting=4), same, same, there("finished", 2, succeeded=4))
    watch(hub, "r-1", interval_s=0)
    told = [line.partition("Z  ")[2] for line in capsys.readouterr().out.splitlines()]
    assert told == [
        "rollout started: Started.",
        "running; canary running: 0 of 4 (0.0 %), 4 waiting",
        "finished; canary running: 4 of 4 (100.0 %), 4 succeeded",
    ]
    assert hub.tags == [None, '"1"', '"1"', '"1"']


def test_a_hub_that_is_away_is_waited_for_and_complained_about_once(capsys: pytest.CaptureFixture[str]) -> None:
    hub = ScriptedHub(there("running", 1), away, away, away, there("keeping", 2))
    watch(hub, "r-1", interval_s=0)
    assert capsys.readouterr().err.count("Warning") == 1


def test_a_hub_that_was_never_there_is_an_error() -> None:
    with pytest.raises(Unavailable) as caught:
        watch(ScriptedHub(away), "r-1", interval_s=0)
    assert caught.value.code == "hub.unreachable"


@pytest.mark.parametrize("status", ["aborted", "rolled_back"])
def test_an_end_that_is_no_success_has_its_error_and_its_reason(status: str) -> None:
    with pytest.raises(Conflict) as caught:
        watch(ScriptedHub(there(status, 1)), "r-1", interval_s=0)
    assert caught.value.code == "rollout.not_succeeded"
    assert "4 of 4 devices failed." in caught.value.message


def test_a_pause_is_no_end_unless_asked_for() -> None:
    watch(ScriptedHub(there("paused", 1), there("finished", 2)), "r-1", interval_s=0)
    with pytest.raises(Conflict) as caught:
        watch(ScriptedHub(there("paused", 1)), "r-1", interval_s=0, fail_on_pause=True)
    assert caught.value.code == "rollout.paused"


def test_programs_get_one_document_for_each_change(capsys: pytest.CaptureFixture[str]) -> None:
    hub = ScriptedHub(there("running", 1), same, there("running", 2), there("finished", 3), as_json=True)
    watch(hub, "r-1", interval_s=0)
    looks = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [look["changes"] for look in looks] == [1, 2, 3]
    assert looks[0]["events"][0]["kind"] == "rollout_started"
