"""Certificate requests from devices: bounded, then parsed, then the signature and the key are checked.

Only the public key is taken. Subject and extensions of the request are ignored: the hub decides who a device is.
"""

from __future__ import annotations

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.hashes import SHA256, SHA384, SHA512

from shared.errors import InvalidInput, TooLarge
from shared.limits import MAX_CSR_BYTES

__all__ = ["parse_csr"]

_HINT = "Make the key with `skerry-agent enrol`; it is ECDSA on the curve P-256."


def parse_csr(pem: str) -> EllipticCurvePublicKey:
    """The P-256 key whose holder signed this request; errors `csr.too_large|malformed|key|signature`."""
    data = pem.encode()
    if len(data) > MAX_CSR_BYTES:
        raise TooLarge("csr.too_large", f"The certificate request has more than {MAX_CSR_BYTES} bytes.")
    try:
        request = x509.load_pem_x509_csr(data)
        key = request.public_key()
        algorithm = request.signature_hash_algorithm
    except (ValueError, TypeError, UnsupportedAlgorithm, x509.InvalidVersion) as error:
        raise InvalidInput("csr.malformed", "The certificate request cannot be read.", hint=_HINT) from error
    if not isinstance(key, EllipticCurvePublicKey) or not isinstance(key.curve, SECP256R1):
        raise InvalidInput("csr.key", "The key of the certificate request is not ECDSA P-256.", hint=_HINT)
    if not isinstance(algorithm, SHA256 | SHA384 | SHA512) or not request.is_signature_valid:
        raise InvalidInput("csr.signature", "The certificate request is not signed by its own key.", hint=_HINT)
    return key
