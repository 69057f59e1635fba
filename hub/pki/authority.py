"""A certificate authority: an ECDSA P-256 key and its self-signed certificate, in two files of the data folder.

Each authority has a random part in its name, so that two hubs' authorities are never taken for each other. Leaves
are no CAs, have one purpose (client or server), and their validity starts a little earlier for clocks that lag.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import ipaddress
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from shared import durable
from shared.errors import StorageFailure
from shared.limits import MAX_KEY_FILE_BYTES

__all__ = ["Authority", "Issued", "key_pem", "new_key"]

_LAG_S = 300
_ORGANISATION = "Skerry"


@dataclass(frozen=True, slots=True)
class Issued:
    """A certificate that was just issued. `fingerprint`: SHA-256 of the DER; times in seconds since 1970."""

    certificate: x509.Certificate
    pem: str
    fingerprint: str
    serial: str
    not_after_s: float


def new_key() -> ec.EllipticCurvePrivateKey:
    """A fresh P-256 key."""
    return ec.generate_private_key(ec.SECP256R1())


def key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """PKCS#8 PEM without encryption, for files that only the hub's user can read."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _name(common_name: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, _ORGANISATION),
            x509.NameAttribute(NameOID.COMMON_NAME, common_name),
        ]
    )


def _time(seconds: float) -> dt.datetime:
    return dt.datetime.fromtimestamp(int(seconds), dt.UTC)


def _usage(*, ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not ca,
        key_cert_sign=ca,
        crl_sign=ca,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _san(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


class Authority:
    """Issues certificates; knows its own."""

    def __init__(self, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> None:
        self.certificate = certificate
        self._key = key
        self.pem = certificate.public_bytes(Encoding.PEM).decode()
        self.sha256 = hashlib.sha256(certificate.public_bytes(Encoding.DER)).hexdigest()

    @classmethod
    def create(cls, title: str, directory: Path, name: str, *, now_s: float, days: int) -> Authority:
        """A new authority in `<directory>/<name>.key` (0600) and `.crt`; the key is written first."""
        key = new_key()
        subject = _name(f"{title} {secrets.token_hex(4)}")
        own_id = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
        certificate = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(_time(now_s - _LAG_S))
            .not_valid_after(_time(now_s + days * 86_400))
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(ca=True), critical=True)
            .add_extension(own_id, critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(own_id), critical=False)
            .sign(key, SHA256())
        )
        durable.write_file(directory / f"{name}.key", key_pem(key))
        durable.write_file(directory / f"{name}.crt", certificate.public_bytes(Encoding.PEM), 0o644)
        return cls(certificate, key)

    @classmethod
    def load(cls, directory: Path, name: str) -> Authority:
        """The authority in `directory`; errors `storage.missing`, `pki.damaged`."""
        key_bytes = durable.read_file(directory / f"{name}.key", limit=MAX_KEY_FILE_BYTES)
        certificate_bytes = durable.read_file(directory / f"{name}.crt", limit=MAX_KEY_FILE_BYTES)
        try:
            key = load_pem_private_key(key_bytes, None)
            certificate = x509.load_pem_x509_certificate(certificate_bytes)
        except (ValueError, TypeError) as error:
            raise _damaged(name) from error
        if not isinstance(key, ec.EllipticCurvePrivateKey) or certificate.public_key() != key.public_key():
            raise _damaged(name)
        return cls(certificate, key)

    def issue_client(
        self, public_key: ec.EllipticCurvePublicKey, common_name: str, *, now_s: float, lifetime_s: float
    ) -> Issued:
        """A certificate with which its holder can be a TLS client."""
        return self._issue(public_key, common_name, ExtendedKeyUsageOID.CLIENT_AUTH, (), now_s, lifetime_s)

    def issue_server(
        self,
        public_key: ec.EllipticCurvePublicKey,
        common_name: str,
        names: Sequence[str],
        *,
        now_s: float,
        lifetime_s: float,
    ) -> Issued:
        """A certificate for a TLS server at `names` (DNS names and IP addresses)."""
        return self._issue(public_key, common_name, ExtendedKeyUsageOID.SERVER_AUTH, names, now_s, lifetime_s)

    def _issue(
        self,
        public_key: ec.EllipticCurvePublicKey,
        common_name: str,
        purpose: x509.ObjectIdentifier,
        names: Sequence[str],
        now_s: float,
        lifetime_s: float,
    ) -> Issued:
        ends = min(_time(now_s + lifetime_s), self.certificate.not_valid_after_utc)
        issuer_id = self.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
        builder = (
            x509.CertificateBuilder()
            .subject_name(_name(common_name))
            .issuer_name(self.certificate.subject)
            .public_key(public_key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(_time(now_s - _LAG_S))
            .not_valid_after(ends)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(ca=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(issuer_id), critical=False)
        )
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName([_san(name) for name in names]), critical=False)
        certificate = builder.sign(self._key, SHA256())
        return Issued(
            certificate=certificate,
            pem=certificate.public_bytes(Encoding.PEM).decode(),
            fingerprint=hashlib.sha256(certificate.public_bytes(Encoding.DER)).hexdigest(),
            serial=format(certificate.serial_number, "x"),
            not_after_s=certificate.not_valid_after_utc.timestamp(),
        )


def _damaged(name: str) -> StorageFailure:
    return StorageFailure(
        "pki.damaged",
        f"{name}.key and {name}.crt do not belong together or cannot be read.",
        hint="Put the files back from a backup of the data folder.",
    )
