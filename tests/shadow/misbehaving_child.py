"""A candidate's process that misbehaves when a row begins with 1001 (dies), 1002 (hangs) or 1003 (half an answer)."""

from __future__ import annotations

import os
import sys
import time
from typing import BinaryIO

import agent.shadow.child as child

_real = child._exactly
_HANG_S = 600.0


def _exactly(source: BinaryIO, count: int) -> bytes | None:
    data = _real(source, count)
    if data is None or count == child.LENGTH.size:
        return data
    match int(memoryview(data).cast("f")[0]):
        case 1001:
            os.abort()
        case 1002:
            time.sleep(_HANG_S)
        case 1003:
            sys.stdout.buffer.write(b"\xff" * 3)
            sys.stdout.buffer.flush()
            os._exit(0)
    return data


child._exactly = _exactly
child.main()
