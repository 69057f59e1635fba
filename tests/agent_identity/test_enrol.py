"""Enrolment over a real TLS socket: what is trusted, what is kept, what a cut leaves behind."""

from __future__ import annotations

import stat
from pathlib import Path

import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from agent.identity.enrol import Wish, enrol
from agent.identity.store import IdentityStore
from agent.ota.floor import Floor
from agent.ota.metadata_store import MetadataStore
from agent.paths import AgentPaths
from shared.errors import Conflict, NotFound, Unauthorised, Unavailable, Untrusted
from shared.wire.http import EnrolRequest
from tests.agent_identity.authority import Authority
from tests.agent_identity.tiny_hub import ROOT, Answer, TinyHub

WISH = Wish(profile="raspberry-pi-4", device_id="pi-7", hardware_id="serial-1")


@pytest.fixture
def paths(tmp_path: Path) -> AgentPaths:
    return AgentPaths(tmp_path / "state")


def test_enrolment_keeps_key_certificate_ca_and_root(hub: TinyHub, paths: AgentPaths) -> None:
    identity = enrol(paths, hub.join(), WISH)
    assert identity.device_id == "pi-7"
    store = IdentityStore(paths.identity)
    assert store.load() == identity
    assert stat.S_IMODE((paths.identity / "device.key").stat().st_mode) == 0o600
    assert "BEGIN CERTIFICATE" in (paths.identity / "device.crt").read_text()
    assert (paths.identity / "hub-ca.crt").read_text() == hub.hub_ca.pem
    assert (paths.tuf / "root.json").read_text() == ROOT
    assert not store.pending_key.exists()
    assert hub.requests[0].hardware_id == "serial-1"


def test_the_private_key_never_leaves_the_device(hub: TinyHub, paths: AgentPaths) -> None:
    enrol(paths, hub.join(), WISH)
    assert all(b"PRIVATE" not in body for _, _, _, body in hub.seen)


def test_another_hub_than_the_pinned_one_never_sees_the_token(hub: TinyHub, paths: AgentPaths) -> None:
    with pytest.raises(Untrusted) as refused:
        enrol(paths, hub.join(ca_sha256=Authority().sha256), WISH)
    assert refused.value.code == "identity.ca"
    assert [line for _, line, _, _ in hub.seen] == ["GET /v1/ca.pem"]


def test_a_server_that_shows_the_right_ca_but_is_not_certified_by_it_never_sees_the_token(
    hub: TinyHub, paths: AgentPaths
) -> None:
    real = Authority("real ca")
    hub.routes["GET /v1/ca.pem"] = lambda _name, _headers, _body: (200, {}, real.pem.encode())
    with pytest.raises(Untrusted) as refused:
        enrol(paths, hub.join(ca_sha256=real.sha256), WISH)
    assert refused.value.code == "hub.certificate"
    assert hub.requests == []


def test_a_second_ca_beside_the_pinned_one_is_never_trusted(hub: TinyHub, paths: AgentPaths) -> None:
    """The pinned certificate is public, so a man in the middle could put his own behind it."""
    pinned = Authority("real ca")
    both = (pinned.pem + hub.hub_ca.pem).encode()
    hub.routes["GET /v1/ca.pem"] = lambda _name, _headers, _body: (200, {}, both)
    with pytest.raises(Untrusted) as refused:
        enrol(paths, hub.join(ca_sha256=pinned.sha256), WISH)
    assert refused.value.code == "identity.ca"
    assert hub.requests == []


def test_another_trust_root_than_the_named_one_is_refused(hub: TinyHub, paths: AgentPaths) -> None:
    with pytest.raises(Untrusted) as refused:
        enrol(paths, hub.join(tuf_root_sha256="0" * 64), WISH)
    assert refused.value.code == "identity.tuf_root"
    assert not IdentityStore(paths.identity).exists()


def test_a_certificate_over_another_key_is_refused(hub: TinyHub, paths: AgentPaths) -> None:
    def answer(_name: str, _headers: dict[str, str], body: bytes) -> Answer:
        request = msgspec.json.decode(body, type=EnrolRequest)
        return 200, {}, msgspec.json.encode(hub.reply(request, certificate_pem=hub.hub_ca.pem))

    hub.routes["POST /v1/device/enrol"] = answer
    with pytest.raises(Untrusted) as refused:
        enrol(paths, hub.join(), WISH)
    assert refused.value.code == "identity.certificate"


def test_a_used_token_is_told_in_the_hubs_words(hub: TinyHub, paths: AgentPaths) -> None:
    hub.tokens.clear()
    with pytest.raises(Unauthorised) as refused:
        enrol(paths, hub.join(), WISH)
    assert refused.value.code == "enrol.token"


def test_an_interrupted_enrolment_goes_on_with_the_same_key(hub: TinyHub, paths: AgentPaths) -> None:
    honest = hub.routes["POST /v1/device/enrol"]
    hub.routes["POST /v1/device/enrol"] = lambda _name, _headers, body: (hub.enrol("", {}, body), (503, {}, b""))[1]
    with pytest.raises(Unavailable):
        enrol(paths, hub.join(), WISH)
    hub.tokens.add("ske_good")
    hub.routes["POST /v1/device/enrol"] = honest
    enrol(paths, hub.join(), WISH)
    first, second = (request.csr_pem for request in hub.requests)
    assert _public(first) == _public(second)


def test_an_enrolled_device_keeps_its_identity_unless_told_otherwise(hub: TinyHub, paths: AgentPaths) -> None:
    enrol(paths, hub.join(), WISH)
    hub.tokens.add("ske_good")
    with pytest.raises(Conflict) as refused:
        enrol(paths, hub.join(), WISH)
    assert refused.value.code == "identity.exists"
    wish = msgspec.structs.replace(WISH, device_id="pi-8", replace=True)
    assert enrol(paths, hub.join(), wish).device_id == "pi-8"


def test_another_hubs_root_clears_what_was_known_under_the_one_before(hub: TinyHub, paths: AgentPaths) -> None:
    """Else the floor of the old repository would refuse the new one for ever."""
    enrol(paths, hub.join(), WISH)
    known = MetadataStore(paths.tuf)
    known.keep_first_root((paths.tuf / "root.json").read_bytes())
    known.write("timestamp", b"old")
    known.save_floor(Floor(root=9, timestamp=99, verified_s=1.0))
    known.targets.mkdir()
    (known.targets / "skerry%2Fassignment-keys.json").write_bytes(b"old")

    hub.tokens.add("ske_good")
    again = msgspec.structs.replace(WISH, replace=True)
    enrol(paths, hub.join(), again)
    assert known.load_floor().root == 9, "the same root: the floor holds"

    def other_root(_name: str, _headers: dict[str, str], body: bytes) -> Answer:
        request = msgspec.json.decode(body, type=EnrolRequest)
        reply = msgspec.structs.replace(hub.reply(request), tuf_root='{"another": "root"}')
        return 200, {}, msgspec.json.encode(reply)

    hub.routes["POST /v1/device/enrol"] = other_root
    enrol(paths, hub.join(), again)
    assert sorted(path.name for path in paths.tuf.iterdir()) == ["root.json"]
    assert (paths.tuf / "root.json").read_bytes() == b'{"another": "root"}'
    assert known.load_floor() == Floor()


def test_an_unknown_profile_is_refused_before_the_token_is_spent(hub: TinyHub, paths: AgentPaths) -> None:
    with pytest.raises(NotFound):
        enrol(paths, hub.join(), msgspec.structs.replace(WISH, profile="toaster"))
    assert hub.seen == []


def test_a_hub_that_is_not_there_is_a_clear_answer(hub: TinyHub, paths: AgentPaths) -> None:
    with pytest.raises(Unavailable) as refused:
        enrol(paths, hub.join(hub_url="https://127.0.0.1:1"), WISH)
    assert refused.value.code == "hub.unreachable"
    assert refused.value.retriable


def _public(csr_pem: str) -> bytes:
    key = x509.load_pem_x509_csr(csr_pem.encode()).public_key()
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
