"""Building a bundle: golden outputs from the real runtime, requirements from the real files, then the archive.

The same arguments give the same bytes. Needs the TFLite runtime, so it runs where models are made, not on devices.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

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
from shared.errors import InvalidInput
from shared.preprocess.kernels import Array
from shared.runtime.arrays import array_bytes
from shared.runtime.model import LoadedModel
from shared.runtime.operators import list_operators, merge_operators

__all__ = ["BuiltBundle", "build_bundle"]


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
    reference: bytes | None = None,
    calibration: bytes | None = None,
) -> BuiltBundle:
    """Write the bundle file `out` (atomically); errors `bundle.*`, `model.*`, `preprocess.*`, `input.*`.

    `golden_outputs` overrides what the runtime computes; `requirements.ops` is filled in when it is empty.
    """
    files: dict[str, tuple[Role, bytes]] = {"model.tflite": ("model", extractor)}
    described = None
    if head is not None:
        files["head.tflite"] = ("head", head)
        paths = {name: f"weights/{index}.npy" for index, name in enumerate(sorted(weights or {}))}
        for name, path in paths.items():
            files[path] = ("weights", array_bytes(np.asarray((weights or {})[name], np.float32)))
        described = Head(path="head.tflite", weights=paths, train_batch=train_batch)
    if labels is not None:
        files["labels.json"] = ("labels", canonical.dumps(list(labels)))
    if card:
        files["card.md"] = ("card", card.encode())
    for name, data in (("reference", reference), ("calibration", calibration)):
        if data is not None:
            files[f"{name}.json"] = ("reference" if name == "reference" else "calibration", data)
    manifest = Manifest(
        model=model,
        version=version,
        task=task,
        input=input,
        output=output,
        preprocessing=[dict(operation) for operation in preprocessing],
        extractor=extractor_file or ModelFile(path="model.tflite"),
        head=described,
        labels="labels.json" if labels is not None else None,
        golden=Golden(inputs="golden/inputs.npy", outputs="golden/outputs.npy", tolerance=tolerance),
        reference="reference.json" if reference is not None else None,
        calibration="calibration.json" if calibration is not None else None,
        card="card.md" if card else None,
        requirements=_requirements(requirements or Requirements(), extractor, head),
        lineage=lineage or Lineage(),
        files=[_entry("model.tflite", "model", extractor)],
    )
    if not 1 <= len(golden_inputs) <= limits.MAX_GOLDEN_COUNT:
        raise InvalidInput("golden.malformed", f"Give 1 to {limits.MAX_GOLDEN_COUNT} golden inputs.")
    outputs = _predict(manifest, files, golden_inputs) if golden_outputs is None else golden_outputs
    files["golden/inputs.npy"] = ("golden", array_bytes(golden_inputs))
    files["golden/outputs.npy"] = ("golden", array_bytes(np.asarray(outputs, np.float32)))
    entries = [_entry(path, role, data) for path, (role, data) in files.items()]
    manifest = _validated(msgspec.structs.replace(manifest, files=entries))
    sha256, size = _write(out, manifest, {path: data for path, (_, data) in files.items()})
    return BuiltBundle(sha256=sha256, bytes=size, manifest=manifest)


def _entry(path: str, role: Role, data: bytes) -> FileEntry:
    return FileEntry(path=path, bytes=len(data), sha256=hashlib.sha256(data).hexdigest(), role=role)


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


def _predict(manifest: Manifest, files: Mapping[str, tuple[Role, bytes]], inputs: Array) -> Array:
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder)
        for path, (_, data) in files.items():
            (directory / path).parent.mkdir(exist_ok=True)
            (directory / path).write_bytes(data)
        model = LoadedModel.load(directory, manifest)
        outputs = np.concatenate([model.predict(inputs[i : i + 1]) for i in range(len(inputs))])
        model.close()
    return outputs


def _write(out: Path, manifest: Manifest, files: Mapping[str, bytes]) -> tuple[str, int]:
    temporary = out.with_name(f".tmp-{out.name}")
    try:
        with temporary.open("wb") as stream:
            result = write_bundle(stream, manifest, files)
        durable.rename(temporary, out)
    finally:
        temporary.unlink(missing_ok=True)
    return result
