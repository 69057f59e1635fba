"""The assigned bundle out of an installed one and a delta, wherever that spares the network something.

Rules:
- It only ever prepares the file that the whole download would have written; the downloader then checks length and
  digest as always, so a delta can cost bytes and time but never put other bytes in.
- It is tried before any byte of the whole bundle is there, and given up for good at the first failure, but for a link
  that breaks: that is resumed a few times. What was given up stands in a file beside the download, so that neither a
  restart nor a repeated attempt begins again.
- It needs no more space than the download: the delta is shorter than the bundle and gone before that is unpacked.
- The file gets its name only when all of it is right and on the disk.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import httpx
import msgspec

from agent.ota import sealed
from agent.ota.bundle_file import appending, write
from agent.ota.downloader import Downloader, Wanted
from agent.ota.hub_source import reach
from agent.ota.slots import SlotRecord, Slots
from shared import durable, limits
from shared.bundle.unpacked import UnpackedArchive
from shared.delta.apply import apply_delta
from shared.delta.format import Pair
from shared.errors import (
    ErrorBody,
    InvalidInput,
    NotFound,
    SkerryError,
    StorageFailure,
    TooLarge,
    Unavailable,
    Untrusted,
)
from shared.wire.delta import DeltaOffer

__all__ = ["DeltaDownload", "Tried"]

_MAX_OFFER_BYTES = 16 * limits.KIB
_ASK_AGAIN_S = 1.0
_TRIES = 5
_OFFER = msgspec.json.Decoder(DeltaOffer)


class _Notes(msgspec.Struct, frozen=True, kw_only=True):
    """What became of earlier tries for one bundle; `code` is set when it was given up."""

    tries: int = 0
    code: str = ""
    message: str = ""


@dataclass(frozen=True, slots=True)
class Tried:
    """What trying came to. `bytes`: over the network. `problem`: why the whole bundle is needed after all."""

    bytes: int = 0
    used: bool = False
    problem: ErrorBody | None = None


class DeltaDownload:
    """Tries a delta. `wait_s`: for how long it waits for one that the hub is just making."""

    def __init__(
        self,
        client: httpx.Client,
        downloader: Downloader,
        slots: Slots,
        wait_s: float,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._client = client
        self._downloader = downloader
        self._slots = slots
        self._wait_s = wait_s
        self._sleep = sleep

    def fetch(self, wanted: Wanted) -> Tried:
        """Make `wanted.file` from a delta, if there is one and it is right.

        Raises a link's failure (`hub.*`, `download.*`) that was not met too often, and `storage.*` when not even a
        failure can be noted.
        """
        notes = self._notes(wanted)
        if notes.code:
            return Tried(problem=ErrorBody(code=notes.code, message=notes.message))
        held = self._held(wanted)
        if not held or _size(wanted.file):
            self._clear(wanted)
            return Tried()
        try:
            offer = self._ask(wanted, held)
        except SkerryError as error:
            return Tried() if error.retriable else self._give_up(wanted, error)
        if offer is None:
            return Tried()
        if notes.tries >= _TRIES:  # it ended the worker, or the power, each time
            return self._give_up(wanted, Unavailable("delta.gave_up", f"It did not succeed in {_TRIES} attempts."))
        tries = notes.tries + 1
        self._note(wanted, _Notes(tries=tries))
        return self._use(offer, wanted, held[offer.from_sha256], last=tries >= _TRIES)

    def _held(self, wanted: Wanted) -> dict[str, SlotRecord]:
        """Bundles that are installed here, the active one first."""
        active = self._slots.active()
        found: dict[str, SlotRecord] = {}
        for record in sorted(self._slots.records(), key=lambda record: record.slot != active):
            if record.bundle_sha256 != wanted.sha256 and len(found) < limits.MAX_DELTA_SOURCES_COUNT:
                found.setdefault(record.bundle_sha256, record)
        return found

    def _ask(self, wanted: Wanted, held: dict[str, SlotRecord]) -> DeltaOffer | None:
        """The hub's offer; None when it has none, or is too busy to say. Waits for one that is being made."""
        waited = 0.0
        while True:
            status, body = self._get(f"/v1/deltas/{wanted.sha256}", {"from": list(held)})
            if status == 200:
                return _checked(body, wanted, held)
            if status != 202 or waited >= self._wait_s:
                return None
            self._sleep(_ASK_AGAIN_S)
            waited += _ASK_AGAIN_S

    def _get(self, path: str, parameters: dict[str, list[str]]) -> tuple[int, bytes]:
        with reach(), self._client.stream("GET", path, params=parameters) as response:
            body = bytearray()
            for chunk in response.iter_raw():
                body += chunk
                if len(body) > _MAX_OFFER_BYTES:
                    raise TooLarge("delta.offer", "The hub's answer about a delta is too long.")
            return response.status_code, bytes(body)

    def _use(self, offer: DeltaOffer, wanted: Wanted, record: SlotRecord, *, last: bool) -> Tried:
        delta = Wanted(
            url=f"/v1/deltas/{offer.to_sha256}/{offer.from_sha256}",
            file=wanted.file.with_name(f"{offer.sha256}.delta"),
            bytes=offer.bytes,
            sha256=offer.sha256,
        )
        before = _size(delta.file)
        try:
            received = self._downloader.fetch(delta)
        except SkerryError as error:
            if isinstance(error, Unavailable) and error.retriable and not last:
                raise
            came = offer.bytes if isinstance(error, Untrusted) else _size(delta.file) - before
            return self._give_up(wanted, error, max(came, 0))
        try:
            self._apply(delta.file, wanted, record)
        except SkerryError as error:
            return self._give_up(wanted, error, received)
        except OSError as error:
            failure = StorageFailure("storage.failed", f"The disk failed: {error.strerror or error}.")
            return self._give_up(wanted, failure, received)
        self._clear(wanted)
        return Tried(bytes=received, used=True)

    def _apply(self, delta: Path, wanted: Wanted, record: SlotRecord) -> None:
        """Write the new bundle, digest-checked, synced and then named."""
        pair = Pair(
            from_sha256=record.bundle_sha256,
            from_bytes=record.bundle_bytes,
            to_sha256=wanted.sha256,
            to_bytes=wanted.bytes,
        )
        unfinished = wanted.file.with_name(f"{wanted.sha256}.unfinished")
        _remove(unfinished)
        try:
            with (
                delta.open("rb") as source,
                UnpackedArchive(self._slots.directory(record.slot)) as old,
                appending(unfinished) as out,
            ):
                apply_delta(source, old, lambda block: write(out, block), pair)
            durable.rename(unfinished, wanted.file)
        finally:
            _remove(unfinished)

    def _give_up(self, wanted: Wanted, error: SkerryError, received: int = 0) -> Tried:
        """Never again for this bundle."""
        self._clear(wanted)
        problem = ErrorBody(code=error.code, message=error.message[: limits.MAX_REASON_CHARS])
        self._note(wanted, _Notes(tries=_TRIES, code=problem.code, message=problem.message))
        return Tried(bytes=received, problem=problem)

    def _clear(self, wanted: Wanted) -> None:
        """What is left of a delta goes, so that there is room for unpacking the bundle."""
        _remove(*wanted.file.parent.glob("*.delta*"))

    def _notes(self, wanted: Wanted) -> _Notes:
        try:
            return sealed.load(_notes_file(wanted), _Notes, limit=limits.MAX_JOURNAL_BYTES)
        except NotFound:
            return _Notes()
        except (StorageFailure, TooLarge) as error:  # what cannot be counted is not tried
            return _Notes(tries=_TRIES, code=error.code, message=error.message)

    def _note(self, wanted: Wanted, notes: _Notes) -> None:
        sealed.save(_notes_file(wanted), notes)


def _notes_file(wanted: Wanted) -> Path:
    return wanted.file.with_name(f"{wanted.sha256}.tries")


def _checked(body: bytes, wanted: Wanted, held: dict[str, SlotRecord]) -> DeltaOffer:
    """The offer, if it is for this bundle, from one that is here, and worth it; error `delta.offer`."""
    try:
        offer = _OFFER.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidInput("delta.offer", f"The hub's answer about a delta is malformed: {error}."[:300]) from error
    if offer.to_sha256 != wanted.sha256 or offer.from_sha256 not in held:
        raise Untrusted("delta.offer", "The hub offers a delta between other bundles than was asked for.")
    if offer.bytes * 100 > wanted.bytes * limits.MAX_DELTA_PERCENT:
        raise TooLarge("delta.offer", f"The hub offers a delta of {offer.bytes} bytes, which saves too little.")
    return offer


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
    except OSError as error:
        raise StorageFailure("storage.read", f"Cannot look at a file: {error.strerror}.", retriable=True) from error


def _remove(*paths: Path) -> None:
    """Remove files that may be there; what cannot be removed now goes with the whole folder later."""
    for path in paths:
        with contextlib.suppress(StorageFailure):
            if path.exists():
                durable.remove(path)
