"""What one window says, and in which order of importance."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from hub.monitoring.examine import Counted, Severity, examine, reference_cells
from shared.drift.cells import Cells
from shared.drift.layout import CELLS, Cause
from shared.drift.reference import Columns, Feature, Reference, Season

_RNG = np.random.default_rng(5)
_ROWS = 20_000
_DATA = _RNG.normal(size=(_ROWS, 3)).astype(np.float32)


def _feature(index: int, **changes: object) -> Feature:
    values = _DATA[:, index]
    edges = [float(e) for e in np.quantile(values, np.arange(1, 20) / 20).astype(np.float32)]
    fields: dict[str, object] = {
        "name": f"x{index}",
        "edges": edges,
        "least": float(values.min()),
        "greatest": float(values.max()),
        "mean": 0.0,
        "std": 1.0,
    }
    blank = Feature(counts=[0] * CELLS, **(fields | changes))  # type: ignore[arg-type]
    cells = Cells([blank])
    counts = cells.count(cells.of(values[:, None]))[0].tolist()
    return Feature(counts=counts, **(fields | changes))  # type: ignore[arg-type]


_REFERENCE = Reference(
    rows=_ROWS,
    predicted=_ROWS,
    preprocessing="0" * 64,
    extraction=Columns(),
    features=[_feature(0), _feature(1, max=5.0), _feature(2, source="output")],
)
_COUNTER = Cells(_REFERENCE.features)


def _counted(values: NDArray[np.float32], **changes: object) -> Counted:
    cells = _COUNTER.count(_COUNTER.of(values))
    return Counted(rows=len(values), predicted=len(values), cells=cells, **changes)  # type: ignore[arg-type]


def _values(n: int = 2000) -> NDArray[np.float32]:
    return _RNG.normal(size=(n, 3)).astype(np.float32)


_CELLS = reference_cells(_REFERENCE, 0.0, 10 * 86_400.0)


def test_nothing_is_found_where_nothing_changed() -> None:
    examined = examine(_counted(_values()), _REFERENCE, _CELLS)
    assert examined.severity is Severity.NONE
    assert examined.faults == ()


def test_drift_needs_two_windows_and_says_where_to() -> None:
    moved = _values()
    moved[:, 0] += 0.5
    first = examine(_counted(moved), _REFERENCE, _CELLS)
    assert first.severity is Severity.NONE
    assert first.found == (True, False, False)
    second = examine(_counted(moved), _REFERENCE, _CELLS, first.found)
    assert second.severity is Severity.INPUT_DRIFT
    (drifted,) = [d for d in second.drifted if d.confirmed]
    assert (drifted.feature, drifted.source) == ("x0", "input")
    assert drifted.shift == pytest.approx(0.5, abs=0.1)


def test_drift_of_predictions_stands_above_drift_of_inputs() -> None:
    moved = _values()
    moved[:, [0, 2]] += 0.5
    first = examine(_counted(moved), _REFERENCE, _CELLS)
    assert examine(_counted(moved), _REFERENCE, _CELLS, first.found).severity is Severity.PREDICTION_DRIFT


def test_few_rows_say_nothing() -> None:
    moved = _values(40) + np.float32(5)
    examined = examine(_counted(moved), _REFERENCE, _CELLS, (True,) * 3)
    assert (examined.severity, examined.faults) == (Severity.NONE, ())


@pytest.mark.parametrize(
    ("value", "column", "cause"),
    [(np.nan, 0, "missing"), (np.inf, 0, "infinite"), (7.0, 1, "outside")],
)
def test_a_fault_in_the_cells_is_named(value: float, column: int, cause: str) -> None:
    broken = _values()
    broken[::20, column] = value
    examined = examine(_counted(broken), _REFERENCE, _CELLS)
    assert examined.severity is Severity.DATA_QUALITY
    (fault,) = examined.faults
    assert (fault.feature, fault.cause, fault.rows) == (f"x{column}", cause, 100)


def test_what_devices_found_explains_what_follows_from_it() -> None:
    broken = _values()
    broken[:, 1] = np.inf
    counted = _counted(broken, findings={(1, Cause.STUCK): 1900, (0, Cause.CLIPPED): 3})
    examined = examine(counted, _REFERENCE, _CELLS)
    assert [(f.feature, f.cause) for f in examined.faults] == [("x1", "stuck")]


def test_a_fault_vetoes_the_drift_that_follows_from_it() -> None:
    broken = _values()
    broken[:, 0] *= 1000
    first = examine(_counted(broken, findings={(0, Cause.UNIT): 2000}), _REFERENCE, _CELLS)
    second = examine(_counted(broken, findings={(0, Cause.UNIT): 2000}), _REFERENCE, _CELLS, first.found)
    assert second.severity is Severity.DATA_QUALITY
    assert [f.cause for f in second.faults] == ["unit"]


def test_duplicates_are_a_fault_of_rows() -> None:
    examined = examine(_counted(_values(), duplicates=300), _REFERENCE, _CELLS)
    assert [(f.feature, f.cause) for f in examined.faults] == [("", "duplicate")]


def test_a_window_is_held_against_its_season() -> None:
    total = [count for feature in _REFERENCE.features for count in feature.counts]
    noon = [count // 2 for count in total]
    rest = [count - half for count, half in zip(total, noon, strict=True)]
    empty = [0] * len(total)
    counts = [rest if hour == 0 else noon if hour == 12 else empty for hour in range(24)]
    seasonal = Reference(
        **{name: getattr(_REFERENCE, name) for name in _REFERENCE.__struct_fields__ if name != "seasons"},
        seasons=[Season(by="hour", counts=counts)],
    )
    at_noon = reference_cells(seasonal, 12 * 3600.0, 13 * 3600.0)
    assert at_noon.reshape(-1).tolist() == noon
    for started_s, ended_s in ((0.0, 86_400.0), (5 * 3600.0, 6 * 3600.0)):  # a day; an hour that the reference lacks
        assert reference_cells(seasonal, started_s, ended_s).reshape(-1).tolist() == total
