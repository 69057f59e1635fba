"""How a run's privacy looks."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from hub.cli.federated_view import headline

RUN: dict[str, Any] = {
    "run_id": "f-1", "state": "finished", "model": "digits", "version": 1, "weights": 650, "round_no": 3, "rounds": 30,
    "attempts": 3, "bytes_down": 1, "bytes_up": 1, "created_s": 0.0, "created_by": "dana", "trigger": "",
    "started_s": None, "ended_s": None, "code": "federated.privacy_spent", "message": "No more.", "cancelled_by": "",
    "reason": "", "evaluation": {}, "result": {},
}  # fmt: skip
SPENT: dict[str, Any] = {"epsilon": 7.456, "delta": 1e-5, "releases": 3, "mode": "client", "secure_aggregation": True}


def _shown(privacy: dict[str, Any]) -> str:
    out = io.StringIO()
    Console(file=out, width=200).print(headline({**RUN, "privacy": privacy}, 1.0))
    return out.getvalue()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({}, "epsilon 7.46 at delta 1e-05 spent (noise of the devices, 3 times, sums only)"),
        ({"mode": "server", "secure_aggregation": False, "releases": 1}, "spent (noise of the hub, 1 time)"),
    ],
)
def test_a_run_says_what_its_privacy_has_cost(change: dict[str, Any], words: str) -> None:
    shown = _shown({**SPENT, **change})
    assert words in shown
    assert "federated.privacy_spent" in shown


def test_a_run_without_noise_says_nothing_of_it() -> None:
    assert "epsilon" not in _shown({})
