"""A certificate authority for tests: servers and devices on 127.0.0.1."""

from __future__ import annotations

import datetime as dt
import ipaddress
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

DAY = dt.timedelta(days=1)


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


class Authority:
    """Issues certificates; `pem` is its own."""

    def __init__(self, name: str = "test ca", first_day: float = -1) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        now = dt.datetime.now(dt.UTC)
        self._certificate = (
            x509.CertificateBuilder()
            .subject_name(_name(name))
            .issuer_name(_name(name))
            .public_key(self._key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now + first_day * DAY)
            .not_valid_after(now + 10 * DAY)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(self._key.public_key()), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        self.pem = self._certificate.public_bytes(serialization.Encoding.PEM).decode()
        self.sha256 = self._certificate.fingerprint(hashes.SHA256()).hex()

    def issue(
        self,
        name: str,
        public_key: ec.EllipticCurvePublicKey,
        days: float = 3,
        server: bool = False,
        first_day: float = -1,
    ) -> str:
        """A certificate (PEM) for `name` that ends in `days`."""
        now = dt.datetime.now(dt.UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(_name(name))
            .issuer_name(self._certificate.subject)
            .public_key(public_key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now + first_day * DAY)
            .not_valid_after(now + days * DAY)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        )
        if server:
            names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        return builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()

    def answer(self, csr_pem: str, name: str, days: float = 3) -> str:
        """A certificate over the key of a signing request."""
        request = x509.load_pem_x509_csr(csr_pem.encode())
        key = request.public_key()
        assert request.is_signature_valid
        assert isinstance(key, ec.EllipticCurvePublicKey)
        return self.issue(name, key, days)

    def write_server(self, folder: Path, days: float = 3, first_day: float = -1) -> tuple[Path, Path]:
        """Key and certificate files of a server on 127.0.0.1."""
        key = ec.generate_private_key(ec.SECP256R1())
        plain = serialization.NoEncryption()
        pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
        key_path, certificate_path = folder / "server.key", folder / "server.crt"
        key_path.write_bytes(pem)
        certificate_path.write_text(self.issue("server", key.public_key(), days, server=True, first_day=first_day))
        return key_path, certificate_path
