"""Features of pictures, signals and columns: right, named, and the same in whatever batch a row comes."""

from __future__ import annotations

from pathlib import PurePath
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared import strict_yaml
from shared.bundle.manifest import TensorSpec
from shared.drift.contract import DataContract, parse_contract, resolve
from shared.drift.features import Extractor, feature_names
from shared.drift.projection import directions, project
from shared.drift.reference import Columns, Extraction, Image, Projection, Series
from shared.errors import InvalidInput
from shared.preprocess.kernels import Array

CASES: list[tuple[Extraction, list[int], str]] = [
    (Columns(), [5], "int16"),
    (Image(height=8, width=8, peak=16.0), [64], "uint8"),
    (Image(height=300, width=200, channels=3), [300, 200, 3], "uint8"),
    (Image(height=9, width=7, channels=4, peak=1.0), [9, 7, 4], "float32"),
    (Series(length=50, channels=3), [50, 3], "float32"),
    (Series(length=9000, channels=1), [9000], "float32"),
    (Image(height=1, width=1), [1, 1], "uint8"),
]


def extracted(extraction: Extraction, shape: list[int], x: Array) -> Array:
    extractor = Extractor(extraction, TensorSpec(name="x", dtype=str(x.dtype), shape=shape))  # type: ignore[arg-type]
    kept = extractor.kept(x)
    assert kept.shape[1:] == extractor.shape
    return extractor.features(np.array(kept))


def data(shape: list[int], dtype: str, rows: int) -> Array:
    random = np.random.default_rng(5)
    values = random.integers(0, 100, (rows, *shape))
    return (values / 100 if dtype == "float32" else values).astype(dtype)


@pytest.mark.parametrize(("extraction", "shape", "dtype"), CASES, ids=str)
def test_a_row_gives_the_same_features_in_any_batch(extraction: Extraction, shape: list[int], dtype: str) -> None:
    x = data(shape, dtype, 12)
    whole = extracted(extraction, shape, x)
    names = feature_names(extraction, int(np.prod(shape)))
    assert whole.shape == (12, len(names))
    assert len(set(names)) == len(names)
    parts = [extracted(extraction, shape, part) for part in np.split(x, [1, 3, 8])]
    assert np.array_equal(np.concatenate(parts), whole)


def test_blur_dark_and_flat_pictures_show_in_the_feature_that_is_named_for_it() -> None:
    random = np.random.default_rng(1)
    sharp = random.integers(60, 200, (1, 64, 64)).astype(np.float32)
    blurred = (sharp + np.roll(sharp, 1, axis=2) + np.roll(sharp, -1, axis=2)) / 3
    image = Image(height=64, width=64)
    (bright, contrast, sharpness, edges), b, dark = (
        extracted(image, [64, 64], x.astype(np.float32))[0] for x in (sharp, blurred, sharp / 3)
    )
    assert b[2] < sharpness / 2
    assert b[3] < edges
    assert b[0] == pytest.approx(bright, rel=1e-3)
    assert dark[0] == pytest.approx(bright / 3, rel=1e-3)
    assert dark[1] == pytest.approx(contrast / 3, rel=1e-3)
    assert dark[2] == pytest.approx(sharpness, rel=1e-2), "darkness is not blur"


def test_grey_pictures_have_no_saturation_and_coloured_ones_do() -> None:
    image = Image(height=4, width=4, channels=3)
    grey, red = np.full((1, 4, 4, 3), 100, np.uint8), np.zeros((1, 4, 4, 3), np.uint8)
    red[..., 0] = 200
    assert extracted(image, [4, 4, 3], grey)[0, 4] == 0
    assert extracted(image, [4, 4, 3], red)[0, 4] == pytest.approx(1.0, abs=1e-3)


def test_of_a_large_picture_only_some_rows_are_looked_at() -> None:
    extractor = Extractor(Image(height=1080, width=1920), TensorSpec(name="x", dtype="uint8", shape=[1080, 1920]))
    assert extractor.shape[0] * extractor.shape[1] <= 4096


def test_projections_are_the_same_for_ever() -> None:
    found = directions(Projection(seed=0, inputs=5, outputs=3))
    signs = (found > 0).astype(int).reshape(-1).tolist()
    assert signs == [0, 0, 1, 0, 1, 0, 0, 0, 1, 1, 0, 0, 0, 0, 1]
    assert np.allclose(np.linalg.norm(found, axis=0), 1)


@settings(max_examples=30)
@given(st.integers(1, 40), st.integers(0, 2**32))
def test_projecting_is_the_same_row_by_row(rows: int, seed: int) -> None:
    along = directions(Projection(seed=seed, inputs=64, outputs=12))
    x = np.random.default_rng(seed).normal(size=(rows, 64)).astype(np.float32)
    assert np.array_equal(project(x, along), np.concatenate([project(row[np.newaxis], along) for row in x]))


def contract_of(text: str) -> DataContract:
    return parse_contract(strict_yaml.load(text.encode(), what="contract"), PurePath("contract.yaml"))


def test_a_contract_names_bounds_and_rate() -> None:
    found = contract_of(
        "features:\n"
        "  - {name: temperature, unit: degC, min: -40, max: 85, presence: 0.99, policy: reject}\n"
        "  - {name: mode, type: category, categories: [0, 1, 2]}\n"
        "rate: {least_per_h: 10}\n"
    )
    extraction, features = resolve(found, [2], "float32")
    assert extraction == Columns()
    assert [(f.name, f.unit, f.policy, f.type) for f in features] == [
        ("temperature", "degC", "reject", "number"),
        ("mode", "", "count", "category"),
    ]
    assert found.rate.least_per_h == 10


@pytest.mark.parametrize(
    ("text", "shape"),
    [
        ("features: [{name: a}]", [2]),
        ("features: [{name: a}, {name: a}]", [2]),
        ("features: [{name: a, min: 2, max: 1}]", [1]),
        ("features: [{name: a, categories: [1]}]", [1]),
        ("features: [{name: a, colour: red}]", [1]),
        ("features: [{name: brightness, policy: reject}]", [8, 8]),
        ("features: [{name: weight}]", [8, 8]),
        ("{kind: image, height: 9, width: 9}", [8, 8]),
        ("{kind: image}", [8, 8]),
        ("{kind: magic}", [8, 8]),
        ("{}", [257]),
        ("rate: {least_per_h: -1}", [1]),
        ("[1]", [1]),
    ],
)
def test_a_contract_that_cannot_hold_is_refused(text: str, shape: list[int]) -> None:
    with pytest.raises(InvalidInput) as caught:
        resolve(contract_of(text), shape, "float32")
    assert caught.value.code == "contract.invalid"


@pytest.mark.parametrize(
    ("shape", "expected"),
    [([7], Columns()), ([8, 8], Image(height=8, width=8)), ([4, 5, 3], Image(height=4, width=5, channels=3))],
    ids=str,
)
def test_the_shape_says_what_inputs_are_unless_the_contract_does(shape: list[int], expected: Any) -> None:
    assert resolve(DataContract(), shape, "uint8")[0] == expected
