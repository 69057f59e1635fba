"""Trying a new version in a child process before anything depends on it.

`python -m agent.ota.probe`: one `ProbeOrder` on standard input, one `ProbeResult` on standard output. The child
confines itself first (`shared.sandbox`), loads the slot, runs every signature of every file, the golden inputs, and
one-sample predictions for the latency, and reads its own peak memory.
A crash, a hang and an empty answer are results as well; the parent (`agent.ota.prober`) names them. The random bytes
of a damaged model do crash the runtime now and then, which is why this is never done in the daemon.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import msgspec

from shared.errors import ErrorBody, InternalError, SkerryError
from shared.sandbox.wish import Confinement, Shortfall

__all__ = ["MAX_RESULT_BYTES", "ProbeOrder", "ProbeResult", "main", "try_version"]

MAX_RESULT_BYTES = 64 * 1024
_MAX_ORDER_BYTES = 16 * 1024


class ProbeOrder(msgspec.Struct, frozen=True, kw_only=True):
    """What to try, and what the child may do."""

    directory: str
    threads: int
    runs: int
    confinement: Confinement


class ProbeResult(msgspec.Struct, frozen=True, kw_only=True):
    """What was found. `model_bytes`: what loading and running the model added to the resident memory, at its peak.
    `shortfalls`: what this system does not give of the confinement.
    """

    error: ErrorBody | None = None
    golden_passed: bool = False
    golden_difference: float = 0.0
    golden_tolerance: float = 0.0
    latency_p50_us: int = 0
    latency_p99_us: int = 0
    model_bytes: int = 0
    signatures: list[str] = []
    shortfalls: list[Shortfall] = []


def _resident_bytes(field: str) -> int:
    """`VmRSS` (now) or `VmHWM` (peak) of this process; not `ru_maxrss`, which exec leaves at the parent's peak."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    raise InternalError("probe.no_memory_figure", "The system does not tell how much memory a process uses.")


def _forget_peak() -> None:
    """Start the peak anew, where the kernel allows it; else the peak of the imports counts for the model too."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def try_version(order: ProbeOrder) -> ProbeResult:
    """The trial itself, in a process that is confined already; raises what loading and running the version raises."""
    # Imported here, under the limits, because importing maps most of the memory.
    from shared.bundle.archive import read_manifest
    from shared.runtime.model import LoadedModel

    directory = Path(order.directory)
    _forget_peak()
    before = _resident_bytes("VmRSS")
    model = LoadedModel.load(directory, read_manifest(directory), order.threads)
    signatures = model.exercise()
    golden = model.check_golden()
    sample = model.golden()[0][:1]
    times = sorted(_timed_us(lambda: model.predict(sample)) for _ in range(order.runs))
    return ProbeResult(
        golden_passed=golden.passed,
        golden_difference=golden.max_difference,
        golden_tolerance=golden.tolerance,
        latency_p50_us=times[len(times) // 2],
        latency_p99_us=times[min(len(times) - 1, len(times) * 99 // 100)],
        model_bytes=max(0, _resident_bytes("VmHWM") - before),
        signatures=signatures,
    )


def _timed_us(call: Callable[[], object]) -> int:
    start = time.perf_counter_ns()
    call()
    return (time.perf_counter_ns() - start) // 1000


def main() -> None:
    """Try what standard input orders."""
    from shared.sandbox.confine import confine  # the daemon imports this module too, and needs none of that

    order = msgspec.json.decode(sys.stdin.buffer.read(_MAX_ORDER_BYTES), type=ProbeOrder)
    os.nice(5)
    shortfalls = confine(order.confinement)
    try:
        result = try_version(order)
    except SkerryError as error:
        result = ProbeResult(error=error.body())
    except MemoryError:
        result = ProbeResult(error=ErrorBody(code="probe.too_much_memory", message="The version ran out of memory."))
    sys.stdout.buffer.write(msgspec.json.encode(msgspec.structs.replace(result, shortfalls=shortfalls)))
    sys.stdout.buffer.flush()
    os._exit(0)  # The runtime's own clean-up is not part of the trial.


if __name__ == "__main__":
    main()
