"""The worker: a child process that does what needs cryptography and the network, so that the daemon stays small.

`python -m agent.ota.worker`: requests on standard input, replies on standard output (`agent.ota.worker_protocol`). It
checks assignments against the release metadata, downloads, verifies and unpacks; it decides nothing about the
installation. Rules: it ends with its parent (end of input), it runs at a low priority, it holds a lock on the folder
that it writes, so that one that outlives a crashed agent for a moment cannot meet its successor.
"""

from __future__ import annotations

import hashlib
import logging
import os
import queue
import random
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from agent.identity.store import IdentityStore
from agent.lock import exclusive
from agent.ota.backoff import Backoff
from agent.ota.counters import UNNAMED
from agent.ota.delta import DeltaDownload
from agent.ota.downloader import Downloader, Pace, Wanted
from agent.ota.folder_source import FolderSource, check_bundle, copy_bundle, is_there, read_assignments
from agent.ota.hub_source import HubSource, open_client
from agent.ota.release import decide
from agent.ota.settings import OtaSettings
from agent.ota.slots import MANIFEST, SlotRecord, Slots, slot_name
from agent.ota.trusted_time import RELEASED_S
from agent.ota.update_client import Source, UpdateClient
from agent.ota.worker_protocol import (
    MAX_LINE_BYTES,
    Check,
    Checked,
    Failed,
    Fetch,
    Fetched,
    Found,
    Hello,
    Look,
    Progress,
    Reply,
    Request,
    Unpack,
    Unpacked,
    decode_request,
    encode,
)
from agent.paths import AgentPaths
from shared import durable, limits
from shared.bundle.archive import unpack_bundle
from shared.clock import Clock, SystemClock
from shared.errors import ErrorBody, InternalError, InvalidInput, SkerryError, StorageFailure, Untrusted
from shared.wire.down import Assignment

__all__ = ["Worker", "download_file", "main"]

_NICENESS = 10
_PROGRESS_S = 0.5
_LOG = logging.getLogger("agent.ota.worker")


def download_file(paths: AgentPaths, assignment: Assignment) -> Path:
    """Where the assigned bundle is downloaded to."""
    return paths.model(assignment.model).download / f"{assignment.bundle_sha256}.part"


class Worker:
    """Answers requests for one agent's state folder."""

    def __init__(self, paths: AgentPaths, settings: OtaSettings, out: BinaryIO, clock: Clock | None = None) -> None:
        self._paths = paths
        self._settings = settings
        self._out = out
        self._clock = clock or SystemClock()
        self._said_s = 0.0

    def answer(self, request: Request) -> Reply:
        """The reply to one request; every failure of it is a `Failed`."""
        try:
            match request:
                case Check():
                    return self._check(request.envelope, request.floors, request.folder)
                case Look():
                    return Found(envelopes=self._look(Path(request.folder)))
                case Fetch():
                    return self._fetch(request)
                case Unpack():
                    return self._unpack(request.assignment)
                case _:
                    raise InvalidInput("worker.protocol", "The worker was greeted twice.")
        except SkerryError as error:
            return Failed(error=error.body())
        except OSError as error:
            failure = StorageFailure("storage.failed", f"The disk failed: {error.strerror or error}.", retriable=True)
            return Failed(error=failure.body())
        except Exception as error:  # noqa: BLE001  (the boundary of the process: the daemon must always get an answer)
            _LOG.exception("a request failed in an unforeseen way")
            failed = InternalError("worker.failed", f"{type(error).__name__}: {error}"[:300], retriable=True)
            return Failed(error=failed.body())

    def _look(self, folder: Path) -> list[bytes]:
        return read_assignments(folder, IdentityStore(self._paths.identity).load().device_id)

    def _check(self, envelope: bytes, floors: dict[str, dict[str, int]], folder: str) -> Checked:
        store = IdentityStore(self._paths.identity)
        identity = store.load()
        durable.make_dir(self._paths.tuf)
        with self._source(store, folder) as source, exclusive(self._paths.tuf):
            known_s = max(store.validity().not_before_s, RELEASED_S)
            trusted = UpdateClient(self._paths.tuf, source, self._clock, not_before_s=known_s)
            checked = decide(trusted, envelope, identity.device_id, floors)
        if folder and checked.refusal is None:
            # Nothing is accepted that the folder cannot deliver: its counter would be spent for a damaged copy.
            check_bundle(Path(folder), checked.assignment.target, self._wanted(checked.assignment))
        return checked

    @contextmanager
    def _source(self, store: IdentityStore, folder: str) -> Iterator[Source]:
        """Where release metadata comes from: the folder, or the hub when none is given."""
        if folder:
            yield FolderSource(Path(folder))
            return
        with open_client(store.load().hub_url, store.credentials(), self._settings) as client:
            yield HubSource(client, self._clock, deadline_s=self._settings.metadata_timeout_s)

    def _wanted(self, assignment: Assignment) -> Wanted:
        return Wanted(
            url=f"/v1/artefacts/{assignment.bundle_sha256}",
            file=download_file(self._paths, assignment),
            bytes=assignment.bundle_bytes,
            sha256=assignment.bundle_sha256,
        )

    def _fetch(self, request: Fetch) -> Fetched:
        assignment = request.assignment
        folder = request.folder if request.folder and is_there(Path(request.folder)) else ""
        if request.recheck:
            checked = self._check(request.envelope, {assignment.model: {UNNAMED: assignment.counter - 1}}, folder)
            if checked.assignment != assignment:
                raise Untrusted("assignment.changed", "The journal's assignment is not the one that was signed.")
            if checked.refusal is not None:
                return _raise(checked.refusal)
        wanted = self._wanted(assignment)
        durable.make_dir(wanted.file.parent)
        if folder:
            with exclusive(wanted.file.parent):
                copy_bundle(Path(folder), assignment.target, wanted, self._progress)
            return Fetched(bytes=0)
        return self._download(wanted, Slots(self._paths.model(assignment.model)))

    def _download(self, wanted: Wanted, slots: Slots) -> Fetched:
        """From the hub: by a delta if that can be, and in any case checked as a whole."""
        store = IdentityStore(self._paths.identity)
        with (
            open_client(store.load().hub_url, store.credentials(), self._settings) as client,
            exclusive(wanted.file.parent),
        ):
            downloader = Downloader(
                client,
                self._clock,
                backoff=Backoff(
                    self._settings.transfer_retry_base_s,
                    self._settings.transfer_retry_cap_s,
                    self._settings.transfer_max_attempts,
                ),
                pace=Pace(self._settings.min_bytes_per_s, self._settings.rate_window_s),
                sleep=time.sleep,
                random=random.random,
                progress=self._progress,
            )
            tried = DeltaDownload(client, downloader, slots, self._settings.delta_wait_s).fetch(wanted)
            received = downloader.fetch(wanted)
        return Fetched(bytes=tried.bytes + received, delta=tried.used and not received, problem=tried.problem)

    def _unpack(self, assignment: Assignment) -> Unpacked:
        paths = self._paths.model(assignment.model)
        slots, slot = Slots(paths), slot_name(assignment.version, assignment.bundle_sha256)
        durable.make_dir(paths.download)
        with exclusive(paths.download):
            folder = slots.unfinished(slot)
            manifest = unpack_bundle(
                download_file(self._paths, assignment),
                folder,
                expected_sha256=assignment.bundle_sha256,
                expected_bytes=assignment.bundle_bytes,
            )
            if (manifest.model, manifest.version) != (assignment.model, assignment.version):
                raise Untrusted(
                    "bundle.wrong_model",
                    f"The bundle holds {manifest.model} {manifest.version} and not what was assigned.",
                )
            content = durable.read_file(folder / MANIFEST, limit=limits.MAX_MANIFEST_BYTES)
            record = SlotRecord(
                slot=slot,
                model=assignment.model,
                version=assignment.version,
                bundle_sha256=assignment.bundle_sha256,
                bundle_bytes=assignment.bundle_bytes,
                counter=assignment.counter,
                manifest_sha256=hashlib.sha256(content).hexdigest(),
            )
            slots.admit(folder, record)
        return Unpacked(slot=slot)

    def _progress(self, received: int) -> None:
        now = self._clock.monotonic()
        if now - self._said_s >= _PROGRESS_S:
            self._said_s = now
            self._out.write(encode(Progress(bytes=received)))
            self._out.flush()


def _raise(refusal: ErrorBody) -> Fetched:
    raise Untrusted(refusal.code, refusal.message, hint=refusal.hint, retriable=refusal.retriable)


def _read_requests(source: BinaryIO, requests: queue.SimpleQueue[bytes]) -> None:
    """Hand lines over; when the parent is gone, end at once, in the middle of whatever is being done."""
    while line := source.readline(MAX_LINE_BYTES):
        requests.put(line)
    os._exit(0)


def main() -> None:
    """Serve one parent until it closes standard input."""
    logging.basicConfig(level=logging.WARNING)
    os.nice(_NICENESS)
    requests: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    threading.Thread(target=_read_requests, args=(sys.stdin.buffer, requests), daemon=True).start()
    hello = decode_request(requests.get())
    if not isinstance(hello, Hello):
        raise InvalidInput("worker.protocol", "The worker was not greeted.")
    worker = Worker(AgentPaths(Path(hello.state)), hello.settings, sys.stdout.buffer)
    while True:
        reply = worker.answer(decode_request(requests.get()))
        sys.stdout.buffer.write(encode(reply))
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
