"""Samples from a file for one prediction by hand: `.npy`, or `.json` with nested lists."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from shared import canonical, durable, limits
from shared.errors import InvalidInput

__all__ = ["infer_request", "read_samples"]

Samples = npt.NDArray[Any]
_KINDS = {"FP32": "float32", "INT8": "int8", "UINT8": "uint8", "INT16": "int16", "INT32": "int32", "INT64": "int64"}


def read_samples(path: Path) -> Samples:
    """The array in a file; error `sample.unreadable`."""
    data = durable.read_file(path, limit=limits.MAX_INFER_BODY_BYTES)
    try:
        if path.suffix == ".npy":
            array: Samples = np.load(path, allow_pickle=False)
        else:
            array = np.asarray(canonical.loads(data, limit=limits.MAX_INFER_BODY_BYTES, what=path.name))
    except (ValueError, TypeError, EOFError) as error:
        raise _unreadable(path.name) from error
    if array.dtype.kind not in "fiub":
        raise _unreadable(path.name)
    return array


def infer_request(metadata: dict[str, Any], samples: Samples) -> dict[str, Any]:
    """The Open Inference Protocol request for samples; `metadata` is the model's. Error `sample.shape`."""
    spec = metadata["inputs"][0]
    shape = [int(size) for size in spec["shape"]]
    batch = samples[None] if samples.ndim == len(shape) - 1 else samples
    if list(batch.shape[1:]) != shape[1:]:
        raise InvalidInput(
            "sample.shape",
            f"The samples have the shape {list(samples.shape)}; one sample of {metadata['name']} has {shape[1:]}.",
            hint="Give one sample, or a batch with the samples along the first axis.",
        )
    kind = _KINDS.get(spec["datatype"])
    values = batch.astype(kind) if kind else batch
    tensor = {
        "name": spec["name"],
        "datatype": spec["datatype"],
        "shape": list(batch.shape),
        "data": values.ravel().tolist(),
    }
    return {"inputs": [tensor]}


def _unreadable(name: str) -> InvalidInput:
    return InvalidInput(
        "sample.unreadable", f"{name} does not hold numbers.", hint="Use .npy, or .json with nested lists of numbers."
    )
