"""Reviewers' keys in hardware, on a token in software: what they sign, the hub, the command line and devices verify."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.ota.update_client import UpdateClient
from hub.trust import metadata
from hub.trust.hardware_keys import HardwareSigner, is_hardware, list_hardware, read_hardware
from hub.trust.key_files import parse_public
from shared.clock import SystemClock
from shared.errors import InvalidInput, NotFound, SkerryError, Unauthorised
from tests.trust.client import Client
from tests.trust.desk import Desk, open_desk
from tests.trust.softhsm import PIN, Token
from tests.trust_kit import TrustKit


@pytest.fixture(scope="session")
def token(tmp_path_factory: pytest.TempPathFactory) -> Token:
    """Keys 1 and 2 are on P-256, key 3 is on P-384."""
    made = Token(tmp_path_factory.mktemp("softhsm"))
    made.make(1)
    made.make(2)
    made.make(3, "secp384r1")
    return made


def uri(token: Token, key_id: int) -> str:
    return f"hsm:{key_id}?label={token.label.replace(' ', '%20')}"


class Served:
    """The kit's repository as the agent's source."""

    def __init__(self, kit: TrustKit) -> None:
        self._kit = kit

    def get(self, path: str, limit: int) -> bytes:
        return self._kit.fetch(f"/v1/tuf/{path}")


@pytest.mark.parametrize(("key_id", "scheme"), [(2, "ecdsa-sha2-nistp256"), (3, "ecdsa-sha2-nistp384")])
def test_what_hardware_signs_verifies_and_its_key_is_read_without_a_pin(
    token: Token, key_id: int, scheme: str
) -> None:
    key = read_hardware(uri(token, key_id))
    assert key.scheme == scheme
    signer = HardwareSigner(uri(token, key_id), PIN)
    key.verify_signature(signer.sign(b"what was shown"), b"what was shown")
    assert parse_public(key.keyid, key.to_dict()) == key


def test_releases_signed_in_hardware_reach_tuf_clients_and_devices(
    token: Token, kit: TrustKit, tmp_path: Path
) -> None:
    kit.create_model("digits")
    signers = [HardwareSigner(uri(token, key_id), PIN) for key_id in (2, 3)]
    quorum = metadata.Quorum(tuple(signer.public_key for signer in signers), 2)
    kit.propose(
        "targets",
        metadata.revise_targets(kit.current("targets"), models={"digits": quorum}, expires_s=kit.year_s),
    )
    kit.add_version("digits", 1, b"one")
    staged = kit.stage("digits", 1)
    for signer in signers:
        signature = signer.sign(metadata.parse_any(staged.data).signed_bytes)
        staged = kit.repository.add_signature(
            staged.role, staged.version, signature.keyid, signature.signature, "kit"
        )
    assert staged.published
    with kit.serve() as url:
        assert Client(tmp_path / "client", url, kit.root).download("digits/1.bundle") == b"one"
    device = UpdateClient(tmp_path / "device", Served(kit), SystemClock(), bootstrap=kit.root)
    assert device.target("digits/1.bundle") is not None


def test_the_keys_on_a_token_are_listed(token: Token) -> None:
    found = {address: key.scheme for label, address, key in list_hardware() if label == token.label}
    assert found[uri(token, 1)] == "ecdsa-sha2-nistp256"
    assert found[uri(token, 3)] == "ecdsa-sha2-nistp384"


def test_a_wrong_pin_is_tried_once_and_said_so(token: Token) -> None:
    signer = HardwareSigner(uri(token, 2), "000000")
    with pytest.raises(Unauthorised) as caught:
        signer.sign(b"x")
    assert caught.value.code == "keys.wrong_pin"
    HardwareSigner(uri(token, 2), PIN).sign(b"x")


@pytest.mark.parametrize(
    ("address", "code"),
    [
        ("hsm:77?label=Skerry%20test", "keys.hsm_missing"),
        ("hsm:2?label=nobody", "keys.hsm_missing"),
        ("hsm:two", "keys.hsm_uri"),
        ("hsm:2?pin=1234", "keys.hsm_uri"),
        ("hsm:2?label=", "keys.hsm_uri"),
    ],
)
def test_a_key_that_is_not_there_is_said_so(token: Token, address: str, code: str) -> None:
    with pytest.raises(SkerryError) as caught:
        read_hardware(address)
    assert caught.value.code == code


def test_without_a_module_the_person_is_told_what_to_set(token: Token, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYKCS11LIB")
    for ask in (lambda: read_hardware("hsm:"), list_hardware):
        with pytest.raises(InvalidInput) as caught:
            ask()
        assert "PYKCS11LIB" in caught.value.hint


def test_keys_of_other_kinds_are_refused() -> None:
    from cryptography.hazmat.primitives.asymmetric.ec import SECP521R1, generate_private_key
    from securesystemslib.signer import SSlibKey

    other = SSlibKey.from_crypto(generate_private_key(SECP521R1()).public_key())
    with pytest.raises(ValueError, match="P-256"):
        parse_public(other.keyid, other.to_dict())
    assert not is_hardware("alice.key")


# --- the command line -------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory, token: Token) -> Iterator[Desk]:
    with open_desk(tmp_path_factory.mktemp("desk"), trust=False) as made:
        made.skerry.environ |= {**token.environ, "SKERRY_PIN": PIN}
        yield made


def test_hardware_signs_wherever_a_key_is_asked_for(desk: Desk, token: Token) -> None:
    skerry, anna, alice = desk.skerry, uri(token, 1), uri(token, 2)
    for name, address in (("hanna", anna), ("halice", alice)):
        made = skerry.json("keys", "hsm", "export", name, address, "--dir", desk.folder / "keys")
        assert made["key_id"] == skerry.json("keys", "show", address)["key_id"]
    root_keys: list[str | Path] = ["--root-key", anna, "--root-key", desk.key("bert")]
    said = skerry("trust", "init", *root_keys, "--threshold", "2", "--out", desk.folder / "root.json")
    assert said.code == 0, said.err
    reviewers: list[str | Path] = ["--reviewer", desk.key("halice", "pub"), "--reviewer", desk.key("bob", "pub")]
    signers: list[str | Path] = ["--sign-with", anna, "--sign-with", desk.key("bert")]
    said = skerry("models", "create", "digits", *reviewers, *signers)
    assert said.code == 0, said.err
    assert "published" in said.out
    desk.register(1)
    refused = skerry("versions", "sign", "digits", "1", "--key", uri(token, 3), "--yes", "--json")
    assert refused.error["code"] == "trust.unknown_key"
    for key in (alice, desk.key("bob")):
        said = skerry("versions", "sign", "digits", "1", "--key", key, "--yes")
        assert said.code == 0, said.err
    assert skerry.json("versions", "show", "digits", "1")["status"] == "approved"
    uses = {item["name"]: item["roles"] for item in skerry.json("keys", "list", "--dir", desk.folder / "keys")}
    assert [use["role"] for use in uses["halice"]] == ["model-digits"]


def test_a_passphrase_for_files_is_never_tried_as_a_pin(desk: Desk, token: Token) -> None:
    words = ("keys", "ceremony", "sign", desk.folder / "missing", "--key", uri(token, 2), "--yes", "--json")
    assert desk.skerry(*words).error["code"] == "cli.file"
    words_list = ("trust", "renew", "targets", "--sign-with", uri(token, 1), "--json")
    said = desk.skerry(*words_list, stdin="", SKERRY_PIN="")
    assert said.error["code"] == "cli.no_passphrase"
    assert "SKERRY_PIN" in said.error["hint"]


def test_hardware_that_is_gone_is_said_so(desk: Desk) -> None:
    said = desk.skerry("keys", "show", "hsm:9?label=gone", "--json")
    assert (said.code, said.error["code"]) == (4, "keys.hsm_missing")
    with pytest.raises(NotFound):
        read_hardware("hsm:9?label=gone")
