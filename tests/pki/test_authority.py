"""Certificates: who issues them, what they are good for, and when they are made again."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from hub.pki.authority import Authority, new_key
from hub.pki.csr import parse_csr
from hub.pki.store import PUBLISHER_NAME, Pki
from hub.settings import HubSettings
from shared.errors import InvalidInput, NotFound, StorageFailure
from tests.hub_kit import csr_pem

NOW_S = 1_800_000_000.0
DAY_S = 86_400


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority.create("Test CA", tmp_path, "ca", now_s=NOW_S, days=3650)


def test_a_device_certificate_is_for_clients_only_and_is_no_authority(authority: Authority) -> None:
    key = new_key()
    issued = authority.issue_client(key.public_key(), "pi-1", now_s=NOW_S, lifetime_s=90 * DAY_S)
    certificate = issued.certificate
    certificate.verify_directly_issued_by(authority.certificate)
    assert certificate.public_key() == key.public_key()
    assert certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value == "pi-1"
    usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.CLIENT_AUTH]
    assert not certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert issued.not_after_s == NOW_S + 90 * DAY_S
    assert issued.fingerprint == certificate.fingerprint(SHA256()).hex()


def test_no_certificate_outlives_its_authority(authority: Authority) -> None:
    issued = authority.issue_client(new_key().public_key(), "pi-1", now_s=NOW_S, lifetime_s=7300 * DAY_S)
    assert issued.certificate.not_valid_after_utc == authority.certificate.not_valid_after_utc


def test_two_authorities_never_have_the_same_name(tmp_path: Path) -> None:
    made = [Authority.create("CA", tmp_path, str(n), now_s=NOW_S, days=1) for n in range(2)]
    assert made[0].certificate.subject != made[1].certificate.subject


def test_a_key_of_another_certificate_is_noticed(tmp_path: Path) -> None:
    for name in ("a", "b"):
        Authority.create("CA", tmp_path, name, now_s=NOW_S, days=1)
    (tmp_path / "a.key").write_bytes((tmp_path / "b.key").read_bytes())
    with pytest.raises(StorageFailure) as caught:
        Authority.load(tmp_path, "a")
    assert caught.value.code == "pki.damaged"


def settings(folder: Path, **changes: object) -> HubSettings:
    return HubSettings(data_dir=str(folder), **changes)  # type: ignore[arg-type]


def leaf(pki: Pki, name: str) -> x509.Certificate:
    return x509.load_pem_x509_certificate(pki.files(name).certificate.read_bytes())


def test_the_hub_has_two_authorities_and_three_leaves(tmp_path: Path) -> None:
    pki = Pki.create_or_load(settings(tmp_path), NOW_S)
    assert pki.ensure_leaves(NOW_S) == ["server", "broker", "publisher"]
    assert pki.ensure_leaves(NOW_S + DAY_S) == []
    for name in ("server", "broker", "publisher"):
        leaf(pki, name).verify_directly_issued_by(pki.hub_ca.certificate)
        assert pki.files(name).key.stat().st_mode & 0o777 == 0o600
    common_name = leaf(pki, "publisher").subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value
    assert common_name == PUBLISHER_NAME
    assert pki.hub_ca.sha256 != pki.device_ca.sha256
    assert pki.client_cas_file.read_text() == pki.hub_ca.pem + pki.device_ca.pem


def test_the_server_certificate_names_every_way_to_the_hub(tmp_path: Path) -> None:
    chosen = settings(tmp_path, public_url="https://hub.example.org:9443", mqtt_host="10.1.2.3", host="0.0.0.0")
    pki = Pki.create_or_load(chosen, NOW_S)
    pki.ensure_leaves(NOW_S)
    names = leaf(pki, "server").extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert {"hub.example.org", "localhost"} <= set(names.get_values_for_type(x509.DNSName))
    assert {"10.1.2.3", "127.0.0.1", "::1"} <= {str(ip) for ip in names.get_values_for_type(x509.IPAddress)}
    assert "0.0.0.0" not in {str(ip) for ip in names.get_values_for_type(x509.IPAddress)}


def test_a_leaf_is_made_again_near_its_end_or_for_a_new_name_and_authorities_never(tmp_path: Path) -> None:
    pki = Pki.create_or_load(settings(tmp_path), NOW_S)
    pki.ensure_leaves(NOW_S)
    assert pki.ensure_leaves(NOW_S + 300 * DAY_S) == ["server", "broker", "publisher"]
    renamed = Pki.create_or_load(settings(tmp_path, public_url="https://other.example:1"), NOW_S)
    assert renamed.ensure_leaves(NOW_S + 300 * DAY_S) == ["server", "broker"]
    assert renamed.hub_ca.pem == pki.hub_ca.pem


def test_a_leaf_whose_key_was_lost_in_a_power_cut_is_made_again(tmp_path: Path) -> None:
    pki = Pki.create_or_load(settings(tmp_path), NOW_S)
    pki.ensure_leaves(NOW_S)
    pki.files("server").key.write_bytes(pki.files("broker").key.read_bytes())
    pki.files("broker").key.write_bytes(b"")
    assert pki.ensure_leaves(NOW_S) == ["server", "broker"]


def test_a_hub_that_was_not_set_up_says_so(tmp_path: Path) -> None:
    with pytest.raises(NotFound) as caught:
        Pki.load(settings(tmp_path))
    assert caught.value.code == "storage.missing"


def signed_by(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey) -> str:
    algorithm = None if isinstance(key, ed25519.Ed25519PrivateKey) else SHA256()
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    return builder.sign(key, algorithm).public_bytes(Encoding.PEM).decode()


def broken_signature() -> str:
    text = csr_pem(new_key())
    request = x509.load_pem_x509_csr(text.encode())
    der = bytearray(request.public_bytes(Encoding.DER))
    der[-1] ^= 1
    return x509.load_der_x509_csr(bytes(der)).public_bytes(Encoding.PEM).decode()


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("", "csr.malformed"),
        ("-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n", "csr.malformed"),
        (csr_pem(new_key()) + "x" * 9000, "csr.too_large"),
        (signed_by(rsa.generate_private_key(65537, 2048)), "csr.key"),
        (signed_by(ec.generate_private_key(ec.SECP384R1())), "csr.key"),
        (signed_by(ed25519.Ed25519PrivateKey.generate()), "csr.key"),
        (broken_signature(), "csr.signature"),
    ],
    ids=["empty", "garbage", "too long", "rsa", "another curve", "ed25519", "signature"],
)
def test_a_request_that_is_not_right_is_refused(text: str, code: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse_csr(text)
    assert caught.value.code == code


def test_only_the_key_of_a_request_is_taken() -> None:
    key = new_key()
    assert parse_csr(csr_pem(key, "admin")) == key.public_key()
