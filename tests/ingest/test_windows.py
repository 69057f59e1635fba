"""Windows count exactly once and only when they add up; metrics of applications add up; nothing holds up the rest."""

from __future__ import annotations

import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from sqlalchemy import event, func, select

from hub.ingest import metrics as metric_rules
from hub.ingest import windows as window_rules
from hub.ingest.service import IngestService, Received
from hub.ingest.windows import WindowBook
from hub.monitoring.sums import Sums, add_window, merged, split, vector_of
from hub.store.database import Database
from hub.store.schema import app_metrics, device_events, device_status, drift_sums, window_latest, window_marks
from shared.drift.check import read_window
from shared.drift.counts import pack_counts
from shared.drift.layout import Cause, RowCause
from shared.wire.up import Envelope, encode_body, encode_envelope
from shared.wire.window import Feedback, Finding, Metric, Metrics, Window
from tests.ingest.test_ingest_service import EPOCH, LATER, FixedClock
from tests.monitoring.kit import DIGEST, REFERENCE, WATCHED, Kept, a_window, register, rows_of

NAMES = ("dev1", "dev2", "dev3")


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    database = Database(database_url)
    register(database, NAMES)
    yield database
    database.close()


@pytest.fixture
def service(database: Database) -> IngestService:
    return IngestService(database, FixedClock(), WindowBook(Kept(), 3600))


def told(body: Window | Metrics | bytes, seq: int = 1, *, device: str = "dev1", epoch: str = EPOCH) -> Received:
    data = body if isinstance(body, bytes) else encode_body(body)
    kind: Any = "metrics" if isinstance(body, Metrics) else "window"
    envelope = Envelope(device_id=device, epoch=epoch, first_seq=seq, seq=seq, created_s=1.0, kind=kind, body=data)
    return Received(device, encode_envelope(envelope))


def mutated(service: IngestService, chance: random.Random, messages: int, each: int = 50) -> int:
    """Damaged windows of dev1 with good envelopes, beside good ones of dev2; returns how many good ones there were."""
    cells = rows_of(np.random.default_rng(1), 100)
    for batch in range(messages // each):
        said: list[Received] = []
        for number in range(each):
            series = f"{batch * each + number:016x}"  # of its own, so that none is a mere repetition
            body = bytearray(encode_body(a_window(1, cells=cells, series=series)))
            for _ in range(chance.randint(1, 4)):
                body[chance.randrange(len(body))] = chance.randrange(256)
            said.append(told(bytes(body), batch * each + number + 1))
        service.commit([*said, told(a_window(batch + 1), batch + 1, device="dev2")])
    return messages // each


def sums(database: Database) -> dict[str, int]:
    names = ("windows", "rows", "labelled", "errors")
    with database.read() as connection:
        row = connection.execute(select(*(func.sum(drift_sums.c[name]).label(name) for name in names))).mappings().one()
    return {name: int(row[name] or 0) for name in names}


def vector(database: Database) -> Any:
    with database.read() as connection:
        found = connection.scalars(select(drift_sums.c.vector)).all()
    return sum(np.frombuffer(bytes(one), "<i8") for one in found)


def events(database: Database) -> list[str]:
    with database.read() as connection:
        return sorted(connection.scalars(select(device_events.c.code)).all())


def test_the_sums_are_those_of_every_window(service: IngestService, database: Database) -> None:
    windows = [a_window(number, seed=place) for place in range(3) for number in (1, 2)]
    for place, device in enumerate(NAMES):
        service.commit([told(windows[2 * place], 1, device=device), told(windows[2 * place + 1], 2, device=device)])
    wanted = sum(vector_of(one, read_window(one, REFERENCE, DIGEST), WATCHED.shape) for one in windows)
    assert (vector(database) == wanted).all()
    assert sums(database) == {"windows": 6, "rows": 600, "labelled": 0, "errors": 0}


def test_a_window_counts_once_however_often_and_in_whatever_epoch_it_comes(
    service: IngestService, database: Database
) -> None:
    batch = [told(a_window(1)), told(a_window(2), 2)]
    for _ in range(3):
        service.commit(batch)
    service.commit([told(a_window(1), 1, epoch=LATER), told(a_window(2), 2, epoch=LATER)])
    service.commit([told(a_window(2), 3, epoch=LATER), told(a_window(3), 4, epoch=LATER)])
    assert sums(database)["windows"] == 3
    assert events(database) == []
    with database.read() as connection:
        assert connection.scalars(select(window_marks.c.window_id)).all() == [3]


def test_a_new_series_counts_beside_the_old_one(service: IngestService, database: Database) -> None:
    other = a_window(1, series="6" * 16)
    service.commit([told(a_window(5)), told(other, 2), told(a_window(5), 3), told(other, 4)])
    assert sums(database)["windows"] == 2


@pytest.mark.parametrize(
    ("wrong", "code"),
    [
        (a_window(reference_sha256="cd" * 32), "window.mismatch"),
        (a_window(reference_sha256=None, cells=np.zeros(0, np.int64)), "window.mismatch"),
        (a_window(version=7), "window.unwatched"),
        (a_window(model="other"), "window.unwatched"),
        (a_window(rows=101, cells=np.zeros((6, 24), np.int64)), "window.inconsistent"),
        (a_window(cells=np.zeros(3, np.int64)), "counts.malformed"),
        (a_window(feedback=Feedback(labelled=1, errors=2)), "window.inconsistent"),
        (a_window(epsilon=1e-300), "window.inconsistent"),
        (a_window(findings=[Finding(feature=6, cause="stuck", rows=1)]), "window.inconsistent"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_does_not_add_up_is_refused_counted_and_told_and_the_rest_goes_on(
    service: IngestService, database: Database, wrong: Window, code: str
) -> None:
    service.commit([told(wrong), told(a_window(1), device="dev2")])
    service.commit([told(a_window(1), 2)])  # the refused id was not used up
    assert sums(database)["windows"] == 2
    assert events(database) == [code]
    with database.read() as connection:
        assert connection.scalar(select(func.sum(device_status.c.malformed))) == 1


def test_everything_that_goes_with_a_window_is_added(service: IngestService, database: Database) -> None:
    more: dict[str, Any] = {
        "findings": [Finding(feature=2, cause="unit", rows=40, detail="*1000")],
        "row_causes": {"duplicate": 3},
        "refused": {"missing_column": 2, "never heard of": 5},
        "feedback": Feedback(labelled=9, errors=3, outcomes_count=9, outcomes=bytes([0b10100000, 0b10000000])),
    }
    service.commit([told(a_window(1, **more)), told(a_window(2, **more), 2)])
    parts = split(vector(database), WATCHED.shape)
    assert parts.named_findings() == {(2, Cause.UNIT): 80}
    assert parts.named_row_causes() == {RowCause.DUPLICATE: 6, RowCause.MISSING_COLUMN: 4, RowCause.OTHER: 10}
    assert sums(database) == {"windows": 2, "rows": 200, "labelled": 18, "errors": 6}
    with database.read() as connection:
        outcomes = connection.scalar(select(drift_sums.c.outcomes))
    assert outcomes is not None
    assert list(bytes(outcomes)) == [1, 0, 1, 0, 0, 0, 0, 0, 1] * 2


def test_noise_brings_its_variance_and_may_be_negative(service: IngestService, database: Database) -> None:
    cells = np.full((6, 24), -3, np.int64)
    service.commit([told(a_window(1, cells=cells, epsilon=1.0))])
    with database.read() as connection:
        assert connection.scalars(select(drift_sums.c.variance)).one() > 0
    assert split(vector(database), WATCHED.shape).cells.min() == -3


def test_profiles_arms_and_periods_are_apart(database: Database) -> None:
    clock = FixedClock()
    service = IngestService(database, clock, WindowBook(Kept(), 3600))
    service.commit([told(a_window(1)), told(a_window(2, arm="b"), 2)])
    clock.at += 3600
    service.commit([told(a_window(3), 3)])
    with database.read() as connection:
        keys = connection.execute(select(drift_sums.c.period_s, drift_sums.c.arm)).all()
        latest = connection.execute(select(window_latest.c.period_s)).all()
    assert (len(set(keys)), len(latest)) == (3, 1)


def test_a_batch_takes_the_same_number_of_statements_however_many_devices(
    service: IngestService, database: Database
) -> None:
    def statements(batch: list[Received]) -> int:
        seen: list[str] = []
        count = lambda *args: seen.append(args[2])  # noqa: E731
        event.listen(database.engine, "before_cursor_execute", count)
        service.commit(batch)
        event.remove(database.engine, "before_cursor_execute", count)
        return len(seen)

    service.commit([told(a_window(1), device=device) for device in NAMES])
    one = statements([told(a_window(2), 2)])
    assert statements([told(a_window(3), 3 if d == "dev1" else 2, device=d) for d in NAMES]) == one


def test_two_hubs_add_to_the_same_rows(database: Database) -> None:
    services = [IngestService(database, FixedClock(), WindowBook(Kept(), 3600)) for _ in range(2)]

    def deliver(service: IngestService) -> None:
        for number in range(1, 11):
            service.commit([told(a_window(number), number, device=device) for device in NAMES])

    with ThreadPoolExecutor(2) as pool:
        for done in [pool.submit(deliver, service) for service in services]:
            done.result(60)
    assert sums(database)["windows"] == 30


def a_metric(name: str = "items", **more: Any) -> Metric:
    fields: dict[str, Any] = {"name": name, "kind": "counter", "model": "table", "version": 1, "count": 1, "total": 2.0}
    return Metric(**(fields | more))


def metrics(*items: Metric) -> Metrics:
    return Metrics(started_s=1.0, ended_s=2.0, metrics=list(items))


def test_metrics_add_up_by_version_and_arm(service: IngestService, database: Database) -> None:
    belt = a_metric(
        "belt", kind="gauge", model=None, version=None, count=2, total=3.0, least=1.0, greatest=2.0, last=2.0
    )
    service.commit([told(metrics(a_metric(), a_metric(arm="b"), belt))])
    slow = a_metric("belt", kind="gauge", model=None, version=None, total=0.5, least=0.5, greatest=0.5, last=0.5)
    again = told(metrics(a_metric(), slow), device="dev2")
    service.commit([again])
    service.commit([again])
    with database.read() as connection:
        rows = {(row["name"], row["arm"]): row for row in connection.execute(select(app_metrics)).mappings()}
    assert (rows["items", ""]["total"], rows["items", ""]["count"], rows["items", "b"]["total"]) == (4.0, 2, 2.0)
    found = [rows["belt", ""][name] for name in ("count", "least", "greatest", "last", "model")]
    assert tuple(found) == (3, 0.5, 2.0, 0.5, "")


def test_no_device_fills_the_table_with_names(
    service: IngestService, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    for rules in (metric_rules, window_rules):
        monkeypatch.setattr(rules, "MAX_KEYS_COUNT", 3)
    service.commit([told(metrics(*(a_metric(f"m{number}") for number in range(9))))])
    service.commit([told(metrics(a_metric("late"), a_metric("m1")), 2)])
    with database.read() as connection:
        assert sorted(connection.scalars(select(app_metrics.c.name)).all()) == ["m0", "m1", "m2"]
    assert events(database) == ["metrics.too_many"] * 2


def test_a_metric_of_an_unknown_version_is_refused(service: IngestService, database: Database) -> None:
    service.commit([told(metrics(a_metric(version=9), a_metric()))])
    with database.read() as connection:
        assert connection.scalars(select(app_metrics.c.version)).all() == [1]
    assert events(database) == ["window.unwatched"]


def test_mutated_messages_never_crash_and_never_count_wrongly(service: IngestService, database: Database) -> None:
    found = mutated(service, random.Random(3), 1_500)
    with database.read() as connection:
        good = connection.scalar(select(window_marks.c.window_id).where(window_marks.c.device_id == "dev2"))
        bad = connection.scalar(select(device_status.c.malformed).where(device_status.c.device_id == "dev1"))
    assert (good, bad) == (found, len(events(database)))
    assert bad is not None
    assert bad > 500
    parts = split(vector(database), WATCHED.shape)
    assert (parts.cells[:4].sum(axis=1) == sums(database)["rows"]).all(), "what was counted adds up"


def test_merging_is_exact_in_any_order() -> None:
    parts = []
    for place in range(20):
        window = a_window(1, seed=place)
        one = Sums(vector=np.zeros(WATCHED.shape.size, np.int64))
        add_window(one, window, read_window(window, REFERENCE, DIGEST), WATCHED.shape)
        parts.append(one)
    assert (merged(parts, WATCHED.shape).vector == merged(parts[::-1], WATCHED.shape).vector).all()
    assert pack_counts(merged(parts, WATCHED.shape).vector)
