"""The process that trains: `python -m agent.training.child`, a Flower node while it lives, confined and at nice 19.

Standard input and output: frames (`agent.training.protocol`). It reads the device's key, then confines itself: no new
privileges, no other programs, files only those of the slot, the samples (to read) and its own folder, the network only
to the hub's port. It joins, asks for tasks, asks the daemon about each whether it may, works, answers, and stays for a
while for the next round, so that a round costs no start. It ends when it is told, when nothing came for long enough,
when the hub refuses it, and with the daemon. A kill at any moment leaves files that are whole.
"""

from __future__ import annotations

import logging
import os
import sys
import time
from pathlib import Path
from typing import Any, BinaryIO

from agent.training.inbox import Inbox
from agent.training.orders import Answer, Order
from agent.training.pace import Pace
from agent.training.protocol import (
    Asked,
    Done,
    Ended,
    Failed,
    FromTrainer,
    Joined,
    Kept,
    Start,
    decode_from_daemon,
    frame,
    read,
)
from shared.errors import Conflict, ErrorBody, InternalError, SkerryError, Unauthorised, Unavailable

__all__ = ["Trainee", "main"]

_NICENESS = 19
_VERDICT_S = 20.0
_LOG = logging.getLogger(__name__)


def peak_bytes() -> int:
    """The most resident memory that this process ever had."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0


class JoinedMark:
    """Stands on the disk while this device is a node: what it finds at a start was left by a process that died."""

    def __init__(self, folder: Path, address: str) -> None:
        self._file = folder / "joined"
        self._address = address
        try:
            where, _, number = self._file.read_text(encoding="ascii", errors="replace").rpartition(" ")
        except OSError:
            where, number = "", ""
        self.node_id = int(number) if where == address and number.isdecimal() and len(number) < 21 else 0

    def set(self, node_id: int) -> None:
        """It joined as this node."""
        self._file.write_text(f"{self._address} {node_id}", encoding="ascii")

    def clear(self) -> None:
        """It left in order."""
        self._file.unlink(missing_ok=True)


class Trainee:
    """The life of the process between its confinement and its end."""

    def __init__(self, start: Start, inbox: Inbox, out: BinaryIO) -> None:
        self._start = start
        self._inbox = inbox
        self._out = out
        self._deadline_s = 0.0
        self._asked: tuple[int, str, float] | None = None
        self._failure: ErrorBody | None = None
        self._examples = 0
        self._work: Any = None

    def say(self, message: FromTrainer) -> None:
        """Tell the daemon."""
        self._out.write(frame(message))
        self._out.flush()

    def prepare(self, protection: Any) -> None:
        """Load model and samples; errors `model.*`, `training.trainer`, `bundle.*`, `storage.*`."""
        from agent.training.assembly import assemble  # under the limits, because importing maps most of the memory

        self._work = assemble(self._start, self.proceed, lambda: self.say(Kept()), protection)

    def proceed(self) -> None:
        """Return while the present task may go on; errors `training.*`."""
        self._inbox.check()
        if time.monotonic() >= self._deadline_s:
            raise Conflict("training.too_long", "The time for this task is over.")

    def attend(self, node: Any) -> None:
        """Serve the hub until the end; errors `training.expelled`, `training.link`."""
        start, linger_s = self._start, self._start.linger_s
        pace, last_s = Pace(time.monotonic(), start.valid_s), time.monotonic()
        while not self._inbox.ending:
            for expect in self._inbox.expects():
                linger_s, last_s = expect.linger_s, time.monotonic()
                pace.expect(last_s, expect.valid_s)
            try:
                served = self._serve_one(node)
            except Unavailable:
                if pace.expects(time.monotonic()) and not self._asked:
                    raise
                return  # nothing was expected: the run is over, or the network is, and another offer will come
            now_s = time.monotonic()
            if served and self._work.expects:
                pace.expect(now_s, self._start.valid_s)  # the next stage comes when the slowest device is ready
                last_s = now_s
            elif served:
                pace.answered()
                last_s = now_s
            elif not pace.expects(now_s) and now_s - last_s >= linger_s:
                return
            self._inbox.wait(pace.wait_s(now_s))

    def _serve_one(self, node: Any) -> bool:
        self._begin()
        try:
            served: bool = node.serve_one(self._answer)
        except SkerryError as error:
            self._tell_failure(error.body())
            raise
        asked = self._asked
        if not served or asked is None:
            return served
        if self._failure is not None:
            self._tell_failure(self._failure)
            return True
        self._work.delivered()
        round_no, kind, began_s = asked
        seconds = time.monotonic() - began_s
        done = Done(round_no=round_no, kind=kind, seconds=seconds, examples=self._examples, peak_bytes=peak_bytes())
        self.say(done)
        return True

    def _begin(self) -> None:
        self._asked, self._failure = None, None

    def _answer(self, order: Order) -> Answer:
        found = order.config.get("round", 0)
        round_no = found if isinstance(found, int) and found >= 0 else 0
        if order.kind == "query":  # it takes milliseconds, of a round whose task is asked about
            answered: Answer = self._work(order)
            return answered
        self._asked = (round_no, order.kind[:32], time.monotonic())
        self.say(Asked(round_no=round_no, kind=order.kind[:32]))
        try:
            verdict = self._inbox.verdict(_VERDICT_S)
            if verdict.code:
                raise Conflict(verdict.code, verdict.reason)
            self._deadline_s = time.monotonic() + verdict.task_s
            answer: Answer = self._work(order)
        except SkerryError as error:
            self._failure = error.body()
            raise
        except Exception as error:
            self._failure = InternalError("training.defect", f"{type(error).__name__}: {error}"[:300]).body()
            raise
        self._examples = answer.examples
        return answer

    def _tell_failure(self, error: ErrorBody) -> None:
        if self._asked is not None:
            round_no, _, began_s = self._asked
            self.say(Failed(round_no=round_no, seconds=time.monotonic() - began_s, error=self._failure or error))


def train(
    start: Start, pair: tuple[bytes, bytes], inbox: Inbox, out: BinaryIO, shortfalls: list[Any]
) -> SkerryError | None:
    """Take part in the run with this key and certificate; why it ended before its time, if it did."""
    trainee = Trainee(start, inbox, out)
    failure: SkerryError | None = None
    try:
        from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
        from cryptography.hazmat.primitives.serialization import load_pem_private_key

        from agent.training.flower_node import join
        from agent.training.protection import Protection

        key = load_pem_private_key(pair[0], None)
        if not isinstance(key, EllipticCurvePrivateKey):
            raise InternalError("training.key", "The device's key is not of an elliptic curve.")
        trainee.prepare(Protection.of_device(key, pair[1], start.promise))
        mark = JoinedMark(Path(start.state), start.address)
        wait_s = min(start.valid_s, 10.0)
        with join(start.address, Path(start.ca), key, wait_s=wait_s, before=mark.node_id) as node:
            mark.set(node.node_id)
            trainee.say(Joined(shortfalls=shortfalls))
            try:
                trainee.attend(node)
            except SkerryError as error:
                failure = error  # Flower would swallow it
        mark.clear()
    except SkerryError as error:
        failure = error
    except ImportError as error:
        failure = Unavailable("training.not_installed", f"The software for training is not there: {error}."[:300])
    except MemoryError:
        failure = Conflict("training.no_memory", "The training ran out of memory.")
    except SystemExit:
        reason = "The hub did not let this device in, or could not be reached."
        failure = Unavailable("training.not_joined", reason, retriable=True)
    except KeyboardInterrupt:  # Flower's way of saying that this node is not wanted any more
        failure = Unauthorised("training.expelled", "The hub does not take part with this device any more.")
    return failure


def main() -> None:
    """Train as standard input says."""
    from shared.sandbox.confine import confine

    source, out = sys.stdin.buffer, os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # whoever prints does not print between frames
    first = read(source)
    start = None if first is None else decode_from_daemon(first)
    if not isinstance(start, Start):
        raise SystemExit("no orders")
    os.nice(_NICENESS)
    pair = Path(start.key).read_bytes(), Path(start.certificate).read_bytes()
    shortfalls = confine(start.confinement)
    inbox = Inbox(source)
    inbox.start()
    try:
        failure = train(start, pair, inbox, out, shortfalls)
    except Exception as error:  # noqa: BLE001 - the boundary of the process
        _LOG.exception("the training failed in an unforeseen way")
        failure = InternalError("training.defect", f"{type(error).__name__}: {error}"[:300])
    out.write(frame(Ended(error=None if failure is None else failure.body())))
    out.flush()
    os._exit(0)  # Flower's threads and the one that reads would hold an ordinary end up


if __name__ == "__main__":
    main()
