"""Saved groups: who is in one, what may change, what is refused, and what is recorded."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from sqlalchemy import func, select

from hub.groups.service import GroupChange, GroupService
from hub.store import schema
from hub.store.database import Connection
from hub.store.page import PageRequest
from shared import limits
from shared.errors import Conflict, InvalidInput, NotFound, SkerryError
from tests.fleet_kit import FleetKit

EVERYONE = PageRequest(limit=100)


@pytest.fixture
def groups(kit: FleetKit) -> GroupService:
    return GroupService(kit.db, kit.clock, kit.audit, kit.filters)


def by_filter(text: str) -> GroupChange:
    return GroupChange(filter=text)


def members(groups: GroupService, name: str) -> list[str]:
    return [device.device_id for device in groups.devices(name, EVERYONE)]


def code(error: pytest.ExceptionInfo[SkerryError]) -> str:
    return error.value.code


# --- who is in one ----------------------------------------------------------------------------------------------------
def test_a_new_device_falls_into_the_groups_that_it_matches(kit: FleetKit, groups: GroupService) -> None:
    groups.create("northern", by_filter("tag.site==north;status==active"), "olga")
    assert members(groups, "northern") == ["pi-0", "pi-1", "pi-2"]
    kit.add_device("pi-9", tags={"site": "north"})
    assert members(groups, "northern") == ["pi-0", "pi-1", "pi-2", "pi-9"]


def test_a_list_holds_exactly_its_devices(groups: GroupService) -> None:
    groups.create("pilots", GroupChange(devices=["pi-1", "cam-0"]), "olga")
    assert members(groups, "pilots") == ["cam-0", "pi-1"]
    groups.update("pilots", GroupChange(add=["pi-2", "pi-1"], remove=["cam-0", "nobody"]), "olga")
    assert members(groups, "pilots") == ["pi-1", "pi-2"]
    groups.update("pilots", GroupChange(devices=["pi-3"]), "olga")
    assert members(groups, "pilots") == ["pi-3"]


def test_a_filter_names_groups_of_either_kind(kit: FleetKit, groups: GroupService) -> None:
    groups.create("pilots", GroupChange(devices=["pi-1", "pi-3"]), "olga")
    groups.create("northern", by_filter("tag.site==north"), "olga")
    groups.create("others", by_filter("group==northern;group!=pilots"), "olga")
    assert members(groups, "others") == ["old-0", "pi-0", "pi-2"]
    assert groups.get("northern").named_by == ["others"]
    with kit.db.read() as connection:
        chosen = kit.filters.condition(connection, "group.others==false;group.pilots==true")
        assert list(connection.scalars(select(schema.devices.c.device_id).where(chosen).order_by("device_id"))) == [
            "pi-1",
            "pi-3",
        ]


def test_a_deployment_goes_to_a_group(kit: FleetKit, groups: GroupService) -> None:
    groups.create("pilots", GroupChange(devices=["pi-1", "old-0"]), "olga")
    kit.release("digits", 1)
    plan = kit.deployments.create("digits", 1, "group==pilots", "", "olga")
    assert (plan.devices, plan.skipped) == (1, {"device.revoked": 1})
    assert kit.assigned("pi-1") is not None


def test_active_and_revoked_devices_are_counted_apart(groups: GroupService) -> None:
    groups.create("northern", by_filter("tag.site==north"), "olga")
    detail = groups.get("northern")
    assert (detail.devices, detail.revoked) == (3, 1)


# --- what a change moves ----------------------------------------------------------------------------------------------
def test_a_dry_run_tells_who_would_join_and_leave_and_changes_nothing(kit: FleetKit, groups: GroupService) -> None:
    first = groups.create("ring", by_filter("tag.site==north"), "olga", dry_run=True)
    assert (first.moves.devices, first.moves.joining, first.moves.leaving) == (3, 3, 0)
    assert groups.page(EVERYONE) == []
    groups.create("ring", by_filter("tag.site==north"), "olga")
    plan = groups.update("ring", by_filter("id=in=(pi-2,pi-3)"), "olga", dry_run=True)
    assert (plan.moves.devices, plan.moves.joining, plan.moves.leaving) == (2, 1, 2)
    assert (plan.joins, plan.leaves) == (["pi-3"], ["pi-0", "pi-1"])
    assert members(groups, "ring") == ["old-0", "pi-0", "pi-1", "pi-2"]
    assert [row.action for row in _audited(kit)] == ["group.create"]


def test_changes_are_in_the_audit_log_with_their_effect(kit: FleetKit, groups: GroupService) -> None:
    groups.create("ring", by_filter("tag.site==north"), "olga")
    groups.update("ring", GroupChange(description="the first ring", filter="id==pi-3"), "otto")
    groups.delete("ring", "olga")
    assert [(row.actor, row.action) for row in _audited(kit)] == [
        ("olga", "group.create"),
        ("otto", "group.update"),
        ("olga", "group.delete"),
    ]
    assert '"joining":1' in _audited(kit)[1].detail.replace(" ", "")


def test_who_targets_a_group_hears_of_its_changes(kit: FleetKit) -> None:
    heard: list[str] = []

    def users(_connection: Connection, name: str) -> Sequence[str]:
        return ["r-1"] if name == "ring" else []

    groups = GroupService(kit.db, kit.clock, kit.audit, kit.filters, users, lambda: heard.append("changed"))
    groups.create("ring", by_filter("all"), "olga")
    assert groups.update("ring", by_filter("id==pi-1"), "olga", dry_run=True).rollouts == ["r-1"]
    assert heard == ["changed"]
    assert _to_look_at(kit) == set()
    groups.create("inner", by_filter("id==pi-2"), "olga")
    groups.update("ring", by_filter("group==inner"), "olga")
    assert groups.get("inner").rollouts == ["r-1"]
    assert _to_look_at(kit) == {"pi-0", "pi-1", "pi-3", "cam-0"}  # pi-2 was in it and is
    groups.update("inner", by_filter("id=in=(pi-2,pi-3)"), "olga")
    assert _to_look_at(kit) >= {"pi-3"}
    with pytest.raises(Conflict) as caught:
        groups.delete("ring", "olga")
    assert code(caught) == "group.in_use"


def _to_look_at(kit: FleetKit) -> set[str]:
    with kit.db.read() as connection:
        return set(connection.scalars(select(schema.rollout_arrivals.c.device_id)))


def _audited(kit: FleetKit) -> list[schema.audit.c]:  # type: ignore[name-defined]
    with kit.db.read() as connection:
        query = select(schema.audit).where(schema.audit.c.action.like("group.%")).order_by(schema.audit.c.seq)
        return list(connection.execute(query))


# --- what is refused --------------------------------------------------------------------------------------------------
def test_no_group_contains_itself(groups: GroupService) -> None:
    groups.create("a", by_filter("all"), "olga")
    groups.create("b", by_filter("group==a"), "olga")
    groups.create("c", by_filter("id==pi-1,group!=b"), "olga")
    with pytest.raises(Conflict) as caught:
        groups.update("a", by_filter("group==c"), "olga")
    assert code(caught) == "group.cycle"
    assert "a -> c -> b -> a" in caught.value.message
    with pytest.raises(Conflict) as caught:
        groups.update("a", by_filter("group==a"), "olga")
    assert code(caught) == "group.cycle"
    assert groups.get("a").group.filter == "all"


def test_what_others_name_is_not_deleted(groups: GroupService) -> None:
    groups.create("a", by_filter("all"), "olga")
    groups.create("b", by_filter("group==a"), "olga")
    with pytest.raises(Conflict) as caught:
        groups.delete("a", "olga")
    assert (code(caught), caught.value.detail["groups"]) == ("group.in_use", ["b"])
    groups.update("b", by_filter("id==pi-1"), "olga")
    groups.delete("a", "olga")
    with pytest.raises(NotFound) as missing:
        groups.get("a")
    assert code(missing) == "group.not_found"


@pytest.mark.parametrize(
    ("name", "wish", "expected"),
    [
        ("Ring", GroupChange(filter="all"), "id.group"),
        ("ring", GroupChange(), "group.content"),
        ("ring", GroupChange(filter="all", devices=["pi-1"]), "group.content"),
        ("ring", GroupChange(filter="all", add=["pi-1"]), "group.content"),
        ("ring", GroupChange(filter="colour==red"), "filter.field"),
        ("ring", GroupChange(filter="group==nobody"), "filter.group"),
        ("ring", GroupChange(filter="all", description="a\nb"), "group.description"),
        ("ring", GroupChange(devices=["pi-1", "pi-77"]), "group.unknown_device"),
        ("taken", GroupChange(filter="all"), "group.exists"),
    ],
)
def test_what_is_wrong_is_refused(groups: GroupService, name: str, wish: GroupChange, expected: str) -> None:
    groups.create("taken", GroupChange(devices=[]), "olga")
    with pytest.raises(SkerryError) as caught:
        groups.create(name, wish, "olga")
    assert code(caught) == expected


def test_a_group_keeps_its_kind(groups: GroupService) -> None:
    groups.create("list", GroupChange(devices=["pi-1"]), "olga")
    groups.create("rule", by_filter("all"), "olga")
    for name, wish in (("list", by_filter("all")), ("rule", GroupChange(add=["pi-1"]))):
        with pytest.raises(InvalidInput) as caught:
            groups.update(name, wish, "olga")
        assert code(caught) == "group.content"


def test_what_groups_add_up_to_is_bounded_for_those_that_name_them_too(groups: GroupService) -> None:
    several = ",".join(f"id==d{n}" for n in range(40))
    groups.create("base", by_filter("id==pi-1"), "olga")
    groups.create("wide", by_filter(",".join("group==base;id!=x" for _ in range(20))), "olga")
    with pytest.raises(SkerryError) as caught:  # in itself it is small: it is `wide` that would be too large
        groups.update("base", by_filter(several), "olga")
    assert code(caught) == "filter.too_large"
    assert groups.get("base").devices == 1


def _deepen(groups: GroupService) -> int:
    """Groups around groups, each used, until one is refused; how many were taken."""
    groups.create("level-0", by_filter("id!=a,(id!=b;(id!=c,(id!=d;(id!=e,id==pi-1))))"), "olga")
    for level in range(50):
        wish = by_filter(f"id!=a,(id!=b;group!=level-{level})")
        try:
            groups.create(f"level-{level + 1}", wish, "olga")
        except SkerryError as error:
            assert error.code == "filter.too_large"
            return level
        groups.update(f"level-{level + 1}", wish, "olga")
        assert groups.get(f"level-{level + 1}").devices == 5
    raise AssertionError("there is no bound")


def test_the_deepest_filter_that_is_taken_runs(kit: FleetKit) -> None:
    targeted = GroupService(kit.db, kit.clock, kit.audit, kit.filters, lambda _connection, _name: ["r-1"])
    assert _deepen(targeted) >= 4


def test_a_hub_keeps_so_many_groups_and_no_more(groups: GroupService, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_GROUPS_COUNT", 1)
    groups.create("a", by_filter("all"), "olga")
    with pytest.raises(Conflict) as caught:
        groups.create("b", by_filter("all"), "olga")
    assert code(caught) == "group.too_many"


def test_a_deleted_list_leaves_nothing_behind(kit: FleetKit, groups: GroupService) -> None:
    groups.create("pilots", GroupChange(devices=["pi-1"]), "olga")
    groups.delete("pilots", "olga")
    with kit.db.read() as connection:
        assert connection.scalar(select(func.count()).select_from(schema.device_group_members)) == 0
