"""What a life of the agent needs to know in a fault test: handed over as one file, because lives run in many processes.

Everything is data: no keys of the hub, no test server, so that a traced or preloaded process imports little.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

__all__ = ["Expected", "Facts", "load_facts", "save_facts"]


class Expected(msgspec.Struct, frozen=True, kw_only=True):
    """What a version predicts for the facts' inputs: probabilities row by row."""

    version: int
    outputs: list[list[float]]


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """One scenario's world.

    desired: the newest document of the hub. counter, version: what it assigns. served: whether a version served before
    the operation. inputs: images for predictions. join: the join string of an enrolment. first, second: documents.
    """

    device_id: str
    model: str = "digits"
    desired: bytes = b""
    counter: int = 0
    version: int = 0
    served: bool = True
    inputs: list[list[list[float]]] = []
    expected: list[Expected] = []
    join: str = ""
    hub_url: str = ""
    documents: list[bytes] = []
    reused: bool = False


def save_facts(path: Path, facts: Facts) -> None:
    """Write the facts."""
    path.write_bytes(msgspec.json.encode(facts))


def load_facts(path: Path) -> Facts:
    """Read the facts."""
    return msgspec.json.decode(path.read_bytes(), type=Facts)
