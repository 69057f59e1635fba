"""sd_notify over a real datagram socket."""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
from pathlib import Path

import pytest

from agent.service.notify import Notifier


@pytest.mark.parametrize("abstract", [False, True])
def test_systemd_hears_readiness_and_the_end(tmp_path: Path, abstract: bool) -> None:
    name = f"@skerry-{secrets.token_hex(8)}" if abstract else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind("\0" + name[1:] if abstract else name)
        systemd.settimeout(5)
        notifier = Notifier({"NOTIFY_SOCKET": name})
        notifier.ready()
        notifier.status("all is well")
        notifier.stopping()
        assert [systemd.recv(100) for _ in range(3)] == [b"READY=1", b"STATUS=all is well", b"STOPPING=1"]


async def test_the_watchdog_is_fed_while_the_loop_turns(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        systemd.setblocking(False)
        environ = {
            "NOTIFY_SOCKET": str(tmp_path / "notify"),
            "WATCHDOG_USEC": "30000",
            "WATCHDOG_PID": str(os.getpid()),
        }
        notifier = Notifier(environ)
        assert notifier.watchdog_s == 0.03
        feeding = asyncio.create_task(notifier.keep_alive())
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(5):
            assert [await loop.sock_recv(systemd, 100) for _ in range(3)] == [b"WATCHDOG=1"] * 3
        feeding.cancel()
        await asyncio.gather(feeding, return_exceptions=True)


async def test_without_systemd_nothing_happens(tmp_path: Path) -> None:
    for environ in ({}, {"NOTIFY_SOCKET": str(tmp_path / "gone"), "WATCHDOG_USEC": "1000000", "WATCHDOG_PID": "1"}):
        notifier = Notifier(environ)
        notifier.ready()
        assert notifier.watchdog_s is None
        await notifier.keep_alive()
