"""Where the objects of federated training are built, for `hub.wiring`: who makes runs, and who does them."""

from __future__ import annotations

import secrets
import socket
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

from cryptography.hazmat.primitives.serialization import Encoding

from hub.audit.log import AuditLog
from hub.blobs.store import BlobStore
from hub.deployments.compatibility import Compatibility
from hub.devices.hooks import DeviceHooks
from hub.federated.handover import HandOver
from hub.federated.loop import RunLoop
from hub.federated.membership import RunMembers
from hub.federated.run_traffic import RunTraffic
from hub.federated.runner import worker_command
from hub.federated.runs import RunService
from hub.federated.stage import Places, Stage
from hub.federated.trial import Trial
from hub.filters.service import DeviceFilters
from hub.gates.protocol import Limits
from hub.gates.service import GateService
from hub.messaging.runtime import MessagingRuntime
from hub.pki.store import Pki
from hub.registry.versions import VersionService
from hub.settings import HubSettings
from hub.store.database import Database
from shared.clock import Clock

__all__ = ["FederatedParts", "SharedParts", "build_federated", "gate_limits"]


class FederatedParts(TypedDict):
    """The fields of `hub.wiring.Hub`."""

    federated: RunService
    federated_loop: RunLoop
    run_traffic: RunTraffic


@dataclass(frozen=True, slots=True)
class SharedParts:
    """What is there once in a hub."""

    db: Database
    clock: Clock
    audit: AuditLog
    blobs: BlobStore
    pki: Pki
    filters: DeviceFilters
    profiles: Compatibility


def build_federated(
    settings: HubSettings,
    shared: SharedParts,
    versions: VersionService,
    gates: GateService,
    hooks: DeviceHooks,
    messaging: MessagingRuntime,
) -> FederatedParts:
    """Build the parts, and have them hear of devices that come and go."""
    db, clock = shared.db, shared.clock
    members = RunMembers(clock, shared.filters, shared.profiles, settings.offline_after_s)
    stage = Stage(
        db=db,
        clock=clock,
        audit=shared.audit,
        blobs=shared.blobs,
        members=members,
        places=_places(settings, shared.pki),
        holder=f"{socket.gethostname()[:40]}-{secrets.token_hex(4)}",
        tell=lambda device_id, data: messaging.tell(device_id, "training", data),
        handover=HandOver(db, shared.blobs, versions, gates, Trial(gate_limits(settings)), settings.scratch_path),
    )
    runs = RunService(db, clock, shared.audit, shared.blobs, members)
    loop = RunLoop(stage, settings.federated.at_once)
    runs.on_change(loop.wake)
    hooks.on_cut_off(loop.cut_off)
    hooks.on_enrolled(loop.enrolled)
    return FederatedParts(federated=runs, federated_loop=loop, run_traffic=RunTraffic(db, shared.profiles))


def gate_limits(settings: HubSettings) -> Limits:
    """What bounds a process that runs a model: a gate, or the trial of a candidate."""
    gates = settings.gates
    return Limits(memory_bytes=gates.memory_bytes, cpu_s=gates.cpu_s, timeout_s=gates.timeout_s, user=gates.user)


def _places(settings: HubSettings, pki: Pki) -> Places:
    server = pki.files("server")
    return Places(
        host=settings.host,
        public_host=settings.federated_host,
        port=settings.federated.port,
        certificate=server.certificate,
        key=server.key,
        ca=pki.hub_ca_file,
        folder=settings.federated_path,
        command=worker_command(sys.executable),
        program=Path(settings.federated.program) if settings.federated.engine == "stock" else None,
        device_ca=pki.device_ca.certificate.public_bytes(Encoding.DER),
    )
