"""The parts of the daemon that talk to the hub. Imported and started only once predictions are served."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from agent.identity.renewing import Renewing
from agent.identity.store import Identity, IdentityStore
from agent.link.desired import DesiredStore
from agent.link.fallback import HttpsFallback
from agent.link.link import Link, LinkStatus
from agent.link.mqtt import MqttConnector
from agent.ota.installer import Installer
from agent.outbox.outbox import Outbox
from agent.paths import AgentPaths
from agent.settings import AgentSettings
from agent.telemetry.heartbeat import HeartbeatSource, ModelsSource
from agent.telemetry.inventory import take_inventory
from shared.clock import Clock
from shared.profiles import Profile
from shared.runtime.interpreter import RUNTIME_NAME, RUNTIME_VERSION

__all__ = ["HubParts"]


class HubParts:
    """Outbox, link, heartbeat and renewal of one device; each runs on its own and none waits for another's health."""

    def __init__(
        self,
        *,
        paths: AgentPaths,
        identity: Identity,
        store: IdentityStore,
        settings: AgentSettings,
        profile: Profile,
        outbox: Outbox,
        installer: Installer,
        models: ModelsSource,
        clock: Clock,
        random: Callable[[], float],
        health: Callable[[], object],
    ) -> None:
        self._paths = paths
        self._identity = identity
        self._profile = profile
        self._outbox = outbox
        link = settings.link
        self._link = Link(
            store=store,
            outbox=outbox,
            desired=DesiredStore(paths.desired, identity.device_id),
            connector=MqttConnector(timeout_s=link.connect_timeout_s, keepalive_s=link.keepalive_s),
            fallback=HttpsFallback(paths.root, timeout_s=link.fallback_timeout_s),
            on_desired=installer.offer,
            clock=clock,
            settings=link,
            random=random,
        )
        self._heartbeat = HeartbeatSource(
            paths.root,
            outbox,
            models,
            clock=clock,
            interval_s=settings.telemetry_interval_s or float(profile.telemetry_interval_s),
            random=random,
            health=health,
        )
        self._renewing = Renewing(
            paths.root, store, clock=clock, random=random, renewed=self._link.reconnect, report=outbox.post
        )

    def status(self) -> LinkStatus:
        """The link as it stands."""
        return self._link.status()

    def parts(self) -> dict[str, Callable[[], Awaitable[None]]]:
        """What is to be kept running, by name."""
        return {
            "outbox": self._keep_outbox,
            "link": self._link.run,
            "heartbeat": self._beat,
            "certificate renewal": self._renewing.run,
        }

    async def _keep_outbox(self) -> None:
        await self._outbox.start()
        await asyncio.get_running_loop().create_future()

    async def _beat(self) -> None:
        await self._outbox.opened()
        inventory = await asyncio.to_thread(
            take_inventory,
            self._paths.root,
            profile=self._profile.name,
            runtime=RUNTIME_NAME,
            runtime_version=RUNTIME_VERSION,
            hardware_id=self._identity.hardware_id,
        )
        self._outbox.post(inventory)
        await self._heartbeat.run()
