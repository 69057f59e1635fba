"""Settings of the hub: parsed once, frozen, every unit in the name. An unknown key or a bad value refuses to start.

Layers, later ones win: the defaults here, `<data>/hub.yaml`, the environment (`SKERRY_HUB_PORT`,
`SKERRY_HUB_NATS__PORT`), command line options. Every path of the data folder is derived here and nowhere else.
"""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta

__all__ = [
    "CertificateSettings",
    "DeltaSettings",
    "EnrolmentSettings",
    "FederatedSettings",
    "GateSettings",
    "HubSettings",
    "MonitoringSettings",
    "NatsSettings",
    "RetentionSettings",
    "TracingSettings",
    "TrustSettings",
]

DAY_S = 86_400
Port = Annotated[int, Meta(ge=1, le=65_535)]
Days = Annotated[int, Meta(ge=1, le=7300)]
Seconds = Annotated[int, Meta(ge=1, le=10 * 365 * DAY_S)]
Host = Annotated[str, Meta(max_length=253, pattern=r"^[A-Za-z0-9_.:-]*\Z")]
_LOOPBACK = ("127.0.0.1", "::1", "localhost")


class NatsSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The message broker. `url` empty: the hub runs its own nats-server as a child, which it reaches on `port` of the
    loopback (0: one that is free)."""

    url: Annotated[str, Meta(max_length=512)] = ""
    port: Annotated[int, Meta(ge=0, le=65_535)] = 0
    store_bytes: Annotated[int, Meta(ge=16 * 1024**2)] = 1024**3


class CertificateSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Lifetimes. A device asks for a new certificate when a third of its lifetime is left."""

    device_days: Days = 90
    server_days: Days = 397
    ca_days: Days = 3650


class EnrolmentSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One-time enrolment tokens."""

    token_ttl_s: Seconds = DAY_S
    max_token_ttl_s: Seconds = 30 * DAY_S


class TrustSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Lifetimes of signed metadata, and how often the online roles are signed again."""

    timestamp_expires_s: Seconds = DAY_S
    snapshot_expires_s: Seconds = 7 * DAY_S
    targets_expires_s: Seconds = 365 * DAY_S
    refresh_s: Seconds = 3600


class GateSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Gate runs. `default_min_accuracy` (0 to 1) is for models without a policy; the rest bounds a run.

    user: the account that the worker changes to when the hub is root ("" stays root, without its powers).
    """

    default_min_accuracy: Annotated[float, Meta(ge=0, le=1)] = 0.8
    at_once: Annotated[int, Meta(ge=1, le=64)] = 1
    timeout_s: Seconds = 600
    cpu_s: Seconds = 300
    memory_bytes: Annotated[int, Meta(ge=512 * 1024**2)] = 4 * 1024**3
    user: Annotated[str, Meta(max_length=32)] = "nobody"


class DeltaSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Making a delta between two bundles, which is done by one child at a time.

    user: the account that the worker changes to when the hub is root ("" stays root, without its powers).
    """

    timeout_s: Seconds = 900
    cpu_s: Seconds = 600
    memory_bytes: Annotated[int, Meta(ge=512 * 1024**2)] = 1024**3
    user: Annotated[str, Meta(max_length=32)] = "nobody"


class FederatedSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Federated training. Runs that go on at once have a port each: `port` and those that follow it.

    host: how devices reach these ports (default: the host of `public_url`); the hub listens on its own `host`.
    engine: `stock` also lets stock Flower SuperNodes join; they fetch and run `program`, the file of a Flower app.
    """

    port: Annotated[int, Meta(ge=1, le=65_000)] = 8450
    at_once: Annotated[int, Meta(ge=1, le=64)] = 1
    host: Host = ""
    engine: Literal["embedded", "stock"] = "embedded"
    program: Annotated[str, Meta(max_length=4096)] = ""


class RetentionSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What garbage collection keeps although nothing points to it; `every_s`: how often it runs by itself.

    health_days: how long the health of versions is kept, in periods of five minutes.
    """

    approved_versions: Annotated[int, Meta(ge=1, le=1000)] = 3
    fresh_days: Days = 30
    health_days: Days = 14
    every_s: Seconds = DAY_S


class MonitoringSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Drift and what goes with it. Windows are added up, and judged, by periods of `period_s`; kept for `keep_days`."""

    period_s: Annotated[int, Meta(ge=2, le=7 * DAY_S)] = 3600
    keep_days: Days = 30


class TracingSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Traces of deployments. `endpoint` is the collector's OTLP/HTTP address, like http://127.0.0.1:4318/v1/traces;
    empty: no traces. Needs the extra `otel`."""

    endpoint: Annotated[str, Meta(max_length=512, pattern=r"^(https?://[^\s]+)?\Z")] = ""
    service_name: Annotated[str, Meta(min_length=1, max_length=128)] = "skerry-hub"


class HubSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All settings of one hub.

    `host` is the address to listen on; the default serves this machine only. `public_url` is how devices and people
    reach the hub (default: made from host and port); `mqtt_host` is how devices reach the broker (default: the same
    host). `database_url` is `sqlite:///…` or `postgresql://…` (default: SQLite in the data folder).
    """

    data_dir: Annotated[str, Meta(min_length=1, max_length=4096)]
    host: Host = "127.0.0.1"
    port: Port = 8443
    public_url: Annotated[str, Meta(max_length=512, pattern=r"^(https://[^\s/]+)?\Z")] = ""
    database_url: Annotated[str, Meta(max_length=1024)] = ""
    mqtt_host: Host = ""
    mqtt_port: Port = 8883
    nats: NatsSettings = NatsSettings()
    certificates: CertificateSettings = CertificateSettings()
    enrolment: EnrolmentSettings = EnrolmentSettings()
    trust: TrustSettings = TrustSettings()
    gates: GateSettings = GateSettings()
    deltas: DeltaSettings = DeltaSettings()
    federated: FederatedSettings = FederatedSettings()
    retention: RetentionSettings = RetentionSettings()
    monitoring: MonitoringSettings = MonitoringSettings()
    tracing: TracingSettings = TracingSettings()
    assignment_lifetime_s: Seconds = 7 * DAY_S
    offline_after_s: Seconds = 180
    token_days: Days = 90
    admin_token_days: Days = 3650

    @property
    def data_path(self) -> Path:
        """The data folder."""
        return Path(self.data_dir)

    @property
    def pki_path(self) -> Path:
        """Certificates and keys of both CAs, the server, the broker and the publisher."""
        return self.data_path / "pki"

    @property
    def keys_path(self) -> Path:
        """The online signing keys (`online.key`, `assignment.key`)."""
        return self.data_path / "keys"

    @property
    def blobs_path(self) -> Path:
        """Content-addressed files."""
        return self.data_path / "blobs"

    @property
    def profiles_path(self) -> Path:
        """Firmware profiles of the fleet's own, `<name>.yaml` each, beside those that come with Skerry."""
        return self.data_path / "profiles"

    @property
    def alerts_path(self) -> Path:
        """Routes and rules of alerts, beside the ready ones; may be missing."""
        return self.data_path / "alerts.yaml"

    @property
    def scratch_path(self) -> Path:
        """Bundles that are unpacked while their gate runs."""
        return self.data_path / "scratch"

    @property
    def federated_path(self) -> Path:
        """Working folders of the processes that do federated runs."""
        return self.data_path / "federated"

    @property
    def nats_path(self) -> Path:
        """Configuration and streams of the child nats-server."""
        return self.data_path / "nats"

    @property
    def admin_token_path(self) -> Path:
        """Where `init` leaves the first administrator's token."""
        return self.data_path / "admin.token"

    @property
    def database(self) -> str:
        """The SQLAlchemy URL in use."""
        return self.database_url or f"sqlite:///{self.data_path.absolute() / 'hub.db'}"

    @property
    def url(self) -> str:
        """The hub's address as devices and people use it, without a trailing slash."""
        if self.public_url:
            return self.public_url
        return f"https://{_bracketed(self.host if self.host in _LOOPBACK else socket.gethostname())}:{self.port}"

    @property
    def federated_host(self) -> str:
        """The host of federated training's ports as devices use it."""
        return self.federated.host or urlsplit(self.url).hostname or "127.0.0.1"

    @property
    def broker_host(self) -> str:
        """The broker's host as devices use it."""
        return self.mqtt_host or urlsplit(self.url).hostname or "127.0.0.1"


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
