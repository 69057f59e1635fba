"""A built bundle holds a model that runs, and says what it needs."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest

from shared.bundle.archive import read_bundle, unpack_bundle
from shared.bundle.manifest import ModelFile, Requirements
from shared.errors import InvalidInput, SkerryError
from shared.runtime.arrays import load_array
from shared.runtime.model import LoadedModel
from shared.runtime.operators import list_operators
from tests.models import digits_bundle, digits_model, load_digits


def test_the_same_arguments_give_the_same_bundle(tmp_path: Path) -> None:
    built = [digits_bundle(tmp_path / name) for name in "ab"]
    assert built[0] == built[1]
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]


def test_a_built_bundle_reads_unpacks_and_passes_its_golden_check(tmp_path: Path) -> None:
    built = digits_bundle(tmp_path / "b", 7)
    manifest = unpack_bundle(tmp_path / "b", tmp_path / "s", expected_sha256=built.sha256, expected_bytes=built.bytes)
    assert manifest == built.manifest == read_bundle(io.BytesIO((tmp_path / "b").read_bytes()))
    assert manifest.version == 7
    model = LoadedModel.load(tmp_path / "s", manifest)
    assert model.check_golden().passed
    data = load_digits()
    right = np.mean(model.predict(data.test_x[:200]).argmax(axis=1) == data.test_y[:200])
    assert right > 0.9


def test_golden_outputs_can_be_given_and_then_fail(tmp_path: Path) -> None:
    built = digits_bundle(tmp_path / "b", broken=True)
    manifest = unpack_bundle(tmp_path / "b", tmp_path / "s", expected_sha256=built.sha256, expected_bytes=built.bytes)
    result = LoadedModel.load(tmp_path / "s", manifest).check_golden()
    assert not result.passed
    assert result.max_difference > result.tolerance


def test_the_operations_needed_are_listed(tmp_path: Path) -> None:
    ops = digits_bundle(tmp_path / "b").manifest.requirements.ops
    parts = digits_model(1)
    assert ops == {**list_operators(parts.extractor), **list_operators(parts.head)}
    assert {"FULLY_CONNECTED", "QUANTIZE", "SOFTMAX", "READ_VARIABLE"} <= set(ops)
    given = Requirements(memory_bytes=5, ops={"CONV_2D": 3})
    assert digits_bundle(tmp_path / "c", requirements=given).manifest.requirements == given


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"extractor": b"not a model"}, "model.load_failed"),
        ({"weights": {"w": np.zeros((10, 64), np.float32)}}, "model.signature_missing"),
        (
            {"weights": {"w": np.zeros((64, 10), np.float32), "b": np.zeros(10, np.float32)}},
            "model.input_mismatch",
        ),
        ({"preprocessing": [{"op": "grow"}]}, "preprocess.operation"),
        ({"golden_inputs": np.zeros((0, 8, 8), np.float32)}, "golden.malformed"),
        ({"golden_inputs": np.zeros((2, 64), np.float32)}, "input.shape"),
        ({"golden_outputs": np.zeros((3, 10), np.float32)}, "golden.malformed"),
        ({"labels": ["a"]}, "model.labels"),
        ({"extractor_file": ModelFile(path="model.tflite", signature="other")}, "model.signature_missing"),
        ({"tolerance": 0.0}, "bundle.malformed"),
        ({"model": "../x"}, "bundle.malformed"),
    ],
)
def test_parts_that_do_not_fit_are_refused_at_the_build(tmp_path: Path, change: dict[str, object], code: str) -> None:
    arguments = {"model": change.pop("model", "digits"), **change}
    with pytest.raises(SkerryError) as caught:
        digits_bundle(tmp_path / "b", **arguments)  # type: ignore[arg-type]
    assert caught.value.code == code
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_model_has_no_operations_but_a_code() -> None:
    model = digits_model(1).extractor
    for size in (8, 40, 100):
        with pytest.raises(InvalidInput) as caught:
            list_operators(model[:size])
        assert caught.value.code == "model.load_failed"


def test_golden_arrays_are_stored_as_given(tmp_path: Path) -> None:
    built = digits_bundle(tmp_path / "b")
    unpack_bundle(tmp_path / "b", tmp_path / "s", expected_sha256=built.sha256, expected_bytes=built.bytes)
    assert np.array_equal(load_array(tmp_path / "s" / "golden/inputs.npy"), load_digits().train_x[:8])
