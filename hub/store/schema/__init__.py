"""All tables. SQLite (WAL) and PostgreSQL from the same definitions; migrations are in `hub/store/migrations`.

Times are seconds since 1970 (`_s`, REAL). JSON is canonical text in a TEXT column where its bytes are hashed or
signed, and `JSON` where it is only shown. One module for each room of the hub.
"""

from __future__ import annotations

from hub.store.schema.base import metadata
from hub.store.schema.deltas import deltas
from hub.store.schema.deployments import assignments, deployments
from hub.store.schema.devices import (
    device_certificates,
    device_epochs,
    device_events,
    device_models,
    device_status,
    device_tags,
    devices,
    enrolment_tokens,
    install_reports,
)
from hub.store.schema.federated import (
    device_samples,
    federated_answers,
    federated_checkpoints,
    federated_rounds,
    federated_runs,
    federated_traffic,
)
from hub.store.schema.groups import device_group_members, device_group_references, device_groups
from hub.store.schema.health import health_latency, health_windows, shadow_windows
from hub.store.schema.monitoring import (
    alert_deliveries,
    alert_silences,
    alerts,
    app_metrics,
    drift_results,
    drift_sums,
    window_latest,
    window_marks,
)
from hub.store.schema.people import api_tokens, audit
from hub.store.schema.policies import (
    deploy_decisions,
    deploy_policies,
    train_firings,
    train_keys,
    train_policies,
    train_state,
    trigger_clock,
)
from hub.store.schema.registry import alias_history, blobs, datasets, gate_results, models, versions
from hub.store.schema.rollouts import (
    rollout_arrivals,
    rollout_devices,
    rollout_events,
    rollout_groups,
    rollout_tallies,
    rollouts,
)
from hub.store.schema.running import leases
from hub.store.schema.trust import tuf_files, tuf_metadata, tuf_staged
from hub.store.schema.watching import device_errors, device_history, device_outcomes

__all__ = [
    "alert_deliveries",
    "alert_silences",
    "alerts",
    "alias_history",
    "api_tokens",
    "app_metrics",
    "assignments",
    "audit",
    "blobs",
    "datasets",
    "deltas",
    "deploy_decisions",
    "deploy_policies",
    "deployments",
    "device_certificates",
    "device_epochs",
    "device_errors",
    "device_events",
    "device_group_members",
    "device_group_references",
    "device_groups",
    "device_history",
    "device_models",
    "device_outcomes",
    "device_samples",
    "device_status",
    "device_tags",
    "devices",
    "drift_results",
    "drift_sums",
    "enrolment_tokens",
    "federated_answers",
    "federated_checkpoints",
    "federated_rounds",
    "federated_runs",
    "federated_traffic",
    "gate_results",
    "health_latency",
    "health_windows",
    "install_reports",
    "leases",
    "metadata",
    "models",
    "rollout_arrivals",
    "rollout_devices",
    "rollout_events",
    "rollout_groups",
    "rollout_tallies",
    "rollouts",
    "shadow_windows",
    "train_firings",
    "train_keys",
    "train_policies",
    "train_state",
    "trigger_clock",
    "tuf_files",
    "tuf_metadata",
    "tuf_staged",
    "versions",
    "window_latest",
    "window_marks",
]
