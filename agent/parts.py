"""The parts of the daemon that talk to the hub. Imported and started only once predictions are served."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from agent.identity.renewing import Renewing
from agent.identity.store import Identity, IdentityStore
from agent.inference.host import ModelHost
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
from agent.training.heads import PersonalHeads
from agent.training.intake import SampleIntake
from agent.training.offers import OfferIntake
from agent.training.ordering import Ordering
from agent.training.participation import Participation
from agent.training.readings import DeviceReadings
from shared.clock import Clock
from shared.profiles import Profile
from shared.runtime.interpreter import RUNTIME_NAME, RUNTIME_VERSION

__all__ = ["HubParts", "make_training"]


def make_training(
    paths: AgentPaths,
    identity: Identity,
    store: IdentityStore,
    settings: AgentSettings,
    profile: Profile,
    host: ModelHost,
    installer: Installer,
    samples: SampleIntake | None,
    outbox: Outbox,
    clock: Clock,
) -> Participation:
    """This device's part in federated training."""
    wanted, enabled = settings.training, settings.training.enabled and settings.training.personal
    return Participation(
        OfferIntake(identity.device_id, clock),
        profile,
        wanted,
        DeviceReadings(paths.root, profile, host, installer, samples, clock, idle_s=wanted.idle_s),
        Ordering(paths, profile, wanted, settings.samples, host, store, sandbox_user=settings.ota.sandbox_user),
        PersonalHeads(paths.training, paths.samples, host, installer, outbox.post, enabled=enabled),
        outbox.post,
        clock,
    )


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
        training: Participation,
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
            on_offer=training.offers.take,
        )
        self._training = training
        self._heartbeat = HeartbeatSource(
            paths.root,
            outbox,
            models,
            clock=clock,
            interval_s=settings.telemetry_interval_s or float(profile.telemetry_interval_s),
            random=random,
            health=health,
            samples=training.counts if training.keeps else None,
            link=self._link.take_readings,
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
            "training": self._training.run,
            "personal heads": self._training.heads.run,
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
