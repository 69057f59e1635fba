"""A loaded model gives right answers, refuses wrong inputs with a code, and never lets the runtime's own errors out."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hub.modelkit import dense_relu, quantise_int8, softmax_head
from shared import limits
from shared.bundle.archive import read_manifest
from shared.bundle.build import build_bundle
from shared.bundle.manifest import Manifest, TensorSpec
from shared.errors import InternalError, InvalidInput, SkerryError, TooLarge
from shared.preprocess.kernels import Array
from shared.runtime.arrays import array_bytes
from shared.runtime.interpreter import RUNTIME_NAME, RUNTIME_VERSION, Graph
from shared.runtime.model import LoadedModel
from tests.models import digits_bundle, digits_model, load_digits, unpacked_digits


@pytest.fixture(scope="module")
def slot(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("runtime") / "slot"
    unpacked_digits(directory)
    return directory


@pytest.fixture(scope="module")
def model(slot: Path) -> LoadedModel:
    return LoadedModel.load(slot, read_manifest(slot))


def code_of(call: Any, *arguments: Any) -> str:
    with pytest.raises(SkerryError) as caught:
        call(*arguments)
    return caught.value.code


def reference(x: Array) -> Array:
    """The same network in NumPy, float."""
    from sklearn.neural_network import MLPClassifier

    data = load_digits()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trained = MLPClassifier((128, 64), max_iter=15, random_state=1).fit(
            data.train_x.reshape(-1, 64) / 16, data.train_y
        )
    out: Array = trained.predict_proba(x.reshape(-1, 64) / 16)
    return out


def test_predictions_are_those_of_the_trained_network(model: LoadedModel) -> None:
    x = load_digits().test_x[:200]
    y = model.predict(x)
    assert y.shape == (200, 10)
    assert y.dtype == np.float32
    expected = reference(x)
    assert np.mean(y.argmax(1) == expected.argmax(1)) > 0.98
    assert np.abs(y - expected).max() < 0.2  # int8 against float64


def test_a_batch_gives_what_its_rows_give(model: LoadedModel) -> None:
    x = load_digits().test_x[:16]
    rows = np.concatenate([model.predict(x[i : i + 1]) for i in range(16)])
    assert np.array_equal(model.predict(x), rows)
    assert np.array_equal(model.predict(np.asfortranarray(x)), rows)


def test_int8_edges_and_float_edges_agree(tmp_path: Path, model: LoadedModel) -> None:
    from shared.runtime.operators import list_operators

    data = load_digits()
    rows = data.train_x.reshape(-1, 64) / 16
    rng = np.random.default_rng(5)
    layers = [(rng.normal(0, 0.2, (64, 32)), np.zeros(32)), (rng.normal(0, 0.3, (32, 64)), np.zeros(64))]
    outputs = []
    for name, int8_edges in (("a", True), ("b", False)):
        extractor = quantise_int8(dense_relu(layers), rows, int8_edges=int8_edges)
        assert ("QUANTIZE" in list_operators(extractor)) is not int8_edges
        manifest = unpacked_digits(tmp_path / name, extractor=extractor)
        outputs.append(LoadedModel.load(tmp_path / name, manifest).predict(data.test_x[:64]))
    assert np.abs(outputs[0] - outputs[1]).max() < 0.05


def test_constants_that_the_quantiser_puts_behind_the_graph_come_along(tmp_path: Path) -> None:
    """It does so from some hundred kilobytes on; their offsets do not hold in another file."""
    rows, rng = load_digits().train_x.reshape(-1, 64) / 16, np.random.default_rng(6)
    sizes = ((64, 512), (512, 512), (512, 64))
    layers = [(rng.normal(0, 0.05, size), np.zeros(size[1])) for size in sizes]
    outputs = []
    for name, int8_edges in (("a", True), ("b", False)):
        extractor = quantise_int8(dense_relu(layers), rows[:50], int8_edges=int8_edges)
        manifest = unpacked_digits(tmp_path / name, extractor=extractor)
        outputs.append(LoadedModel.load(tmp_path / name, manifest).predict(load_digits().test_x[:8]))
    assert np.abs(outputs[0] - outputs[1]).max() < 0.05


def test_a_model_without_a_head_is_served_as_it_is(tmp_path: Path) -> None:
    data, rng = load_digits(), np.random.default_rng(3)
    w = rng.normal(0, 0.2, (64, 5))
    spec = TensorSpec(name="y", dtype="float32", shape=[5])
    manifest = unpacked_digits(
        tmp_path / "s", extractor=dense_relu([(w, np.ones(5))]), head=None, output=spec, labels=None, task="regression"
    )
    y = LoadedModel.load(tmp_path / "s", manifest).predict(data.test_x[:8])
    assert np.allclose(y, np.maximum(data.test_x[:8].reshape(8, 64) / 16 @ w + 1, 0), atol=1e-4)


@pytest.mark.parametrize(
    ("x", "code"),
    [
        (np.zeros((1, 8, 8)), "input.dtype"),
        (np.zeros((1, 8, 8), np.int8), "input.dtype"),
        (np.array([["a"]]), "input.dtype"),
        (np.zeros((8, 8), np.float32), "input.shape"),
        (np.zeros((1, 64), np.float32), "input.shape"),
        (np.zeros((0, 8, 8), np.float32), "input.shape"),
        (np.zeros((), np.float32), "input.shape"),
        (np.zeros((1, 1, 8, 8), np.float32), "input.shape"),
        (np.full((1, 8, 8), np.nan, np.float32), "input.not_finite"),
        (np.full((2, 8, 8), np.inf, np.float32), "input.not_finite"),
        (np.zeros((limits.MAX_INFER_BATCH_COUNT + 1, 8, 8), np.float32), "input.too_many"),
    ],
)
def test_a_wrong_input_is_refused_with_its_code(model: LoadedModel, x: Array, code: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        model.predict(x)
    assert caught.value.code == code
    assert isinstance(caught.value, TooLarge) is (code == "input.too_many")


@settings(max_examples=50)
@given(st.floats(width=32, allow_nan=True, allow_infinity=True), st.integers(0, 63))
def test_any_number_gives_probabilities_or_a_code(model: LoadedModel, number: float, place: int) -> None:
    x = load_digits().test_x[:1].copy()
    x.reshape(-1)[place] = number
    try:
        y = model.predict(x)
    except InvalidInput as error:
        assert error.code == "input.not_finite"
        assert not np.isfinite(number)
        return
    assert np.isfinite(y).all()
    assert abs(float(y.sum()) - 1) < 1e-3


def test_an_output_that_is_not_finite_is_an_error_of_the_model(tmp_path: Path) -> None:
    huge = np.full((64, 5), 1e37)
    spec = TensorSpec(name="y", dtype="float32", shape=[5])
    arguments: dict[str, Any] = {"head": None, "output": spec, "labels": None, "preprocessing": []}
    arguments["golden_inputs"] = np.zeros((1, 8, 8), np.float32)
    manifest = unpacked_digits(tmp_path / "s", extractor=dense_relu([(huge, np.zeros(5))]), **arguments)
    model = LoadedModel.load(tmp_path / "s", manifest)
    with pytest.raises(InternalError) as caught:
        model.predict(np.full((1, 8, 8), 16, np.float32))
    assert caught.value.code == "model.output_not_finite"


def test_the_golden_check_tells_right_from_wrong(tmp_path: Path, model: LoadedModel) -> None:
    good = model.check_golden()
    assert good.passed
    assert (good.rows, good.max_difference <= good.tolerance) == (8, True)
    assert 0 < good.latency_p50_us <= good.latency_p99_us
    manifest = unpacked_digits(tmp_path / "broken", broken=True)
    bad = LoadedModel.load(tmp_path / "broken", manifest).check_golden()
    assert not bad.passed
    assert msgspec.json.encode(bad)


def test_every_signature_can_be_run_and_leaves_the_weights(model: LoadedModel) -> None:
    x = load_digits().test_x[:4]
    before = model.predict(x)
    assert model.exercise() == [
        "model.tflite:infer",
        "head.tflite:get_weights",
        "head.tflite:infer",
        "head.tflite:set_weights",
        "head.tflite:train",
    ]
    assert np.array_equal(model.predict(x), before)


def test_the_weights_are_set_before_the_first_use(slot: Path, tmp_path: Path, model: LoadedModel) -> None:
    manifest = unpacked_digits(tmp_path / "s", weights={"w": np.zeros((10, 64)), "b": np.zeros(10)})
    y = LoadedModel.load(tmp_path / "s", manifest).predict(load_digits().test_x[:1])
    assert np.allclose(y, 0.1)


def damaged(slot: Path, tmp_path: Path, path: str, data: bytes) -> tuple[Path, Manifest]:
    """A copy of the slot with one file replaced."""
    import shutil

    shutil.copytree(slot, tmp_path / "copy")
    (tmp_path / "copy" / path).write_bytes(data)
    return tmp_path / "copy", read_manifest(tmp_path / "copy")


@pytest.mark.parametrize(
    ("path", "data", "code"),
    [
        ("model.tflite", b"", "model.load_failed"),
        ("model.tflite", b"TFL3" * 50, "model.load_failed"),
        ("head.tflite", digits_model.__doc__.encode() if digits_model.__doc__ else b"", "model.load_failed"),
        ("weights/0.npy", array_bytes(np.full(10, np.nan, np.float32)), "model.weights"),
        ("weights/0.npy", array_bytes(np.zeros(10)), "model.weights"),
        ("weights/0.npy", array_bytes(np.zeros(11, np.float32)), "model.input_mismatch"),
        ("weights/0.npy", b"no array", "array.malformed"),
        ("labels.json", b'["one"]', "model.labels"),
        ("labels.json", b"[1]", "json.wrong_shape"),
    ],
)
def test_files_that_do_not_fit_are_refused_at_loading(
    slot: Path, tmp_path: Path, path: str, data: bytes, code: str
) -> None:
    assert code_of(LoadedModel.load, *damaged(slot, tmp_path, path, data)) == code


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"extractor": {"path": "model.tflite", "signature": "other"}}, "model.signature_missing"),
        ({"extractor": {"path": "model.tflite", "output": "other"}}, "model.signature_missing"),
        ({"extractor": {"path": "nothing.tflite"}}, "model.load_failed"),
        ({"input": {"name": "image", "dtype": "float32", "shape": [9, 9]}}, "model.input_mismatch"),
        ({"output": {"name": "probs", "dtype": "float32", "shape": [9]}}, "model.output_mismatch"),
        ({"head": None}, "model.output_mismatch"),
        ({"preprocessing": [{"op": "resize", "height": 4, "width": 4}]}, "model.input_mismatch"),
        ({"preprocessing": [{"op": "scale", "factor": "x"}]}, "preprocess.operation"),
    ],
)
def test_a_manifest_that_does_not_fit_its_files_is_refused(slot: Path, change: dict[str, Any], code: str) -> None:
    plain = msgspec.to_builtins(read_manifest(slot)) | change
    assert code_of(LoadedModel.load, slot, msgspec.convert(plain, Manifest)) == code


def test_golden_files_that_do_not_belong_together_are_refused(slot: Path, tmp_path: Path) -> None:
    directory, manifest = damaged(slot, tmp_path, "golden/outputs.npy", array_bytes(np.zeros((3, 10), np.float32)))
    assert code_of(LoadedModel.load(directory, manifest).check_golden) == "golden.malformed"


def test_an_unknown_signature_or_shape_is_named(slot: Path) -> None:
    graph = Graph(slot / "head.tflite")
    assert code_of(graph.call, "none", "x", "probs") == "model.signature_missing"
    assert code_of(graph.run, "infer", {"x": np.zeros((2, 64), np.float32)}) == "model.input_mismatch"
    assert code_of(graph.run, "infer", {"x": np.zeros((1, 64))}) == "model.input_mismatch"


def test_a_signature_outside_the_primary_subgraph_runs_too(tmp_path: Path) -> None:
    from hub.modelkit.graph import GraphWriter

    writer = GraphWriter()
    for name, factor in (("first", 1.0), ("second", 3.0)):
        writer.subgraph()
        x = writer.tensor([1, 2])
        constant = writer.tensor([1], data=np.array([factor], np.float32))
        writer.signature(name, {"x": x}, {"y": writer.multiply(x, constant, [1, 2])})
    (tmp_path / "m.tflite").write_bytes(writer.finish())
    graph = Graph(tmp_path / "m.tflite")
    calls = [graph.call(name, "x", "y") for name in ("second", "first")]
    row = np.array([[1, 2]], np.float32)
    assert [call.run(row).tolist() for call in calls[:1]] == [[[3, 6]]]
    assert Graph(tmp_path / "m.tflite").call("first", "x", "y").run(row).tolist() == [[1, 2]]


def test_a_batch_in_the_graph_itself_is_refused(tmp_path: Path) -> None:
    from hub.modelkit.graph import GraphWriter

    writer = GraphWriter()
    writer.subgraph()
    x = writer.tensor([2, 2])
    writer.signature("infer", {"x": x}, {"y": writer.softmax(x, [2, 2])})
    (tmp_path / "m.tflite").write_bytes(writer.finish())
    assert code_of(Graph(tmp_path / "m.tflite").call, "infer", "x", "y") == "model.batch"


def test_the_head_learns_by_its_train_signature(tmp_path: Path) -> None:
    (tmp_path / "h.tflite").write_bytes(softmax_head(4, 3, train_batch=8))
    graph, rng = Graph(tmp_path / "h.tflite"), np.random.default_rng(0)
    graph.run("set_weights", {"w": np.zeros((3, 4), np.float32), "b": np.zeros(3, np.float32)})
    x = rng.normal(0, 1, (8, 4)).astype(np.float32)
    y = np.arange(8) % 3
    feed = {"x": x, "onehot": np.eye(3, dtype=np.float32)[y], "mask": np.ones((8, 1), np.float32)}
    for _ in range(200):
        probs = graph.run("train", {**feed, "step": np.array(0.5 / 8, np.float32)})["probs"]
    weights = graph.run("get_weights", {})
    assert np.mean(probs.argmax(1) == y) > 0.8
    expected = x @ weights["w"].T + weights["b"]
    one = graph.call("infer", "x", "probs").run(x[:1])
    assert np.allclose(one, np.exp(expected[:1]) / np.exp(expected[:1]).sum(), atol=1e-5)


def test_the_runtime_is_named() -> None:
    assert RUNTIME_NAME in ("ai-edge-litert", "tflite-runtime")
    assert RUNTIME_VERSION[0].isdigit()


def test_an_integer_input_is_prepared_for_the_float_model(tmp_path: Path) -> None:
    data = load_digits()
    spec = TensorSpec(name="image", dtype="uint8", shape=[8, 8])
    manifest = unpacked_digits(tmp_path / "u", input=spec, golden_inputs=data.train_x[:4].astype(np.uint8))
    unpacked_digits(tmp_path / "f")
    plain = LoadedModel.load(tmp_path / "f", read_manifest(tmp_path / "f"))
    found = LoadedModel.load(tmp_path / "u", manifest).predict(data.test_x[:9].astype(np.uint8))
    assert np.allclose(found, plain.predict(data.test_x[:9]), atol=1e-6)


def test_preprocessing_to_the_exact_bound_of_operations_still_loads(tmp_path: Path) -> None:
    operations = [{"op": "clip", "min": -1000 - i, "max": 1000} for i in range(limits.MAX_PREPROCESS_OPS_COUNT)]
    manifest = unpacked_digits(tmp_path / "s", preprocessing=operations)
    assert LoadedModel.load(tmp_path / "s", manifest).predict(load_digits().test_x[:1]).shape == (1, 10)
    with pytest.raises(SkerryError):
        digits_bundle(tmp_path / "b", preprocessing=[*operations, {"op": "scale"}])


def test_a_closed_model_frees_and_a_new_one_loads(slot: Path) -> None:
    for _ in range(3):
        model = LoadedModel.load(slot, read_manifest(slot))
        model.predict(load_digits().test_x[:1])
        model.close()


def test_build_refuses_a_model_that_needs_a_custom_operation(tmp_path: Path) -> None:
    from shared.runtime.interpreter import schema

    tables = schema()
    parts = digits_model(1)
    root = tables.ModelT.InitFromPackedBuf(parts.extractor, 0)
    root.operatorCodes[0].builtinCode = tables.BuiltinOperator.CUSTOM
    root.operatorCodes[0].deprecatedBuiltinCode = tables.BuiltinOperator.CUSTOM
    root.operatorCodes[0].customCode = b"FlexRelu"
    import flatbuffers

    builder = flatbuffers.Builder()
    builder.Finish(root.Pack(builder), b"TFL3")
    extractor = bytes(builder.Output())
    with pytest.raises(InvalidInput) as caught:
        build_bundle(
            tmp_path / "b",
            model="m",
            version=1,
            extractor=extractor,
            input=TensorSpec(name="x", dtype="float32", shape=[64]),
            output=TensorSpec(name="y", dtype="float32", shape=[64]),
            golden_inputs=np.zeros((1, 64), np.float32),
        )
    assert caught.value.code == "model.unsupported_op"
    (tmp_path / "m.tflite").write_bytes(extractor)
    assert code_of(Graph, tmp_path / "m.tflite") == "model.unsupported_op"
