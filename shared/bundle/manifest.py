"""The manifest: what a bundle holds and how to run it. Canonical JSON, first entry of the archive."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from shared import limits
from shared.wire.types import Count, ModelName, Sha256, Version

__all__ = [
    "FileEntry",
    "Golden",
    "Head",
    "Lineage",
    "Manifest",
    "ModelFile",
    "Requirements",
    "TensorSpec",
]

_PART = r"[a-z0-9][a-z0-9_-]*(\.[a-z0-9]+)?"
Path = Annotated[str, Meta(pattern=rf"^{_PART}(/{_PART}){{0,3}}\Z", max_length=96)]
Name = Annotated[str, Meta(pattern=r"^[A-Za-z_][A-Za-z0-9_.:/-]{0,62}\Z")]
Dim = Annotated[int, Meta(ge=1, le=1 << 24)]
DType = Literal["float32", "int8", "uint8", "int16", "int32", "int64", "bool"]
Role = Literal["model", "head", "weights", "labels", "golden", "reference", "calibration", "card", "other"]


class FileEntry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One file of the archive: where, how long, which bytes, what for."""

    path: Path
    bytes: Annotated[int, Meta(ge=0, le=limits.MAX_BUNDLE_ENTRY_BYTES)]
    sha256: Sha256
    role: Role


class TensorSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A tensor at the edge of the model: one sample, without the batch dimension."""

    name: Name
    dtype: DType
    shape: Annotated[list[Dim], Meta(min_length=1, max_length=6)]


class ModelFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The frozen model or extractor: a `.tflite` with a signature of one input and one output."""

    path: Path
    signature: Name = "infer"
    input: Name = "x"
    output: Name = "embedding"


class Head(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The trainable float head: signatures `train`, `infer`, `get_weights`, `set_weights` (facts in the docs).

    `weights` maps the head's variable names to `.npy` files; they are always set before the first use.
    """

    path: Path
    infer: Name = "infer"
    input: Name = "x"
    output: Name = "probs"
    weights: Annotated[dict[Name, Path], Meta(min_length=1, max_length=16)]
    train_batch: Annotated[int, Meta(ge=1, le=4096)] = 16


class Golden(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Raw inputs and the outputs that they must give within `tolerance` (greatest absolute difference).

    int8 kernels are not bit-equal between runtimes, hence the tolerance.
    """

    inputs: Path
    outputs: Path
    tolerance: Annotated[float, Meta(gt=0, le=10.0)] = 0.05


class Requirements(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the version needs of a device; compared with the firmware profile before anything is downloaded."""

    runtime: Literal["tflite"] = "tflite"
    memory_bytes: Count = 0
    ops: Annotated[dict[str, Annotated[int, Meta(ge=1, le=1000)]], Meta(max_length=256)] = {}


class Lineage(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where the version comes from."""

    data_sha256: Sha256 | None = None
    data_name: Annotated[str, Meta(max_length=128)] = ""
    code_revision: Annotated[str, Meta(max_length=128)] = ""
    parent_version: Version | None = None
    training_run: Annotated[str, Meta(max_length=128)] = ""
    parameters: dict[str, Any] = {}


class Manifest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole manifest.

    `preprocessing` is the list of operations of `shared.preprocess`, from the raw `input` to the model's input.
    `output` is what `predict` returns for one sample: class probabilities (`classification`) or numbers (`regression`).
    """

    schema_version: Literal[1] = 1
    model: ModelName
    version: Version
    task: Literal["classification", "regression"] = "classification"
    input: TensorSpec
    output: TensorSpec
    preprocessing: Annotated[list[dict[str, Any]], Meta(max_length=limits.MAX_PREPROCESS_OPS_COUNT)] = []
    extractor: ModelFile
    head: Head | None = None
    labels: Path | None = None
    golden: Golden
    reference: Path | None = None
    calibration: Path | None = None
    card: Path | None = None
    requirements: Requirements = Requirements()
    lineage: Lineage = Lineage()
    files: Annotated[list[FileEntry], Meta(min_length=1, max_length=limits.MAX_BUNDLE_ENTRIES_COUNT - 1)]
