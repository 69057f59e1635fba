"""The root of trust from holders on separate machines: each sees what it says, none needs the hub, two of three do."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from securesystemslib.signer import CryptoSigner

from hub.trust import ceremony, metadata
from shared import canonical
from shared.errors import SkerryError
from tests.cli.rig import Skerry
from tests.trust.desk import HOLDERS, PASSPHRASE, Desk, open_desk


class Table:
    """Three holders' keys, and a fresh ceremony for two of three."""

    def __init__(self) -> None:
        self.signers = [CryptoSigner.generate_ed25519() for _ in HOLDERS]
        quorum = metadata.Quorum(tuple(signer.public_key for signer in self.signers), 2)
        online, assignment = (CryptoSigner.generate_ed25519().public_key for _ in range(2))
        self.fresh = ceremony.start(HOLDERS, quorum, online, assignment, expires_s=2_000_000_000.0)


@pytest.fixture
def table() -> Table:
    return Table()


def code(data: bytes) -> str:
    with pytest.raises(SkerryError) as caught:
        ceremony.read(data)
    return caught.value.code


def changed(data: bytes, field: str, change: Callable[[dict[str, Any]], object]) -> bytes:
    """The file with the signed part of its root or targets changed."""
    document = json.loads(data)
    inner = json.loads(document[field])
    change(inner["signed"])
    document[field] = json.dumps(inner)
    return canonical.dumps(document)


def test_the_fingerprint_stays_while_signatures_come_in(table: Table) -> None:
    made = table.fresh
    for count, signer in enumerate(table.signers, 1):
        made = ceremony.read(made.sign(signer).to_bytes())
        assert made.fingerprint == table.fresh.fingerprint
        assert (len(made.signed), made.missing) == (count, max(0, 2 - count))


def test_copies_that_were_signed_side_by_side_are_put_together(table: Table) -> None:
    copies = [table.fresh.sign(signer) for signer in table.signers[:2]]
    assert ceremony.merge(copies).missing == 0
    with pytest.raises(SkerryError) as caught:
        ceremony.merge([copies[0], Table().fresh])
    assert caught.value.code == "ceremony.different"


def test_a_stranger_signs_nothing_and_nobody_signs_twice(table: Table) -> None:
    with pytest.raises(SkerryError) as caught:
        table.fresh.sign(CryptoSigner.generate_ed25519())
    assert caught.value.code == "ceremony.no_holder"
    with pytest.raises(SkerryError) as caught:
        table.fresh.sign(table.signers[0]).sign(table.signers[0])
    assert caught.value.code == "ceremony.signed"


@pytest.mark.parametrize(
    ("field", "change"),
    [
        ("root", lambda signed: signed["roles"]["root"].update(threshold=1)),
        ("root", lambda signed: signed["roles"]["targets"].update(threshold=1)),
        ("root", lambda signed: signed["roles"]["snapshot"].update(keyids=signed["roles"]["root"]["keyids"][:1])),
        ("root", lambda signed: signed.update(version=2)),
        ("root", lambda signed: signed.update(consistent_snapshot=False)),
        ("root", lambda signed: signed.update(surprise="hidden")),
        ("targets", lambda signed: signed["targets"].update({"digits/1.bundle": {"length": 1, "hashes": {"a": "b"}}})),
        ("targets", lambda signed: signed.update(expires="2099-01-01T00:00:00Z")),
        ("targets", lambda signed: signed.pop("delegations")),
    ],
)
def test_nothing_hides_in_a_ceremony_file(table: Table, field: str, change: Callable[[dict[str, Any]], object]) -> None:
    assert code(changed(table.fresh.to_bytes(), field, change)) == "ceremony.malformed"


def test_a_changed_file_loses_the_signatures_that_it_had(table: Table) -> None:
    signed = table.fresh.sign(table.signers[0]).to_bytes()
    document = json.loads(signed)
    for field in ("root", "targets"):
        inner = metadata.parse_any(document[field].encode())
        inner.signed.expires = inner.signed.expires.replace(year=2090)
        document[field] = inner.to_bytes().decode()
    assert code(canonical.dumps(document)) == "ceremony.bad_signature"
    for rubbish in (b"", b"{}", b"[]", signed[:-20], signed.replace(b'"anna"', b'"../x"')):
        assert code(rubbish) == "ceremony.malformed"


# --- the command ------------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    with open_desk(tmp_path_factory.mktemp("desk"), trust=False) as made:
        yield made


def machine(desk: Desk, folder: Path, name: str) -> Skerry:
    """A holder's machine: the own key is there, the hub is not known."""
    folder.mkdir()
    for suffix in ("key", "pub"):
        shutil.copy(desk.key(name, suffix), folder)
    return Skerry(folder, {"SKERRY_PASSPHRASE": PASSPHRASE})


def test_two_of_three_holders_make_the_root_without_meeting_and_without_the_hub(desk: Desk, tmp_path: Path) -> None:
    online = tmp_path / "online-keys.json"
    online.write_text(json.dumps(desk.skerry.json("trust", "online-keys")))
    holders: list[str | Path] = [word for name in HOLDERS for word in ("--holder", desk.key(name, "pub"))]
    file = tmp_path / "root.ceremony"
    begun = desk.skerry.json("keys", "ceremony", "start", *holders, "--online-keys", online, "--out", file)
    assert (begun["threshold"], begun["missing"]) == (2, 2)
    early = desk.skerry("keys", "ceremony", "finish", file, "--json")
    assert (early.error["code"], early.error["detail"]["names"]) == ("ceremony.unfinished", list(HOLDERS))
    for name in ("anna", "bert"):
        folder = tmp_path / name
        holder = machine(desk, folder, name)
        copy = Path(shutil.copy(file, folder))
        said = holder("keys", "ceremony", "sign", copy, "--key", folder / f"{name}.key", "--yes")
        assert said.code == 0, said.err
        assert begun["fingerprint"] in said.err, "what is signed is shown before"
        assert "2 of these 3 sign every change" in " ".join(said.err.split())
        assert begun["online_key_id"] in said.err
        again = holder("keys", "ceremony", "sign", copy, "--key", folder / f"{name}.key", "--yes", "--json")
        assert again.error["code"] == "ceremony.signed"
    copies = [tmp_path / name / "root.ceremony" for name in ("anna", "bert")]
    done = desk.skerry.json("keys", "ceremony", "finish", *copies, "--out", tmp_path / "root.json")
    assert done["fingerprint"] == begun["fingerprint"]
    status = desk.skerry.json("trust", "show")
    assert status["initialised"]
    roles = {role["role"]: role for role in status["roles"]}
    assert (roles["root"]["threshold"], len(roles["root"]["key_ids"])) == (2, 3)
    reviewers: list[str | Path] = ["--reviewer", desk.key("alice", "pub"), "--threshold", "1"]
    said = desk.skerry("models", "create", "digits", *reviewers, *desk.sign_with("bert", "carla"))
    assert said.code == 0, said.err
    assert "published" in said.out, "the holder who did not sign at first signs as well as the others"


def test_somebody_who_says_no_signs_nothing(desk: Desk, tmp_path: Path) -> None:
    holders: list[str | Path] = [word for name in HOLDERS for word in ("--holder", desk.key(name, "pub"))]
    file = tmp_path / "root.ceremony"
    assert desk.skerry("keys", "ceremony", "start", *holders, "--out", file).code == 0
    before = file.read_bytes()
    said = desk.skerry("keys", "ceremony", "sign", file, "--key", desk.key("anna"), "--json", stdin="n\n")
    assert said.error["code"] == "cli.not_confirmed"
    stranger = desk.skerry("keys", "ceremony", "sign", file, "--key", desk.key("alice"), "--yes", "--json")
    assert stranger.error["code"] == "ceremony.no_holder"
    assert file.read_bytes() == before
    assert desk.skerry.json("keys", "ceremony", "show", file)["missing"] == 2
    again = desk.skerry("keys", "ceremony", "start", *holders, "--out", file, "--json")
    assert again.error["code"] == "cli.file", "a file with signatures is not written over"
