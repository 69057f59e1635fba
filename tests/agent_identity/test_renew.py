"""Renewal: a new key and certificate in one switch, or everything as it was."""

from __future__ import annotations

import json
import ssl
import subprocess
import sys
from pathlib import Path

import pytest

from agent.identity.enrol import Wish, enrol
from agent.identity.renew import renew
from agent.identity.renewal import renew_at_s
from agent.identity.store import IdentityStore, Validity
from agent.paths import AgentPaths
from shared.errors import NotFound, StorageFailure, Unavailable, Untrusted
from tests.agent_identity.tiny_hub import TinyHub


@pytest.fixture
def paths(tmp_path: Path, hub: TinyHub) -> AgentPaths:
    found = AgentPaths(tmp_path / "state")
    enrol(found, hub.join(), Wish(profile="raspberry-pi-4", device_id="dev1"))
    return found


def usable(store: IdentityStore) -> bool:
    credentials = store.credentials()
    ssl.create_default_context(cafile=str(credentials.hub_ca)).load_cert_chain(credentials.certificate, credentials.key)
    return True


def test_renewal_switches_to_a_new_key_and_certificate(hub: TinyHub, paths: AgentPaths) -> None:
    store = IdentityStore(paths.identity)
    before, key = store.validity(), (paths.identity / "device.key").read_bytes()
    after = renew(paths)
    assert after == store.validity()
    assert after.sha256 != before.sha256
    assert (paths.identity / "device.key").read_bytes() != key
    assert usable(store)
    assert hub.seen[-1][0] == "dev1"


def test_a_lost_answer_leaves_the_old_pair_in_use_and_the_next_attempt_uses_the_same_new_key(
    hub: TinyHub, paths: AgentPaths
) -> None:
    store = IdentityStore(paths.identity)
    before = store.validity()
    honest = hub.routes.pop("POST /v1/device/renew")
    hub.routes["POST /v1/device/renew"] = lambda _name, _headers, _body: (502, {}, b"bad gateway")
    with pytest.raises(Unavailable):
        renew(paths)
    assert store.validity() == before
    assert usable(store)
    pending = store.pending_key.read_bytes()
    hub.routes["POST /v1/device/renew"] = honest
    renew(paths)
    assert (paths.identity / "device.key").read_bytes() == pending


def test_a_certificate_for_another_device_is_refused(hub: TinyHub, paths: AgentPaths) -> None:
    honest = hub.routes["POST /v1/device/renew"]
    hub.routes["POST /v1/device/renew"] = lambda _name, headers, body: honest("dev2", headers, body)
    before = IdentityStore(paths.identity).validity()
    with pytest.raises(Untrusted):
        renew(paths)
    assert IdentityStore(paths.identity).validity() == before


def test_a_cut_in_the_middle_of_a_switch_leaves_the_old_pair_in_use(paths: AgentPaths) -> None:
    store = IdentityStore(paths.identity)
    before = store.validity()
    half = paths.identity / "pair-0123456789abcdef"
    half.mkdir()
    (half / "device.key").write_bytes(b"half")
    (paths.identity / ".tmp-current").symlink_to(half.name)
    assert store.validity() == before
    assert usable(store)
    renew(paths)
    assert usable(store)
    assert not half.exists()


def test_only_the_pair_in_use_and_the_one_before_are_kept(paths: AgentPaths) -> None:
    for _ in range(3):
        renew(paths)
    assert len(list(paths.identity.glob("pair-*"))) == 2


def test_the_child_process_answers_in_one_line_of_json(hub: TinyHub, paths: AgentPaths) -> None:
    command = [sys.executable, "-m", "agent.identity.renew", "--state", str(paths.root)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert json.loads(done.stdout)["sha256"] == IdentityStore(paths.identity).validity().sha256
    hub.close()
    failed = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert failed.returncode == 7
    assert json.loads(failed.stdout)["error"]["code"] == "hub.unreachable"


def test_renewal_is_due_between_two_thirds_and_three_quarters_of_the_lifetime() -> None:
    valid = Validity(not_before_s=1000.0, not_after_s=4000.0, sha256="0" * 64)
    assert renew_at_s(valid, 0.0) == 3000.0
    assert 3290.0 < renew_at_s(valid, 0.99) < 3300.0


def test_a_device_without_identity_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="not enrolled"):
        IdentityStore(tmp_path).load()
    with pytest.raises(StorageFailure):
        IdentityStore(tmp_path).credentials()
