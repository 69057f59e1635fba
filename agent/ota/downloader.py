"""Fetching one bundle into a file, over links that break.

Rules:
- The file grows in place and survives everything: a later attempt asks for the rest (`Range`) of the same bytes only
  (`If-Range` with the entity tag that came with them), and any other answer starts from nothing.
- Never more bytes than expected are taken, and they must have the expected digest at the end. A file that was resumed
  and then has another digest is fetched once more from nothing before that is an error, because a power cut may have
  left a hole in the part that was there.
- Attempts are bounded, with exponential waits and jitter, or as long as the hub asks for (`Retry-After`). An attempt
  that made progress worth the name, of what one window of the slowest pace brings, does not count against them; or a
  trickle and cuts after every byte could go on for a day unheard of. What it brought is kept all the same. Answers of
  4xx end it, except 408, 425 and 429. A trickle is aborted.
- Written bytes are synced every few megabytes and at the end.
"""

from __future__ import annotations

import email.utils
import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import httpx

from agent.ota.backoff import Backoff, delay_s
from agent.ota.bundle_file import appending, sync, write
from agent.ota.hub_source import reach, refusal
from shared import durable, limits
from shared.clock import Clock
from shared.errors import NotFound, SkerryError, StorageFailure, TooLarge, Unavailable, Untrusted

__all__ = ["Downloader", "Pace", "Wanted"]

_SYNC_BYTES = 4 * limits.MIB
_CONTENT_RANGE = re.compile(r"bytes ([0-9]{1,15})-([0-9]{1,15})/([0-9]{1,15})\Z")
_STRONG_TAG = re.compile(r'"[\x21\x23-\x7e]{1,200}"\Z')


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which bytes, from where, into which file; the entity tag is kept beside it as `<file>.etag`."""

    url: str
    file: Path
    bytes: int
    sha256: str

    @property
    def tag_file(self) -> Path:
        return self.file.with_name(self.file.name + ".etag")


@dataclass(frozen=True, slots=True)
class Pace:
    """The slowest acceptable transfer: bytes per second on average over a window of so many seconds."""

    min_bytes_per_s: int
    window_s: float


class _Retry(Exception):
    """This attempt is over, another may follow. `wait_s`: what the hub asked for."""

    def __init__(self, cause: SkerryError, wait_s: float = 0.0) -> None:
        super().__init__(cause.message)
        self.cause = cause
        self.wait_s = wait_s


class Downloader:
    """Fetches bundles through one HTTP client."""

    def __init__(
        self,
        client: httpx.Client,
        clock: Clock,
        *,
        backoff: Backoff,
        pace: Pace,
        sleep: Callable[[float], None],
        random: Callable[[], float],
        progress: Callable[[int], None],
    ) -> None:
        self._client = client
        self._clock = clock
        self._backoff = backoff
        self._pace = pace
        self._worth_bytes = max(1.0, pace.min_bytes_per_s * pace.window_s)
        self._sleep = sleep
        self._random = random
        self._progress = progress

    def fetch(self, wanted: Wanted) -> int:
        """Bring the file to its full length and check its digest; returns the bytes that came over the network.

        Errors: `download.digest_mismatch`, `download.too_large`, `download.encoded`, `storage.no_space`,
        `storage.write`, `hub.*`; retriable ones after the last attempt.
        """
        durable.make_dir(wanted.file.parent)
        received, resumed = 0, self._kept(wanted) > 0
        while True:
            received += self._complete(wanted)
            if _digest(wanted.file) == wanted.sha256:
                return received
            self._discard(wanted)
            if not resumed:
                raise Untrusted(
                    "download.digest_mismatch",
                    "The hub sent other bytes than the reviewers signed.",
                    hint="Check the hub's storage and whoever stands between hub and device.",
                )
            resumed = False

    def _complete(self, wanted: Wanted) -> int:
        attempt, received, furthest = 0, 0, 0
        while (kept := self._kept(wanted)) < wanted.bytes:
            furthest = max(furthest, kept)
            try:
                received += self._attempt(wanted, kept)
            except _Retry as retry:
                now = self._kept(wanted)
                received += max(now - kept, 0)
                attempt = 1 if now - furthest >= self._worth_bytes else attempt + 1
                if attempt >= self._backoff.max_attempts:
                    raise retry.cause from retry
                self._sleep(delay_s(self._backoff, attempt, self._random(), retry.wait_s))
        return received

    def _attempt(self, wanted: Wanted, kept: int) -> int:
        headers = {}
        if kept:
            headers = {"range": f"bytes={kept}-", "if-range": _read_tag(wanted)}
        try:
            with reach(), self._client.stream("GET", wanted.url, headers=headers) as response:
                offset = self._accept(response, wanted, kept)
                return self._receive(response, wanted, offset)
        except (Unavailable, Untrusted) as error:
            if not error.retriable:
                raise
            raise _Retry(error) from error

    def _accept(self, response: httpx.Response, wanted: Wanted, kept: int) -> int:
        """The offset at which the answer's bytes belong."""
        status = response.status_code
        if status == 416:
            self._discard(wanted)
            raise _Retry(Unavailable("hub.range", "The hub cannot resume this download.", retriable=True))
        if status not in (200, 206):
            refused = refusal(status, "the bundle")
            if refused.retriable:
                raise _Retry(refused, self._retry_after_s(response))
            raise refused
        if response.headers.get("content-encoding", "identity") != "identity":
            raise Untrusted("download.encoded", "The hub sent the bundle in an encoding that was not asked for.")
        offset = 0
        if status == 206:
            match = _CONTENT_RANGE.match(response.headers.get("content-range", ""))
            if match is None or (int(match[1]), int(match[3])) != (kept, wanted.bytes):
                self._discard(wanted)
                raise _Retry(Unavailable("hub.range", "The hub sent another range than asked for.", retriable=True))
            offset = kept
        length = response.headers.get("content-length", "")
        if length.isdigit() and offset + int(length) > wanted.bytes:
            raise _too_large(wanted)
        if offset == 0:
            self._discard(wanted)
            self._keep_tag(response, wanted)
        return offset

    def _receive(self, response: httpx.Response, wanted: Wanted, offset: int) -> int:
        have, unsynced = offset, 0
        window_start, window_bytes = self._clock.monotonic(), 0
        with appending(wanted.file) as file:
            for chunk in response.iter_raw():
                if have + len(chunk) > wanted.bytes:
                    raise _too_large(wanted)
                write(file, chunk)
                have, unsynced, window_bytes = have + len(chunk), unsynced + len(chunk), window_bytes + len(chunk)
                if unsynced >= _SYNC_BYTES:
                    sync(file)
                    unsynced = 0
                self._progress(have)
                elapsed = self._clock.monotonic() - window_start
                if elapsed >= self._pace.window_s:
                    if window_bytes < self._pace.min_bytes_per_s * elapsed:
                        raise Unavailable("download.too_slow", "The download is too slow.", retriable=True)
                    window_start, window_bytes = self._clock.monotonic(), 0
        if have < wanted.bytes:
            raise Unavailable("download.cut", f"The download ended at {have} of {wanted.bytes} bytes.", retriable=True)
        return have - offset

    def _kept(self, wanted: Wanted) -> int:
        """Bytes of an earlier attempt that can be continued; what cannot is discarded."""
        try:
            size = wanted.file.stat().st_size
        except FileNotFoundError:
            return 0
        except OSError as error:
            raise StorageFailure("storage.read", f"Cannot read the partial download: {error.strerror}.") from error
        if size == wanted.bytes or (size < wanted.bytes and _read_tag(wanted)):
            return size
        self._discard(wanted)
        return 0

    def _discard(self, wanted: Wanted) -> None:
        for path in (wanted.file, wanted.tag_file):
            if path.exists():
                durable.remove(path)

    def _keep_tag(self, response: httpx.Response, wanted: Wanted) -> None:
        tag = response.headers.get("etag", "")
        if _STRONG_TAG.match(tag):
            durable.write_file(wanted.tag_file, tag.encode("ascii"))

    def _retry_after_s(self, response: httpx.Response) -> float:
        text = response.headers.get("retry-after", "").strip()
        if text.isdigit() and len(text) <= 9:
            return float(text)
        parsed = email.utils.parsedate_tz(text) if text else None
        return max(0.0, email.utils.mktime_tz(parsed) - self._clock.now()) if parsed else 0.0


def _too_large(wanted: Wanted) -> TooLarge:
    return TooLarge("download.too_large", f"The hub sent more than the {wanted.bytes} bytes that were signed.")


def _read_tag(wanted: Wanted) -> str:
    """The entity tag of the partial file; empty when there is none or it is damaged."""
    try:
        text = durable.read_file(wanted.tag_file, limit=256).decode("ascii")
    except (NotFound, TooLarge, StorageFailure, UnicodeDecodeError):
        return ""
    return text if _STRONG_TAG.match(text) else ""


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while block := file.read(limits.MIB):
                digest.update(block)
    except OSError as error:
        raise StorageFailure("storage.read", f"Cannot read the download: {error.strerror}.", retriable=True) from error
    return digest.hexdigest()
