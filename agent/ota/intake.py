"""From desired states to assignments: which envelopes are worth a check, and what becomes of each.

Rules: the newest document replaces the one before, whole. What an envelope says is only a hint until the worker has
verified it; a hint decides at the most that nothing needs to be done. Each envelope is decided once: accepted,
refused and reported once, or waiting because the hub cannot be reached. Waiting is repeated with growing waits, and
at once when a new document comes. Documents are not signed; so the absence of a model ends an installation under way
at the most, and never takes a version away that serves.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
from collections import OrderedDict
from collections.abc import Callable

import msgspec

from agent.ota.backoff import Backoff, delay_s
from agent.ota.driver import Accepted, Driver
from agent.ota.ports import Context
from agent.ota.worker_protocol import Check, Checked
from shared import canonical, limits
from shared.errors import InvalidInput, SkerryError
from shared.wire.down import Assignment, DesiredState
from shared.wire.up import Event

__all__ = ["Intake", "claimed_keys", "peek"]

_REMEMBERED = 256
_OWN_FAULTS = ("dsse.", "assignment.")


class _Signature(msgspec.Struct, frozen=True):
    keyid: str


class _Envelope(msgspec.Struct, frozen=True):
    payload: str
    signatures: list[_Signature] = []


def peek(envelope: bytes) -> Assignment:
    """What an envelope claims to say, unverified: a hint, never a reason to act; error `assignment.malformed`."""
    try:
        outer = canonical.loads_as(envelope, _Envelope, limit=limits.MAX_ASSIGNMENT_BYTES, what="assignment")
        payload = base64.b64decode(outer.payload, validate=True)
        return canonical.loads_as(payload, Assignment, limit=limits.MAX_ASSIGNMENT_BYTES, what="assignment")
    except (InvalidInput, binascii.Error, ValueError) as error:
        raise InvalidInput("assignment.malformed", f"An assignment cannot be read: {error}"[:300]) from error


def claimed_keys(envelope: bytes) -> list[str]:
    """The keys that an envelope claims to be signed by, unverified: a hint as `peek` is; none if it cannot be read."""
    try:
        outer = canonical.loads_as(envelope, _Envelope, limit=limits.MAX_ASSIGNMENT_BYTES, what="assignment")
    except InvalidInput:
        return []
    return [signature.keyid for signature in outer.signatures]


class Intake:
    """Turns desired states into accepted assignments for the drivers."""

    def __init__(
        self, context: Context, drivers: Callable[[], dict[str, Driver]], driver: Callable[[str], Driver]
    ) -> None:
        """`drivers`: those of all models known here. `driver`: the one of a model, made when it is new."""
        self._context = context
        self._drivers = drivers
        self._driver = driver
        self._desired: DesiredState | None = None
        self._news = asyncio.Event()
        self._decided: OrderedDict[str, None] = OrderedDict()

    def offer(self, desired: DesiredState) -> None:
        """Take a document; an older one than the last is ignored."""
        if self._desired is None or desired.revision >= self._desired.revision:
            self._desired = desired
            self._news.set()

    async def run(self) -> None:
        """Decide until cancelled."""
        attempt = 0
        while True:
            wait_s = None
            if attempt:
                policy = Backoff(self._context.settings.retry_base_s, self._context.settings.retry_cap_s)
                wait_s = delay_s(policy, attempt, self._context.random())
            try:
                async with asyncio.timeout(wait_s):
                    await self._news.wait()
                attempt = 0
            except TimeoutError:
                pass  # Nothing new: another attempt at what waits.
            self._news.clear()
            attempt = 0 if await self._decide_all() else attempt + 1

    async def _decide_all(self) -> bool:
        """Whether every envelope of the newest document is decided."""
        desired = self._desired
        if desired is None:
            return True
        hints = [(envelope, self._hint(envelope)) for envelope in desired.assignments]
        named = {hint.model for _, hint in hints if hint is not None}
        for model, driver in self._drivers().items():
            if model not in named:
                driver.withdraw()
        fresh = [envelope for envelope, hint in hints if hint is not None and self._is_new(envelope, hint)]
        if not fresh:
            return True
        worker = self._context.open_worker()
        done = True
        try:
            for envelope in fresh:
                if self._desired is not desired:
                    break  # A newer document came meanwhile; it replaces this one.
                timeout_s = self._context.settings.check_timeout_s
                request = Check(envelope=envelope, floors=self._floors())
                try:
                    checked = await worker.ask(request, Checked, timeout_s)
                except SkerryError as error:
                    done = self._refused(envelope, error) and done
                    continue
                model, traces = checked.assignment.model, desired.traceparents or {}
                accepted = Accepted(
                    checked.assignment,
                    envelope,
                    checked.refusal,
                    keyids=checked.keyids,
                    traceparent=traces.get(model, ""),
                )
                self._driver(model).assign(accepted)
                self._remember(envelope)
        finally:
            await worker.close()
        return done

    def _hint(self, envelope: bytes) -> Assignment | None:
        try:
            return peek(envelope)
        except InvalidInput as error:
            if self._remember(envelope):
                self._tell(error)
            return None

    def _is_new(self, envelope: bytes, hint: Assignment) -> bool:
        """Whether the envelope needs a decision; an older counter than one accepted is refused here already."""
        if _name(envelope) in self._decided:
            return False
        driver = self._drivers().get(hint.model)
        if driver is None or driver.is_new(hint, claimed_keys(envelope)):
            return True
        if driver.knows(hint) or not self._remember(envelope):
            return False
        self._tell(
            InvalidInput(
                "assignment.replayed",
                f"An assignment of {hint.model} with counter {hint.counter} came after {driver.floor} was accepted.",
            )
        )
        return False

    def _refused(self, envelope: bytes, error: SkerryError) -> bool:
        """Report a refusal once; whether the envelope is decided by it: only what is wrong with itself decides it."""
        if error.code.startswith(_OWN_FAULTS):
            self._remember(envelope)
            self._tell(error)
            return True
        if self._remember(f"{error.code} {_name(envelope)}".encode()):
            self._tell(error)
        return False

    def _tell(self, error: SkerryError) -> None:
        message = error.message[: limits.MAX_REASON_CHARS]
        self._context.queue(
            Event(code=error.code[:64], severity="warning" if error.retriable else "error", message=message)
        )

    def _remember(self, envelope: bytes) -> bool:
        """Note that this was decided; whether that is news."""
        name = _name(envelope)
        if name in self._decided:
            return False
        self._decided[name] = None
        if len(self._decided) > _REMEMBERED:
            self._decided.popitem(last=False)
        return True

    def _floors(self) -> dict[str, dict[str, int]]:
        return {model: driver.counters for model, driver in self._drivers().items()}


def _name(envelope: bytes) -> str:
    return hashlib.sha256(envelope).hexdigest()
