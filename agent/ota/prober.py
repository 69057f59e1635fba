"""The daemon's side of the probe: starts the child, waits no longer than it must, and judges what came back.

Rules: the verdict is an error with a code or nothing; a crash, a hang and an unreadable answer are verdicts too. All of
them are final: the same bytes on the same device would do the same again. Only a child that could not be started at all
is worth another attempt.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import struct
from collections.abc import Callable
from pathlib import Path

import msgspec

from agent.ota.children import command, end, environment
from agent.ota.probe import MAX_RESULT_BYTES, ProbeOrder, ProbeResult
from agent.ota.settings import OtaSettings
from shared import limits
from shared.errors import Conflict, SkerryError, Unavailable
from shared.profiles import Profile
from shared.sandbox.wish import Confinement, Shortfall
from shared.wire.up import Event

__all__ = ["Prober", "judge"]

_BASE_BYTES = 2048 * limits.MIB
"""Address space that interpreter, numpy and the TFLite runtime map on a 64-bit system, most of it never touched."""
_LINGER_S = 5.0
"""How much longer than its deadline the child could live if the daemon died meanwhile."""


class Prober:
    """Tries slots against one firmware profile."""

    def __init__(
        self,
        profile: Profile,
        settings: OtaSettings,
        report: Callable[[Event], object] | None = None,
        *,
        module: str = "agent.ota.probe",
    ) -> None:
        """`report`: takes an event when the child cannot be confined as it should. `module`: what the child runs."""
        self._profile = profile
        self._settings = settings
        self._report = report
        self._module = module
        self._told: list[Shortfall] = []

    async def probe(self, directory: Path) -> ProbeResult:
        """What the version in `directory` did, if that is acceptable.

        Errors: `probe.golden_mismatch`, `probe.too_slow`, `probe.too_much_memory`, `probe.unsupported_op`,
        `probe.refused`, `probe.crashed`, `probe.timeout`, `probe.cpu_time`; `probe.not_started` (retriable).
        """
        order = ProbeOrder(
            directory=str(directory),
            threads=self._profile.threads,
            runs=self._settings.probe_runs,
            confinement=self._confinement(directory),
        )
        status, output = await self._run(msgspec.json.encode(order))
        if status != 0:
            raise _died(status)
        try:
            result = msgspec.json.decode(output, type=ProbeResult)
        except msgspec.DecodeError as error:
            raise Conflict("probe.crashed", "The trial of the version ended without an answer.") from error
        self._tell(result.shortfalls)
        judge(result, self._profile)
        return result

    def _confinement(self, directory: Path) -> Confinement:
        wide = struct.calcsize("P") >= 8
        return Confinement(
            read=[str(directory)],
            memory_bytes=_BASE_BYTES + 2 * self._profile.model_memory_bytes if wide else 0,
            cpu_s=self._settings.probe_cpu_s,
            wall_s=self._settings.probe_timeout_s + _LINGER_S,
            user=self._settings.sandbox_user,
        )

    def _tell(self, shortfalls: list[Shortfall]) -> None:
        """Report what the system does not give of the confinement, once until it changes."""
        if shortfalls == self._told:
            return
        self._told = shortfalls
        if shortfalls and self._report is not None:
            named = "; ".join(f"{missing.part}: {missing.reason}" for missing in shortfalls)
            message = f"Versions are tried less confined than they should be: {named}."[: limits.MAX_REASON_CHARS]
            self._report(Event(code="sandbox.shortfall", severity="warning", message=message))

    async def _run(self, order: bytes) -> tuple[int, bytes]:
        try:
            process = await asyncio.create_subprocess_exec(
                *command(self._module),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                env=environment(),
                limit=MAX_RESULT_BYTES,
            )
        except OSError as error:
            raise Unavailable("probe.not_started", f"The trial cannot be started: {error}.", retriable=True) from error
        try:
            async with asyncio.timeout(self._settings.probe_timeout_s):
                output = await _converse(process, order)
                await process.wait()
        except TimeoutError as error:
            raise Conflict(
                "probe.timeout", f"The version did not finish its trial in {self._settings.probe_timeout_s:g} s."
            ) from error
        finally:
            await end(process)
        return process.returncode or 0, output


async def _converse(process: asyncio.subprocess.Process, order: bytes) -> bytes:
    """The child's answer, of which no more is taken than an answer can have."""
    if process.stdin is None or process.stdout is None:
        raise Unavailable("probe.not_started", "The trial has no pipes.", retriable=True)
    with contextlib.suppress(ConnectionError):
        process.stdin.write(order)
        await process.stdin.drain()
        process.stdin.close()
    output = bytearray()
    while len(output) <= MAX_RESULT_BYTES and (block := await process.stdout.read(MAX_RESULT_BYTES)):
        output += block
    if len(output) > MAX_RESULT_BYTES:
        raise Conflict("probe.crashed", "The trial of the version answered with too much.")
    return bytes(output)


def judge(result: ProbeResult, profile: Profile) -> None:
    """Return when the result is acceptable on this class of device, else raise `Conflict` (`probe.*`)."""
    if result.error is not None:
        raise _refused(result.error.code, result.error.message)
    if not result.golden_passed:
        raise Conflict(
            "probe.golden_mismatch",
            f"The golden outputs differ by {result.golden_difference:.4g}; {result.golden_tolerance:.4g} is allowed.",
            hint="The version does not compute on this device what it computed where it was built.",
        )
    if result.latency_p99_us > profile.latency_p99_ms * 1000:
        raise Conflict(
            "probe.too_slow",
            f"A prediction takes {result.latency_p99_us / 1000:.1f} ms (p99); {profile.name} allows "
            f"{profile.latency_p99_ms:g} ms.",
        )
    if result.model_bytes > profile.model_memory_bytes:
        raise Conflict(
            "probe.too_much_memory",
            f"The version takes {result.model_bytes} bytes; {profile.name} allows {profile.model_memory_bytes}.",
        )


def _refused(code: str, message: str) -> SkerryError:
    known = {"model.unsupported_op": "probe.unsupported_op", "probe.too_much_memory": "probe.too_much_memory"}
    return Conflict(known.get(code, "probe.refused"), message, detail={"code": code})


def _died(status: int) -> SkerryError:
    if status == -signal.SIGXCPU:
        return Conflict("probe.cpu_time", "The version used up the processor time of its trial.")
    if status < 0:
        name = signal.Signals(-status).name if -status in set(signal.Signals) else str(-status)
        return Conflict("probe.crashed", f"The version crashed the runtime ({name}).")
    return Conflict("probe.crashed", f"The trial of the version ended with status {status}.")
