"""What one run of the benchmark is, and what came of it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hub.federated.definition import RunDefinition
from hub.federated.report import RoundReport
from shared.federated.vector import sizes
from tests.bench.federated.data import Data
from tests.bench.federated.model import accuracy, first_weights, network_bundle, shapes_of

__all__ = ["Ran", "Ready", "Setting", "Share"]

Vector = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Share:
    """A device with its samples."""

    device_id: str
    x: NDArray[np.uint8]
    y: NDArray[np.int64]
    behaviour: str = "honest"


@dataclass(frozen=True, slots=True)
class Ready:
    """Files of a run: the unpacked bundle, and an .npz of samples for each device."""

    folder: Path
    bundle: Path

    def samples(self, device_id: str) -> Path:
        """Where a device's samples are."""
        return self.folder / f"{device_id}.npz"


@dataclass(frozen=True, slots=True)
class Setting:
    """A run: the network's layers, the data that it is measured on, who takes part, and what is wanted."""

    dims: Sequence[int]
    data: Data
    shares: Sequence[Share]
    definition: RunDefinition

    @property
    def first(self) -> Vector:
        """The weights that it begins with."""
        return first_weights(self.dims, self.definition.seed)

    @property
    def sizes(self) -> tuple[int, ...]:
        """Elements of each variable."""
        return sizes(shapes_of(self.dims))

    @contextmanager
    def prepared(self) -> Iterator[Ready]:
        """Its files, for as long as the block lasts."""
        with tempfile.TemporaryDirectory(prefix="bench-") as name:
            folder = Path(name)
            network_bundle(folder, self.dims, self.data, self.definition.seed)
            ready = Ready(folder, folder / "bundle")
            for share in self.shares:
                np.savez(ready.samples(share.device_id), x=share.x, y=share.y)
            yield ready


@dataclass(frozen=True, slots=True)
class Ran:
    """What came of a run. weights: after each complete round. times: seconds of training by round and device."""

    end: str
    weights: Sequence[Vector]
    reports: Sequence[RoundReport]
    seconds: float
    times: dict[int, dict[str, float]] = field(default_factory=dict)
    worker_cpu_s: Sequence[float] = ()
    worker_mib: Sequence[float] = ()

    def curve(self, setting: Setting) -> list[float]:
        """Accuracy in percent after each round."""
        return [round(100 * accuracy(weights, setting.dims, setting.data), 2) for weights in self.weights]

    @property
    def complete(self) -> list[RoundReport]:
        """The reports of the rounds that counted."""
        return [report for report in self.reports if not report.abandoned]
