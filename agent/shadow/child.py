"""The process in which a candidate runs: `python -m agent.shadow.child`, confined like the probe.

Standard input: one `Order` (JSON with its length before it), then rows of the model's raw input, each exactly as long
as the manifest says. Standard output: one `Ready` (likewise), then for each row a header (`HEADER`) and, if the model
answered, its output as float32. The candidate's faults end this process and nothing else; so does the end of input.
"""

from __future__ import annotations

import contextlib
import math
import os
import struct
import sys
import time
from pathlib import Path
from typing import BinaryIO

import msgspec

from shared.errors import ErrorBody, SkerryError
from shared.sandbox.wish import Confinement, Shortfall

__all__ = ["ANSWERED", "HEADER", "LENGTH", "MAX_READY_BYTES", "Order", "Ready", "main"]

LENGTH = struct.Struct("<I")
HEADER = struct.Struct("<BQQ")
"""Whether the model answered (`ANSWERED`), nanoseconds that it took, nanoseconds of processor since the last header."""
ANSWERED = 1
MAX_READY_BYTES = 64 * 1024
_MAX_ORDER_BYTES = 16 * 1024
_NICENESS = 5


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """Which version to run, and what the child may do."""

    directory: str
    threads: int
    confinement: Confinement


class Ready(msgspec.Struct, frozen=True, kw_only=True):
    """The candidate is loaded, or why it is not. resident_bytes: of this process."""

    error: ErrorBody | None = None
    resident_bytes: int = 0
    shortfalls: list[Shortfall] = []


def _exactly(source: BinaryIO, count: int) -> bytes | None:
    """So many bytes; None at the end of input."""
    data = source.read(count)
    return data if len(data) == count else None


def _resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _serve(order: Order, shortfalls: list[Shortfall], source: BinaryIO, out: BinaryIO) -> None:
    # Imported here, under the limits, because importing maps most of the memory.
    import numpy as np

    from shared.bundle.archive import read_manifest
    from shared.runtime.model import LoadedModel

    directory = Path(order.directory)
    manifest = read_manifest(directory)
    model = LoadedModel.load(directory, manifest, order.threads)
    model.predict(np.ascontiguousarray(model.golden()[0][:1]))
    dtype, shape = np.dtype(manifest.input.dtype), tuple(manifest.input.shape)
    row_bytes = dtype.itemsize * math.prod(shape)
    _say(out, Ready(resident_bytes=_resident_bytes(), shortfalls=shortfalls))
    spent = time.process_time_ns()
    while (data := _exactly(source, row_bytes)) is not None:
        x = np.frombuffer(data, dtype).reshape(1, *shape)
        began, output = time.perf_counter_ns(), b""
        with contextlib.suppress(SkerryError):  # told as an answer that did not come
            output = np.ascontiguousarray(model.predict(x), np.float32).tobytes()
        took, before, spent = time.perf_counter_ns() - began, spent, time.process_time_ns()
        out.write(HEADER.pack(ANSWERED if output else 0, took, spent - before) + output)
        out.flush()


def _say(out: BinaryIO, ready: Ready) -> None:
    data = msgspec.json.encode(ready)
    out.write(LENGTH.pack(len(data)) + data)
    out.flush()


def main() -> None:
    """Run what standard input orders until it ends."""
    from shared.sandbox.confine import confine  # the daemon imports this module too, and needs none of that

    source, out = sys.stdin.buffer, sys.stdout.buffer
    (length,) = LENGTH.unpack(_exactly(source, LENGTH.size) or LENGTH.pack(0))
    order = msgspec.json.decode(source.read(min(length, _MAX_ORDER_BYTES)), type=Order)
    os.nice(_NICENESS)
    shortfalls = confine(order.confinement)
    try:
        _serve(order, shortfalls, source, out)
    except SkerryError as error:
        _say(out, Ready(error=error.body(), shortfalls=shortfalls))
    except MemoryError:
        _say(out, Ready(error=ErrorBody(code="shadow.no_memory", message="The candidate ran out of memory.")))
    os._exit(0)  # The runtime's own clean-up is nobody's business here.


if __name__ == "__main__":
    main()
