"""A trial that passes on a system that cannot confine it in full."""

from __future__ import annotations

import sys

import msgspec

from agent.ota.probe import ProbeResult
from shared.sandbox.wish import Shortfall

if __name__ == "__main__":
    sys.stdin.buffer.read()
    shortfalls = [Shortfall(part="files", reason="the kernel is too old")]
    sys.stdout.buffer.write(msgspec.json.encode(ProbeResult(golden_passed=True, shortfalls=shortfalls)))
