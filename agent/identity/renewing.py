"""Keeps the certificate fresh while the daemon runs: waits until it is due and lets a child renew it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path

import msgspec

from agent.children import run_module
from agent.identity.renewal import renew_at_s
from agent.identity.store import IdentityStore
from agent.ota.backoff import Backoff, delay_s
from shared import limits
from shared.clock import Clock
from shared.errors import ErrorBody, SkerryError, Unavailable
from shared.wire.up import Event

__all__ = ["Renewing"]

_log = logging.getLogger(__name__)
_LOOK_S = 3600.0
_TIMEOUT_S = 120.0
_RETRY = Backoff(base_s=60.0, cap_s=6 * 3600.0)


class _Answer(msgspec.Struct):
    error: ErrorBody | None = None


class Renewing:
    """`renewed` is called after each switch; `report` takes an event about a failure, once per cause."""

    def __init__(
        self,
        state: Path,
        store: IdentityStore,
        *,
        clock: Clock,
        random: Callable[[], float],
        renewed: Callable[[], None],
        report: Callable[[Event], None],
    ) -> None:
        self._state = state
        self._store = store
        self._clock = clock
        self._random = random
        self._renewed = renewed
        self._report = report
        self._share = random()

    async def run(self) -> None:
        """Until cancelled. The clock may jump, so it is looked at every hour."""
        attempt, told = 0, ""
        while True:
            wait_s = renew_at_s(await asyncio.to_thread(self._store.validity), self._share) - self._clock.now()
            if wait_s > 0:
                await asyncio.sleep(min(wait_s, _LOOK_S))
                continue
            try:
                await self._renew()
            except SkerryError as error:
                attempt += 1
                _log.warning("the certificate could not be renewed: %s", error)
                if error.code != told:
                    told = error.code
                    message = f"The device's certificate could not be renewed: {error.message}"[:500]
                    self._report(Event(code=error.code, severity="warning", message=message))
                await asyncio.sleep(delay_s(_RETRY, attempt, self._random()))
            else:
                attempt, told = 0, ""
                self._report(Event(code="identity.renewed", message="The device's certificate was renewed."))
                self._renewed()

    async def _renew(self) -> None:
        output = await run_module(
            "agent.identity.renew",
            ["--state", str(self._state)],
            b"",
            timeout_s=_TIMEOUT_S,
            limit_bytes=limits.MAX_JSON_BODY_BYTES,
        )
        try:
            failure = msgspec.json.decode(output, type=_Answer).error
        except msgspec.DecodeError as error:
            raise Unavailable("child.failed", "The renewal gave no readable answer.") from error
        if failure is not None:
            raise Unavailable(failure.code, failure.message, hint=failure.hint, retriable=True)
