"""The cryptography of secure aggregation: fresh keys, common secrets of two devices, sealed shares, signed adverts.

X25519 for common secrets, HKDF with SHA-256 to make keys of them (bound to the session and to what they are for),
ChaCha20-Poly1305 for shares (each key seals one message, so its nonce is zero), ECDSA of the device's certificate key.
"""

from __future__ import annotations

import hashlib

from cryptography import x509
from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from shared.errors import InvalidInput, Untrusted
from shared.federated.secagg.messages import Advert, advert_body

__all__ = ["check_advert", "commitment", "mask_key", "open_sealed", "public_of", "seal", "sign_advert"]

_NONCE = bytes(12)


def public_of(private: bytes) -> bytes:
    """The public key of an X25519 key of 32 bytes."""
    return X25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw()


def commitment(session: bytes, seed: bytes) -> bytes:
    """What a device says about the seed of its own mask before anybody may know it."""
    return hashlib.sha256(b"skerry secagg seed" + session + seed).digest()


def mask_key(session: bytes, own: bytes, other: bytes) -> bytes:
    """The key of the mask that two devices share: the same from both sides; error `secure.key`."""
    return _common(session, own, other, b"mask" + b"".join(sorted((public_of(own), other))))


def seal(session: bytes, own: bytes, other: bytes, text: bytes, about: bytes) -> bytes:
    """`text`, readable only for the holder of `other`'s private key; `about` must be said again to open it."""
    key = _common(session, own, other, b"seal" + public_of(own) + other)
    return ChaCha20Poly1305(key).encrypt(_NONCE, text, session + about)


def open_sealed(session: bytes, own: bytes, other: bytes, sealed: bytes, about: bytes) -> bytes:
    """What `other` sealed for us; error `secure.sealed`."""
    key = _common(session, own, other, b"seal" + other + public_of(own))
    try:
        return ChaCha20Poly1305(key).decrypt(_NONCE, sealed, session + about)
    except InvalidTag as error:
        raise InvalidInput("secure.sealed", "A share was not sealed by the device that it is said to be of.") from error


def sign_advert(session: bytes, advert: Advert, key: ec.EllipticCurvePrivateKey) -> bytes:
    """The signature for an advert, over everything else in it."""
    return key.sign(advert_body(session, advert), ec.ECDSA(SHA256()))


def check_advert(session: bytes, advert: Advert, device_id: str, authority: x509.Certificate) -> None:
    """Refuse an advert that is not of this device; error `secure.untrusted`."""
    try:
        certificate = x509.load_der_x509_certificate(advert.certificate)
        certificate.verify_directly_issued_by(authority)
        key = certificate.public_key()
        names = [name.value for name in certificate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)]
        if names != [device_id] or not isinstance(key, ec.EllipticCurvePublicKey):
            raise ValueError("it is another device's")
        key.verify(advert.signature, advert_body(session, advert), ec.ECDSA(SHA256()))
    except (InvalidSignature, ValueError, TypeError) as error:
        raise Untrusted("secure.untrusted", f"The keys of {device_id} are not signed by it.") from error


def _common(session: bytes, own: bytes, other: bytes, purpose: bytes) -> bytes:
    try:
        secret = X25519PrivateKey.from_private_bytes(own).exchange(X25519PublicKey.from_public_bytes(other))
    except ValueError as error:
        raise InvalidInput("secure.key", "A device's key is none that a secret can be agreed on with.") from error
    return HKDF(SHA256(), 32, salt=session, info=b"skerry secagg " + purpose).derive(secret)
