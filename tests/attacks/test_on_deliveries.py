"""The attacks that Uptane adds for devices: on the way to one of them, on its time, and with others' assignments."""

from __future__ import annotations

import hashlib
from pathlib import Path

import msgspec
import pytest

from agent.identity.store import IdentityStore
from tests.attacks.attacker import Attacker
from tests.attacks.conftest import Assign
from tests.attacks.victim import MODEL, Victim
from tests.ota.conftest import bundle
from tests.ota.hub_sim import ARTEFACT, Fault, HubSim
from tests.trust_kit import TrustKit

FOR_EVER = 1 << 30


@pytest.fixture(autouse=True)
def approved(kit: TrustKit) -> None:
    """Version 2 is what everybody waits for."""
    kit.approve(MODEL, 2, bundle(2))


async def test_eavesdrop(victim: Victim, kit: TrustKit, tmp_path: Path, assign: Assign) -> None:
    """Who diverts the traffic to a server of his own hears nothing: the handshake ends before the first request."""
    async with victim.serving():
        with HubSim(kit, tmp_path / "impostor").serve() as impostor:
            store = IdentityStore(victim.device.paths.identity)
            genuine = store.load()
            divert(store, impostor.url)
            await victim.device.assign(assign(2))
            await victim.ignored("hub.certificate")
            assert impostor.requests == []
            victim.same_metadata()
            divert(store, genuine.hub_url)
        await victim.goes_on(assign(2))


def divert(store: IdentityStore, url: str) -> None:
    """As a router or a name server under his control would."""
    path = store.root / "identity.json"
    path.write_bytes(msgspec.json.encode(msgspec.structs.replace(store.load(), hub_url=url)))


@pytest.mark.parametrize("path", ["/v1/tuf/", ARTEFACT])
@pytest.mark.parametrize("how", ["dropped", "answered with 404", "answered with 503"])
async def test_drop_request(victim: Victim, attacker: Attacker, assign: Assign, path: str, how: str) -> None:
    status = {"dropped": None, "answered with 404": 404, "answered with 503": 503}[how]
    fault = Fault(path=path, times=FOR_EVER, status=status, drop_after=0 if status is None else None)
    async with victim.serving():
        attacker.hub.faults.append(fault)
        await victim.device.assign(assign(2))
        if path == ARTEFACT:
            expected = {None: ("hub.unreachable", "download.cut"), 404: ("hub.not_found",), 503: ("hub.busy",)}[status]
            await victim.refused(*expected)
            counter = 3
        else:
            expected = {None: ("hub.unreachable",), 404: ("hub.not_found",), 503: ("hub.busy",)}[status]
            await victim.ignored(expected[0])
            victim.same_metadata()
            counter = 2
        attacker.stop()
        await victim.goes_on(assign(2, counter), counter=counter)


async def test_slow_retrieval_of_metadata(victim: Victim, attacker: Attacker, assign: Assign) -> None:
    """A byte now and then, each in time for the read timeout."""
    victim.tuned(metadata_timeout_s=0.4)
    async with victim.serving():
        attacker.hub.faults.append(Fault(path="/v1/tuf/timestamp.json", times=FOR_EVER, piece=1, pause_s=0.02))
        await victim.device.assign(assign(2))
        await victim.ignored("trust.too_slow")
        victim.same_metadata()
        attacker.stop()
        await victim.goes_on(assign(2))


async def test_slow_retrieval_of_a_bundle(victim: Victim, attacker: Attacker, assign: Assign) -> None:
    victim.tuned(min_bytes_per_s=1 << 20, rate_window_s=0.2, max_attempts=1)
    async with victim.serving():
        attacker.hub.faults.append(Fault(times=FOR_EVER, piece=8, pause_s=0.02))
        await victim.device.assign(assign(2))
        await victim.refused("download.too_slow")


@pytest.mark.parametrize("how", ["cut", "shorter"])
async def test_partial_bundle(victim: Victim, attacker: Attacker, assign: Assign, how: str) -> None:
    """Half a bundle is no bundle: no slot, no trial, nothing served from it; the rest is fetched when it can be had."""
    content = bundle(2)
    async with victim.serving():
        if how == "cut":
            attacker.hub.faults.append(Fault(times=FOR_EVER, drop_after=len(content) // 2, no_range=True))
        else:
            attacker.hub.replace[ARTEFACT + hashlib.sha256(content).hexdigest()] = content[: len(content) // 2]
        await victim.device.assign(assign(2))
        await victim.refused("download.cut", "hub.unreachable", "hub.range")
        attacker.stop()
        await victim.goes_on(assign(2, 3), counter=3)


async def test_partial_bundle_of_several_models(
    victim: Victim, kit: TrustKit, attacker: Attacker, assign: Assign
) -> None:
    """He lets one of two models through: each model is whole in itself and says what became of it."""
    kit.create_model("other")
    digest = kit.approve("other", 1, bundle(1, "other"))
    async with victim.serving():
        attacker.hub.faults.append(Fault(path=ARTEFACT + digest, times=FOR_EVER, status=404))
        other = kit.assignment("pi-1", "other", 1, counter=1, bake_s=0)
        await victim.device.assign(assign(2), other)
        await victim.device.until_state("committed", counter=2)
        assert victim.device.serves() == 2
        await victim.device.until_state("rolled_back", model="other")
        assert victim.device.reports("other")[-1].reason_code == "hub.not_found"
        assert victim.device.serves("other") == 0
        assert victim.device.active("other") == ""


async def test_denial_of_service(victim: Victim, attacker: Attacker, assign: Assign) -> None:
    """Rubbish in the place of assignments and a hub that answers nobody: each told once, and none of it stays."""
    async with victim.serving():
        attacker.hub.faults.append(Fault(path="/", times=FOR_EVER, status=503, headers={"Retry-After": "86400"}))
        rubbish = [b"", b"{", b"[" * 4000, b'{"payload": "!"}', b"\x00" * 8000, b'{"payload":"e30=","signatures":[]}']
        for _ in range(5):
            await victim.device.assign(*rubbish, assign(2))
        await victim.ignored("hub.busy")
        told = victim.device.events()
        assert told.count("hub.busy") == 1
        assert told.count("assignment.malformed") == len(rubbish)
        victim.same_metadata()
        attacker.stop()
        await victim.goes_on(assign(2))


async def test_replay_of_another_devices_assignment(victim: Victim, assign: Assign) -> None:
    async with victim.serving():
        await victim.device.assign(assign(2, 2, "pi-2"))
        await victim.ignored("assignment.other_device")
        victim.same_metadata()


async def test_replay_of_an_old_assignment(victim: Victim, assign: Assign) -> None:
    old = assign(2, 1)
    async with victim.serving():
        await victim.device.assign(old)
        await victim.ignored("assignment.replayed")


async def test_replay_of_an_assignment_that_expired(victim: Victim, assign: Assign) -> None:
    async with victim.serving():
        await victim.device.assign(assign(2, lifetime_s=-1.0))
        await victim.refused("assignment.expired")
