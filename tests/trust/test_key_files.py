"""People's key files: only the right passphrase opens them, and one key never goes under two ids."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_ssh_private_key,
)
from securesystemslib.signer import CryptoSigner

from hub.trust.key_files import create_key, open_key, parse_key_name, read_public
from shared.errors import Conflict, InvalidInput, NotFound, Unauthorised

PASSPHRASE = b"correct horse battery"


@pytest.fixture
def alice(tmp_path: Path) -> Path:
    create_key(tmp_path, "alice", PASSPHRASE, rounds=1)
    return tmp_path / "alice.key"


def test_a_key_signs_under_the_id_of_its_public_file(alice: Path) -> None:
    public = read_public(alice.with_suffix(".pub"))
    signer = open_key(alice, PASSPHRASE)
    assert (public.name, public.key) == ("alice", signer.public_key)
    public.key.verify_signature(signer.sign(b"x"), b"x")


@pytest.mark.parametrize("passphrase", [b"", b"wrong", b"correct horse batter", PASSPHRASE + b"\n"])
def test_a_wrong_passphrase_opens_nothing(alice: Path, passphrase: bytes) -> None:
    with pytest.raises(Unauthorised) as caught:
        open_key(alice, passphrase)
    assert caught.value.code == "keys.wrong_passphrase"


def test_the_private_key_is_not_in_the_file_and_nobody_else_may_read_it(alice: Path) -> None:
    signer = open_key(alice, PASSPHRASE)
    assert alice.stat().st_mode & 0o777 == 0o600
    assert signer.private_bytes.splitlines()[1] not in alice.read_bytes()
    with pytest.raises(TypeError):
        load_ssh_private_key(alice.read_bytes(), None)


def test_a_stolen_file_costs_many_rounds_for_each_guess(tmp_path: Path) -> None:
    create_key(tmp_path, "alice", PASSPHRASE)
    body = b"".join((tmp_path / "alice.key").read_bytes().splitlines()[1:-1])
    raw = base64.b64decode(body)
    options = raw.index(b"bcrypt") + len(b"bcrypt") + 4
    salt_length = int.from_bytes(raw[options : options + 4])
    assert int.from_bytes(raw[options + 4 + salt_length : options + 8 + salt_length]) >= 64


def test_an_existing_key_is_never_overwritten(alice: Path) -> None:
    before = alice.read_bytes()
    with pytest.raises(Conflict) as caught:
        create_key(alice.parent, "alice", PASSPHRASE, rounds=1)
    assert caught.value.code == "keys.exists"
    assert alice.read_bytes() == before


def test_a_short_passphrase_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput) as caught:
        create_key(tmp_path, "alice", b"1234567")
    assert caught.value.code == "keys.weak_passphrase"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["", "../alice", "Alice", "a b", "a/b", ".alice", "x" * 64])
def test_a_hostile_name_is_refused(name: str) -> None:
    with pytest.raises(InvalidInput):
        parse_key_name(name)


def test_a_key_without_a_passphrase_is_refused(tmp_path: Path) -> None:
    for name, form in (("a", PrivateFormat.OpenSSH), ("b", PrivateFormat.PKCS8)):
        made = CryptoSigner.generate_ed25519()
        private = made._private_key
        data = private.private_bytes(Encoding.PEM, form, NoEncryption())
        (tmp_path / f"{name}.key").write_bytes(data)
        with pytest.raises(InvalidInput) as caught:
            open_key(tmp_path / f"{name}.key", PASSPHRASE)
        assert caught.value.code == "keys.not_encrypted"


def test_an_encrypted_pkcs8_key_opens_too(tmp_path: Path) -> None:
    made = CryptoSigner.generate_ed25519()
    encryption = BestAvailableEncryption(PASSPHRASE)
    data = made._private_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)
    (tmp_path / "old.key").write_bytes(data)
    assert open_key(tmp_path / "old.key", PASSPHRASE).public_key == made.public_key
    with pytest.raises(Unauthorised):
        open_key(tmp_path / "old.key", b"wrong passphrase")


def test_a_key_of_another_kind_is_refused(tmp_path: Path) -> None:
    private = ec.generate_private_key(ec.SECP256R1())
    data = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(PASSPHRASE))
    (tmp_path / "ec.key").write_bytes(data)
    with pytest.raises(InvalidInput) as caught:
        open_key(tmp_path / "ec.key", PASSPHRASE)
    assert caught.value.code == "keys.malformed"


@pytest.mark.parametrize("data", [b"", b"{}", b"not a key", b"-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n"])
def test_garbage_is_refused_with_a_code(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "x.key").write_bytes(data)
    (tmp_path / "x.pub").write_bytes(data)
    with pytest.raises(InvalidInput) as caught:
        open_key(tmp_path / "x.key", PASSPHRASE)
    assert caught.value.code == "keys.malformed"
    with pytest.raises(InvalidInput) as caught:
        read_public(tmp_path / "x.pub")
    assert caught.value.code == "keys.malformed"
    with pytest.raises(NotFound):
        read_public(tmp_path / "nobody.pub")


def test_a_public_file_with_a_foreign_key_id_is_refused(alice: Path) -> None:
    path = alice.with_suffix(".pub")
    document = json.loads(path.read_text())
    path.write_text(json.dumps({**document, "key_id": "0" * 64}))
    with pytest.raises(InvalidInput) as caught:
        read_public(path)
    assert caught.value.code == "keys.malformed"
