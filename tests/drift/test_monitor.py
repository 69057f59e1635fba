"""A monitor counts exactly, costs nothing that a caller would notice when it breaks, and names what is wrong."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.drift.compiled import Compiled
from agent.drift.feedback import Labelled
from agent.drift.monitor import Monitor
from agent.drift.sequences import Sequences
from agent.drift.units import PICTURE_UNITS
from shared import canonical
from shared.drift.check import outcomes_of, read_window
from shared.drift.contract import FeatureContract
from shared.drift.layout import CELLS, Cell
from shared.errors import Conflict, InvalidInput, NotFound
from shared.preprocess.kernels import Array
from shared.wire.window import Window
from tests.drift.kit import ColumnsModel, columns_reference

DIGEST = "ab" * 32
RANDOM = np.random.default_rng(11)
CALM = np.stack(
    [RANDOM.normal(20, 2, 2000), RANDOM.uniform(0, 100, 2000), RANDOM.integers(0, 4, 2000), RANDOM.gamma(2, 3, 2000)],
    axis=1,
).astype(np.float32)
CONTRACT = [
    FeatureContract(name="temperature", unit="degC", min=-40, max=85),
    FeatureContract(name="load"),
    FeatureContract(name="mode", type="category"),
    FeatureContract(name="delay"),
]
REFERENCE, MANIFEST, _ = columns_reference(CALM, CONTRACT)
MODEL = ColumnsModel(4)


def a_monitor(contract: Sequence[FeatureContract] = (), **more: Any) -> Monitor:
    reference, manifest = (REFERENCE, MANIFEST) if not contract else columns_reference(CALM, contract)[:2]
    options: dict[str, Any] = {"monotonic": lambda: 0.0, "max_rows_per_s": 1e6}
    return Monitor(manifest, ["no", "yes"], Compiled(reference, manifest), DIGEST, **(options | more))


def empty(number: int = 1) -> Window:
    return Window(
        model="table", version=1, series="0" * 16, window_id=number, started_s=0, ended_s=1, reference_sha256=DIGEST
    )


def feed(monitor: Monitor, rows: Array, batch: int = 1) -> None:
    for start in range(0, len(rows), batch):
        x = rows[start : start + batch]
        monitor.observe(x, MODEL.predict(x), MODEL.embedding)


def window_of(monitor: Monitor) -> Window:
    found = monitor.take(empty())
    assert found is not None
    read_window(found, monitor.reference, DIGEST)
    return found


def causes(rows: Array, warm: Array | None = None) -> dict[str, str]:
    """The named causes by feature, after normal traffic if it is given."""
    monitor = a_monitor()
    if warm is not None:
        feed(monitor, warm)
        monitor.take(empty())
    feed(monitor, rows)
    return {REFERENCE.features[f.feature].name: f.cause for f in window_of(monitor).findings}


def calm(rows: int = 300, seed: int = 0) -> Array:
    return CALM[np.random.default_rng(seed).permutation(len(CALM))[:rows]].copy()


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.integers(0, 120), max_size=4),
    st.lists(st.integers(0, 2), min_size=1, max_size=6),
    st.integers(1, 40),
)
def test_counts_add_up_exactly_over_any_windows_devices_and_batches(
    cuts: list[int], devices: list[int], batch: int
) -> None:
    rows = calm(120)
    one = a_monitor()
    feed(one, rows)
    whole = read_window(window_of(one), REFERENCE, DIGEST)
    fleet, parts = [a_monitor() for _ in range(3)], []
    bounds = [0, *sorted(cuts), 120]
    for number, (start, end) in enumerate(pairwise(bounds)):
        device = fleet[devices[number % len(devices)]]
        feed(device, rows[start:end], batch)
        parts.append(device.take(empty(number + 1)))
    told = [read_window(part, REFERENCE, DIGEST) for part in parts if part is not None]
    assert np.array_equal(sum(part.cells for part in told), whole.cells)
    assert np.array_equal(sum(part.scores for part in told), whole.scores)
    assert sum(part.rows for part in parts if part is not None) == 120


def test_a_snapshot_that_is_taken_up_again_gives_the_same_window() -> None:
    rows = calm(200)
    rows[120:, 0] = 21.5
    whole, first = a_monitor(), a_monitor()
    feed(whole, rows)
    feed(first, rows[:150])
    partial, state = first.partial(empty())
    second = a_monitor()
    second.restore(partial, state)
    feed(second, rows[150:])
    assert canonical.dumps(window_of(second)) == canonical.dumps(window_of(whole))


def test_normal_traffic_finds_nothing() -> None:
    for seed in range(20):
        assert causes(calm(300, seed), warm=calm(100, seed + 100)) == {}


@pytest.mark.parametrize("feature", [0, 1, 3])
@pytest.mark.parametrize("rows", [120, 400])
def test_each_fault_of_a_sequence_is_named_by_its_cause(feature: int, rows: int) -> None:
    name, warm = REFERENCE.features[feature].name, calm(100, 5)
    low, high = np.quantile(CALM[:, feature], [0.05, 0.9])
    faults: dict[str, Array] = {"stuck": calm(rows), "unit": calm(rows), "clipped": calm(rows)}
    faults["stuck"][rows // 3 :, feature] = faults["stuck"][rows // 3, feature]
    faults["unit"][:, feature] *= 1000
    faults["clipped"][:, feature] = np.clip(faults["clipped"][:, feature], low, high)
    for cause, data in faults.items():
        assert causes(data, warm) == {name: cause}
    constant = calm(rows)
    constant[:, feature] = 0
    assert causes(constant) == {name: "constant"}


def test_celsius_told_as_fahrenheit_is_a_change_of_unit_with_its_name() -> None:
    rows = calm(200)
    rows[:, 0] = rows[:, 0] * 1.8 + 32
    monitor = a_monitor()
    feed(monitor, rows)
    assert [(f.cause, f.detail) for f in window_of(monitor).findings] == [("unit", "*1.8+32")]


def test_outliers_and_shifts_are_no_change_of_unit() -> None:
    shifted, spread, outliers = calm(400), calm(400), calm(400)
    shifted[:, 0] += 3
    spread[:, 0] = (spread[:, 0] - 20) * 2 + 20
    outliers[::20, 3] *= 10
    for rows in (shifted, spread, outliers):
        assert causes(rows) == {}


def test_cells_count_missing_infinite_outside_and_new_categories() -> None:
    monitor, rows = a_monitor(), calm(8)
    rows[0, 0], rows[1, 2] = 90, 9
    feed(monitor, rows)
    for value in (np.nan, np.inf):
        bad = calm(1)
        bad[0, 1] = value
        monitor.refused(bad, InvalidInput("input.not_finite", "NaN"))
    found = window_of(monitor)
    cells = read_window(found, REFERENCE, DIGEST).cells
    assert (found.rows, found.predicted, found.refused) == (10, 8, {"not_finite": 2})
    assert cells[0, Cell.OUTSIDE] == cells[2, Cell.OTHER] == cells[1, Cell.MISSING] == cells[1, Cell.INFINITE] == 1


def test_a_row_that_is_too_narrow_misses_a_column() -> None:
    monitor = a_monitor()
    for shape, dtype in (((2, 3), np.float32), ((2, 5), np.float32), ((4,), np.float32)):
        monitor.refused(np.zeros(shape, dtype), InvalidInput("input.shape", "shape"))
    monitor.refused(np.zeros((1, 4), np.float64), InvalidInput("input.dtype", "dtype"))
    monitor.refused(np.zeros((1, 4), np.float32), InvalidInput("input.too_many", "many"))
    assert window_of(monitor).refused == {"missing_column": 1, "shape": 2, "dtype": 1, "other": 1}


def test_the_same_row_again_is_a_duplicate_and_nothing_else() -> None:
    monitor, rows = a_monitor(), calm(60)
    feed(monitor, rows)
    feed(monitor, np.repeat(rows[:1], 40, axis=0))
    found = window_of(monitor)
    assert found.row_causes == {"duplicate": 39}
    assert found.findings == []


def test_rows_that_break_a_contract_with_teeth_are_refused_and_named() -> None:
    contract = [
        FeatureContract(name="temperature", unit="degC", min=-40, max=85, policy="reject"),
        FeatureContract(name="load"),
        FeatureContract(name="mode", type="category", policy="reject"),
        FeatureContract(name="delay", missing=-1, policy="reject"),
    ]
    monitor, rows = a_monitor(contract), calm(4)
    monitor.check(rows)
    for place, value, said in ((0, 90, "outside"), (2, 9, "kind"), (3, -1, "missing")):
        bad = rows.copy()
        bad[2, place] = value
        with pytest.raises(InvalidInput) as caught:
            monitor.check(bad)
        assert (caught.value.code, caught.value.detail["row"]) == ("input.contract", 2)
        assert said in caught.value.message
    for strange in (np.float32(1), np.zeros(3, np.float32), np.zeros((2, 4), np.int8), np.zeros((0, 4), np.float32)):
        monitor.check(np.asarray(strange))
    assert not a_monitor().refuses


def test_under_load_rows_are_left_out_and_the_rest_is_counted_as_such() -> None:
    now = [0.0]
    monitor = a_monitor(monotonic=lambda: now[0], max_rows_per_s=100.0)
    rows = calm(2000)
    for start in range(0, 2000, 20):
        feed(monitor, rows[start : start + 20])
        now[0] += 0.02
    found = window_of(monitor)
    assert found.rows + found.skipped == 2000
    assert 200 <= found.rows <= 800
    feed(monitor, rows[:1900])
    now[0] += 1e6
    feed(monitor, rows[:1000])
    feed(monitor, rows[:64])
    assert window_of(monitor).skipped < 2964


def test_counting_that_breaks_is_told_once_and_no_caller_notices() -> None:
    told: list[Exception] = []
    monitor = a_monitor(failed=told.append)
    monitor._kept = lambda x: x[:, :, :, 0]
    feed(monitor, calm(50))
    monitor.flush()
    assert len(told) == 1
    assert not monitor.is_on


def test_a_version_without_a_reference_still_counts_rows_and_truths() -> None:
    monitor = Monitor(MANIFEST, None, None, None, monotonic=lambda: 0.0)
    rows = calm(5)
    feed(monitor, rows)
    monitor.remember("a", rows[:1], MODEL.predict(rows[:1]))
    assert monitor.feedback("a", labels=[1]) == [False]
    found = monitor.take(empty())
    assert found is not None
    assert (found.rows, found.predicted, found.cells, found.scores) == (5, 5, b"", b"")
    assert (found.feedback.labelled, found.feedback.errors) == (1, 1)


# --- truths ---------------------------------------------------------------------------------------------------------
def test_truths_are_counted_in_order_with_their_confusion() -> None:
    monitor, rows = a_monitor(), calm(6)
    samples: list[Labelled] = []
    monitor.sink = samples.append
    for index in range(5):
        monitor.remember(f"r{index}", rows[index : index + 1], MODEL.predict(rows[index : index + 1]))
    monitor.remember("both", rows[4:], MODEL.predict(rows[4:]))
    predicted = MODEL.predict(rows[:1]).argmax()
    assert predicted == 0
    assert monitor.feedback("r0", labels=["no"]) == [True]
    assert monitor.feedback("r1", labels=[1]) == [False]
    assert monitor.feedback("r2", labels=[None]) == [False]
    assert monitor.feedback("r3", correct=[True]) == [True]
    assert monitor.feedback("both", labels=["no", 0]) == [True, True]
    found = window_of(monitor).feedback
    assert (found.labelled, found.errors) == (6, 2)
    assert outcomes_of(found).tolist() == [0, 1, 1, 0, 0, 0]
    confusion = read_window(monitor_window(found), REFERENCE, DIGEST).confusion
    assert confusion.tolist() == [[4, 1, 1], [0, 0, 0], [0, 0, 0]]
    assert [(s.label, s.model, s.version) for s in samples] == [(0, "table", 1), (1, "table", 1)] + [
        (0, "table", 1)
    ] * 2


def monitor_window(feedback: Any) -> Window:
    zeros = a_monitor()
    feed(zeros, calm(1))
    found = window_of(zeros)
    return Window(**({name: getattr(found, name) for name in found.__struct_fields__} | {"feedback": feedback}))


def test_truths_about_unknown_requests_repeated_or_ill_formed_are_refused() -> None:
    monitor, rows = a_monitor(feedback_count=2), calm(3)
    for name in ("old", "a", "b"):
        monitor.remember(name, rows[:1], MODEL.predict(rows[:1]))
    with pytest.raises(NotFound) as unknown:
        monitor.feedback("old", labels=[0])
    assert unknown.value.code == "feedback.unknown_request"
    for labels, code in (([0, 1], "feedback.rows"), (["maybe"], "feedback.label"), ([2], "feedback.label")):
        with pytest.raises(InvalidInput) as caught:
            monitor.feedback("a", labels=labels)
        assert caught.value.code == code
    assert monitor.feedback("a", labels=[0]) == [True]
    with pytest.raises(Conflict) as repeated:
        monitor.feedback("a", labels=[0])
    assert repeated.value.code == "feedback.repeated"
    found = window_of(monitor).feedback
    assert (found.labelled, found.errors, found.unknown) == (1, 0, 1)


def test_threads_that_predict_while_windows_end_lose_and_double_nothing() -> None:
    import threading

    monitor, rows = a_monitor(max_rows_per_s=1e12), calm(400)
    answers = [(rows[i : i + 1], MODEL.predict(rows[i : i + 1]), MODEL.embedding) for i in range(400)]
    windows: list[Window] = []

    def observe() -> None:
        for answer in answers:
            monitor.observe(*answer)

    threads = [threading.Thread(target=observe) for _ in range(4)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        monitor.flush()
        windows += [window for window in [monitor.take(empty())] if window is not None]
    windows += [window for window in [monitor.take(empty())] if window is not None]
    assert sum(read_window(window, REFERENCE, DIGEST).cells[0].sum() for window in windows) == 1600
    assert sum(window.rows for window in windows) == 1600
    assert monitor.totals()["rows"] == 1600


def test_memory_does_not_grow_with_the_number_of_rows() -> None:
    import tracemalloc

    monitor, rows = a_monitor(), calm(500)
    y, e = MODEL.predict(rows), MODEL.embedding

    def run(times: int) -> None:
        for _ in range(times):
            for start in range(0, 500, 50):
                part = slice(start, start + 50)
                monitor.observe(rows[part], y[part], e[part])
                monitor.remember(f"{start}-{times}", rows[:1], y[:1])

    run(20)
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    run(400)
    grown = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert grown < 20_000
    assert monitor._tally.cells.nbytes == len(REFERENCE.features) * CELLS * 4


@pytest.mark.parametrize(("factor", "found"), [(1 / 2.54, []), (1 / 255, ["/255"])])
def test_a_blurred_picture_is_no_change_of_unit_but_other_pixels_are(factor: float, found: list[str]) -> None:
    sharpness = msgspec.structs.replace(REFERENCE.features[1], name="sharpness", mean=1.35, std=0.2)
    sequences = Sequences([sharpness], units=PICTURE_UNITS)
    rows = np.random.default_rng(3).normal(1.35, 0.2, (300, 1)) * factor
    sequences.add(rows.astype(np.float32))
    assert [finding.detail for finding in sequences.findings() if finding.cause == "unit"] == found
