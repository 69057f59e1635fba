"""What the broker and its clients are told, from the hub's settings and its keys."""

from __future__ import annotations

from hub.messaging.config import BrokerConfig
from hub.messaging.ingest import IngestLoopSettings
from hub.messaging.runtime import MessagingSettings
from hub.pki.store import PUBLISHER_NAME, Pki
from hub.settings import HubSettings

__all__ = ["broker_settings"]


def broker_settings(settings: HubSettings, pki: Pki) -> MessagingSettings:
    """The settings of the messaging; paths of keys are those of `pki`."""
    broker, publisher = pki.files("broker"), pki.files("publisher")
    return MessagingSettings(
        broker=BrokerConfig(
            directory=settings.nats_path.absolute(),
            certificate=broker.certificate.absolute(),
            key=broker.key.absolute(),
            client_cas=pki.client_cas_file.absolute(),
            mqtt_host=settings.host,
            mqtt_port=settings.mqtt_port,
            nats_port=settings.nats.port,
            store_bytes=settings.nats.store_bytes,
        ),
        hub_ca=pki.hub_ca_file,
        device_ca=pki.device_ca_file,
        publisher_certificate=publisher.certificate,
        publisher_key=publisher.key,
        publisher_name=PUBLISHER_NAME,
        url=settings.nats.url,
        mqtt_host=settings.broker_host if settings.nats.url else _local(settings.host),
        ingest=IngestLoopSettings(stream_bytes=settings.nats.store_bytes // 2),
    )


def _local(host: str) -> str:
    """The address at which a server that listens on `host` is reached from this machine."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
