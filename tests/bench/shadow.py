"""What a candidate costs beside the version that serves: `python -m tests.bench.shadow [SECONDS]`. Prints JSON.

The same predictions (1,000 a second, in this process) without a candidate, with one on a tenth of them within 5 % of a
core (the default), and with one on all of them within a whole core. Beside it what was not chosen: the candidate loaded
into this process. Latencies are those of the live predictions.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from agent.inference.host import ModelHost
from agent.ota.settings import OtaSettings
from agent.shadow.shadows import Shadows
from shared.profiles import load_profile
from shared.runtime.model import LoadedModel
from shared.wire.down import CONDITIONAL_SCHEMA, Assignment, ShadowRun
from tests.bench.agent_idle import cpu_s, rss_bytes
from tests.models import load_digits, unpacked_digits

RATE = 1000
RUNS = {"default": ShadowRun(), "everything": ShadowRun(share_bp=10_000, cpu_bp=10_000)}


def assignment(run: ShadowRun) -> Assignment:
    """As far as a candidate's run asks for it."""
    return Assignment(
        schema_version=CONDITIONAL_SCHEMA, device_id="bench", model="digits", version=2, counter=2,
        target="digits/2.bundle", bundle_sha256="0" * 64, bundle_bytes=1, issued_s=0.0, expires_s=1.0, mode="shadow",
        shadow=run,
    )  # fmt: skip


def children() -> list[int]:
    """The processes that this one has started."""
    found = Path(f"/proc/{os.getpid()}/task").glob("*/children")
    return [int(word) for path in found for word in path.read_text().split()]


async def predictions(host: ModelHost, seconds: float) -> dict[str, Any]:
    """Latency of live predictions at a fixed rate."""
    x, times = load_digits().test_x, []
    began = time.perf_counter()
    for number in range(int(RATE * seconds)):
        await asyncio.sleep(max(0.0, began + number / RATE - time.perf_counter()))
        row = x[number % len(x)][None]
        start = time.perf_counter_ns()
        host.predict("digits", row)
        times.append(time.perf_counter_ns() - start)
    times.sort()
    return {"p50_us": times[len(times) // 2] / 1000, "p99_us": times[len(times) * 99 // 100] / 1000}


@asynccontextmanager
async def candidate(host: ModelHost, folder: Path, run: ShadowRun) -> AsyncIterator[Shadows]:
    """A candidate that has begun to answer."""
    shadows = Shadows(host, load_profile("x86-gateway"), OtaSettings())
    end = asyncio.Event()
    task = asyncio.create_task(shadows.run("digits", folder, assignment(run), end))
    while not any(health.compared for _, health in shadows.take()):
        host.predict("digits", load_digits().test_x[:1])
        await asyncio.sleep(0.01)
    try:
        yield shadows
    finally:
        end.set()
        await task


async def beside(host: ModelHost, folder: Path, run: ShadowRun, seconds: float) -> dict[str, Any]:
    """Live predictions with a candidate."""
    async with candidate(host, folder, run) as shadows:
        (child,) = children()
        used = cpu_s(child)
        found = await predictions(host, seconds)
        told = [health for _, health in shadows.take()]
        return {
            **found,
            "compared": sum(health.compared for health in told),
            "skipped": sum(health.skipped for health in told),
            "disagreed": sum(health.disagreed for health in told),
            "child_cpu_percent": round(100 * (cpu_s(child) - used) / seconds, 2),
            "child_rss_mb": round(rss_bytes(child) / 1e6, 1),
        }


def in_process(folder: Path) -> float:
    """What a second copy takes in this process, in MB."""
    before = rss_bytes(os.getpid())
    manifest = unpacked_digits(folder, 3)
    model = LoadedModel.load(folder, manifest, 1)
    model.predict(load_digits().test_x[:1])
    taken = rss_bytes(os.getpid()) - before
    model.close()
    return round(taken / 1e6, 1)


async def measure(directory: Path, seconds: float) -> dict[str, Any]:
    """All of it."""
    for version in (1, 2):
        unpacked_digits(directory / f"v{version}", version)
    host = ModelHost()
    host.swap("digits", host.load("digits", directory / "v1"))
    await predictions(host, 1.0)
    found: dict[str, Any] = {"benchmark": "shadow", "rate_per_s": RATE, "alone": await predictions(host, seconds)}
    for name, run in RUNS.items():
        found[name] = await beside(host, directory / "v2", run, seconds)
    found["alone_again"] = await predictions(host, seconds)
    found["in_process_mb"] = in_process(directory / "v3")
    host.close()
    return found


def main() -> None:
    """Run it in a temporary folder."""
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 10.0
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(asyncio.run(measure(Path(folder), seconds)), indent=2))


if __name__ == "__main__":
    main()
