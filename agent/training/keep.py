"""`python -m agent.training.keep FOLDER`: take one batch into the sample buffer, and end.

Standard input: a `Batch`; standard output: its `Outcome`. Encryption needs a library that the daemon should not carry,
so the daemon starts this when it has samples, a few times an hour at the most, and nothing of it stays in memory.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import msgspec

from agent.training.buffer import SampleBuffer
from agent.training.samples import Outcome, decode_batch
from shared import limits
from shared.clock import SystemClock
from shared.errors import ErrorBody, SkerryError

__all__ = ["keep", "main"]

_NICENESS = 10


def keep(folder: Path, data: bytes) -> Outcome:
    """Offer a batch to the buffer in `folder`; whatever fails is told in the outcome."""
    try:
        batch = decode_batch(data)
        kept = SampleBuffer(folder, batch.settings, SystemClock()).add(
            batch.samples, epoch=batch.epoch, dropped=batch.dropped, min_free_bytes=batch.min_free_bytes
        )
    except SkerryError as error:
        return Outcome(error=error.body())
    except (OSError, msgspec.DecodeError) as error:
        return Outcome(error=ErrorBody(code="samples.storage", message=f"Samples cannot be kept: {error}."[:300]))
    return Outcome(erased=True) if kept is None else Outcome(kept=kept)


def main(arguments: list[str]) -> None:
    """Do what standard input says."""
    os.nice(_NICENESS)
    os.umask(0o077)
    (folder,) = arguments
    outcome = keep(Path(folder), sys.stdin.buffer.read(limits.MAX_SAMPLE_BATCH_BYTES))
    sys.stdout.buffer.write(msgspec.msgpack.encode(outcome))


if __name__ == "__main__":
    main(sys.argv[1:])
