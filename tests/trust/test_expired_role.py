"""`skerry trust export` when a model's role has expired: the rest is written, what is left out is named."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from hub.cli.offline_changes import OfflineChange
from hub.cli.passphrases import open_signers
from hub.cli.session import Session
from tests.cli.rig import Said
from tests.trust.desk import Desk, open_desk
from tests.trust.test_carried_to_a_device import deploy, enrolled, until

LIFE_S = 3.0


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    with open_desk(tmp_path / "desk") as made:
        for name, value in made.skerry.environ.items():
            monkeypatch.setenv(name, value)
        made.approve(1, "alice", "bob")
        yield made


def let_expire(desk: Desk, role: str = "model-digits", signers: Sequence[str] = ("alice", "bob")) -> None:
    """The signers renew their role for some seconds only, which the command's own options do not allow."""
    keys = open_signers([desk.key(name) for name in signers], None)
    with Session(as_json=True, hub=desk.hub.url, token=desk.hub.admin_token, ca=desk.hub.ca) as session:
        OfflineChange(session, keys, 1).renew(role, LIFE_S / 86_400)  # type: ignore[arg-type]
    ends = time.time() + LIFE_S + 1
    until(lambda: time.time() > ends)


def export(desk: Desk, folder: Path, *more: str) -> Said:
    return desk.skerry("trust", "export", folder, *more)


def test_a_mirror_goes_without_the_role_and_says_so(desk: Desk, tmp_path: Path) -> None:
    let_expire(desk)
    said = export(desk, tmp_path / "mirror")
    assert said.code == 0, said.err
    assert "skerry trust renew model-digits" in said.err
    written = {path.name.partition(".")[2] for path in (tmp_path / "mirror" / "metadata").iterdir()}
    assert written == {"root.json", "targets.json", "snapshot.json", "json"}
    assert not (tmp_path / "mirror" / "targets" / "digits").exists()


def test_a_device_that_is_assigned_nothing_else_gets_no_useless_stick(desk: Desk, tmp_path: Path) -> None:
    enrolled(desk, tmp_path / "state", "pi-1")
    deploy(desk, 1, "pi-1")
    assert export(desk, tmp_path / "good", "--device", "pi-1").code == 0
    let_expire(desk)
    said = export(desk, tmp_path / "usb", "--device", "pi-1", "--json")
    assert said.error["code"] == "export.expired_role"
    assert "skerry trust renew model-digits" in said.error["hint"]
    assert not (tmp_path / "usb").exists()
    said = desk.skerry("trust", "renew", "model-digits", *desk.sign_with("alice"))
    assert said.code == 0, said.err
    assert "Make sure with another signer" in said.err
    said = desk.skerry("trust", "sign", "model-digits", "--key", desk.key("bob"), "--yes")
    assert said.code == 0, said.err
    assert "Make sure with another signer" in said.err
    assert export(desk, tmp_path / "usb", "--device", "pi-1").code == 0


@pytest.mark.parametrize("role", ["targets", "root"])
def test_a_top_level_role_that_expired_stops_everything_but_its_own_renewal(
    desk: Desk, tmp_path: Path, role: str
) -> None:
    let_expire(desk, role, ("anna", "bert"))
    said = export(desk, tmp_path / "mirror", "--json")
    assert said.error["code"] == "trust.expired"
    assert not (tmp_path / "mirror").exists()
    assert desk.skerry("keys", "rotate", "assignment", *desk.sign_with("anna", "bert")).code != 0
    said = desk.skerry("trust", "renew", role, *desk.sign_with("anna", "bert"))
    assert said.code == 0, said.err
    assert export(desk, tmp_path / "mirror").code == 0
