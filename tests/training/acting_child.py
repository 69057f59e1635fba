"""A training process that plays a part, which is the host in the offer's address."""

from __future__ import annotations

import os
import sys
import time
from typing import BinaryIO

from agent.training.protocol import (
    Asked,
    Done,
    End,
    Ended,
    Expect,
    Failed,
    FromDaemon,
    FromTrainer,
    Halt,
    Joined,
    Start,
    Verdict,
    decode_from_daemon,
    frame,
    read,
)
from shared.errors import ErrorBody


def say(message: FromTrainer) -> None:
    sys.stdout.buffer.write(frame(message))
    sys.stdout.buffer.flush()


def hear(source: BinaryIO) -> FromDaemon:
    data = read(source)
    if data is None:
        os._exit(3)
    return decode_from_daemon(data)


def round_of(source: BinaryIO, round_no: int) -> None:
    """One task, as long as the daemon allows it."""
    say(Asked(round_no=round_no, kind="train"))
    verdict = hear(source)
    assert isinstance(verdict, Verdict)
    if verdict.code:
        error = ErrorBody(code=verdict.code, message=verdict.reason)
        say(Failed(round_no=round_no, seconds=0.1, error=error))
        return
    say(Done(round_no=round_no, kind="train", seconds=0.1, examples=5, peak_bytes=7))


def main() -> None:
    source = sys.stdin.buffer
    start = hear(source)
    assert isinstance(start, Start)
    part = start.address.split(":")[0]
    if part == "dies":
        os._exit(9)
    if part == "silent":
        time.sleep(600)
    if part == "junk":
        os.write(1, b"\x05\x00\x00\x00hello")
        time.sleep(600)
    say(Joined())
    if part == "hangs":
        say(Asked(round_no=1, kind="train"))
        time.sleep(600)
    if part == "halts":
        say(Asked(round_no=1, kind="train"))
        hear(source)
        halt = hear(source)
        assert isinstance(halt, Halt)
        say(Failed(round_no=1, seconds=0.2, error=ErrorBody(code=halt.code, message=halt.reason)))
    else:
        round_of(source, 1)
    if part == "leaves":
        say(Ended())
        return
    number = 1
    while not isinstance(heard := hear(source), End):
        if isinstance(heard, Expect):
            number += 1
            round_of(source, number)
    say(Ended())


if __name__ == "__main__":
    main()
