"""A worker without Flower, for the hub's side: `python -m tests.federated.scripted_worker FOLDER [STEP…]`.

It makes a round of each step, and writes into FOLDER/heard what the hub says to it, a JSON line each.

    ask:d-1,d-2    asks these devices
    round          a complete round, in which all that were asked answered, or nobody
    reserve        privacy is paid for, before anybody answers
    spent          ends the run because its privacy is spent
    abandon        a round that did not count
    wait:NAME      until the hub has sent a message of this kind
    die            ends like a crash; only the first worker of a folder does
    evaluate       the devices that were asked have measured the weights
    fail:CODE      ends the run for this reason
"""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path

import msgspec
import numpy as np

from hub.federated import protocol
from hub.federated.checkpoint import PrivacyState, read_checkpoint, write_checkpoint
from hub.federated.evaluation import DeviceEvaluation
from hub.federated.protocol import Begin, FromHub
from hub.federated.report import PrivacySpent, RoundReport
from shared.errors import ErrorBody

__all__ = ["main"]

_DEADLINE_S = 60.0


class _Heard:
    """What the hub has said, kept in a file."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "heard"
        self._kinds: list[str] = []
        self._news = threading.Condition()

    def add(self, message: FromHub) -> None:
        kind = type(message).__name__
        line = {"kind": kind, **msgspec.to_builtins(message)}
        with self._file.open("ab") as out:
            out.write(msgspec.json.encode(line) + b"\n")
        with self._news:
            self._kinds.append(kind)
            self._news.notify_all()

    def wait(self, kind: str) -> None:
        with self._news:
            if not self._news.wait_for(lambda: kind in self._kinds, _DEADLINE_S):
                raise TimeoutError(kind)
            self._kinds.clear()


def _listen(heard: _Heard) -> None:
    try:
        while (message := protocol.read_from_hub(sys.stdin.buffer)) is not None:
            heard.add(message)
    finally:
        os._exit(3)


def _report(round_no: int, asked: list[str], abandoned: str = "") -> RoundReport:
    return RoundReport(
        round_no=round_no,
        asked=asked,
        joined=asked,
        admitted=[] if abandoned else asked,
        rejected={},
        dropped=asked if abandoned else [],
        metrics={"held_out_accuracy": 0.5 + round_no / 10},
        bytes_down=100,
        bytes_up=30,
        seconds=0.5,
        abandoned=abandoned,
    )


def _measured(device_id: str) -> DeviceEvaluation:
    return DeviceEvaluation(device_id=device_id, examples=10, accuracy=0.9, loss=0.1, base_accuracy=0.8, base_loss=0.2)


def _play(begin: Begin, folder: Path, steps: list[str], heard: _Heard) -> protocol.Ended:
    out, checkpoint = sys.stdout.buffer, read_checkpoint(begin.checkpoint)
    asked: list[str] = []
    for step in steps:
        name, _, value = step.partition(":")
        if name == "ask":
            asked = value.split(",")
            protocol.write(out, protocol.Ask(round_no=checkpoint.round_no + 1, device_ids=asked))
        elif name == "round":
            weights = (checkpoint.weights + 1).astype(np.float32)
            number = checkpoint.round_no + 1
            checkpoint = msgspec.structs.replace(checkpoint, round_no=number, weights=weights)
            protocol.write(
                out, protocol.Complete(report=_report(number, asked), checkpoint=write_checkpoint(checkpoint))
            )
        elif name == "reserve":
            state = PrivacyState(releases=checkpoint.privacy.releases + 1)
            checkpoint = msgspec.structs.replace(checkpoint, privacy=state)
            spent = PrivacySpent(mode="client", epsilon=2.0 * state.releases, delta=1e-5, releases=state.releases)
            protocol.write(out, protocol.Reserved(privacy=spent, checkpoint=write_checkpoint(checkpoint)))
        elif name == "spent":
            return protocol.Ended(end="finished", error=ErrorBody(code="federated.privacy_spent", message="No more."))
        elif name == "abandon":
            report = _report(checkpoint.round_no + 1, asked, "federated.quorum")
            protocol.write(out, protocol.Abandoned(report=report))
        elif name == "evaluate":
            found = [_measured(device_id) for device_id in asked]
            protocol.write(out, protocol.Evaluated(asked=len(asked) + 1, bytes_down=7, devices=found))
        elif name == "wait":
            heard.wait(value)
            if value == "Cancel":
                return protocol.Ended(end="cancelled")
        elif name == "die":
            if not (folder / "died").exists():
                (folder / "died").touch()
                os._exit(9)
        elif name == "fail":
            return protocol.Ended(end="failed", error=ErrorBody(code=value, message="It had to be."))
    return protocol.Ended(end="finished")


def main() -> int:
    """Play the steps."""
    folder, steps = Path(sys.argv[1]), sys.argv[2:]
    begin = protocol.read_from_hub(sys.stdin.buffer)
    if not isinstance(begin, Begin):
        return 3
    heard = _Heard(folder)
    heard.add(begin)
    threading.Thread(target=_listen, args=(heard,), daemon=True).start()
    protocol.write(sys.stdout.buffer, protocol.Listening(port=begin.port))
    protocol.write(sys.stdout.buffer, _play(begin, folder, steps, heard))
    sys.stdout.buffer.flush()
    os._exit(0)


if __name__ == "__main__":
    raise SystemExit(main())
