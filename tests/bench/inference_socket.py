"""Prediction over the Unix socket at a fixed rate, open loop, against the bare interpreter in the same run.

`python -m tests.bench.inference_socket [requests a second] [seconds]` prints JSON. The server is a process of its own;
requests leave on keep-alive connections at their planned times whatever is still open, and each latency counts from the
planned time, so waiting is not hidden. `floor` is a bare asyncio server under the same load; `generator_late` says how
punctual the generator itself was: on a machine with less than two free cores all figures show the scheduler.
"""

from __future__ import annotations

import json
import os
import select
import socket
import subprocess
import sys
import tempfile
import time
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from shared.bundle.archive import read_manifest
from shared.preprocess.kernels import Array
from tests.bench.inference_figures import percentiles_us, raw_calls, time_each_ns
from tests.models import load_digits, unpacked_digits

__all__ = ["measure"]

_CONNECTIONS = 8


def _request(x: Array, binary: bool) -> bytes:
    """One HTTP request for one sample."""
    tensor: dict[str, object] = {"name": "image", "shape": [1, 8, 8], "datatype": "FP32"}
    data, extra = b"", ""
    if binary:
        data = x.tobytes()
        tensor["parameters"] = {"binary_data_size": len(data)}
        body = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
        extra = f"Inference-Header-Content-Length: {len(body)}\r\n"
    else:
        body = json.dumps({"inputs": [tensor | {"data": x.reshape(-1).tolist()}]}).encode()
    content = body + data
    head = f"POST /v2/models/digits/infer HTTP/1.1\r\nHost: localhost\r\n{extra}Content-Length: {len(content)}\r\n\r\n"
    return head.encode() + content


class _Connection:
    """One keep-alive connection with at most one request open."""

    def __init__(self, path: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.connect(str(path))
        self.planned_ns = 0
        self._buffer = b""

    def send(self, request: bytes, planned_ns: int) -> None:
        self.planned_ns = planned_ns
        self.socket.sendall(request)

    def received(self) -> bool:
        """Is the whole response here? Anything but status 200 ends the benchmark."""
        self._buffer += self.socket.recv(65536)
        head, found, body = self._buffer.partition(b"\r\n\r\n")
        if not found or len(body) < int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0]):
            return False
        if not head.startswith(b"HTTP/1.1 200"):
            raise RuntimeError(self._buffer[:300].decode(errors="replace"))
        self._buffer = b""
        return True


@dataclass
class _Measured:
    """Per request in nanoseconds: from its planned time to the whole response; how late the generator sent it."""

    latency: list[int] = field(default_factory=list)
    late: list[int] = field(default_factory=list)


def _load(path: Path, request: bytes, rate: int, seconds: float) -> _Measured:
    """Send at the planned times, whatever is still open."""
    connections = [_Connection(path) for _ in range(_CONNECTIONS)]
    free, busy = deque(connections), dict[socket.socket, _Connection]()
    clock, step, total = time.perf_counter_ns, 1_000_000_000 // rate, int(rate * seconds)
    out, sent, start = _Measured(), 0, time.perf_counter_ns() + 10_000_000
    while len(out.latency) < total:
        planned = start + sent * step
        now = clock()
        if free and sent < total and now >= planned:
            connection = free.popleft()
            busy[connection.socket] = connection
            connection.send(request, planned)
            out.late.append(now - planned)
            sent += 1
            continue
        wait = (planned - now) / 1e9 if free and sent < total else None
        for ready in select.select(list(busy), [], [], wait)[0]:
            if busy[ready].received():
                out.latency.append(clock() - busy[ready].planned_ns)
                free.append(busy.pop(ready))
    for connection in connections:
        connection.socket.close()
    return out


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(") ", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def measure(folder: Path, rate: int = 1000, seconds: float = 10.0) -> dict[str, object]:
    """The figures, in microseconds."""
    directory, path, floor = folder / "slot", folder / "bench.sock", folder / "floor.sock"
    unpacked_digits(directory)
    manifest, x = read_manifest(directory), np.ascontiguousarray(load_digits().test_x[:1])
    raw = time_each_ns(raw_calls(directory, manifest, x), 10_000)
    command = [sys.executable, "-m", "tests.bench.inference_server", str(directory), str(path), str(floor)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as server:
        if server.stdout is None or server.stdin is None or server.stdout.readline() != b"serving\n":
            raise RuntimeError("The server did not start.")
        found: dict[str, object] = {}
        for name in ("floor", "binary", "json"):
            request, target = _request(x, name != "json"), floor if name == "floor" else path
            _load(target, request, rate, 1.0)  # warm
            before, began = _cpu_s(server.pid), time.monotonic()
            times = _load(target, request, rate, seconds)
            share = (_cpu_s(server.pid) - before) / (time.monotonic() - began)
            found[name] = {
                **percentiles_us(times.latency),
                "generator_late": percentiles_us(times.late),
                "requests": len(times.latency),
                "server_cpu_percent": round(share * 100, 1),
            }
        server.stdin.close()
        inside = server.stdout.readline().split()
    return {
        "benchmark": "inference_socket",
        "requests_per_s": rate,
        "connections": _CONNECTIONS,
        "us": {"raw": percentiles_us(raw), **found},
        "server": dict(zip(("requests", "errors", "p50_us", "p99_us"), map(int, inside), strict=True)),
        "limit_p99_us": 1000,
    }


if __name__ == "__main__":
    arguments = [float(text) for text in sys.argv[1:]]
    with tempfile.TemporaryDirectory() as base:
        print(json.dumps(measure(Path(base), *map(int, arguments[:1]), *arguments[1:]), indent=2))
