"""Who tells the tracer of what. Nothing is connected while tracing is off, so it costs nothing."""

from __future__ import annotations

from collections.abc import Sequence

from hub.deployments.service import DeploymentPlan, DeploymentService
from hub.ingest.service import IngestService
from hub.messaging.runtime import MessagingRuntime
from hub.rollouts.service import Planned, RolloutService
from hub.tracing.spans import deployment_span, install_spans, publication_spans
from hub.tracing.tracer import Tracer
from shared.clock import Clock
from shared.wire.down import DesiredState
from shared.wire.up import InstallReport

__all__ = ["connect"]


def connect(
    tracer: Tracer,
    clock: Clock,
    messaging: MessagingRuntime,
    ingest: IngestService,
    deployments: DeploymentService,
    rollouts: RolloutService,
) -> None:
    """Have everything traced, if the tracer is on."""

    def sent(state: DesiredState, start_s: float, end_s: float) -> None:
        tracer.emit(publication_spans(state, start_s, end_s))

    def reported(device_id: str, reports: Sequence[InstallReport]) -> None:
        tracer.emit(install_spans(device_id, reports))

    def deployed(plan: DeploymentPlan, began_s: float) -> None:
        said: dict[str, str | int] = {"model": plan.model, "version": plan.version, "devices": plan.devices}
        tracer.emit([deployment_span("deployment", plan.deployment_id, began_s, clock.now(), said)])

    def planned(made: Planned, began_s: float) -> None:
        said: dict[str, str | int] = {
            "model": made.plan.model,
            "version": made.plan.version,
            "devices": made.forecast.devices,
        }
        tracer.emit([deployment_span("rollout", made.rollout_id, began_s, clock.now(), said)])

    if tracer.on:
        messaging.on_sent(sent)
        ingest.on_traced(reported)
        deployments.on_made(deployed)
        rollouts.on_made(planned)
