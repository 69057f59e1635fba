"""What daemon and training process say arrives whole or not at all."""

from __future__ import annotations

import io

import pytest

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
    Kept,
    Verdict,
    decode_from_daemon,
    decode_from_trainer,
    frame,
    read,
)
from shared.errors import ErrorBody, InvalidInput
from shared.sandbox.wish import Shortfall

DOWN: list[FromDaemon] = [
    Expect(valid_s=1.0, linger_s=2.0),
    Verdict(task_s=3.0),
    Verdict(code="a.b", reason="c"),
    Halt(code="a.b", reason=""),
    End(),
]
UP: list[FromTrainer] = [
    Joined(shortfalls=[Shortfall(part="files", reason="old")]),
    Asked(round_no=1, kind="train"),
    Done(round_no=1, kind="train", seconds=0.5, examples=3, peak_bytes=4),
    Failed(round_no=1, seconds=0.5, error=ErrorBody(code="a.b", message="c")),
    Kept(),
    Ended(),
]


def test_every_message_comes_through() -> None:
    down = io.BytesIO(b"".join(frame(message) for message in DOWN))
    assert [decode_from_daemon(read(down) or b"") for _ in DOWN] == DOWN
    up = io.BytesIO(b"".join(frame(message) for message in UP))
    assert [decode_from_trainer(read(up) or b"") for _ in UP] == UP
    assert read(up) is None


def test_what_is_cut_or_no_message_is_none() -> None:
    whole = frame(UP[1])
    assert read(io.BytesIO(whole[:-1])) is None
    assert read(io.BytesIO(whole[:2])) is None
    with pytest.raises(InvalidInput):
        read(io.BytesIO(b"\xff\xff\xff\x7f"))
    for decode in (decode_from_daemon, decode_from_trainer):
        for data in (b"", b"\xc1", b"\x81", frame(UP[1])[4:8]):
            with pytest.raises(InvalidInput) as caught:
                decode(data)
            assert caught.value.code == "training.frame"
