"""The worker process of one run: `python -m hub.federated.worker`, frames on stdin and stdout.

Rules: it keeps nothing; what the hub has not heard has not happened. When the hub is gone (its end of stdin closes),
this process ends at once: a run without a hub would train for nobody. Standard output belongs to the frames alone.
"""

from __future__ import annotations

import os
import queue
import socket
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import BinaryIO

from hub.federated import protocol
from hub.federated.checkpoint import Checkpoint, read_checkpoint, write_checkpoint
from hub.federated.continuous import run_buffered
from hub.federated.definition import RunDefinition, check_run
from hub.federated.evaluating import Evaluating
from hub.federated.flower.grid import Grid
from hub.federated.flower.strategies import Aggregator, Preselection
from hub.federated.flower.superlink import SuperLink, Tls
from hub.federated.protocol import Begin, FromHub, Participant
from hub.federated.report import RoundReport
from hub.federated.run import Run, RunEnd
from hub.federated.surroundings import Step
from hub.federated.synchronous import run_rounds
from shared.errors import SkerryError, Unavailable

__all__ = ["main", "serve"]

_PAUSE_S = 0.05
_HUB_GONE = 3


class Worker:
    """A run in this process, and what it needs of the world (`hub.federated.surroundings`)."""

    def __init__(self, out: BinaryIO, inbox: queue.SimpleQueue[FromHub], begin: Begin, link: SuperLink) -> None:
        self._out = out
        self._inbox = inbox
        self._begin = begin
        self._link = link
        self._run: Run | None = None

    def work(self, step: Step) -> RunEnd:
        """The run to its end."""
        begin = self._begin
        grid, checkpoint = Grid(self._link), read_checkpoint(begin.checkpoint)
        run = Run(begin.definition, begin.sizes, checkpoint, grid, step, self, begin.device_ca)
        self._run = run
        self._enrol(begin.participants)
        protocol.write(self._out, protocol.Listening(port=self._link.address[1]))
        end = run_buffered(run) if begin.definition.rounds.mode == "buffered" else run_rounds(run)
        over = end in (RunEnd.FINISHED, RunEnd.SPENT)
        return self._evaluated(run, grid, end) if over and begin.definition.evaluates else end

    def _evaluated(self, run: Run, grid: Grid, end: RunEnd) -> RunEnd:
        """The end of a run after its last round; one that is cancelled meanwhile has not been evaluated."""
        evaluating = Evaluating(run, grid)
        devices = evaluating.evaluate()
        if run.cancelled:
            return RunEnd.CANCELLED
        asked, down = len(evaluating.asked), evaluating.bytes_down
        protocol.write(self._out, protocol.Evaluated(asked=asked, bytes_down=down, devices=devices))
        return end

    def ended(self, end: RunEnd) -> protocol.Ended:
        """How the hub is told; a budget that was spent early leaves a run that finished."""
        if end is not RunEnd.SPENT or self._run is None:
            return protocol.Ended(end=end)
        return protocol.Ended(end=RunEnd.FINISHED, error=self._run.out_of_budget().body())

    def monotonic(self) -> float:
        return time.monotonic()

    def pause(self) -> None:
        try:
            message = self._inbox.get(timeout=_PAUSE_S)
        except queue.Empty:
            return
        self._heed(message)
        while not self._inbox.empty():
            self._heed(self._inbox.get())

    def ask(self, round_no: int, device_ids: Sequence[str]) -> None:
        protocol.write(self._out, protocol.Ask(round_no=round_no, device_ids=list(device_ids)))

    def complete(self, report: RoundReport, checkpoint: Checkpoint) -> None:
        protocol.write(self._out, protocol.Complete(report=report, checkpoint=write_checkpoint(checkpoint)))

    def reserved(self, checkpoint: Checkpoint) -> None:
        spent = None if self._run is None else self._run.mechanism.spent()
        protocol.write(self._out, protocol.Reserved(privacy=spent, checkpoint=write_checkpoint(checkpoint)))

    def abandoned(self, report: RoundReport) -> None:
        protocol.write(self._out, protocol.Abandoned(report=report))

    def _heed(self, message: FromHub) -> None:
        run = self._run
        if run is None:
            return
        match message:
            case protocol.Enrol(participants=participants):
                self._enrol(participants)
            case protocol.Declined(device_id=device_id):
                run.decline(device_id)
            case protocol.Remove(device_id=device_id):
                self._remove(run, device_id)
            case protocol.Cancel():
                run.cancel()

    def _enrol(self, participants: Sequence[Participant]) -> None:
        for device in participants:
            node_id = self._link.admit_node(device.public_key)
            if self._run is not None:
                before = self._run.roster.node(device.device_id)
                if before is not None and before != node_id:
                    self._link.expel_node(before)  # its certificate was renewed with another key
                self._run.roster.enrol(
                    device.device_id, node_id, device.samples, device.group, device.cost_per_mib
                )

    def _remove(self, run: Run, device_id: str) -> None:
        node_id = run.roster.node(device_id)
        if node_id is not None:
            self._link.expel_node(node_id)
            run.roster.remove(device_id)


def make_step(definition: RunDefinition) -> Step:
    """The strategy of a run; errors `federated.strategy`, `federated.invalid`."""
    check_run(definition)
    wanted = definition.strategy
    preselect = Preselection(malicious=wanted.malicious) if wanted.malicious else None
    return Aggregator(wanted.name, wanted.parameters, preselect)


def serve(stdin: BinaryIO, stdout: BinaryIO, step: Callable[[RunDefinition], Step] = make_step) -> int:
    """Do the run that the hub asks for; the exit code is 0 whenever its end was told."""
    begin = protocol.read_from_hub(stdin)
    if not isinstance(begin, Begin):
        return _HUB_GONE
    inbox: queue.SimpleQueue[FromHub] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(stdin, inbox), name="hub", daemon=True).start()
    try:
        end = _work(begin, stdout, inbox, step)
    except SkerryError as error:
        end = protocol.Ended(end="failed", error=error.body())
    protocol.write(stdout, end)
    return 0


def _work(
    begin: Begin, out: BinaryIO, inbox: queue.SimpleQueue[FromHub], step: Callable[[RunDefinition], Step]
) -> protocol.Ended:
    tls = Tls(Path(begin.certificate), Path(begin.key), Path(begin.ca))
    try:
        family = socket.AF_INET6 if ":" in begin.host else socket.AF_INET
        sock = socket.create_server((begin.host, begin.port), family=family)
    except OSError as error:
        raise Unavailable(
            "federated.port",
            f"The port {begin.port} for federated training is taken: {error.strerror}.",
            hint="Choose another port, or end what listens there.",
            retriable=True,
        ) from error
    with sock:
        link = SuperLink(sock, tls, program=begin.program).start()
        try:
            worker = Worker(out, inbox, begin, link)
            end = worker.work(step(begin.definition))
            return worker.ended(end)
        finally:
            link.stop()


def _listen(stdin: BinaryIO, inbox: queue.SimpleQueue[FromHub]) -> None:
    try:
        while (message := protocol.read_from_hub(stdin)) is not None:
            inbox.put(message)
    finally:
        os._exit(_HUB_GONE)


def main(step: Callable[[RunDefinition], Step] = make_step) -> int:
    """Serve the hub on this process's stdin and stdout."""
    with os.fdopen(os.dup(sys.stdout.fileno()), "wb") as out:
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # whoever prints does not print between frames
        code = serve(sys.stdin.buffer, out, step)
    os._exit(code)  # the thread that reads stdin would hold an ordinary end up


if __name__ == "__main__":
    raise SystemExit(main())
