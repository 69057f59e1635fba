"""Desired states on their way down: what the database says is still to be sent, sent, then marked as sent.

Rules: a state is marked only after the broker has confirmed it; a state that changed meanwhile stays to be sent, so
with several hubs the newest one ends up retained. A deployment goes out at once (`wake`); a slow poll finds what
another hub or a lost wake-up has left. After the broker may have lost what it kept (`interrupted`), all is sent
again. A revoked device's retained state is removed.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from typing import Protocol

from hub.messaging.mqtt import MqttPublisher
from shared.errors import SkerryError
from shared.wire.down import DesiredState, encode

__all__ = ["DesiredStates", "Publisher", "Sent"]

_LOG = logging.getLogger(__name__)
_BATCH = 256
_POLL_S = 5.0
_CONFIRM_S = 20.0
_BACKOFF_S = (0.2, 0.5, 1.0, 2.0, 5.0, 10.0)


Sent = Callable[[DesiredState, float, float], None]


class DesiredStates(Protocol):
    """Where desired states come from. All calls block."""

    def pending_publications(self, limit: int) -> Sequence[DesiredState]:
        """Desired states that were not sent since they changed, at most `limit`."""
        ...

    def mark_published(self, states: Sequence[DesiredState]) -> None:
        """These were sent. One whose device has another revision by now is pending again, even if that was sent."""
        ...

    def republish_all(self) -> int:
        """Send every device's state again; returns how many."""
        ...


class Publisher:
    """Runs until cancelled."""

    def __init__(
        self, mqtt: MqttPublisher, states: DesiredStates, interrupted: asyncio.Event, sent: Sent | None = None
    ) -> None:
        """sent: told of each state that the broker has taken, with start and end; must not block."""
        self._sent = sent
        self._mqtt = mqtt
        self._states = states
        self._interrupted = interrupted
        self._wake = asyncio.Event()

    def wake(self) -> None:
        """Look for pending states now. Call it in the event loop."""
        self._wake.set()

    async def run(self) -> None:
        """Send what is pending, for ever."""
        failures = 0
        while True:
            try:
                await self._mqtt.connected.wait()
                self._wake.clear()
                await self._restore()
                await self._drain()
                failures = 0
                await self._sleep(_POLL_S)
            except Exception as error:  # noqa: BLE001 - whatever failed, the next deployment must still go out
                pause = _BACKOFF_S[min(failures, len(_BACKOFF_S) - 1)]
                failures += 1
                unexpected = not isinstance(error, SkerryError)
                _LOG.warning("desired states wait %.1f s: %s", pause, error, exc_info=unexpected)
                await asyncio.sleep(pause)

    async def forget(self, device_id: str) -> None:
        """Remove the retained state of a device; `broker.unreachable`."""
        await self._mqtt.publish(f"fleet/{device_id}/down", b"", retain=True, timeout_s=_CONFIRM_S)

    async def _restore(self) -> None:
        if self._interrupted.is_set():
            count = await asyncio.to_thread(self._states.republish_all)
            self._interrupted.clear()
            if count:
                _LOG.info("the broker may have lost what it kept: %d desired states are sent again", count)

    async def _drain(self) -> None:
        while pending := await asyncio.to_thread(self._states.pending_publications, _BATCH):
            results = await asyncio.gather(*(self._send(state) for state in pending), return_exceptions=True)
            sent = [state for state, result in zip(pending, results, strict=True) if result is None]
            if sent:
                await asyncio.to_thread(self._states.mark_published, sent)
            for result in results:
                if result is not None:
                    raise result

    async def _send(self, state: DesiredState) -> None:
        topic = f"fleet/{state.device_id}/down"
        start_s = time.time()
        await self._mqtt.publish(topic, encode(state), retain=True, timeout_s=_CONFIRM_S)
        if self._sent is not None:
            self._sent(state, start_s, time.time())

    async def _sleep(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        except TimeoutError:
            return
