"""Building a bundle: golden outputs from the real runtime, requirements from the real files, then the archive.

The same arguments give the same bytes. Needs the TFLite runtime, so it runs where models are made, not on devices.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import msgspec
import numpy as np

from shared import canonical, durable, limits
from shared.bundle.archive import write_bundle
from shared.bundle.manifest import (
    FileEntry,
    Golden,
    Head,
    Lineage,
    Manifest,
    ModelFile,
    Requirements,
    Role,
    TensorSpec,
)
from shared.drift.build import ReferenceData, build_reference
from shared.drift.contract import DataContract
from shared.errors import InvalidInput
from shared.preprocess.kernels import Array
from shared.runtime.arrays import array_bytes
from shared.runtime.model import LoadedModel
from shared.runtime.operators import list_operators, merge_operators

__all__ = ["BuiltBundle", "build_bundle", "golden_outputs"]


class BuiltBundle(msgspec.Struct, frozen=True, kw_only=True):
    """What was written."""

    sha256: str
    bytes: int
    manifest: Manifest


def build_bundle(
    out: Path,
    *,
    model: str,
    version: int,
    extractor: bytes,
    input: TensorSpec,
    output: TensorSpec,
    golden_inputs: Array,
    head: bytes | None = None,
    weights: Mapping[str, Array] | None = None,
    preprocessing: Sequence[Mapping[str, Any]] = (),
    labels: Sequence[str] | None = None,
    tolerance: float = 0.05,
    card: str = "",
    lineage: Lineage | None = None,
    task: Literal["classification", "regression"] = "classification",
    requirements: Requirements | None = None,
    golden_outputs: Array | None = None,
    extractor_file: ModelFile | None = None,
    train_batch: int = 16,
    reference: ReferenceData | None = None,
    contract: DataContract | None = None,
) -> BuiltBundle:
    """Write the bundle file `out` (atomically); errors `bundle.*`, `model.*`, `preprocess.*`, `input.*`, `golden.*`.

    `golden_outputs` overrides what the runtime computes; `requirements.ops` is filled in when it is empty. `reference`:
    data that is as `contract` says it should be; errors then also `reference.data`, `contract.invalid`.
    """
    files = _Files()
    files.add("model.tflite", "model", extractor)
    manifest = Manifest(
        model=model,
        version=version,
        task=task,
        input=input,
        output=output,
        preprocessing=[dict(operation) for operation in preprocessing],
        extractor=extractor_file or ModelFile(path="model.tflite"),
        head=files.add_head(head, weights or {}, train_batch),
        labels=files.add("labels.json", "labels", None if labels is None else canonical.dumps(list(labels))),
        golden=Golden(inputs="golden/inputs.npy", outputs="golden/outputs.npy", tolerance=tolerance),
        card=files.add("card.md", "card", card.encode() or None),
        requirements=_requirements(requirements or Requirements(), extractor, head),
        lineage=lineage or Lineage(),
        files=files.entries(),
    )
    made = _try(_validated(manifest), files, golden_inputs, golden_outputs, reference, contract or DataContract())
    return _finish(out, manifest, files, golden_inputs, made)


def _finish(out: Path, manifest: Manifest, files: _Files, golden_inputs: Array, made: _Made) -> BuiltBundle:
    files.add(manifest.golden.inputs, "golden", array_bytes(golden_inputs))
    files.add(manifest.golden.outputs, "golden", array_bytes(made.outputs))
    manifest = msgspec.structs.replace(
        manifest,
        reference=files.add("reference.json", "reference", made.reference),
        calibration=files.add("calibration.json", "calibration", made.calibration),
    )
    manifest = _validated(msgspec.structs.replace(manifest, files=files.entries()))
    sha256, size = _write(out, manifest, files.content)
    return BuiltBundle(sha256=sha256, bytes=size, manifest=manifest)


class _Made(NamedTuple):
    """What only the running model can say."""

    outputs: Array
    reference: bytes | None = None
    calibration: bytes | None = None


class _Files:
    """The files of a bundle in the making, in the archive's order."""

    def __init__(self) -> None:
        self.content: dict[str, bytes] = {}
        self._roles: dict[str, Role] = {}

    def add(self, path: str, role: Role, data: bytes | None) -> str | None:
        """Take a file; its path, or None when there is no data."""
        if data is None:
            return None
        self.content[path], self._roles[path] = data, role
        return path

    def add_head(self, head: bytes | None, weights: Mapping[str, Array], train_batch: int) -> Head | None:
        """Take the head and its weights."""
        if head is None:
            return None
        self.add("head.tflite", "head", head)
        paths = {name: f"weights/{index}.npy" for index, name in enumerate(sorted(weights))}
        for name, path in paths.items():
            self.add(path, "weights", array_bytes(np.asarray(weights[name], np.float32)))
        return Head(path="head.tflite", weights=paths, train_batch=train_batch)

    def entries(self) -> list[FileEntry]:
        """What the manifest says of them."""
        return [
            FileEntry(path=path, bytes=len(data), sha256=hashlib.sha256(data).hexdigest(), role=self._roles[path])
            for path, data in self.content.items()
        ]


def _validated(manifest: Manifest) -> Manifest:
    """The manifest as a reader will see it, so that names and bounds are checked at the build."""
    try:
        return msgspec.convert(json.loads(canonical.dumps(manifest)), Manifest)
    except msgspec.ValidationError as error:
        raise InvalidInput("bundle.malformed", f"The manifest would be malformed: {error}."[:300]) from error


def _requirements(given: Requirements, extractor: bytes, head: bytes | None) -> Requirements:
    if given.ops:
        return given
    models = [list_operators(data) for data in (extractor, head) if data is not None]
    return msgspec.structs.replace(given, ops=merge_operators(*models))


def _try(
    manifest: Manifest,
    files: _Files,
    inputs: Array,
    given: Array | None,
    data: ReferenceData | None,
    contract: DataContract,
) -> _Made:
    """Load what was put together and ask it for everything that it must say itself."""
    if not 1 <= len(inputs) <= limits.MAX_GOLDEN_COUNT:
        raise InvalidInput("golden.malformed", f"Give 1 to {limits.MAX_GOLDEN_COUNT} golden inputs.")
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder)
        for path, content in files.content.items():
            (directory / path).parent.mkdir(exist_ok=True)
            (directory / path).write_bytes(content)
        model = LoadedModel.load(directory, manifest)
        try:
            outputs = _golden_outputs(model, inputs, given)
            return _Made(outputs) if data is None else _Made(outputs, *build_reference(model, data, contract))
        finally:
            model.close()


def golden_outputs(model: LoadedModel, inputs: Array) -> Array:
    """What the runtime makes of the golden inputs, one by one as devices do; it also proves that the parts fit."""
    return np.concatenate([model.predict(inputs[i : i + 1]) for i in range(len(inputs))])


def _golden_outputs(model: LoadedModel, inputs: Array, given: Array | None) -> Array:
    """What the runtime makes of the golden inputs; or `given`, if it could be that."""
    outputs = golden_outputs(model, inputs)
    if given is None:
        return outputs
    if given.shape != outputs.shape:
        raise InvalidInput(
            "golden.malformed", f"The golden outputs have shape {list(given.shape)}, not {list(outputs.shape)}."
        )
    return np.asarray(given, np.float32)


def _write(out: Path, manifest: Manifest, files: Mapping[str, bytes]) -> tuple[str, int]:
    temporary = out.with_name(f".tmp-{out.name}")
    try:
        with temporary.open("wb") as stream:
            result = write_bundle(stream, manifest, files)
        durable.rename(temporary, out)
    finally:
        temporary.unlink(missing_ok=True)
    return result
