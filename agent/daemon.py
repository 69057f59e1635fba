"""The daemon: loads what is installed, serves predictions, and only then reaches for the network.

Rules: what serves is loaded before anything else is even imported; each part is kept running on its own and none can
end the predictions; the heavy libraries (TUF, cryptography, HTTP client) are never imported here but in children; one
daemon per folder; SIGTERM ends everything in order.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import SystemRandom
from typing import Any, cast

import msgspec

from agent import lock
from agent.drift.keeper import DriftKeeper
from agent.hang import HangGuard
from agent.identity.store import Identity, IdentityStore
from agent.inference.host import ModelHost
from agent.inference.local_api.server import LocalServer, tune_process
from agent.ota.history import HistoryEntry
from agent.ota.installer import Installer, InstallStatus
from agent.ota.offline import FolderOffer
from agent.ota.ports import Host
from agent.ota.running_time import RunningTime
from agent.outbox.outbox import Outbox
from agent.output import Output
from agent.paths import AgentPaths
from agent.service.notify import Notifier
from agent.settings import ENVIRONMENT_PREFIX, AgentSettings
from agent.shadow.shadows import Shadows
from agent.status import AgentStatus, HubStatus, all_history, models_of
from agent.stuck import StuckGuard
from agent.supervision import Supervisor
from agent.telemetry.health import HealthSource
from agent.telemetry.process import rss_bytes
from agent.telemetry.running import RunMarker
from agent.training.intake import SampleIntake
from agent.training.journal import TrainingStatus
from shared import __version__, durable
from shared.clock import Clock, SystemClock
from shared.errors import InvalidInput, SkerryError
from shared.profiles import Profile, load_profile
from shared.settings import load_settings
from shared.wire.up import Event

__all__ = ["Daemon", "start"]

_log = logging.getLogger(__name__)
_THREADS_COUNT = 2
_SERVING_S = 10.0
_SOCKET_BYTES = 107
_EXIT_STUCK = 1
Part = Callable[[], Awaitable[None]]


def start(state: Path, overrides: Mapping[str, Any]) -> int:
    """Run the daemon of a state folder until it is told to stop; returns the exit code."""
    paths = AgentPaths(state.absolute())
    try:
        file = paths.settings if paths.settings.exists() else None
        settings = load_settings(AgentSettings, file, ENVIRONMENT_PREFIX, overrides)
        logging.basicConfig(
            level=settings.log_level.upper(), format="%(levelname)s %(name)s: %(message)s", stream=sys.stderr
        )
        logging.getLogger("uvicorn").setLevel(logging.WARNING)
        _check_socket(paths.socket)
        identity = IdentityStore(paths.identity).load()
        profile = load_profile(identity.profile)
        durable.make_dir(paths.run, mode=0o750)
        with lock.hold(paths.lock):
            if asyncio.run(_run(paths, identity, profile, settings)):
                os._exit(_EXIT_STUCK)  # The interpreter's own end would wait for the thread for ever.
    except SkerryError as error:
        return Output(as_json=False).error(error)
    return 0


def _check_socket(path: Path) -> None:
    if len(os.fsencode(path)) > _SOCKET_BYTES:
        raise InvalidInput(
            "agent.state_path",
            f"The path {path} is too long for a Unix socket ({_SOCKET_BYTES} bytes).",
            hint="Use a shorter --state folder.",
        )


async def _run(paths: AgentPaths, identity: Identity, profile: Profile, settings: AgentSettings) -> bool:
    """Until the end; whether a thread is left that no end waits for."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.set_default_executor(ThreadPoolExecutor(_THREADS_COUNT, thread_name_prefix="agent"))
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    daemon = Daemon(paths, identity, profile, settings, clock=SystemClock(), random=SystemRandom().random)
    await daemon.run(stop)
    return daemon.stuck


class Daemon:
    """One device's agent. `random` gives numbers in [0, 1)."""

    stuck = False
    """At its end: a prediction hangs in a thread, so that only an end without ceremony ends the process."""

    def __init__(
        self,
        paths: AgentPaths,
        identity: Identity,
        profile: Profile,
        settings: AgentSettings,
        *,
        clock: Clock,
        random: Callable[[], float],
        notifier: Notifier | None = None,
    ) -> None:
        self._paths = paths
        self._identity = identity
        self._profile = profile
        self._settings = settings
        self._clock = clock
        self._random = random
        self._notifier = notifier or Notifier()
        self._began_s = clock.monotonic()
        self._store = IdentityStore(paths.identity)
        self._host = ModelHost(threads=profile.threads, budget_ns=int(profile.latency_p99_ms * 1_000_000))
        self._marker = RunMarker(paths)
        limit_bytes = settings.outbox_bytes or profile.outbox_bytes
        self._outbox = Outbox(paths.outbox, device_id=identity.device_id, limit_bytes=limit_bytes, clock=clock)
        self._shadows = Shadows(self._host, profile, settings.ota, random=random)
        self._health = HealthSource(
            self._outbox.post, self._host.answered, crashes=self._marker.take, shadows=self._shadows.take
        )
        self._host.replaced = self._health.tell
        self._host.watcher = self._drift = self._drift_keeper()
        self._samples = self._sample_intake()
        # The host gives `swap` what its own `load` returned, which the protocol cannot say.
        self._installer = Installer(
            paths,
            profile,
            cast(Host, self._host),
            self._outbox.post,
            clock,
            settings.ota,
            random=random,
            keep=self._outbox.put,
            shadow=self._shadows,
        )
        self._supervisor = Supervisor(self._outbox.post, clock, random)
        self._serving = asyncio.Event()
        self._stop = asyncio.Event()
        self._hub: Callable[[], HubStatus] = HubStatus
        self._training: Callable[[], TrainingStatus] = TrainingStatus
        self._tasks: list[asyncio.Task[None]] = []

    def _drift_keeper(self) -> DriftKeeper:
        return DriftKeeper(
            self._paths.drift,
            self._settings.drift,
            put=self._outbox.put,
            post=self._outbox.post,
            clock=self._clock,
            random=self._random,
        )

    def _sample_intake(self) -> SampleIntake | None:
        """Where labelled samples go; None when none are kept here."""
        if not (self._profile.training.allowed and self._settings.samples.enabled):
            return None
        intake = SampleIntake(
            self._paths.samples,
            self._settings.samples,
            post=self._outbox.post,
            min_free_bytes=self._profile.min_free_bytes,
        )
        self._drift.sink = intake.put
        self._drift.inputs_bytes = self._settings.samples.waiting_bytes
        return intake

    async def run(self, stop: asyncio.Event) -> None:
        """Until `stop` is set; then everything ends in order and what waits is on the disk."""
        self._marker.begin()
        self._stop = stop
        self._keep("hang guard", HangGuard(self._settings.hang_limit_s).run)
        await self._recover()
        self._keep("prediction API", self._serve)
        if self._settings.api_port is not None:
            self._keep("loopback port", self._serve_port)
        await self._say_ready()
        self._keep_the_rest()
        tune_process()
        try:
            await stop.wait()
        finally:
            self._notifier.stopping()
            await self._end()
        self._marker.end()

    async def _recover(self) -> None:
        """Load what is active. Whatever goes wrong, the daemon goes on: it is the only way to a repair."""
        try:
            await self._installer.recover()
        except Exception as error:  # noqa: BLE001 - a device that cannot serve must still be reachable
            _log.exception("recovery failed")
            message = f"The installed models could not be loaded: {error}"[:500]
            self._outbox.post(Event(code="agent.recovery_failed", severity="error", message=message))

    async def _say_ready(self) -> None:
        """Ready when predictions are served; if they cannot be, the rest starts anyway, so that it can be repaired."""
        try:
            async with asyncio.timeout(_SERVING_S):
                await self._serving.wait()
        except TimeoutError:
            _log.error("predictions are not served yet; the log says why")
            self._notifier.status("Predictions are not served; the log says why.")
        self._notifier.ready()

    def _keep(self, name: str, part: Part) -> None:
        self._tasks.append(asyncio.create_task(self._supervisor.keep(name, part), name=name))

    def _keep_the_rest(self) -> None:
        """Import and start what talks to the hub."""
        from agent.parts import HubParts, make_training

        training = make_training(
            self._paths, self._identity, self._store, self._settings, self._profile, self._host, self._installer,
            self._samples, self._outbox, self._clock,
        )  # fmt: skip

        def replaced() -> None:
            self._health.tell()
            training.heads.wake()

        self._training, self._host.replaced = training.status, replaced
        hub = HubParts(
            paths=self._paths,
            identity=self._identity,
            store=self._store,
            settings=self._settings,
            profile=self._profile,
            outbox=self._outbox,
            installer=self._installer,
            models=models_of(self._installer, self._host),
            clock=self._clock,
            random=self._random,
            health=lambda: self._health.tell(crashes=True),
            training=training,
        )

        def status() -> HubStatus:
            return self._hub_status(msgspec.structs.asdict(hub.status()))

        self._hub = status
        stuck = StuckGuard(self._host, self._settings.hang_limit_s, self._installer.resting, self._restart)
        running = RunningTime(self._paths.tuf, self._store)
        parts: dict[str, Part] = {
            "installer": self._installer.run,
            "drift": self._drift.run,
            "stuck guard": stuck.run,
            "running time": running.run,
            **hub.parts(),
            **({} if self._samples is None else {"samples": self._samples.run}),
        }
        for name, part in parts.items():
            self._keep(name, part)
        if self._notifier.watchdog_s is not None:
            self._keep("watchdog", self._notifier.keep_alive)

    async def _serve(self) -> None:
        async with LocalServer(self._host, self._paths.socket, control=self, metrics=self._drift.metrics):
            self._serving.set()
            await asyncio.get_running_loop().create_future()

    async def _serve_port(self) -> None:
        async with LocalServer(self._host, None, self._settings.api_port, metrics=self._drift.metrics) as server:
            _log.info("predictions are served on 127.0.0.1:%s", server.port)
            await asyncio.get_running_loop().create_future()

    def _restart(self, why: str) -> None:
        _log.error("%s", why)
        self._outbox.post(Event(code="agent.stuck", severity="error", message=why[:500]))
        self._stop.set()

    async def _end(self) -> None:
        self.stuck = self._host.stuck()
        for task in reversed(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._health.tell()
        if self._samples is not None:
            await self._samples.close()
        await self._drift.close()
        await self._outbox.close()
        self._host.close()

    def _hub_status(self, link: Mapping[str, Any]) -> HubStatus:
        outbox = self._outbox.state
        try:
            until_s = self._store.validity().not_after_s
        except SkerryError:
            until_s = None
        return HubStatus(
            **link,
            outbox_count=outbox.pending_count,
            outbox_bytes=outbox.pending_bytes,
            outbox_dropped=outbox.dropped_count + self._outbox.lost_count,
            certificate_until_s=until_s,
        )

    async def status(self) -> AgentStatus:
        """For `skerry-agent status`."""
        return AgentStatus(
            device_id=self._identity.device_id,
            profile=self._profile.name,
            agent_version=__version__,
            hub_url=self._identity.hub_url,
            uptime_s=int(self._clock.monotonic() - self._began_s),
            rss_bytes=rss_bytes(),
            hub=self._hub(),
            models=self._installer.status(),
            training=self._training(),
        )

    async def training(self) -> TrainingStatus:
        """For `skerry-agent training show`."""
        return self._training()

    async def history(self, model: str | None) -> list[HistoryEntry]:
        """For `skerry-agent history`, newest first."""
        return (await asyncio.to_thread(all_history, self._installer, model))[::-1]

    async def rollback(self, model: str) -> InstallStatus:
        """For `skerry-agent rollback`."""
        return await self._installer.rollback(model)

    async def install(self, folder: str) -> list[FolderOffer]:
        """For `skerry-agent install`."""
        return await self._installer.install_folder(folder)
