"""Preprocessing: each operation against plain NumPy, fused lists against single steps, refusals that name the field."""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared import limits
from shared.bundle.manifest import TensorSpec
from shared.errors import InvalidInput, SkerryError, TooLarge
from shared.preprocess import OPERATIONS, Pipeline, parse_pipeline
from shared.preprocess.kernels import Array


def pipeline(*operations: dict[str, Any], dtype: Any = "float32", shape: tuple[int, ...] = (4,)) -> Pipeline:
    return parse_pipeline(list(operations), TensorSpec(name="x", dtype=dtype, shape=list(shape)))


def refusal(*operations: dict[str, Any], **spec: Any) -> SkerryError:
    with pytest.raises(InvalidInput) as caught:
        pipeline(*operations, **spec)
    return caught.value


def run(x: Any, *operations: dict[str, Any], dtype: str = "float32") -> Array:
    array = np.asarray(x, dtype)
    made = pipeline(*operations, dtype=dtype, shape=array.shape[1:])
    out = made.apply(array)
    assert out.shape == (len(array), *made.output_shape)
    assert out.dtype == made.output_dtype
    return out


def test_an_empty_list_hands_the_input_on() -> None:
    x = np.ones((2, 4), np.float32)
    assert pipeline().apply(x) is x


def test_scale_and_normalise_follow_their_formulas() -> None:
    assert run([[0, 2, 4]], {"op": "scale", "factor": 0.5, "offset": -1}).tolist() == [[-1, 0, 1]]
    assert run([[1, 10], [3, 30]], {"op": "normalise", "mean": [1, 10], "std": [2, 20]}).tolist() == [[0, 0], [1, 1]]
    assert run([[1, 3]], {"op": "normalise", "mean": 1, "std": 2}).tolist() == [[0, 1]]


def test_normalise_works_on_the_last_dimension_of_an_image() -> None:
    image = np.arange(2 * 2 * 3, dtype=np.float32).reshape(1, 2, 2, 3)
    out = run(image, {"op": "normalise", "mean": [0, 1, 2], "std": [1, 2, 4]})
    assert np.allclose(out, (image - [0, 1, 2]) / [1, 2, 4])


def test_cast_rounds_half_to_even_and_saturates() -> None:
    out = run([[-1000, -0.5, 0.5, 1.5, 2.5, 1000]], {"op": "cast", "dtype": "uint8"})
    assert out.tolist() == [[0, 0, 0, 2, 2, 255]]
    assert run([[-1, 300]], {"op": "cast", "dtype": "int8"}, dtype="int32").tolist() == [[-1, 127]]
    assert run([[0, 200]], {"op": "cast", "dtype": "int8"}, dtype="uint8").tolist() == [[0, 127]]
    assert run([[0, 7]], {"op": "cast", "dtype": "bool"}, dtype="int16").tolist() == [[False, True]]
    assert run([[True, False]], {"op": "cast", "dtype": "float32"}, dtype="bool").tolist() == [[1, 0]]
    assert run([[True]], {"op": "cast", "dtype": "int8"}, dtype="bool").tolist() == [[1]]


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "int32", "int64"])
def test_casting_the_greatest_floats_stays_inside_the_type(dtype: str) -> None:
    big = float(np.finfo(np.float32).max)
    out = run([[-big, big]], {"op": "cast", "dtype": dtype})
    info = np.iinfo(dtype)
    assert info.min <= int(out[0, 0]) < 0 or info.min == 0 == int(out[0, 0])
    assert info.max * 0.99 < int(out[0, 1]) <= info.max


def test_clip_limits_each_value() -> None:
    assert run([[-5, 0.5, 5]], {"op": "clip", "min": 0, "max": 1}).tolist() == [[0, 0.5, 1]]


def test_window_cuts_frames_and_leaves_the_rest() -> None:
    assert run([[0, 1, 2, 3, 4, 5, 6]], {"op": "window", "length": 3, "step": 2}).tolist() == [
        [[0, 1, 2], [2, 3, 4], [4, 5, 6]]
    ]
    out = run(np.arange(10).reshape(1, 5, 2), {"op": "window", "length": 2, "step": 3}, dtype="int16")
    assert out.tolist() == [[[[0, 1], [2, 3]], [[6, 7], [8, 9]]]]


def test_one_hot_marks_the_category_and_refuses_others() -> None:
    assert run([[2, 0]], {"op": "one_hot", "depth": 3}, dtype="int64").tolist() == [[[0, 0, 1], [1, 0, 0]]]
    for value in (3, -1):
        with pytest.raises(InvalidInput) as caught:
            run([[value]], {"op": "one_hot", "depth": 3}, dtype="int64")
        assert caught.value.code == "input.category"
        zeros = run([[value]], {"op": "one_hot", "depth": 3, "unknown": "zeros"}, dtype="int64")
        assert zeros.tolist() == [[[0, 0, 0]]]


def test_quantise_follows_scale_and_zero_point() -> None:
    out = run([[-10, 0, 0.26, 10]], {"op": "quantise", "scale": 0.1, "zero_point": -3})
    assert out.dtype == np.int8
    assert out.tolist() == [[-103, -3, 0, 97]]
    assert run([[1e9, -1e9]], {"op": "quantise", "scale": 1, "dtype": "uint8"}).tolist() == [[255, 0]]


def test_nearest_resize_repeats_pixels_and_keeps_the_type() -> None:
    out = run([[[1, 2], [3, 4]]], {"op": "resize", "height": 4, "width": 4, "method": "nearest"}, dtype="uint8")
    assert out.tolist() == [[[1, 1, 2, 2], [1, 1, 2, 2], [3, 3, 4, 4], [3, 3, 4, 4]]]
    assert out.dtype == np.uint8


def test_bilinear_resize_uses_half_pixel_centres() -> None:
    assert run([[[0, 4]]], {"op": "resize", "height": 1, "width": 4}).tolist() == [[[0, 1, 3, 4]]]
    halved = run([[[0, 2, 4, 6]] * 2], {"op": "resize", "height": 1, "width": 2})
    assert halved.tolist() == [[[1, 5]]]


@given(
    st.integers(1, 9), st.integers(1, 9), st.integers(1, 9), st.integers(1, 9), st.sampled_from(["nearest", "bilinear"])
)
def test_resizing_keeps_constant_images_and_ranges(h: int, w: int, new_h: int, new_w: int, method: str) -> None:
    resize = {"op": "resize", "height": new_h, "width": new_w, "method": method}
    assert np.array_equal(run(np.full((1, h, w), 7.0), resize), np.full((1, new_h, new_w), 7.0))
    image = np.random.default_rng(h * 1000 + w).random((2, h, w, 3), dtype=np.float32)
    out = run(image, resize)
    assert out.min() >= image.min() - 1e-6
    assert out.max() <= image.max() + 1e-6
    same = run(image, {"op": "resize", "height": h, "width": w, "method": method})
    assert np.allclose(same, image, atol=1e-6)


Numbers = st.floats(-100, 100, allow_nan=False, width=32)
Affine = st.one_of(
    st.fixed_dictionaries({"op": st.just("scale"), "factor": Numbers, "offset": Numbers}),
    st.fixed_dictionaries({"op": st.just("normalise"), "mean": Numbers, "std": st.floats(0.5, 100, width=32)}),
    st.just({"op": "cast", "dtype": "float32"}),
    st.fixed_dictionaries(
        {"op": st.just("normalise"), "mean": st.lists(Numbers, min_size=4, max_size=4), "std": st.just(2)}
    ),
)


@given(st.lists(Affine, max_size=5), st.lists(Numbers, min_size=4, max_size=4))
def test_a_fused_list_is_its_single_steps(operations: list[dict[str, Any]], row: list[float]) -> None:
    x = np.array([row], np.float32)
    before = x.copy()
    fused = pipeline(*operations).apply(x)
    assert np.array_equal(x, before)
    single = functools.reduce(lambda y, operation: pipeline(operation).apply(y), operations, x)
    magnitude = 1.0
    for operation in operations:
        magnitude = magnitude * max(1.0, abs(operation.get("factor", 2.0))) + 200.0
    assert np.allclose(fused, single, rtol=1e-4, atol=1e-5 * magnitude * 100)
    assert len(pipeline(*operations)._steps) <= 1


def test_an_affine_before_quantise_is_part_of_it() -> None:
    made = pipeline({"op": "scale", "factor": 1 / 16}, {"op": "quantise", "scale": 1 / 255, "zero_point": -128})
    assert len(made._steps) == 1
    assert made.apply(np.array([[0, 4, 8, 16]], np.float32)).tolist() == [[-128, -64, 0, 127]]


Operations = st.lists(
    st.one_of(
        Affine,
        st.fixed_dictionaries(
            {"op": st.sampled_from([*OPERATIONS, "other"])},
            optional={
                name: st.one_of(
                    st.integers(-3, 70000), st.floats(), st.text(max_size=8), st.lists(st.floats(), max_size=4)
                )
                for name in (
                    "dtype",
                    "factor",
                    "mean",
                    "std",
                    "height",
                    "width",
                    "min",
                    "max",
                    "length",
                    "depth",
                    "scale",
                )
            },
        ),
        st.dictionaries(st.text(max_size=5), st.integers(), max_size=3),
    ),
    max_size=4,
)


@settings(max_examples=200)
@given(Operations, st.sampled_from(["float32", "uint8", "int64", "bool"]), st.sampled_from([(4,), (3, 5), (2, 2, 3)]))
def test_any_list_either_runs_as_announced_or_is_refused_with_a_code(
    operations: list[dict[str, Any]], dtype: str, shape: tuple[int, ...]
) -> None:
    try:
        made = pipeline(*operations, dtype=dtype, shape=shape)
    except SkerryError as error:
        assert error.code.startswith("preprocess.")
        return
    if math.prod(made.output_shape) > 1_000_000:
        return
    with np.errstate(all="ignore"):
        try:
            out = made.apply(np.ones((2, *shape), dtype))
        except InvalidInput as error:
            assert error.code == "input.category"
            return
    assert (out.shape, out.dtype.name) == ((2, *made.output_shape), made.output_dtype)


@pytest.mark.parametrize(
    ("operation", "spec", "text"),
    [
        ({"op": "normalise", "mean": 0, "std": 0}, {}, "preprocessing[0].std"),
        ({"op": "normalise", "mean": 0}, {}, "std"),
        ({"op": "normalise", "mean": [1, 2], "std": 1}, {}, "preprocessing[0].mean"),
        ({"op": "scale", "factor": "2"}, {}, "preprocessing[0].factor"),
        ({"op": "scale", "factor": math.nan}, {}, "preprocessing[0].factor"),
        ({"op": "scale", "other": 1}, {}, "other"),
        ({"op": "cast", "dtype": "float16"}, {}, "preprocessing[0].dtype"),
        ({"op": "grow"}, {}, "preprocessing[0].op"),
        ({"op": "clip", "min": 1, "max": 1}, {}, "preprocessing[0].min"),
        ({"op": "window", "length": 5, "step": 1}, {}, "preprocessing[0].length"),
        ({"op": "window", "length": 1, "step": 0}, {}, "preprocessing[0].step"),
        ({"op": "resize", "height": 2, "width": 2}, {}, "preprocessing[0]: resize"),
        ({"op": "window", "length": 1, "step": 1}, {"shape": (2, 2, 2)}, "preprocessing[0]: window"),
        ({"op": "one_hot", "depth": 3}, {}, "cast first"),
        ({"op": "quantise", "scale": 1, "zero_point": 300, "dtype": "uint8"}, {}, "preprocessing[0].zero_point"),
    ],
)
def test_a_refusal_names_the_operation_and_the_field(
    operation: dict[str, Any], spec: dict[str, Any], text: str
) -> None:
    error = refusal(operation, **spec)
    assert text in error.message
    assert "preprocessing[0]" in error.message
    assert error.code.startswith("preprocess.")


def test_factors_that_leave_float32_together_are_refused() -> None:
    assert "preprocessing[1]" in refusal(*[{"op": "scale", "factor": 1e30}] * 2).message


def test_too_many_operations_and_elements_are_refused() -> None:
    many = [{"op": "scale"}] * (limits.MAX_PREPROCESS_OPS_COUNT + 2)
    assert isinstance(refusal(*many), TooLarge)
    assert isinstance(refusal({"op": "window", "length": 1 << 15, "step": 1}, shape=(1 << 16,)), TooLarge)
    assert isinstance(refusal({"op": "resize", "height": 1 << 14, "width": 1 << 14}, shape=(2, 2)), TooLarge)
    assert isinstance(refusal({"op": "one_hot", "depth": 1 << 16}, dtype="int32", shape=(1 << 12,)), TooLarge)
    assert isinstance(refusal(shape=(1 << 24, 1 << 24, 1 << 24, 8)), TooLarge)


def test_the_digest_tells_pipelines_apart_and_nothing_else() -> None:
    scale = {"op": "scale", "factor": 2}
    assert pipeline(scale).digest == pipeline({"factor": 2.0, "op": "scale", "offset": 0}).digest
    different = {pipeline(scale).digest, pipeline().digest, pipeline(scale, shape=(5,)).digest}
    assert len(different) == 3
