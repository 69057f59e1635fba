"""One run on the hub that works on it, from the database to its worker and back.

Rules: each round and its checkpoint are in the database before anything else of the worker is heard; a run that another
hub has taken is left at once; whatever ends this hub, or keeps the database away, leaves the run as it stands, to be
gone on with from its last complete round; a run fails only for a reason of its own, with a code.
"""

from __future__ import annotations

import logging
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from hub.federated.base import Base, base_version, load_base
from hub.federated.checkpoint import read_checkpoint
from hub.federated.definition import RunDefinition
from hub.federated.evaluation import Evaluation
from hub.federated.following import Following
from hub.federated.outcome import RunOutcome
from hub.federated.protocol import (
    Abandoned,
    Ask,
    Begin,
    Cancel,
    Complete,
    Ended,
    Evaluated,
    FromWorker,
    Listening,
    Reserved,
)
from hub.federated.report import PrivacySpent, RoundReport
from hub.federated.runner import RunProcess
from hub.federated.stage import Stage
from hub.store import federated as store
from hub.store import federated_traffic
from hub.store.failures import plain_errors
from hub.store.federated import RoundRow, RunRow, RunState
from hub.store.federated_traffic import TrafficRow
from shared import durable
from shared.errors import Conflict, InternalError, InvalidInput, SkerryError
from shared.limits import MAX_PROGRAM_BYTES, MAX_REASON_CHARS

__all__ = ["Conductor"]

_LOG = logging.getLogger("skerry.hub.federated")
_MEMORY_S = 7 * 86_400.0
_LATER = frozenset({"database.unavailable", "federated.changed", "federated.port", "federated.stopped"})
"""What says nothing about the run: it stays as it is."""


class Conductor:
    """Works on a run, in a thread of its own, until it has ended or cannot go on here."""

    def __init__(
        self, stage: Stage, row: RunRow, port: int, ended: Callable[[], None] = lambda: None, *, last_try: bool = False
    ) -> None:
        self._stage = stage
        self._row = row
        self._port = port
        self._ended = ended
        self._definition = msgspec.json.decode(row.definition, type=RunDefinition)
        self._folder = stage.places.folder / row.run_id
        self._process = RunProcess(stage.places.command, self._folder, self._heard)
        self._following: Following | None = None
        self._cancelling = False
        self._last_try = last_try
        self._thread = threading.Thread(target=self._work, name=f"federated {row.run_id}", daemon=True)
        self.left = ""  # the code of why it could not go on here

    @property
    def run_id(self) -> str:
        """Its name."""
        return self._row.run_id

    @property
    def port(self) -> int:
        """At which devices join."""
        return self._port

    @property
    def alive(self) -> bool:
        """Whether it still works."""
        return self._thread.is_alive()

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End the worker; the run stays as it is."""
        self._process.stop()

    def join(self, timeout_s: float) -> None:
        """Wait until it has ended."""
        self._thread.join(timeout_s)

    def remove(self, device_id: str) -> None:
        """The device is out of the federation at once. Any thread."""
        following = self._following
        if following is not None:
            following.remove(device_id, self._process)

    def soon(self) -> None:
        """Look at the devices again at the next tick."""
        if self._following is not None:
            self._following.soon()

    def tick(self) -> None:
        """Take in what has changed in the database; called every second or so."""
        if self._following is None:
            return
        with self._stage.db.read() as connection:
            row = store.get_run(connection, self.run_id)
        if row.state is not RunState.RUNNING or row.holder != self._stage.holder:
            self.stop()
            return
        if row.cancelled_by and not self._cancelling:
            self._cancelling = True
            self._process.send(Cancel())
        self._look()

    # --- the run's own thread -----------------------------------------------------------------------------------------
    def _work(self) -> None:
        try:
            with plain_errors():
                self._go()
        except SkerryError as error:
            self._give_up(error)
        except Exception as error:  # noqa: BLE001 - a defect ends this run and neither the hub nor the others
            _LOG.exception("the run %s failed", self.run_id)
            self._give_up(InternalError("federated.failed", f"The run failed: {type(error).__name__}."))
        finally:
            self._following = None
            self._clear()
            self._ended()

    def _go(self) -> None:
        self._take()
        if self._row.state is RunState.RUNNING and self._row.cancelled_by:
            self._step(RunState.CANCELLED)
            return
        if self._row.state is RunState.RUNNING:
            ended = self._rounds()
            if ended.error is not None and ended.end != "finished":
                raise SkerryError(ended.error.code, ended.error.message, hint=ended.error.hint)
            if ended.end == "cancelled":
                self._step(RunState.CANCELLED)
                return
            early = {} if ended.error is None else {"code": ended.error.code, "message": ended.error.message}
            self._step(RunState.HANDING_OVER, **early)
        self._hand_over()

    def _take(self) -> None:
        """The run is this hub's from here on."""
        now_s, holder = self._stage.clock.now(), self._stage.holder
        with self._stage.db.write() as connection:
            if self._row.state is RunState.QUEUED:
                values: dict[str, Any] = {"holder": holder, "started_s": self._row.started_s or now_s}
                self._row = store.set_state(connection, self._row, RunState.RUNNING, **values)
            elif not store.set_port(connection, self._row, holder, None):
                raise Conflict("federated.changed", "The run changed meanwhile.", retriable=True)
            self._row = store.get_run(connection, self.run_id)

    def _base(self) -> Base:
        with self._stage.db.read() as connection:
            version = base_version(connection, self._row.model, self._row.version)
        return load_base(self._stage.blobs, version)

    def _rounds(self) -> Ended:
        places = self._stage.places
        base = self._base()
        following = Following(self._stage, self.run_id, self._definition, base, places.address(self._port))
        with self._stage.db.read() as connection:
            checkpoint = store.load_checkpoint(connection, self._row.run_no)
        self._following = following
        participants = following.begin(max(self._row.created_s, self._stage.clock.now() - _MEMORY_S))
        begin = Begin(
            definition=self._definition,
            sizes=self._row.sizes,
            checkpoint=checkpoint,
            participants=participants,
            host=places.host,
            port=self._port,
            certificate=str(places.certificate.absolute()),
            key=str(places.key.absolute()),
            ca=str(places.ca.absolute()),
            program=_program(places.program),
            device_ca=places.device_ca,
        )
        return self._process.run(begin)

    def _heard(self, message: FromWorker) -> None:
        match message:
            case Listening(port=port):
                with self._stage.db.write() as connection:
                    store.set_port(connection, self._row, self._stage.holder, port)
                self._cancelling = False  # a worker that was started anew has heard of nothing
                self._look(anew=True)
            case Ask(round_no=round_no, device_ids=device_ids):
                if self._following is not None:
                    self._following.ask(round_no, device_ids, self._process)
            case Complete(report=report, checkpoint=checkpoint):
                self._keep(report, checkpoint)
            case Reserved(privacy=privacy, checkpoint=checkpoint):
                self._reserve(privacy, checkpoint)
            case Abandoned(report=report):
                self._keep(report, None)
            case Evaluated():
                self._keep_evaluation(message)
            case Ended():
                pass  # what `run` gives back

    def _look(self, *, anew: bool = False) -> None:
        if self._following is not None:
            if anew:
                self._following.soon()
            self._following.look(self._process)

    def _keep(self, report: RoundReport, checkpoint: bytes | None) -> None:
        made = _round_row(report, self._stage.clock.now())
        with self._stage.db.write() as connection:
            self._row = store.add_round(connection, self._row, made, checkpoint, _plain(report.privacy))
            federated_traffic.keep_traffic(connection, self._row.run_no, _traffic_rows(report))

    def _reserve(self, privacy: PrivacySpent | None, checkpoint: bytes) -> None:
        with self._stage.db.write() as connection:
            now_s = self._stage.clock.now()
            self._row = store.keep_checkpoint(connection, self._row, checkpoint, now_s, _plain(privacy))

    def _keep_evaluation(self, heard: Evaluated) -> None:
        with self._stage.db.write() as connection:
            found = self._stage.members.slices(connection, heard.asked, heard.devices)
            store.set_evaluation(connection, self._row, msgspec.to_builtins(found), heard.bytes_down)

    def _step(self, to: RunState, **values: Any) -> None:
        over = to in store.ENDED
        if over:
            values |= {"ended_s": self._stage.clock.now(), "port": None}
        with self._stage.db.write() as connection:
            now = store.get_run(connection, self.run_id)
            if now.holder != self._stage.holder:
                raise Conflict("federated.changed", "Another hub works on the run.", retriable=True)
            self._row = store.set_state(connection, now, to, **values)
            if over:
                detail = {"model": now.model, "rounds": now.round_no, "code": values.get("code", "")}
                detail |= {"result": values.get("result", {})}
                self._stage.audit.append(connection, "hub", f"federated.{to.value}", self.run_id, detail)
        _LOG.info("the run %s is %s", self.run_id, to.value)

    def _hand_over(self) -> None:
        result: dict[str, Any] = {}
        if self._stage.handover is not None:
            result = msgspec.to_builtins(self._stage.handover.finish(self._outcome()))
        self._step(RunState.FINISHED, result=result)

    def _outcome(self) -> RunOutcome:
        with self._stage.db.read() as connection:
            row = store.get_run(connection, self.run_id)
            checkpoint = read_checkpoint(store.load_checkpoint(connection, row.run_no))
            cohort = store.admitted_devices(connection, row.run_no)
        return RunOutcome(
            run_id=row.run_id,
            definition=self._definition,
            base_version=row.version,
            base_bundle_sha256=row.bundle_sha256,
            weights=checkpoint.weights,
            rounds=checkpoint.round_no,
            cohort=cohort,
            bytes_up=row.bytes_up,
            bytes_down=row.bytes_down,
            privacy_spent=msgspec.convert(row.privacy, PrivacySpent) if row.privacy else None,
            evaluation=msgspec.convert(row.evaluation, Evaluation | None),
        )

    def _give_up(self, error: SkerryError) -> None:
        passing = error.code in _LATER and not (self._last_try and error.code == "federated.port")
        if passing or (self._row.state is RunState.HANDING_OVER and error.retriable):
            self.left = error.code
            _LOG.warning("the run %s is left as it stands: %s", self.run_id, error)
            return
        try:
            text = f"{error.message} {error.hint}".strip()[:MAX_REASON_CHARS]
            with plain_errors():
                self._step(RunState.FAILED, code=error.code[:64], message=text)
        except SkerryError as again:
            self.left = again.code
            _LOG.warning("the run %s failed (%s), which cannot be noted: %s", self.run_id, error, again)

    def _clear(self) -> None:
        try:
            shutil.rmtree(self._folder)
        except FileNotFoundError:
            return  # it never had a worker
        except OSError as error:
            _LOG.warning("the folder of the run %s cannot be removed: %s", self.run_id, error)


def _plain(privacy: PrivacySpent | None) -> dict[str, Any]:
    return {} if privacy is None else msgspec.to_builtins(privacy)


def _traffic_rows(report: RoundReport) -> list[TrafficRow]:
    return [
        TrafficRow(profile=one.group, devices=one.devices, bytes_down=one.bytes_down, bytes_up=one.bytes_up)
        for one in report.traffic
    ]


def _program(path: Path | None) -> bytes:
    """The program for stock nodes; error `federated.program`."""
    if path is None:
        return b""
    try:
        return durable.read_file(path, limit=MAX_PROGRAM_BYTES)
    except SkerryError as error:
        raise InvalidInput(
            "federated.program", f"The setting federated.program cannot be used: {error.message}"[:400]
        ) from error


def _round_row(report: RoundReport, now_s: float) -> RoundRow:
    fate = dict.fromkeys(report.asked, "absent")
    fate.update(dict.fromkeys(report.joined, "joined"))
    fate.update(dict.fromkeys(report.dropped, "dropped"))
    fate.update(report.rejected)
    fate.update(dict.fromkeys(report.admitted, "admitted"))
    return RoundRow(
        attempt=0,
        round_no=report.round_no,
        at_s=now_s,
        seconds=report.seconds,
        abandoned=report.abandoned,
        asked=len(report.asked),
        joined=len(report.joined),
        admitted=len(report.admitted),
        rejected=len(report.rejected),
        dropped=len(report.dropped),
        bytes_down=report.bytes_down,
        bytes_up=report.bytes_up,
        metrics=report.metrics,
        devices=fate,
    )
