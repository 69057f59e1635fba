"""A bundle from its parts on disk: reads the files, guesses what the data itself says, and lets `shared.bundle` build.

The golden inputs tell dtype and shape of one input; the labels tell how many outputs there are. What is not said
that way is asked for.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from shared import durable, strict_yaml
from shared.bundle.manifest import Lineage, Requirements, TensorSpec
from shared.errors import InvalidInput, Unavailable
from shared.limits import MAX_BUNDLE_ENTRY_BYTES, MAX_CARD_BYTES, MAX_CONTRACT_BYTES, MAX_SETTINGS_BYTES, MIB

if TYPE_CHECKING:
    import numpy as np

    from shared.bundle.build import BuiltBundle
    from shared.drift.contract import DataContract

__all__ = ["Parts", "build", "parse_tensor"]

_MAX_LABELS_BYTES = 8 * MIB


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """Where the parts of a bundle are."""

    model: str
    version: int
    extractor: Path
    golden: Path
    head: Path | None = None
    weights: Path | None = None
    preprocessing: Path | None = None
    labels: Path | None = None
    card: Path | None = None
    reference: Path | None = None
    contract: Path | None = None
    input: str | None = None
    output: str | None = None
    tolerance: float = 0.05
    memory_bytes: int = 0
    task: Literal["classification", "regression"] = "classification"
    lineage: Lineage


def build(parts: Parts, out: Path) -> BuiltBundle:
    """Write the bundle of the parts to `out`; errors `cli.part`, `cli.needs_runtime`, and those of `build_bundle`."""
    try:
        from shared.bundle.build import build_bundle
        from shared.drift.build import ReferenceData
    except ImportError as error:
        raise Unavailable(
            "cli.needs_runtime",
            f"Building a bundle needs the TFLite runtime here: {error}.",
            hint="Install skerry[cli] where ai-edge-litert has a wheel, or build elsewhere and register with --bundle.",
        ) from error
    golden = _array(parts.golden)
    labels = None if parts.labels is None else _labels(parts.labels)
    return build_bundle(
        out,
        model=parts.model,
        version=parts.version,
        extractor=durable.read_file(parts.extractor, limit=MAX_BUNDLE_ENTRY_BYTES),
        head=None if parts.head is None else durable.read_file(parts.head, limit=MAX_BUNDLE_ENTRY_BYTES),
        weights=None if parts.weights is None else _weights(parts.weights),
        preprocessing=[] if parts.preprocessing is None else _operations(parts.preprocessing),
        labels=labels,
        golden_inputs=golden,
        tolerance=parts.tolerance,
        card=""
        if parts.card is None
        else durable.read_file(parts.card, limit=MAX_CARD_BYTES).decode("utf-8", "replace"),
        lineage=parts.lineage,
        input=_input(parts, golden),
        output=_output(parts, labels),
        task=parts.task,
        requirements=Requirements(memory_bytes=parts.memory_bytes),
        reference=None if parts.reference is None else ReferenceData(**_reference(parts.reference)),
        contract=None if parts.contract is None else _contract(parts),
    )


def parse_tensor(text: str) -> TensorSpec:
    """A tensor from text such as `image:uint8:28x28` (one sample, without the batch); error `cli.tensor`."""
    parts = text.split(":")
    try:
        name, dtype, shape = parts
        plain = {"name": name, "dtype": dtype, "shape": [int(length) for length in shape.split("x")]}
        return msgspec.convert(plain, TensorSpec)
    except (ValueError, msgspec.ValidationError) as error:
        raise InvalidInput(
            "cli.tensor",
            f"{text!r:.80} does not describe a tensor.",
            hint="Write NAME:DTYPE:SHAPE, like image:uint8:28x28.",
        ) from error


def _input(parts: Parts, golden: np.ndarray[Any, Any]) -> TensorSpec:
    if parts.input is not None:
        return parse_tensor(parts.input)
    if golden.ndim < 2:
        raise InvalidInput("cli.part", f"{parts.golden.name} is not a batch of inputs: its shape is {golden.shape}.")
    return parse_tensor(f"x:{golden.dtype}:{'x'.join(str(length) for length in golden.shape[1:])}")


def _output(parts: Parts, labels: Sequence[str] | None) -> TensorSpec:
    if parts.output is not None:
        return parse_tensor(parts.output)
    if labels is None or parts.task != "classification":
        raise InvalidInput("cli.part", "The shape of the output is not known.", hint="Give --output, like y:float32:1.")
    return TensorSpec(name="probs", dtype="float32", shape=[len(labels)])


def _array(path: Path) -> np.ndarray[Any, Any]:
    import numpy as np

    try:
        with path.open("rb") as file:
            loaded: np.ndarray[Any, Any] = np.load(file, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise InvalidInput("cli.part", f"{path} is not a .npy file: {error}."[:300]) from error
    if not isinstance(loaded, np.ndarray):
        raise InvalidInput("cli.part", f"{path} holds several arrays.", hint="Save one array with numpy.save.")
    return loaded


def _reference(path: Path) -> dict[str, Any]:
    """The arrays of a reference data set, by the names that `ReferenceData` has for them."""
    names = {"x": "x", "y": "y", "t": "times_s"}
    arrays = _weights(path)
    if "x" not in arrays or not set(arrays) <= set(names):
        raise InvalidInput(
            "cli.part",
            f"{path} holds {', '.join(sorted(arrays)) or 'nothing'}; a reference has x, and perhaps y and t.",
            hint="Write it with numpy.savez_compressed(path, x=…, y=…).",
        )
    return {names[name]: array for name, array in arrays.items()}


def _contract(parts: Parts) -> DataContract:
    from shared.drift.contract import parse_contract

    if parts.contract is None or parts.reference is None:
        raise InvalidInput("cli.part", "A data contract goes into the reference.", hint="Give --reference as well.")
    return parse_contract(strict_yaml.load_file(parts.contract, limit=MAX_CONTRACT_BYTES), parts.contract)


def _weights(path: Path) -> dict[str, np.ndarray[Any, Any]]:
    import numpy as np

    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except (OSError, ValueError, EOFError, AttributeError, TypeError) as error:
        raise InvalidInput("cli.part", f"{path} is not an .npz file: {error}."[:300]) from error


def _labels(path: Path) -> list[str]:
    text = durable.read_file(path, limit=_MAX_LABELS_BYTES).decode("utf-8", "replace")
    if path.suffix == ".json":
        try:
            return msgspec.convert(json.loads(text), list[str])
        except (ValueError, msgspec.ValidationError) as error:
            raise InvalidInput("cli.part", f"{path} is not a JSON list of labels: {error}."[:300]) from error
    return [line.strip() for line in text.splitlines() if line.strip()]


def _operations(path: Path) -> list[dict[str, Any]]:
    document = strict_yaml.load_file(path, limit=MAX_SETTINGS_BYTES)
    try:
        return msgspec.convert(document, list[dict[str, Any]])
    except msgspec.ValidationError as error:
        raise InvalidInput("cli.part", f"{path} is not a list of operations: {error}."[:300]) from error
