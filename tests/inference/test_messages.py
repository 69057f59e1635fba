"""Whatever bytes come in, a request is an array of the model's type or an error with a code."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.inference.local_api.tensors import DATATYPES, from_binary, from_json
from agent.inference.local_api.v2_messages import decode_request, encode_response, input_of
from shared.bundle.manifest import FileEntry, Golden, Manifest, ModelFile, TensorSpec
from shared.errors import SkerryError

MANIFEST = Manifest(
    model="m",
    version=3,
    input=TensorSpec(name="x", dtype="int16", shape=[2]),
    output=TensorSpec(name="y", dtype="float32", shape=[1]),
    extractor=ModelFile(path="model.tflite"),
    golden=Golden(inputs="a.npy", outputs="b.npy"),
    files=[FileEntry(path="model.tflite", bytes=1, sha256="0" * 64, role="model")],
)
Json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=12,
)
Tensor = st.fixed_dictionaries(
    {
        "name": st.just("x"),
        "shape": st.lists(st.integers(-2, 3), max_size=3),
        "datatype": st.sampled_from(["INT16", "X"]),
    },
    optional={
        "data": Json,
        "parameters": st.dictionaries(st.sampled_from(["binary_data_size", "binary_data"]), Json, max_size=2),
    },
)


def understood(body: bytes, header: str | None) -> None:
    try:
        request, binary = decode_request(body, header)
        x = input_of(request, binary, MANIFEST)
        content, length = encode_response(request, MANIFEST, np.zeros((len(x) if x.ndim else 1, 1), np.float32))
    except SkerryError as error:
        assert error.code.startswith(("body.", "input.", "infer.", "output."))
        return
    assert x.dtype == np.int16
    assert json.loads(content[:length])["model_version"] == "3"


@given(st.binary(max_size=200), st.none() | st.text(max_size=4))
def test_random_bytes(body: bytes, header: str | None) -> None:
    understood(body, header)


@given(st.lists(Tensor, max_size=2), st.binary(max_size=12), st.integers(-3, 3), Json)
def test_requests_of_the_right_form(tensors: list[Any], binary: bytes, shift: int, parameters: Any) -> None:
    body: dict[str, Any] = {"inputs": tensors}
    if isinstance(parameters, dict):
        body["parameters"] = parameters
    head = json.dumps(body).encode()
    understood(head + binary, str(len(head) + shift))
    understood(head, None)


@given(Json, st.sampled_from(sorted(DATATYPES)))
def test_json_data_converts_exactly_or_not_at_all(data: Any, datatype: str) -> None:
    dtype = DATATYPES[datatype]
    try:
        found = from_json(data, dtype, None, "x")
    except SkerryError as error:
        assert error.code.startswith("input.")
        return
    assert found.dtype == dtype
    if dtype.kind in "iu":
        assert np.array_equal(found, np.array(data))


@pytest.mark.parametrize("datatype", sorted(DATATYPES))
def test_binary_data_is_little_endian_and_comes_back(datatype: str) -> None:
    dtype = DATATYPES[datatype]
    x = np.array([[0, 1], [1, 0]]).astype(dtype)
    assert np.array_equal(from_binary(memoryview(x.tobytes()), dtype, [2, 2], "x"), x)
    assert from_binary(memoryview(x.tobytes()), dtype, [4], "x").dtype == dtype
    for shape in ([3], [2, 3], [-1], [1 << 62, 1 << 62]):
        with pytest.raises(SkerryError):
            from_binary(memoryview(x.tobytes()), dtype, shape, "x")


def test_bytes_that_are_no_booleans_are_refused() -> None:
    with pytest.raises(SkerryError) as caught:
        from_binary(memoryview(b"\x01\x02"), DATATYPES["BOOL"], [2], "x")
    assert caught.value.code == "input.data"
