"""A desk with people's keys at a running hub: root of trust, the model digits with three reviewers, a gated version."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hub.trust.key_files import create_key
from tests.cli.rig import RunningHub, Skerry
from tests.models import digits_bundle, load_digits

__all__ = ["HOLDERS", "PASSPHRASE", "REVIEWERS", "Desk", "open_desk"]

PASSPHRASE = "correct horse battery"
HOLDERS = ("anna", "bert", "carla")
REVIEWERS = ("alice", "bob", "carol")


@dataclass
class Desk:
    """A running hub with its root of trust, the model digits with three reviewers, and version 1 with a passed gate."""

    hub: RunningHub
    skerry: Skerry
    folder: Path

    def key(self, name: str, suffix: str = "key") -> Path:
        return self.folder / "keys" / f"{name}.{suffix}"

    def sign_with(self, *names: str) -> list[str | Path]:
        return [word for name in names for word in ("--sign-with", self.key(name))]

    def register(self, version: int) -> None:
        """A version that passed its gate."""
        bundle = self.folder / f"digits-{version}.bundle"
        digits_bundle(bundle, version=version, seed=version)
        assert self.skerry("versions", "register", "digits", "--bundle", bundle).code == 0
        said = self.skerry("versions", "gate", "digits", str(version), self.folder / "held-out.npz")
        assert said.code == 0, said.err

    def approve(self, version: int, *names: str) -> None:
        for name in names:
            said = self.skerry("versions", "sign", "digits", str(version), "--key", self.key(name), "--yes")
            assert said.code == 0, said.err


@contextmanager
def open_desk(folder: Path, *, trust: bool = True) -> Iterator[Desk]:
    """The desk, closed with the block. Without `trust` the hub has no root yet and there is no model."""
    hub = RunningHub(folder / "hub")
    hub.start(trust=False)
    environ = {
        "SKERRY_URL": hub.url,
        "SKERRY_TOKEN": hub.admin_token,
        "SKERRY_CA": str(hub.ca),
        "SKERRY_PASSPHRASE": PASSPHRASE,
    }
    made = Desk(hub, Skerry(folder / "home", environ), folder)
    for name in (*HOLDERS, *REVIEWERS):
        create_key(folder / "keys", name, PASSPHRASE.encode(), rounds=1)
    data = load_digits()
    np.savez(folder / "held-out.npz", x=data.test_x, y=data.test_y)
    try:
        if trust:
            _set_up(made)
        yield made
    finally:
        hub.stop()


def _set_up(desk: Desk) -> None:
    holders: list[str | Path] = [
        "--root-key", desk.key("anna"), "--root-key", desk.key("bert"), "--root-key", desk.key("carla", "pub"),
    ]  # fmt: skip
    said = desk.skerry("trust", "init", *holders, "--threshold", "2", "--out", desk.folder / "root.json")
    assert said.code == 0, said.err
    reviewers: list[str | Path] = [word for name in REVIEWERS for word in ("--reviewer", desk.key(name, "pub"))]
    said = desk.skerry("models", "create", "digits", *reviewers, *desk.sign_with("anna", "bert"))
    assert said.code == 0, said.err
    assert "published" in said.out
    desk.register(1)
