"""Signing assignments: one DSSE envelope per device and model, by the hub's assignment key."""

from __future__ import annotations

from securesystemslib.signer import Signer

from shared import canonical, dsse
from shared.wire.down import ASSIGNMENT_PAYLOAD_TYPE, Assignment

__all__ = ["AssignmentSigner"]


class AssignmentSigner:
    """Signs a batch of assignments with one key."""

    def __init__(self, signer: Signer) -> None:
        self._signer = signer

    def sign(self, assignment: Assignment) -> bytes:
        """The envelope (JSON bytes, at most `limits.MAX_ASSIGNMENT_BYTES`)."""
        return dsse.sign(canonical.dumps(assignment), ASSIGNMENT_PAYLOAD_TYPE, self._signer)
