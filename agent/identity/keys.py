"""Key, signing request and certificate of the device (ECDSA P-256). Not imported by the daemon."""

from __future__ import annotations

import hmac

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from agent.identity.store import IdentityStore, Validity
from shared import durable, limits
from shared.errors import InvalidInput, NotFound, Untrusted

__all__ = ["check_certificate", "make_csr", "new_key", "only_certificate", "pending_key"]


def new_key() -> bytes:
    """A fresh private key as unencrypted PKCS#8 PEM; it is protected by the file's mode."""
    return ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def pending_key(store: IdentityStore) -> bytes:
    """The key that waits for its certificate; made and stored when there is none."""
    try:
        return durable.read_file(store.pending_key, limit=limits.MAX_KEY_FILE_BYTES)
    except NotFound:
        key_pem = new_key()
        store.keep_pending_key(key_pem)
        return key_pem


def _load_key(key_pem: bytes) -> ec.EllipticCurvePrivateKey:
    try:
        key = serialization.load_pem_private_key(key_pem, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise InvalidInput("identity.key", "The device's key file is damaged.") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise InvalidInput("identity.key", "The device's key is not an elliptic-curve key.")
    return key


def make_csr(key_pem: bytes, name: str) -> str:
    """A signing request (PEM) that proves possession of the key; the hub decides the name in the certificate."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    request = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(_load_key(key_pem), hashes.SHA256())
    return request.public_bytes(serialization.Encoding.PEM).decode()


def _load_certificate(pem: bytes) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(pem)
    except ValueError as error:
        raise Untrusted("identity.certificate", "The hub sent something that is not a certificate.") from error


def only_certificate(pem: bytes, sha256: str) -> str:
    """The PEM of the one certificate in `pem`, if its fingerprint (SHA-256 over DER, hex) is `sha256`; `identity.ca`.

    More than one is refused: whatever stood beside the pinned certificate would be trusted along with it.
    """
    try:
        certificates = x509.load_pem_x509_certificates(pem)
    except ValueError as error:
        raise Untrusted("identity.ca", "The hub sent something that is not a certificate.") from error
    if len(certificates) != 1 or not hmac.compare_digest(certificates[0].fingerprint(hashes.SHA256()).hex(), sha256):
        raise Untrusted(
            "identity.ca",
            "This is not the hub that the join string is for.",
            hint="Somebody may be in between. Check the address and ask for a new join string.",
        )
    return certificates[0].public_bytes(serialization.Encoding.PEM).decode()


def check_certificate(certificate_pem: bytes, key_pem: bytes, device_id: str) -> Validity:
    """The validity of a certificate that is over our key and names this device, else `identity.certificate`."""
    certificate = _load_certificate(certificate_pem)
    public = serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    if certificate.public_key().public_bytes(*public) != _load_key(key_pem).public_key().public_bytes(*public):
        raise Untrusted("identity.certificate", "The certificate from the hub is not over this device's key.")
    names = [attribute.value for attribute in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    if names != [device_id]:
        raise Untrusted("identity.certificate", f"The certificate from the hub names {names!r:.80}, not {device_id}.")
    return Validity(
        not_before_s=certificate.not_valid_before_utc.timestamp(),
        not_after_s=certificate.not_valid_after_utc.timestamp(),
        sha256=certificate.fingerprint(hashes.SHA256()).hex(),
    )
