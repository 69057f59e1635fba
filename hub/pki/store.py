"""The certificates of one hub, in `<data>/pki`.

`hub-ca` issues what the hub itself presents: `server` (HTTPS), `broker` (MQTT) and `publisher` (the hub's own MQTT
client). `device-ca` issues device certificates only, and only it is trusted for clients of the HTTPS port, so that a
certificate of the hub can never pass for a device. Leaves are made again when they near their end or when the hub's
names have changed; authorities never.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from hub.pki.authority import Authority, Issued, key_pem, new_key
from hub.settings import HubSettings
from shared import durable
from shared.limits import MAX_KEY_FILE_BYTES

__all__ = ["PUBLISHER_NAME", "KeyFiles", "Pki"]

DAY_S = 86_400
PUBLISHER_NAME = "hub:publisher"
SERVER_NAME = "skerry hub"
_RENEW_BEFORE = 1 / 3


@dataclass(frozen=True, slots=True)
class KeyFiles:
    """A certificate chain and its key as files."""

    certificate: Path
    key: Path


class Pki:
    """Both authorities, and the files of what the hub presents."""

    def __init__(self, settings: HubSettings, hub_ca: Authority, device_ca: Authority) -> None:
        self._settings = settings
        self._directory = settings.pki_path
        self.hub_ca = hub_ca
        self.device_ca = device_ca

    @classmethod
    def create_or_load(cls, settings: HubSettings, now_s: float) -> Pki:
        """The hub's authorities, made when there are none yet; errors `pki.damaged`, `storage.*`."""
        durable.make_dir(settings.pki_path)
        return cls(settings, _authority(settings, "hub-ca", now_s), _authority(settings, "device-ca", now_s))

    @classmethod
    def load(cls, settings: HubSettings) -> Pki:
        """The authorities of a hub that has been set up; `storage.missing` otherwise."""
        directory = settings.pki_path
        return cls(settings, Authority.load(directory, "hub-ca"), Authority.load(directory, "device-ca"))

    @property
    def hub_ca_file(self) -> Path:
        """The certificate that clients of hub and broker trust."""
        return self._directory / "hub-ca.crt"

    @property
    def device_ca_file(self) -> Path:
        """The certificate that vouches for devices."""
        return self._directory / "device-ca.crt"

    @property
    def client_cas_file(self) -> Path:
        """Both authorities in one file: the broker's clients are devices and the hub itself."""
        return self._directory / "client-cas.crt"

    def files(self, name: str) -> KeyFiles:
        """Where the leaf `name` (server, broker or publisher) is."""
        return KeyFiles(self._directory / f"{name}.crt", self._directory / f"{name}.key")

    def ensure_leaves(self, now_s: float) -> list[str]:
        """Make the leaves that are missing, near their end or for other names; returns which were made."""
        bundle = (self.hub_ca.pem + self.device_ca.pem).encode()
        if not self.client_cas_file.exists() or self.client_cas_file.read_bytes() != bundle:
            durable.write_file(self.client_cas_file, bundle, 0o644)
        names = self._server_names()
        lifetime_s = self._settings.certificates.server_days * DAY_S

        def server(key: ec.EllipticCurvePublicKey) -> Issued:
            return self.hub_ca.issue_server(key, SERVER_NAME, names, now_s=now_s, lifetime_s=lifetime_s)

        def publisher(key: ec.EllipticCurvePublicKey) -> Issued:
            return self.hub_ca.issue_client(key, PUBLISHER_NAME, now_s=now_s, lifetime_s=lifetime_s)

        made = [name for name in ("server", "broker") if self._ensure(name, names, now_s, server)]
        return made + (["publisher"] if self._ensure("publisher", [], now_s, publisher) else [])

    def _server_names(self) -> list[str]:
        settings = self._settings
        names = [urlsplit(settings.url).hostname or "localhost", settings.broker_host, settings.federated_host]
        names += [settings.host, "localhost", "127.0.0.1", "::1", socket.gethostname()]
        return [name for name in dict.fromkeys(names) if name and name.isascii() and name not in ("0.0.0.0", "::")]

    def _ensure(
        self, name: str, names: list[str], now_s: float, issue: Callable[[ec.EllipticCurvePublicKey], Issued]
    ) -> bool:
        files = self.files(name)
        if _still_good(files, names, now_s, self.hub_ca):
            return False
        key = new_key()
        issued = issue(key.public_key())
        # One file with chain and key would be atomic; nats-server and ssl want two. A cut between them is seen at the
        # next start, because the key no longer belongs to the certificate.
        durable.write_file(files.key, key_pem(key))
        durable.write_file(files.certificate, (issued.pem + self.hub_ca.pem).encode(), 0o644)
        return True


def _authority(settings: HubSettings, name: str, now_s: float) -> Authority:
    directory = settings.pki_path
    if (directory / f"{name}.crt").exists():
        return Authority.load(directory, name)
    title = "Skerry hub CA" if name == "hub-ca" else "Skerry device CA"
    return Authority.create(title, directory, name, now_s=now_s, days=settings.certificates.ca_days)


def _still_good(files: KeyFiles, names: list[str], now_s: float, issuer: Authority) -> bool:
    if not files.certificate.exists() or not files.key.exists():
        return False
    certificate = x509.load_pem_x509_certificates(durable.read_file(files.certificate, limit=MAX_KEY_FILE_BYTES))[0]
    if certificate.issuer != issuer.certificate.subject or not _belongs(files, certificate):
        return False
    starts, ends = certificate.not_valid_before_utc.timestamp(), certificate.not_valid_after_utc.timestamp()
    if now_s > ends - (ends - starts) * _RENEW_BEFORE:
        return False
    return set(names) <= _names_in(certificate)


def _belongs(files: KeyFiles, certificate: x509.Certificate) -> bool:
    data = durable.read_file(files.key, limit=MAX_KEY_FILE_BYTES)
    try:
        return load_pem_private_key(data, None).public_key() == certificate.public_key()
    except (ValueError, TypeError):
        return False  # a torn or foreign file: the leaf is made again


def _names_in(certificate: x509.Certificate) -> set[str]:
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return set()
    addresses = [str(address) for address in found.get_values_for_type(x509.IPAddress)]
    return {*found.get_values_for_type(x509.DNSName), *addresses}
