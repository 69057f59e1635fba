"""What only a running candidate can say, inside the trial's child: golden outputs, and the reference counted anew."""

from __future__ import annotations

from pathlib import Path

import msgspec

from hub.federated.trial import TrialRequest, TrialResponse
from hub.gates.dataset import load_dataset
from hub.gates.evaluate import check_fit
from shared import durable, limits
from shared.bundle.archive import read_manifest
from shared.bundle.build import golden_outputs
from shared.drift.build import ReferenceData, renew_predictions
from shared.drift.reference import parse_reference
from shared.errors import ErrorBody, SkerryError
from shared.runtime.arrays import array_bytes, load_array
from shared.runtime.model import LoadedModel

__all__ = ["try_out"]


def try_out(request: TrialRequest) -> TrialResponse:
    """The answer to a request; what goes wrong is in it."""
    folder = Path(request.bundle)
    try:
        manifest = read_manifest(folder)
        model = LoadedModel.load(folder, manifest)
        try:
            made = TrialResponse(golden=array_bytes(golden_outputs(model, load_array(folder / manifest.golden.inputs))))
            if request.dataset is None or manifest.reference is None:
                return made
            return _renewed(made, model, folder / manifest.reference, Path(request.dataset))
        finally:
            model.close()
    except SkerryError as error:
        return TrialResponse(problem=error.body())
    except (MemoryError, OSError) as error:
        message = f"{type(error).__name__}: {error}"[:300]
        return TrialResponse(problem=ErrorBody(code="federated.trial_failed", message=message))


def _renewed(made: TrialResponse, model: LoadedModel, reference: Path, dataset: Path) -> TrialResponse:
    try:
        x, y = load_dataset(dataset)
        check_fit(model.manifest, x, y)
        base = parse_reference(durable.read_file(reference, limit=limits.MAX_REFERENCE_BYTES))
        data = ReferenceData(x, y if model.manifest.task == "classification" else None)
        written, calibration = renew_predictions(model, base, data)
    except SkerryError as error:
        return msgspec.structs.replace(made, kept=error.body())
    return msgspec.structs.replace(made, reference=written, calibration=calibration or b"")
