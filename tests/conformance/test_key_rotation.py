"""Rotation of every role's keys, as a table: who is a key holder, how many must sign, who did, and what comes of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pytest
from securesystemslib.signer import Signer

from tests.conformance.conftest import Client
from tests.conformance.simulator import Simulator, new_signer


@dataclass(frozen=True)
class State:
    """Key holders, threshold and signers by their numbers."""

    keys: str
    threshold: int
    signed_by: str


def state(text: str) -> State:
    """`2 of abc by ab`."""
    threshold, _, keys, _, signers = text.split()
    return State(keys, int(threshold), signers)


GOOD = {
    "one for one": ["1 of a by a", "1 of b by ab", "1 of b by b"],
    "signatures of others": ["1 of a by axy", "1 of b by xaby", "1 of b by xby"],
    "any quorum": ["3 of abcde by ace", "3 of abcde by aeb", "3 of abcde by abd", "3 of abcde by cde"],
    "one replaced at once": ["3 of abcde by ace", "3 of abdef by aeb"],
    "one replaced, signed by the new one too": ["3 of abcde by ace", "3 of abdef by acef", "3 of abdef by aef"],
    "all replaced": ["3 of abcde by ace", "3 of fghij by acefgh", "3 of fghij by fgh"],
    "threshold up": ["1 of abc by a", "2 of abc by ab", "2 of abc by bc"],
    "threshold down": ["2 of abc by ab", "1 of abc by ab", "1 of abc by a"],
    "keys and threshold up": ["1 of a by a", "2 of ab by ab"],
    "keys and threshold down": ["2 of ab by ab", "1 of a by ab", "1 of a by a"],
}
BAD = {
    "not by the old key": ["1 of a by a", "1 of b by bxy"],
    "not by the new key": ["1 of a by a", "1 of b by axy"],
    "not by enough of the new": ["3 of abcde by ace", "3 of abdef by ace"],
    "not by enough of the old": ["3 of abcde by ace", "3 of abdef by aef"],
    "below the raised threshold": ["1 of abc by a", "2 of abc by b"],
    "below the old threshold": ["2 of abc by ab", "1 of abc by a"],
    "by nobody": ["1 of a by a", "1 of a by x"],
}


class Ring:
    """Keys by their letters."""

    def __init__(self) -> None:
        self._signers: dict[str, Signer] = {}

    def __getitem__(self, letters: str) -> list[Signer]:
        return [self._signers.setdefault(letter, new_signer()) for letter in letters]


def appoint(repository: Simulator, ring: Ring, role: str, wanted: State) -> None:
    """Make the holders those of `wanted`, and let those sign that it says."""
    for keyid in list(repository.root.roles[role].keyids):
        repository.root.revoke_key(keyid, role)
    for signer in ring[wanted.keys]:
        repository.root.add_key(signer.public_key, role)
    repository.root.roles[role].threshold = wanted.threshold
    repository.signers[role] = ring[wanted.signed_by]


@pytest.mark.parametrize("chain", [*GOOD.values(), *BAD.values()], ids=[*GOOD, *BAD])
def test_the_root_role(fresh: Client, repository: Simulator, chain: Sequence[str]) -> None:
    ring = Ring()
    del repository.history["root"]
    for step in chain:
        appoint(repository, ring, "root", state(step))
        repository.publish("root")
    assert fresh.init() == 0
    good = chain in GOOD.values()
    assert fresh.refresh() == (0 if good else 1)
    assert fresh.kept("root") == repository.history["root"][-1 if good else -2]


@pytest.mark.parametrize("role", ["timestamp", "snapshot", "targets"])
@pytest.mark.parametrize(
    ("now", "code"),
    [
        ("1 of b by b", 0),
        ("1 of b by xby", 0),
        ("3 of abcde by ace", 0),
        ("3 of abcde by bcd", 0),
        ("3 of abcde by abcde", 0),
        ("1 of b by axy", 1),
        ("3 of abdef by ace", 1),
        ("3 of abdef by ae", 1),
    ],
)
def test_the_other_roles(client: Client, repository: Simulator, role: str, now: str, code: int) -> None:
    ring = Ring()
    appoint(repository, ring, role, state("1 of a by a"))
    repository.publish("root", "targets", "snapshot", "timestamp")
    assert client.refresh() == 0
    appoint(repository, ring, role, state(now))
    repository.publish("root", "targets", "snapshot", "timestamp")
    assert client.refresh() == code
    assert client.version("root") == 3
    assert client.kept(role) == repository.history[role][-1 if code == 0 else -2]


@pytest.mark.parametrize("role", ["timestamp", "snapshot", "targets"])
def test_what_is_kept_falls_with_the_key_that_signed_it(client: Client, repository: Simulator, role: str) -> None:
    assert client.refresh() == 0
    repository.rotate(role)
    repository.publish("root")
    assert client.refresh() == 1, f"nothing that the new key signed is there for {role}"
    repository.publish_all()
    assert client.refresh() == 0


@pytest.mark.parametrize("good", [True, False])
def test_a_delegated_role(client: Client, repository: Simulator, good: bool) -> None:
    repository.delegate("targets", "delegated")
    repository.add_file("file", b"one", "delegated")
    repository.publish_all("delegated")
    assert client.download("file") == 0
    (old,) = repository.signers["delegated"]
    repository.targets.revoke_key(old.public_key.keyid, "delegated")
    new = repository.add_key("delegated", "targets")
    repository.signers["delegated"] = [new] if good else [old]
    repository.add_file("file", b"two", "delegated")
    repository.publish_all("delegated")
    assert client.download("file") == (0 if good else 1)
    assert client.downloaded() == [b"two" if good else b"one"]
    assert client.version("delegated") == (2 if good else 1)
