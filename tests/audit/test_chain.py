"""The audit log: whole under concurrent writers, and broken by any change to it."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import update

from hub.audit.chain import GENESIS, check_chain, linked
from hub.audit.log import AuditLog
from hub.store import schema
from hub.store.audit import AuditFilter, AuditRow
from hub.store.database import Database
from hub.store.page import PageRequest
from shared.clock import SystemClock
from shared.errors import InvalidInput
from tests.hub_kit import HubKit, running_hub


def chain(details: list[str]) -> list[AuditRow]:
    rows: list[AuditRow] = []
    for number, detail in enumerate(details, 1):
        previous = rows[-1].hash if rows else GENESIS
        rows.append(
            linked(
                AuditRow(
                    seq=number,
                    at_s=number + 0.1,
                    actor="alice",
                    action="x.y",
                    subject="s",
                    detail=detail,
                    previous_hash=previous,
                    hash="",
                )
            )
        )
    return rows


@given(st.lists(st.text(), max_size=8))
def test_an_untouched_chain_is_intact(details: list[str]) -> None:
    rows = chain(details)
    verdict = check_chain(rows)
    assert verdict.intact
    assert verdict.entries == len(rows)
    assert verdict.head_hash == (rows[-1].hash if rows else GENESIS)


@given(st.integers(0, 4), st.sampled_from(["actor", "action", "subject", "detail", "hash", "previous_hash", "at_s"]))
def test_any_changed_field_is_found_at_its_entry(index: int, field: str) -> None:
    rows = chain(["{}"] * 5)
    values = {name: getattr(rows[index], name) for name in AuditRow.__slots__}
    values[field] = values[field] + 1 if field == "at_s" else values[field] + "x"
    rows[index] = AuditRow(**values)
    verdict = check_chain(rows)
    assert (verdict.intact, verdict.broken_seq) == (False, index + 1)
    assert verdict.head_seq == index


@given(st.integers(0, 3))
def test_a_removed_or_moved_entry_is_found(index: int) -> None:
    rows = chain(["{}"] * 5)
    assert check_chain(rows[:index] + rows[index + 1 :]).broken_seq == index + 1
    swapped = [*rows]
    swapped[index], swapped[index + 1] = swapped[index + 1], swapped[index]
    assert check_chain(swapped).broken_seq == index + 1


def test_rewriting_everything_after_an_entry_is_found_by_who_noted_the_head() -> None:
    noted = chain(["{}"] * 5)[-1]
    rewritten = chain(["{}", "{}", '{"x":1}', "{}", "{}"])
    assert check_chain(rewritten).intact
    verdict = check_chain(rewritten, (noted.seq, noted.hash))
    assert (verdict.intact, verdict.broken_seq) == (False, 5)


def test_a_cut_off_end_is_found_by_who_noted_the_head() -> None:
    rows = chain(["{}"] * 5)
    assert check_chain(rows[:3]).intact
    assert check_chain(rows, (5, rows[4].hash)).intact
    verdict = check_chain(rows[:3], (5, rows[4].hash))
    assert (verdict.intact, verdict.broken_seq) == (False, 4)


@pytest.fixture
def log(database_url: str) -> Iterator[tuple[AuditLog, Database]]:
    db = Database(database_url)
    yield AuditLog(db, SystemClock()), db
    db.close()


def test_concurrent_writers_make_one_chain(log: tuple[AuditLog, Database]) -> None:
    audit, db = log
    before = audit.verify().entries

    def write(number: int) -> None:
        with db.write() as connection:
            audit.append(connection, f"person-{number % 4}", "test.write", str(number), {"number": number})

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, range(120)))
    verdict = audit.verify()
    assert (verdict.intact, verdict.entries) == (True, before + 120)


def test_an_entry_goes_with_its_transaction(log: tuple[AuditLog, Database]) -> None:
    audit, db = log
    before = audit.verify()

    def change() -> None:
        with db.write() as connection:
            audit.append(connection, "alice", "test.write", "x", {})
            raise InvalidInput("test.refused", "The change did not work out.")

    with pytest.raises(InvalidInput):
        change()
    assert audit.verify() == before


def test_a_changed_row_in_the_database_is_found_and_named(log: tuple[AuditLog, Database]) -> None:
    audit, db = log
    with db.write() as connection:
        rows = [audit.append(connection, "alice", "test.write", str(n), {"n": n}) for n in range(5)]
    victim = rows[2].seq
    with db.engine.begin() as connection:
        connection.execute(update(schema.audit).where(schema.audit.c.seq == victim).values(detail='{"n":99}'))
    verdict = audit.verify()
    assert (verdict.intact, verdict.broken_seq) == (False, victim)


def test_entries_are_found_by_who_what_and_when(log: tuple[AuditLog, Database]) -> None:
    audit, db = log
    with db.write() as connection:
        audit.append(connection, "alice", "a.b", "one", {})
        last = audit.append(connection, "bob", "a.c", "two", {"é": 'quote"'})
    page = PageRequest(limit=10)
    assert [row.subject for row in audit.list(AuditFilter(actor="alice"), page)] == ["one"]
    assert [row.seq for row in audit.list(AuditFilter(action="a.c"), page)] == [last.seq]
    assert audit.list(AuditFilter(until_s=0.0), page) == []
    assert audit.list(AuditFilter(since_s=last.at_s + 1), page) == []
    newest = audit.list(AuditFilter(), PageRequest(limit=1))
    assert [row.seq for row in newest] == [last.seq, last.seq - 1]
    older = audit.list(AuditFilter(), PageRequest(limit=1, after=(last.seq,)))
    assert older[0].seq == last.seq - 1


@pytest.mark.parametrize(
    ("actor", "detail"), [("", {}), ("x" * 81, {}), ("alice", {"text": "x" * 20_000}), ("alice", {"n": float("nan")})]
)
def test_an_entry_that_cannot_be_kept_is_refused(
    log: tuple[AuditLog, Database], actor: str, detail: dict[str, object]
) -> None:
    audit, db = log
    with pytest.raises(InvalidInput), db.write() as connection:
        audit.append(connection, actor, "a.b", "s", detail)


@pytest.fixture(scope="module")
def kit(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubKit]:
    with running_hub(tmp_path_factory.mktemp("hub")) as kit:
        yield kit


def test_the_chain_is_verified_over_the_api(kit: HubKit) -> None:
    verdict = kit.admin.get("/v1/audit/verify").json()
    assert verdict["intact"] is True
    known = {"seq": verdict["head_seq"], "hash": verdict["head_hash"]}
    assert kit.admin.get("/v1/audit/verify", params=known).json()["intact"] is True
    other = kit.admin.get("/v1/audit/verify", params={**known, "hash": "0" * 64}).json()
    assert (other["intact"], other["broken_seq"]) == (False, verdict["head_seq"])
    assert kit.admin.get("/v1/audit/verify", params={"seq": 1}).json()["error"]["code"] == "audit.head"
    assert kit.admin.get("/v1/audit/verify", params={"seq": 1, "hash": "x"}).status_code == 400
