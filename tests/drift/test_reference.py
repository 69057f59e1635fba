"""References: what is made is what is read, and nothing that does not add up is believed."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared import canonical, limits
from shared.drift.cells import Cells
from shared.drift.contract import FeatureContract
from shared.drift.layout import BINS, CELLS, SCORE_BINS, Cell
from shared.drift.reference import check_fits, parse_calibration, parse_reference
from shared.errors import InvalidInput, SkerryError, TooLarge
from tests.drift.kit import columns_reference, digits_reference

NORMAL = np.random.default_rng(3).normal(20, 2, (500, 3)).astype(np.float32)


def altered(data: bytes, *path: Any, to: Any) -> bytes:
    plain = json.loads(data)
    place = plain
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = to
    return canonical.dumps(plain)


def test_a_reference_has_all_three_sources_and_adds_up() -> None:
    reference = parse_reference(digits_reference()[0])
    assert [f.name for f in reference.of("input")] == ["brightness", "contrast", "sharpness", "edges"]
    assert (len(reference.of("output")), len(reference.of("embedding"))) == (10, 12)
    assert all(sum(feature.counts) == 540 for feature in reference.features)
    assert reference.classes is not None
    assert sum(reference.classes.counts) == 540


def test_the_bins_of_a_number_hold_equal_shares() -> None:
    reference, _, _ = columns_reference(NORMAL)
    for feature in reference.of("input"):
        assert len(feature.edges) == BINS - 1
        assert max(feature.counts) - min(feature.counts[:BINS]) <= 2


def test_a_value_that_is_common_gets_a_bin_of_its_own() -> None:
    x = np.abs(NORMAL[:, :1] - 20) * (np.arange(500) % 2 == 0)[:, np.newaxis]
    reference, _, _ = columns_reference(x.astype(np.float32))
    cells = Cells([reference.features[0]])
    zero, little = cells.of(np.array([[0.0], [np.abs(x[x > 0]).min()]], np.float32))[:, 0]
    assert reference.features[0].counts[zero] >= 250
    assert zero != little


@pytest.mark.parametrize("value", [0.0, 3.5, -2e6])
def test_a_constant_feature_still_shows_every_change(value: float) -> None:
    reference, _, _ = columns_reference(np.full((60, 1), value, np.float32))
    cells = Cells([reference.features[0]])
    below, same, above = cells.of(np.array([[value - 1e6], [value], [value + 1e6]], np.float32))[:, 0]
    assert len({below, same, above}) == 3
    assert reference.features[0].counts[same] == 60
    assert reference.features[0].stuck_rows == 0


def test_cells_tell_missing_infinite_outside_and_new_categories_apart() -> None:
    x = np.stack([np.linspace(0, 10, 300), np.arange(300) % 3], axis=1).astype(np.float32)
    x[0, 0] = -999
    contract = [
        FeatureContract(name="level", min=0, max=10, missing=-999),
        FeatureContract(name="mode", type="category"),
    ]
    reference, _, _ = columns_reference(x, contract)
    assert reference.features[0].counts[Cell.MISSING] == 1
    cells = Cells(reference.of("input"))
    rows = np.array([[np.nan, 7], [np.inf, 1], [11, np.nan], [-999, 0], [-1, 2]], np.float32)
    found = cells.of(rows)
    assert found[:, 0].tolist() == [Cell.MISSING, Cell.INFINITE, Cell.OUTSIDE, Cell.MISSING, Cell.OUTSIDE]
    assert found[0, 1] == Cell.OTHER
    assert found[2, 1] == Cell.MISSING
    assert max(found[[1, 3, 4], 1]) < 3
    assert cells.count(found).sum(axis=1).tolist() == [5, 5]


def test_a_fraction_where_the_contract_says_integer_is_of_another_kind() -> None:
    x = np.arange(300, dtype=np.float32)[:, np.newaxis]
    reference, _, _ = columns_reference(x, [FeatureContract(name="pieces", type="integer")])
    cells = Cells(reference.of("input")).of(np.array([[7], [7.5], [np.nan], [np.inf]], np.float32))[:, 0].tolist()
    assert cells[0] < BINS
    assert cells[1:] == [Cell.OTHER, Cell.MISSING, Cell.INFINITE]


def test_rows_that_the_model_refuses_count_for_the_input_only() -> None:
    x = NORMAL.copy()
    x[:10, 1] = np.nan
    reference, _, _ = columns_reference(x)
    assert (reference.rows, reference.predicted) == (500, 490)
    assert reference.features[1].counts[Cell.MISSING] == 10


def test_seasons_add_up_to_the_whole() -> None:
    times = 1_700_000_000.0 + np.arange(500) * 5400.0
    reference, _, _ = columns_reference(NORMAL, times_s=times)
    assert [season.by for season in reference.seasons] == ["hour", "weekday"]
    whole = [count for feature in reference.features for count in feature.counts]
    for season in reference.seasons:
        assert np.sum(season.counts, axis=0).tolist() == whole
    monday = columns_reference(NORMAL, times_s=np.full(500, 1_700_438_400.0))[0].seasons[1].counts  # 20 November 2023
    assert sum(monday[0]) == sum(whole)


def test_the_calibration_says_how_often_each_score_was_right() -> None:
    found = parse_calibration(digits_reference()[1])
    right = np.array(found.correct).reshape(SCORE_BINS, -1).sum(axis=1)
    total = np.array(found.total).reshape(SCORE_BINS, -1).sum(axis=1)
    assert found.rows == 540
    assert right[0] / total[0] < right[-1] / total[-1]
    assert right.sum() / 540 > 0.9


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("rows",), 541),
        (("rows",), 0),
        (("predicted",), 539),
        (("features", 0, "counts", 3), 1_000),
        (("features", 0, "counts", 3), -1),
        (("features", 0, "counts"), [0] * 23),
        (("features", 0, "edges", 0), 1e30),
        (("features", 0, "edges", 0), 1e300),
        (("features", 0, "name"), "contrast"),
        (("features", 0, "source"), "output"),
        (("features", 0, "categories"), [1.0]),
        (("features", 0, "type"), "category"),
        (("features", 0, "surprise"), 1),
        (("features",), []),
        (("classes", "kept", 0), 1),
        (("classes", "outputs"), 9),
        (("classes", "counts"), [540]),
        (("projection", "outputs"), 11),
        (("projection",), None),
        (("extraction", "kind"), "shell"),
        (("schema_version",), 2),
        (("seasons",), [{"by": "hour", "counts": [[]]}]),
    ],
    ids=str,
)
def test_a_mutated_reference_is_refused(path: tuple[Any, ...], value: Any) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse_reference(altered(digits_reference()[0], *path, to=value))
    assert caught.value.code == "reference.malformed"


@pytest.mark.parametrize(
    ("path", "value"), [(("rows",), 1), (("columns",), 9), (("correct", 0), 10**6), (("confusion", 0), 10**6)], ids=str
)
def test_a_mutated_calibration_is_refused(path: tuple[Any, ...], value: Any) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse_calibration(altered(digits_reference()[1], *path, to=value))
    assert caught.value.code == "reference.malformed"


@given(st.integers(0, 10**6), st.integers(1, 255))
def test_a_flipped_byte_gives_a_coded_error_or_a_reference_that_adds_up(position: int, flip: int) -> None:
    data = bytearray(digits_reference()[0])
    data[position % len(data)] ^= flip
    try:
        found = parse_reference(bytes(data))
    except SkerryError as error:
        assert error.code.startswith("reference.")
    else:
        assert all(len(feature.counts) == CELLS for feature in found.features)


@given(st.binary(max_size=200))
def test_random_bytes_are_refused_with_a_code(data: bytes) -> None:
    for parse in (parse_reference, parse_calibration):
        with pytest.raises(InvalidInput) as caught:
            parse(data)
        assert caught.value.code == "reference.malformed"


def test_a_large_reference_is_refused_before_it_is_parsed() -> None:
    with pytest.raises(TooLarge) as caught:
        parse_reference(b"{" * (limits.MAX_REFERENCE_BYTES + 1))
    assert caught.value.code == "reference.too_large"


def test_a_reference_of_another_version_does_not_fit() -> None:
    reference, manifest, _ = columns_reference(NORMAL)
    digest = reference.preprocessing
    check_fits(reference, manifest, digest)
    other = columns_reference(NORMAL[:, :2])[1]
    for wrong in ((reference, manifest, "ab" * 32), (reference, other, digest)):
        with pytest.raises(InvalidInput) as caught:
            check_fits(*wrong)
        assert caught.value.code == "reference.mismatch"
