"""A device that takes part in federated training: real files, model, samples and training process; its machine is the
test's, so that no other load on the test's machine decides."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from agent.drift.feedback import label_space
from agent.identity.store import IdentityStore
from agent.inference.host import ModelHost
from agent.ota.installer import InstallStatus
from agent.ota.slots import Slots
from agent.paths import AgentPaths
from agent.telemetry.system import SystemSource
from agent.training.buffer import ClassCount, SampleBuffer
from agent.training.heads import PersonalHeads
from agent.training.offers import OfferIntake
from agent.training.ordering import Ordering
from agent.training.participation import Participation
from agent.training.readings import DeviceReadings
from agent.training.samples import Sample
from agent.training.settings import SampleSettings, TrainingSettings
from shared.clock import SystemClock
from shared.profiles import Training, load_profile
from shared.wire.system import System
from shared.wire.training import TrainingOffer, TrainingReport, encode_offer
from tests.daemon.device import give_identity, install_digits
from tests.models import load_digits

__all__ = ["SPACE", "FederatedDevice", "labelled_digits"]

SPACE = label_space([str(digit) for digit in range(10)], 10)
PROFILE = msgspec.structs.replace(
    load_profile("x86-gateway"),
    training=Training(allowed=True, min_samples=20, idle_only=False, max_memory_bytes=1 << 30),
    maintenance_window=None,
)
COOL = System(
    cpu_percent=5.0, temperature_c=40.0, memory_available_bytes=1 << 32, battery_percent=None, on_battery=None
)


def labelled_digits(first: int, count: int, *, swapped: bool = False) -> list[Sample]:
    """Labelled images as the daemon hands them to the buffer. swapped: this device calls a 0 a 9, and so on."""
    data = load_digits()
    rows = range(first, first + count)
    return [
        Sample(
            model="digits",
            version=1,
            space=SPACE,
            label=9 - int(data.train_y[row]) if swapped else int(data.train_y[row]),
            dtype="float32",
            shape=[8, 8],
            data=data.train_x[row].tobytes(),
        )
        for row in rows
    ]


class Machine(SystemSource):
    """A machine that says what the test wants."""

    def __init__(self) -> None:
        self.now = COOL

    def take(self) -> System:
        return self.now


class FederatedDevice:
    """Its folder is `paths`; what it tells the hub is in `reports`."""

    def __init__(self, folder: Path, ca: Path, device_id: str = "dev1", **settings: Any) -> None:
        self.paths = AgentPaths(folder)
        give_identity(self.paths, device_id)
        install_digits(self.paths)
        self.store = IdentityStore(self.paths.identity)
        shutil.copy(ca, self.store.hub_ca)
        self.device_id = device_id
        self.machine = Machine()
        self.settings = TrainingSettings(**{"watch_s": 0.1, "start_s": 90.0, "rest_s": 0.0, **settings})
        self.sample_settings = SampleSettings(retention_days=3660)
        self.reports: list[TrainingReport] = []
        self.others: list[Any] = []
        self.host = ModelHost()
        slots = Slots(self.paths.model("digits"))
        slot = slots.active()
        assert slot is not None
        self.record = slots.record(slot)
        self.host.swap("digits", self.host.load("digits", slots.directory(slot)))
        self.module = "agent.training.child"
        self.changed = asyncio.Event()

    def keep(self, samples: list[Sample]) -> None:
        """Put samples into the buffer."""
        self.buffer.add(samples)

    @property
    def buffer(self) -> SampleBuffer:
        return SampleBuffer(self.paths.samples, self.sample_settings, SystemClock())

    @property
    def public_key(self) -> bytes:
        """As the registry has it."""
        key = load_pem_private_key(self.store.credentials().key.read_bytes(), None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)

    def offer(self, address: str, round_no: int = 1, run: str = "f-000000000001", **more: Any) -> TrainingOffer:
        """An offer of the version that serves."""
        fields: dict[str, Any] = {
            "device_id": self.device_id,
            "run": run,
            "round_no": round_no,
            "model": "digits",
            "version": 1,
            "bundle_sha256": self.record.bundle_sha256,
            "address": address,
            "valid_s": 60.0,
            "task_s": 60.0,
            "linger_s": 30.0,
            "min_samples": 20,
        }
        return TrainingOffer(**(fields | more))

    def take(self, offer: TrainingOffer) -> None:
        """The offer comes down."""
        self.part.offers.take(encode_offer(offer))

    @asynccontextmanager
    async def running(self) -> AsyncIterator[FederatedDevice]:
        """With its part in training at work."""
        clock = SystemClock()
        paths, settings = self.paths, self.settings
        self.readings = DeviceReadings(
            paths.root, PROFILE, self.host, self, self, clock, idle_s=0.0, system=self.machine
        )
        heads = PersonalHeads(paths.training, paths.samples, self.host, self, self.others.append, enabled=True)
        self.part = Participation(
            OfferIntake(self.device_id, clock), PROFILE, settings, self.readings,
            Ordering(paths, PROFILE, settings, self.sample_settings, self.host, self.store, sandbox_user="nobody"),
            heads, self._report, clock, measure_s=0.0, module=self.module,
        )  # fmt: skip
        tasks = [asyncio.create_task(self.part.run()), asyncio.create_task(heads.run())]
        try:
            yield self
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self.host.close()

    def _report(self, message: Any) -> None:
        (self.reports if isinstance(message, TrainingReport) else self.others).append(message)
        self.changed.set()

    async def told(self, state: str, round_no: int = 1) -> TrainingReport:
        """The report of this state, once it came."""
        async with asyncio.timeout(120):
            while True:
                for report in self.reports:
                    if (report.state, report.round_no) == (state, round_no):
                        return report
                self.changed.clear()
                await self.changed.wait()

    # --- what the readings ask --------------------------------------------------------------------------------------
    def status(self) -> list[InstallStatus]:
        record = self.record
        return [
            InstallStatus(
                model="digits", state="committed", active_version=record.version, bundle_sha256=record.bundle_sha256
            )
        ]

    def resting(self) -> bool:
        return True

    def samples(self, model: str, space: str) -> dict[int, int]:
        return {one.label: one.samples for one in self._classes(model, space)}

    def seen(self, model: str, space: str) -> int:
        return sum(one.seen for one in self._classes(model, space))

    def _classes(self, model: str, space: str) -> list[ClassCount]:
        return [one for one in self.buffer.counts()[0] if (one.model, one.space) == (model, space)]
