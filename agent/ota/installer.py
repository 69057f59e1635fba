"""The installer: all models' installations of one device, behind the few calls that the rest of the agent makes.

`recover()` once at the start, then `run()` for as long as the agent lives; `offer()` whenever a desired state comes.
Rules: nothing here needs cryptography, TUF or HTTP; that is the worker's. One model installs at a time, and a version
on probation keeps nobody waiting. Nothing that fails here reaches the code that serves.
"""

from __future__ import annotations

import asyncio
import logging
import random
import shutil
from collections.abc import Awaitable, Callable
from datetime import tzinfo
from pathlib import Path

import msgspec

from agent.ota import history
from agent.ota.backoff import Backoff, delay_s
from agent.ota.driver import Driver
from agent.ota.installation import Installation
from agent.ota.intake import Intake
from agent.ota.journal import Journal
from agent.ota.machine import REST
from agent.ota.offline import FolderOffer, offer_folder
from agent.ota.ports import Context, Host, Message, Probe, Shadow, Worker
from agent.ota.prober import Prober
from agent.ota.recovery import mark_stable, recover
from agent.ota.settings import OtaSettings
from agent.ota.threads import in_thread
from agent.ota.waiting import mode_of
from agent.ota.worker_client import WorkerSession
from agent.ota.zone import device_zone
from agent.paths import AgentPaths
from shared import durable, ids, limits
from shared.clock import Clock
from shared.errors import InvalidInput, NotFound
from shared.profiles import Profile
from shared.wire.down import DesiredState
from shared.wire.up import Event

__all__ = ["InstallStatus", "Installer"]

_LOG = logging.getLogger("agent.ota")
_AGAIN = Backoff(base_s=1.0, cap_s=300.0)


class InstallStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One model as it stands, for heartbeats and people. `target_version`: of the last assignment; `mode`: what is to
    be done with it."""

    model: str
    state: str
    active_version: int | None = None
    bundle_sha256: str | None = None
    previous_version: int | None = None
    target_version: int | None = None
    mode: str = "live"
    assignment_counter: int = 0
    attempt: int = 0
    bytes_done: int = 0
    bytes_total: int = 0
    reason_code: str = ""
    reason: str = ""


def _free_bytes(path: Path) -> int:
    return shutil.disk_usage(path).free


def _nothing(_journal: Journal) -> None:
    """Nobody watches the journals."""


class Installer:
    """Installs what the hub assigns and the reviewers released."""

    def __init__(
        self,
        paths: AgentPaths,
        profile: Profile,
        host: Host,
        report: Callable[[Message], None],
        clock: Clock,
        settings: OtaSettings,
        *,
        probe: Probe | None = None,
        open_worker: Callable[[], Worker] | None = None,
        free_bytes: Callable[[Path], int] = _free_bytes,
        random: Callable[[], float] = random.random,
        observe: Callable[[Journal], None] = _nothing,
        keep: Callable[[Message], Awaitable[object]] | None = None,
        shadow: Shadow | None = None,
        zone: Callable[[], tzinfo] = device_zone,
    ) -> None:
        """`report`: queues a message for the hub; `keep`: does so and returns when it is on the disk (without it,
        what is queued counts as kept). The other keyword arguments are seams; the defaults are the real thing."""

        async def queue(message: Message) -> None:
            report(message)

        self._paths = paths
        self._context = Context(
            paths=paths,
            profile=profile,
            settings=settings,
            host=host,
            probe=probe or Prober(profile, settings, lambda event: self._context.queue(event)),
            open_worker=open_worker or (lambda: WorkerSession(paths, settings)),
            report=report,
            keep=keep or queue,
            clock=clock,
            random=random,
            free_bytes=free_bytes,
            observe=observe,
            busy=asyncio.Lock(),
            shadow=shadow,
            zone=zone,
        )
        self._drivers: dict[str, Driver] = {}
        self._tasks: asyncio.TaskGroup | None = None
        self._intake = Intake(self._context, lambda: self._drivers, self._driver)

    async def recover(self) -> None:
        """Serve what is active and take up every journal; to be called once, before `run`."""
        await in_thread(durable.make_dir, self._paths.models)
        for entry in sorted(self._paths.models.iterdir()):
            if not entry.is_dir():
                continue
            try:
                install = Installation(self._context, ids.parse_model_name(entry.name))
            except InvalidInput:
                _LOG.warning("a folder among the models is not one: %r", entry.name)
                continue
            self._drivers[install.model] = Driver(install)
            try:
                await recover(install)
            except Exception as error:  # noqa: BLE001  (one model must not keep the others from serving)
                _LOG.exception("%s: the start did not go as it must", install.model)
                install.tell("install.recovery_failed", f"{type(error).__name__}: {error}")

    async def run(self) -> None:
        """Install until cancelled; an orderly end is not a crash of the versions on probation."""
        try:
            async with asyncio.TaskGroup() as tasks:
                self._tasks = tasks
                for driver in self._drivers.values():
                    self._start(driver)
                tasks.create_task(self._settle(), name="ota-stable")
                await self._keep(self._intake.run, "intake")
        except asyncio.CancelledError:
            for driver in self._drivers.values():
                await mark_stable(driver.install)
            raise
        finally:
            self._tasks = None

    async def offer(self, desired: DesiredState) -> None:
        """Take a desired state; returns at once."""
        self._intake.offer(desired)

    async def install_folder(self, folder: str) -> list[FolderOffer]:
        """Take the assignments for this device from a folder that a person brought; errors `install.*`."""
        return await offer_folder(self._context, lambda: self._drivers, self._driver, folder)

    async def rollback(self, model: str) -> InstallStatus:
        """Return to the previous version, without network; `rollback.no_model`, `rollback.no_previous|busy|failed`."""
        driver = self._drivers.get(model)
        if driver is None:
            raise NotFound("rollback.no_model", f"There is no model {model!r:.60} on this device.")
        await driver.roll_back()
        return _status(driver.install)

    def resting(self) -> bool:
        """Whether no installation has work in hand."""
        return all(driver.install.state in REST for driver in self._drivers.values())

    def status(self) -> list[InstallStatus]:
        """Every model known here, by name."""
        return [_status(self._drivers[model].install) for model in sorted(self._drivers)]

    def history(self, model: str) -> list[history.HistoryEntry]:
        """The last installations of a model, oldest first."""
        return history.entries(self._paths.model(model).root / "history.json")

    def _driver(self, model: str) -> Driver:
        """The driver of a model, made and started when the model is new here."""
        driver = self._drivers.get(model)
        if driver is None:
            durable.make_dir(self._paths.model(model).root)
            driver = self._drivers[model] = Driver(Installation(self._context, model))
            self._start(driver)
        return driver

    def _start(self, driver: Driver) -> None:
        if self._tasks is not None:
            name = driver.install.model
            self._tasks.create_task(self._keep(driver.run, name), name=f"ota-{name}")

    async def _settle(self) -> None:
        await asyncio.sleep(self._context.settings.stable_s)
        for driver in self._drivers.values():
            await driver.settle_restarts()

    async def _keep(self, run: Callable[[], Awaitable[object]], what: str) -> None:
        """Run a loop for ever: a defect in it is told once and tried again after a wait, never passed on."""
        attempt, told = 0, ""
        while True:
            try:
                await run()
            except Exception as error:  # noqa: BLE001  (the boundary of the installer)
                _LOG.exception("the loop of %s failed in an unforeseen way", what)
                why = f"The loop of {what} failed: {type(error).__name__}: {error}"[: limits.MAX_REASON_CHARS]
                if why != told:
                    told = why
                    self._context.queue(Event(code="install.loop_failed", severity="error", message=why))
            attempt += 1
            await asyncio.sleep(delay_s(_AGAIN, attempt, self._context.random()))


def _status(install: Installation) -> InstallStatus:
    journal, assignment = install.journal, install.journal.assignment
    active, previous = install.active_record(), install.previous_record()
    return InstallStatus(
        model=install.model,
        state=journal.at.value,
        active_version=active.version if active else None,
        bundle_sha256=active.bundle_sha256 if active else None,
        previous_version=previous.version if previous else None,
        target_version=assignment.version if assignment else None,
        mode=mode_of(assignment) if assignment else "live",
        assignment_counter=journal.floor,
        attempt=journal.attempt,
        bytes_done=install.bytes_now,
        bytes_total=assignment.bundle_bytes if assignment else 0,
        reason_code=journal.reason_code,
        reason=journal.reason,
    )
