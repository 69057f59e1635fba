"""Work that never ends is given up, and what it brings too late is freed."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading

import pytest

from agent.ota.threads import within


async def test_work_that_hangs_is_given_up_and_its_late_result_dropped() -> None:
    go_on, dropped = threading.Event(), asyncio.Event()

    def work() -> str:
        go_on.wait(60)
        return "late"

    with pytest.raises(TimeoutError):
        await within(0.05, work, lambda result: dropped.set() if result == "late" else None)
    go_on.set()
    async with asyncio.timeout(10):
        await dropped.wait()


async def test_work_that_ends_gives_its_result_or_its_error() -> None:
    assert await within(10, lambda: 7, lambda result: None) == 7
    with pytest.raises(ZeroDivisionError):
        await within(10, lambda: 1 / 0, lambda result: None)


def test_a_loop_that_stands_still_ends_the_process_and_says_where_it_was() -> None:
    code = (
        "import asyncio, time\n"
        "from agent.hang import HangGuard\n"
        "async def main():\n"
        "    guard = asyncio.create_task(HangGuard(1.0).run())\n"
        "    await asyncio.sleep(2.5)\n"
        "    print('alive', flush=True)\n"
        "    time.sleep(600)\n"
        "asyncio.run(main())\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (1, "alive\n")
    assert "Timeout" in done.stderr
    assert "in main" in done.stderr
