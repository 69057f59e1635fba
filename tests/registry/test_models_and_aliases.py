"""Models and aliases: who may be called what, and a history that is only ever added to."""

from __future__ import annotations

from typing import Any

import pytest

from hub.registry.models import ModelChange
from hub.store.audit import AuditFilter
from hub.store.page import PageRequest
from hub.store.registry import Status
from shared.errors import SkerryError
from tests.fleet_kit import FleetKit

PAGE = PageRequest(limit=50)
POLICY: dict[str, Any] = {"checks": [{"metric": "accuracy", "op": ">=", "value": 0.9}]}


def code_of(function: Any, *arguments: Any) -> str:
    with pytest.raises(SkerryError) as caught:
        function(*arguments)
    return caught.value.code


def test_a_model_is_made_once_and_has_a_name_that_travels(kit: FleetKit) -> None:
    kit.models.create("digits", ModelChange(description="Handwriting"), "dana")
    assert code_of(kit.models.create, "digits", ModelChange(), "dana") == "model.exists"
    assert code_of(kit.models.create, "../etc", ModelChange(), "dana") == "id.model"
    assert code_of(kit.models.create, "skerry", ModelChange(), "dana") == "trust.reserved_name"


def test_a_bad_gate_policy_is_refused_when_it_is_written(kit: FleetKit) -> None:
    bad = {"checks": [{"metric": "acuracy", "op": ">=", "value": 0.9}]}
    with pytest.raises(SkerryError) as caught:
        kit.models.create("digits", ModelChange(gate=bad), "dana")
    assert caught.value.code == "gate.unknown_metric"
    assert "accuracy" in caught.value.hint
    assert code_of(kit.models.create, "digits", ModelChange(gate={"checks": []}), "dana") == "gate.policy"


def test_a_changed_policy_sends_gated_versions_back_but_not_approved_ones(kit: FleetKit) -> None:
    kit.register("digits", 1)
    kit.set_status("digits", 1, Status.GATED)
    kit.release("digits", 2)
    kit.models.change("digits", ModelChange(description="new words"), "dana")
    assert kit.versions.get("digits", 1).status is Status.GATED
    kit.models.change("digits", ModelChange(gate=POLICY), "dana")
    assert kit.versions.get("digits", 1).status is Status.REGISTERED
    assert kit.versions.get("digits", 2).status is Status.APPROVED


def test_production_names_approved_versions_only(kit: FleetKit) -> None:
    kit.register("digits", 1)
    assert code_of(kit.aliases.move, "digits", "production", 1, "", "olga") == "alias.not_approved"
    kit.aliases.move("digits", "canary", 1, "", "olga")
    kit.approve("digits", 1)
    moved = kit.aliases.move("digits", "production", 1, "", "olga")
    assert [(move.alias, move.version) for move in moved] == [("canary", 1), ("production", 1)]


def test_no_alias_names_a_withdrawn_or_unknown_version(kit: FleetKit) -> None:
    kit.register("digits", 1)
    kit.versions.withdraw("digits", 1, "", "olga")
    assert code_of(kit.aliases.move, "digits", "canary", 1, "", "olga") == "alias.withdrawn"
    assert code_of(kit.aliases.move, "digits", "canary", 9, "", "olga") == "version.unknown"
    assert code_of(kit.aliases.move, "digits", "Canary!", 1, "", "olga") == "id.alias"


def test_the_history_of_an_alias_keeps_every_move(kit: FleetKit) -> None:
    kit.register("digits", 1)
    kit.register("digits", 2)
    for version, reason in ((1, "first"), (2, "better"), (2, "again"), (None, "stop"), (1, "back")):
        kit.aliases.move("digits", "canary", version, reason, "olga")
    history = kit.aliases.history("digits", "canary", PAGE)
    assert [(move.version, move.reason) for move in history] == [
        (1, "back"),
        (None, "stop"),
        (2, "better"),
        (1, "first"),
    ]
    assert [move.alias for move in kit.aliases.current("digits")] == ["canary"]
    kit.aliases.move("digits", "canary", None, "", "olga")
    assert kit.aliases.current("digits") == []


def test_history_pages_join_without_gap_or_overlap(kit: FleetKit) -> None:
    for version in range(1, 8):
        kit.register("digits", version)
        kit.aliases.move("digits", "canary", version, "", "olga")
    seen: list[int | None] = []
    page = PageRequest(limit=2)
    while True:
        rows = kit.aliases.history("digits", "canary", page)
        seen += [row.version for row in rows[:2]]
        if len(rows) <= 2:
            break
        page = PageRequest(limit=2, after=(rows[1].move_id,))
    assert seen == [7, 6, 5, 4, 3, 2, 1]


def test_every_change_is_in_the_audit_log(kit: FleetKit) -> None:
    kit.release("digits", 1)
    kit.aliases.move("digits", "production", 1, "why not", "olga")
    actions = [row.action for row in kit.audit.list(AuditFilter(), PAGE)]
    assert actions == ["alias.move", "version.approve", "version.register", "model.create"]
    assert kit.audit.verify().intact
