"""Where the hub's objects are built, and the only place: plain objects, handed to each other by name.

`build_hub` opens what `hub.provision` has made; it starts nothing. Each part adds its field to `Hub` and its lines to
`build_hub`, below the parts that it needs; those of federated training are built in `hub.wiring_federated`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypedDict

from hub.access.tokens import ApiTokens
from hub.alerts.config import load_config
from hub.alerts.service import AlertService
from hub.audit.log import AuditLog
from hub.blobs.files import FileBlobs
from hub.blobs.store import BlobStore
from hub.deltas.loop import DeltaLoop
from hub.deltas.maker import DeltaMaker
from hub.deltas.protocol import Limits as DeltaLimits
from hub.deltas.service import DeltaService
from hub.deployments.assignments import AssignmentService
from hub.deployments.compatibility import Compatibility
from hub.deployments.desired import DesiredStates
from hub.deployments.publications import Publications
from hub.deployments.service import DeploymentService
from hub.devices.authenticator import DeviceAuthenticator
from hub.devices.certificates import DeviceCertificates
from hub.devices.enrolment import Enrolment
from hub.devices.fleet import Fleet
from hub.devices.hooks import DeviceHooks
from hub.devices.tokens import EnrolmentTokens
from hub.federated.loop import RunLoop
from hub.federated.run_traffic import RunTraffic
from hub.federated.runs import RunService
from hub.federated.trigger_gathering import Gatherer
from hub.federated.triggers import TrainTriggers
from hub.filters.service import DeviceFilters
from hub.gates.datasets import DatasetService
from hub.gates.runner import GateRunner
from hub.gates.service import GateService
from hub.groups.service import GroupService
from hub.ingest.retention import HealthRetention
from hub.ingest.service import IngestService
from hub.ingest.windows import WindowBook
from hub.messaging.launch_settings import broker_settings
from hub.messaging.runtime import MessagingRuntime
from hub.monitoring.evaluation import Evaluation
from hub.monitoring.history import DeviceHistory
from hub.monitoring.references import References
from hub.monitoring.retention import WindowRetention
from hub.monitoring.source import drift_sources
from hub.monitoring.views import DriftViews
from hub.pki.store import Pki
from hub.policies.book import PolicyBook
from hub.registry.aliases import AliasService
from hub.registry.collection import GarbageCollector
from hub.registry.models import ModelService
from hub.registry.releases import ReleaseGuard
from hub.registry.versions import VersionService
from hub.rollouts.engine import RolloutEngine
from hub.rollouts.evidence import EvidenceCollector, MetricSource, standard_sources
from hub.rollouts.membership import Memberships
from hub.rollouts.on_approval import DeployPolicies
from hub.rollouts.service import RolloutService
from hub.rollouts.views import RolloutViews
from hub.settings import HubSettings
from hub.status import FleetStatus
from hub.store.connections import ConnectionStore
from hub.store.database import Database
from hub.store.garbage import Retention
from hub.tracing.connect import connect
from hub.tracing.tracer import Tracer, tracer_of
from hub.trust.online_keys import OnlineKeys
from hub.trust.repository import TrustRepository
from hub.wiring_federated import SharedParts, build_federated, gate_limits
from shared.clock import Clock, SystemClock

__all__ = ["Hub", "build_hub"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Policies:
    """By which the hub acts of itself: when to train, what becomes of approved versions, and both in one document."""

    train: TrainTriggers
    deploy: DeployPolicies
    book: PolicyBook


@dataclass(frozen=True, slots=True, kw_only=True)
class Hub:
    """Everything that the API, the messaging and the commands work with."""

    settings: HubSettings
    clock: Clock
    db: Database
    # people, and the record of what they did
    audit: AuditLog
    tokens: ApiTokens
    # devices
    pki: Pki
    device_auth: DeviceAuthenticator
    device_hooks: DeviceHooks
    device_certificates: DeviceCertificates
    enrolment_tokens: EnrolmentTokens
    enrolment: Enrolment
    filters: DeviceFilters
    fleet: Fleet
    groups: GroupService
    # blobs, and what is signed over them
    blobs: BlobStore
    online_keys: OnlineKeys
    trust: TrustRepository
    # models and what proves them
    models: ModelService
    versions: VersionService
    aliases: AliasService
    datasets: DatasetService
    gates: GateService
    garbage: GarbageCollector
    # what lies between two bundles
    deltas: DeltaService
    delta_loop: DeltaLoop
    # what devices should have
    assignments: AssignmentService
    deployments: DeploymentService
    rollout_engine: RolloutEngine
    rollouts: RolloutService
    rollout_views: RolloutViews
    desired: DesiredStates
    publications: Publications
    status: FleetStatus
    # training on devices
    federated: RunService
    federated_loop: RunLoop
    run_traffic: RunTraffic
    policies: Policies
    # messages
    ingest: IngestService
    health_retention: HealthRetention
    references: References
    evaluation: Evaluation
    alerts: AlertService
    drift_views: DriftViews
    device_history: DeviceHistory
    window_retention: WindowRetention
    tracer: Tracer
    messaging: MessagingRuntime

    def close(self) -> None:
        """Give files and connections back."""
        self.tracer.close()
        self.db.close()


class _Devices(TypedDict):
    device_certificates: DeviceCertificates
    enrolment_tokens: EnrolmentTokens
    enrolment: Enrolment
    filters: DeviceFilters
    fleet: Fleet


class _Registry(TypedDict):
    models: ModelService
    versions: VersionService
    aliases: AliasService
    datasets: DatasetService
    gates: GateService
    garbage: GarbageCollector


class _Monitoring(TypedDict):
    references: References
    evaluation: Evaluation
    alerts: AlertService
    drift_views: DriftViews
    device_history: DeviceHistory
    window_retention: WindowRetention
    tracer: Tracer


class _Rollouts(TypedDict):
    rollout_engine: RolloutEngine
    rollouts: RolloutService
    rollout_views: RolloutViews


def build_hub(settings: HubSettings, clock: Clock | None = None) -> Hub:
    """The hub of a data folder that `hub.provision.provision` has prepared; `storage.missing` if it has not."""
    clock, pki, db = clock or SystemClock(), Pki.load(settings), Database(settings.database)
    audit, hooks, publications = AuditLog(db, clock), DeviceHooks(), Publications()
    certificates, blobs = DeviceCertificates(db, clock, audit, settings, pki), FileBlobs(settings.blobs_path)
    delta_loop = DeltaLoop(deltas := DeltaService(db, clock, blobs, _delta_maker(settings)))
    assignments, register = AssignmentService(db, clock, settings.assignment_lifetime_s), ConnectionStore(db)
    trust = _trust(settings, db, clock, audit, keys := OnlineKeys(settings.keys_path), assignments, blobs)
    profiles, filters = Compatibility(settings.profiles_path), DeviceFilters(clock, settings.offline_after_s)
    monitoring, device_auth = _monitoring(settings, db, clock, audit, blobs), DeviceAuthenticator(db, clock)
    desired = DesiredStates(db, clock, trust, traced=monitoring["tracer"].on)
    shared, broker = SharedParts(db, clock, audit, blobs, pki, filters, profiles), broker_settings(settings, pki)
    ingest = IngestService(db, clock, WindowBook(monitoring["references"], settings.monitoring.period_s))
    measured = drift_sources(monitoring["references"], settings.monitoring.period_s)
    messaging = MessagingRuntime(broker, devices=device_auth, register=register, commit=ingest, states=desired)
    rollouts = _rollouts(db, clock, audit, trust, assignments, profiles, filters, publications, measured)
    _listen(hooks, publications, assignments, messaging, deltas, delta_loop, monitoring["alerts"])
    hub = Hub(
        settings=settings,
        clock=clock,
        db=db,
        audit=audit,
        tokens=ApiTokens(db, clock, audit),
        pki=pki,
        device_auth=device_auth,
        device_hooks=hooks,
        **_devices(settings, db, clock, audit, pki, certificates, hooks, filters, trust),
        groups=GroupService(db, clock, audit, filters, rollouts["rollouts"].users_of_group),
        blobs=blobs,
        online_keys=keys,
        trust=trust,
        **(registry := _registry(settings, db, clock, audit, blobs)),
        deltas=deltas,
        delta_loop=delta_loop,
        assignments=assignments,
        deployments=DeploymentService(db, clock, audit, trust, assignments, profiles, filters, publications.wake),
        **rollouts,
        desired=desired,
        publications=publications,
        **(runs := build_federated(settings, shared, registry["versions"], registry["gates"], hooks, messaging)),
        policies=_policies(settings, shared, runs["federated"], rollouts["rollouts"], monitoring["alerts"]),
        status=FleetStatus(db, clock, settings.offline_after_s),
        ingest=ingest,
        health_retention=HealthRetention(db, clock, settings.retention.health_days * 86_400.0),
        **monitoring,
        messaging=messaging,
    )
    connect(hub.tracer, clock, messaging, ingest, hub.deployments, hub.rollouts)
    return hub


def _devices(
    settings: HubSettings,
    db: Database,
    clock: Clock,
    audit: AuditLog,
    pki: Pki,
    certificates: DeviceCertificates,
    hooks: DeviceHooks,
    filters: DeviceFilters,
    trust: TrustRepository,
) -> _Devices:
    return _Devices(
        device_certificates=certificates,
        enrolment_tokens=EnrolmentTokens(db, clock, audit, settings, pki.hub_ca.sha256),
        enrolment=Enrolment(db, clock, audit, settings, certificates, hooks, trust.root),
        filters=filters,
        fleet=Fleet(db, clock, audit, hooks, filters),
    )


def _registry(settings: HubSettings, db: Database, clock: Clock, audit: AuditLog, blobs: FileBlobs) -> _Registry:
    least = settings.gates.default_min_accuracy
    runner = GateRunner(settings.scratch_path, gate_limits(settings), settings.gates.at_once)
    return _Registry(
        models=ModelService(db, clock, audit),
        versions=VersionService(db, clock, audit, blobs),
        aliases=AliasService(db, clock, audit),
        datasets=DatasetService(db, clock, audit, blobs),
        gates=GateService(db, clock, audit, blobs, runner, least),
        garbage=GarbageCollector(db, clock, audit, blobs, _retention(settings)),
    )


def _trust(
    settings: HubSettings,
    db: Database,
    clock: Clock,
    audit: AuditLog,
    keys: OnlineKeys,
    assignments: AssignmentService,
    blobs: BlobStore,
) -> TrustRepository:
    guard = ReleaseGuard(db, clock, audit)
    return TrustRepository(
        db, keys, settings.trust, clock=clock, audit=audit, registry=guard, pending=assignments, blobs=blobs
    )


def _rollouts(
    db: Database,
    clock: Clock,
    audit: AuditLog,
    trust: TrustRepository,
    assignments: AssignmentService,
    profiles: Compatibility,
    filters: DeviceFilters,
    publications: Publications,
    measured: Mapping[str, MetricSource],
) -> _Rollouts:
    """The engine, with those who measure what gates demand, and what people ask of it."""
    sources, memberships = standard_sources() | dict(measured), Memberships(filters, profiles)
    evidence = EvidenceCollector(sources)
    engine = RolloutEngine(db, clock, audit, assignments, memberships, evidence, publications.wake)
    names = frozenset(sources)
    service = RolloutService(db, clock, audit, trust, assignments, profiles, memberships, engine, names)
    return _Rollouts(rollout_engine=engine, rollouts=service, rollout_views=RolloutViews(db, clock, engine))


def _policies(
    settings: HubSettings, shared: SharedParts, runs: RunService, rollouts: RolloutService, alerts: AlertService
) -> Policies:
    gatherer = Gatherer(alerts.config.rules, shared.profiles, settings.monitoring.period_s)
    train = TrainTriggers(shared.db, shared.clock, shared.audit, runs, gatherer)
    deploy = DeployPolicies(shared.db, shared.clock, shared.audit, rollouts)
    return Policies(train=train, deploy=deploy, book=PolicyBook(shared.db, train, deploy))


def _listen(
    hooks: DeviceHooks,
    publications: Publications,
    assignments: AssignmentService,
    messaging: MessagingRuntime,
    deltas: DeltaService,
    delta_loop: DeltaLoop,
    alerts: AlertService,
) -> None:
    """Who hears of what, in this order."""
    alerts.publish_by(messaging.publish)
    hooks.on_enrolled(assignments.start_anew)
    hooks.on_enrolled(lambda _device_id: messaging.wake())
    hooks.on_cut_off(messaging.cut_off)
    publications.on_wake(messaging.wake)
    publications.on_wake(delta_loop.wake)
    deltas.on_wanted(delta_loop.wake)


def _delta_maker(settings: HubSettings) -> DeltaMaker:
    kept = settings.deltas
    limits = DeltaLimits(memory_bytes=kept.memory_bytes, cpu_s=kept.cpu_s, timeout_s=kept.timeout_s, user=kept.user)
    return DeltaMaker(settings.scratch_path, limits)


def _monitoring(settings: HubSettings, db: Database, clock: Clock, audit: AuditLog, blobs: BlobStore) -> _Monitoring:
    """What judges windows, and who hears of verdicts."""
    references, keep_s = References(blobs, clock), settings.monitoring.keep_days * 86_400.0
    evaluation = Evaluation(db, clock, references, settings.monitoring.period_s)
    alerts = AlertService(db, clock, audit, load_config(settings.alerts_path), settings.url, keep_s)
    evaluation.on_judged(alerts.hear)
    return _Monitoring(
        references=references,
        evaluation=evaluation,
        alerts=alerts,
        drift_views=DriftViews(db, clock, settings.monitoring.period_s),
        device_history=DeviceHistory(db, clock),
        window_retention=WindowRetention(db, clock, keep_s),
        tracer=tracer_of(settings.tracing),
    )


def _retention(settings: HubSettings) -> Retention:
    kept = settings.retention
    return Retention(approved_count=kept.approved_versions, fresh_s=kept.fresh_days * 86_400.0)
