"""What a finished run made, and what became of it: the values between a run's end and the registry. Pure.

A run that was cancelled or failed has no outcome, and weights that were not those of a complete round never get here.
"""

from __future__ import annotations

import msgspec
import numpy as np
from numpy.typing import NDArray

from hub.federated.definition import RunDefinition
from hub.federated.evaluation import Evaluation
from hub.federated.report import PrivacySpent

__all__ = ["HandedOver", "PrivacySpent", "RunOutcome"]

Vector = NDArray[np.float32]


class RunOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """A finished run. weights: those of its last complete round, `shared.federated.vector` of the base's head.

    base_version, base_bundle_sha256: whose head was trained. rounds: complete ones. cohort: the devices of which an
    update went in, sorted. evaluation: None when devices were not asked, or none answered.
    """

    run_id: str
    definition: RunDefinition
    base_version: int
    base_bundle_sha256: str
    weights: Vector
    rounds: int
    cohort: tuple[str, ...]
    privacy_spent: PrivacySpent | None = None
    bytes_up: int = 0
    bytes_down: int = 0
    evaluation: Evaluation | None = None


class HandedOver(msgspec.Struct, frozen=True, kw_only=True):
    """What became of an outcome. version: the candidate in the registry; None: it was not handed over, for `code`.

    gate_passed: None when the gate could not be run, for `code`. code, reason: empty when all went well; of a candidate
    that failed its gate `federated.gate_failed` with the checks that failed.
    """

    version: int | None = None
    bundle_sha256: str = ""
    gate_id: int | None = None
    gate_passed: bool | None = None
    code: str = ""
    reason: str = ""
