"""The attacks that TUF's specification names, each against a real agent; the old model serves through all of them."""

from __future__ import annotations

import hashlib
import io
import tarfile
import time
from pathlib import Path

import pytest
from securesystemslib.signer import CryptoSigner

from hub.trust import metadata
from shared.assignment_keys import ASSIGNMENT_KEYS_PATH, build_assignment_keys
from shared.limits import MAX_SEQ
from tests.attacks.attacker import Attacker
from tests.attacks.conftest import Assign
from tests.attacks.victim import MODEL, Victim
from tests.models import digits_bundle
from tests.ota.conftest import bundle
from tests.ota.hub_sim import ARTEFACT, DEVICE, Fault
from tests.trust_kit import KitVersion, TrustKit


@pytest.mark.parametrize("key", ["nobody's", "the hub's", "one reviewer's", "one reviewer's and the hub's"])
async def test_arbitrary_installation(
    kit: TrustKit, victim: Victim, attacker: Attacker, assign: Assign, key: str
) -> None:
    """He who has the hub and both its keys assigns a bundle of his own and releases it as well as he can."""
    async with victim.serving():
        evil = attacker.evil_bundle(bundle(2))
        signers = [attacker.reviewer] if "reviewer" in key else []
        signers += [attacker.online, attacker.assigner] if "hub" in key else []
        attacker.publish([(f"model-{MODEL}", attacker.release(2, evil, *signers))])
        await victim.device.assign(assign(2, bundle=evil))
        await victim.refused("release.unsigned")
        assert victim.kept().roles[f"model-{MODEL}"] == victim.before.roles[f"model-{MODEL}"]
        assert not victim.device.hub.asked(ARTEFACT + evil.bundle_sha256), "not even downloaded"


async def test_arbitrary_installation_without_a_release(victim: Victim, attacker: Attacker, assign: Assign) -> None:
    """The genuine release metadata does not have what the stolen assignment key assigns."""
    async with victim.serving():
        await victim.device.assign(assign(2, bundle=attacker.evil_bundle(bundle(2))))
        await victim.refused("release.not_approved")
        victim.same_metadata()


@pytest.mark.parametrize("target", ["timestamp.json", "2.root.json"])
async def test_endless_data_as_metadata(
    kit: TrustKit, victim: Victim, attacker: Attacker, assign: Assign, target: str
) -> None:
    async with victim.serving():
        kit.approve(MODEL, 2, bundle(2))
        if target == "2.root.json":
            attacker.serve(target, b"")  # a root that there is not
        attacker.hub.faults.append(Fault(path=f"/v1/tuf/{target}", times=1 << 30, endless=True))
        attacker.hub.replace[f"/v1/tuf/{target}"] = b" "
        await victim.device.assign(assign(2))
        await victim.ignored("trust.too_large")
        victim.same_metadata()
        attacker.stop()
        await victim.goes_on(assign(2))


async def test_endless_data_as_a_bundle(kit: TrustKit, victim: Victim, attacker: Attacker, assign: Assign) -> None:
    async with victim.serving():
        kit.approve(MODEL, 2, bundle(2))
        attacker.hub.faults.append(Fault(times=1 << 30, endless=True))
        await victim.device.assign(assign(2))
        await victim.refused("download.too_large")
        size = sum(path.stat().st_size for path in victim.device.paths.model(MODEL).download.iterdir())
        assert size <= len(bundle(2)), "no more is ever stored than was signed"


async def test_extraneous_dependencies(kit: TrustKit, victim: Victim, tmp_path: Path, assign: Assign) -> None:
    """A signed bundle brings along what its manifest does not name."""
    more = io.BytesIO(bundle(2))
    with tarfile.open(fileobj=more, mode="a", format=tarfile.USTAR_FORMAT) as archive:
        entry = tarfile.TarInfo("extra.tflite")
        entry.size = 4
        archive.addfile(entry, io.BytesIO(b"evil"))
    async with victim.serving():
        kit.approve(MODEL, 2, more.getvalue())
        await victim.device.assign(assign(2))
        await victim.refused("bundle.trailing", "bundle.unexpected_entry", "bundle.malformed", "bundle.too_large")


async def test_extraneous_dependencies_by_another_models_reviewers(
    kit: TrustKit, victim: Victim, attacker: Attacker, assign: Assign
) -> None:
    """The reviewers of another model release a version of this one."""
    async with victim.serving():
        evil = attacker.evil_bundle(bundle(2))
        others = kit.create_model("letters", reviewers=1, threshold=1)
        data = metadata.build_release(None, MODEL, 2, evil.bundle_sha256, evil.bundle_bytes, expires_s=kit.year_s)
        attacker.publish([("model-letters", metadata.sign(data, *others))])
        await victim.device.assign(assign(2, bundle=evil))
        await victim.refused("release.not_approved")
        assert "model-letters" not in victim.kept().roles


async def test_fast_forward(kit: TrustKit, victim: Victim, attacker: Attacker, assign: Assign) -> None:
    """A stolen online key takes the versions far ahead; new online keys, by the offline ones, bring the device back."""
    async with victim.serving():
        attacker.publish(jump=1_000_000)
        kit.approve(MODEL, 2, bundle(2))
        await victim.device.assign(assign(2))
        await victim.refused("release.not_approved")
        assert victim.kept().roles["timestamp"] > 1_000_000
        attacker.stop()
        await victim.device.assign(assign(2, 3))
        await victim.ignored_after("trust.rollback", counter=2)
        key = kit.repository.prepare_online_key("online", "admin")
        assert kit.propose("root", metadata.revise_root(kit.root, online=key, expires_s=kit.year_s)).published
        await victim.goes_on(assign(2, 4), counter=4)
        assert victim.kept().roles["timestamp"] < 1_000
        assert victim.kept().roles["root"] == 2


async def test_fast_forward_of_the_assignment_counter(
    kit: TrustKit, victim: Victim, attacker: Attacker, assign: Assign
) -> None:
    """A stolen assignment key uses up all counters; another assignment key, by the offline ones, frees the device."""
    async with victim.serving():
        kit.approve(MODEL, 2, bundle(2))
        last = kit.assignment(DEVICE, MODEL, 1, counter=MAX_SEQ, bake_s=0)
        await victim.device.assign(last)
        await victim.device.until_state("committed", counter=MAX_SEQ)
        await victim.device.assign(assign(2, 3))
        await victim.device.until(lambda: "assignment.replayed" in victim.device.events())
        assert victim.device.serves() == 1

        victim.device.messages.clear()
        key = kit.repository.prepare_online_key("assignment", "admin")
        files = {ASSIGNMENT_KEYS_PATH: build_assignment_keys([key])}
        targets = metadata.revise_targets(kit.current("targets"), files=files, expires_s=kit.year_s)
        old = assign(1, 2)  # signed by the stolen key, never delivered
        assert kit.propose("targets", targets, files=files).published
        await victim.device.assign(assign(2, 4))
        await victim.device.until(lambda: victim.device.serves() == 2)
        await victim.device.until(lambda: victim.journal().state == "committed" and victim.journal().reported)
        assert victim.journal().floor == 4
    async with victim.device.run():
        assert victim.device.serves() == 2
        for replayed in (last, old, assign(1, 3)):
            victim.device.messages.clear()
            await victim.device.assign(replayed)
            await victim.device.until(lambda: bool(victim.device.events()))
            assert victim.device.events() == ["assignment.replayed"]
        assert victim.device.serves() == 2
        await victim.goes_on(assign(1, 5), version=1, counter=5)


async def test_indefinite_freeze(kit: TrustKit, victim: Victim, attacker: Attacker, assign: Assign) -> None:
    """A mirror that stands still is found out when its last timestamp expires."""
    async with victim.serving():
        attacker.publish(expires_s=time.time() - 1)
        kit.approve(MODEL, 2, bundle(2))
        await victim.device.assign(assign(2))
        await victim.ignored("trust.expired")
        victim.same_metadata()
        attacker.stop()
        await victim.goes_on(assign(2))


@pytest.mark.parametrize("name", ["timestamp.json", "snapshot.json", "targets.json"])
async def test_malicious_mirror_of_metadata(
    kit: TrustKit, victim: Victim, attacker: Attacker, assign: Assign, name: str
) -> None:
    """Metadata with other content, signed with keys of his own."""
    async with victim.serving():
        kit.approve(MODEL, 2, bundle(2))
        for path, data in attacker.record().items():
            if path.endswith(name):
                attacker.serve(path, metadata.sign(metadata.renew(data, expires_s=kit.year_s), _stranger()))
        if name == "targets.json":
            kit.propose("targets", metadata.renew(kit.current("targets"), expires_s=kit.year_s))
            attacker.serve("2.targets.json", metadata.without_signatures(kit.current("targets")))
            attacker.serve("3.targets.json", metadata.without_signatures(kit.current("targets")))
        await victim.device.assign(assign(2))
        await victim.device.until(lambda: bool(victim.events()))
        code = victim.events()[0].code
        assert code in ("trust.unsigned", "trust.mismatch")
        await victim.ignored(code)
        role = name.removesuffix(".json")
        assert victim.kept().roles[role] == victim.before.roles[role]
        attacker.stop()
        await victim.goes_on(assign(2))


async def test_malicious_mirror_of_bundles(kit: TrustKit, victim: Victim, attacker: Attacker, assign: Assign) -> None:
    """Another bundle of the same length under the address of the right one."""
    async with victim.serving():
        content = bundle(2)
        kit.approve(MODEL, 2, content)
        path = ARTEFACT + hashlib.sha256(content).hexdigest()
        attacker.hub.replace[path] = content[:-600] + bytes(600)
        if attacker.hub.replace[path] == content:
            attacker.hub.replace[path] = bytes(len(content))
        await victim.device.assign(assign(2))
        await victim.refused("download.digest_mismatch")


async def test_mix_and_match(kit: TrustKit, victim: Victim, attacker: Attacker, assign: Assign) -> None:
    """The newest timestamp and snapshot beside the approvals of an earlier day, so that a withdrawal is not seen."""
    async with victim.serving():
        old = kit.current(f"model-{MODEL}")
        kit.approve(MODEL, 2, bundle(2))
        number = metadata.parse_any(kit.current(f"model-{MODEL}")).signed.version
        attacker.serve(f"{number}.model-{MODEL}.json", old)
        await victim.device.assign(assign(2))
        await victim.refused("release.mismatch")
        assert victim.kept().roles[f"model-{MODEL}"] == victim.before.roles[f"model-{MODEL}"]


async def test_rollback(kit: TrustKit, victim: Victim, attacker: Attacker, assign: Assign) -> None:
    """A mirror of yesterday, when a version that has been withdrawn since was still approved."""
    yesterday = attacker.record()
    async with victim.serving():
        attacker.play(yesterday)
        kit.approve(MODEL, 2, bundle(2))
        await victim.device.assign(assign(2))
        await victim.ignored("trust.rollback")
        victim.same_metadata()
        attacker.stop()
        await victim.goes_on(assign(2))


async def test_rollback_on_a_device_that_lost_its_metadata(
    kit: TrustKit, victim: Victim, attacker: Attacker, assign: Assign
) -> None:
    """A torn disk is no way back either."""
    yesterday = attacker.record()
    async with victim.serving():
        for name in ("timestamp", "snapshot", "targets"):
            (victim.device.paths.tuf / f"{name}.json").write_bytes(b"{")
        attacker.play(yesterday)
        kit.approve(MODEL, 2, bundle(2))
        await victim.device.assign(assign(2))
        await victim.ignored("trust.rollback")
        attacker.stop()
        await victim.goes_on(assign(2))


@pytest.mark.parametrize("role", ["root", "targets", f"model-{MODEL}"])
async def test_compromise_of_fewer_keys_than_the_threshold(
    kit: TrustKit, victim: Victim, attacker: Attacker, assign: Assign, role: str
) -> None:
    """One offline key or one reviewer's key, and both of the hub's."""
    async with victim.serving():
        evil = attacker.evil_bundle(bundle(2))
        mine = metadata.Quorum((CryptoSigner.generate_ed25519().public_key,), 1)
        stolen = (attacker.offline, attacker.reviewer, attacker.online, attacker.assigner)
        if role == "root":
            data = metadata.revise_root(kit.root, root=mine, targets=mine, expires_s=kit.year_s)
            attacker.serve("2.root.json", metadata.sign(data, *stolen))
        elif role == "targets":
            data = metadata.revise_targets(kit.current("targets"), models={MODEL: mine}, expires_s=kit.year_s)
            attacker.publish([("targets", metadata.sign(data, *stolen))])
        else:
            attacker.publish([(role, attacker.release(2, evil, *stolen))])
        await victim.device.assign(assign(2, bundle=evil))
        if role.startswith("model-"):
            await victim.refused("release.unsigned")
        else:
            await victim.ignored("trust.unsigned")
        assert victim.kept().roles[role] == victim.before.roles[role]


async def test_wrong_software(kit: TrustKit, victim: Victim, tmp_path: Path, assign: Assign) -> None:
    """A stolen assignment key assigns the bytes of another model that is approved too."""
    async with victim.serving():
        kit.create_model("letters")
        digits_bundle(tmp_path / "letters", 2, "letters")
        content = (tmp_path / "letters").read_bytes()
        digest = kit.approve("letters", 2, content)
        kit.approve(MODEL, 2, bundle(2))
        await victim.device.assign(assign(2, bundle=KitVersion(digest, len(content))))
        await victim.refused("release.mismatch")


async def test_wrong_software_in_the_right_envelope(
    kit: TrustKit, victim: Victim, tmp_path: Path, assign: Assign
) -> None:
    """The reviewers were shown one name, the bundle holds another model."""
    async with victim.serving():
        digits_bundle(tmp_path / "letters", 2, "letters")
        kit.approve(MODEL, 2, (tmp_path / "letters").read_bytes())
        await victim.device.assign(assign(2))
        await victim.refused("bundle.wrong_model")


async def test_wrong_software_of_a_model_that_nobody_reviews(victim: Victim, kit: TrustKit) -> None:
    """An assignment of a model that the offline keys never delegated."""
    async with victim.serving():
        digest = kit.blobs.put(bundle(2))
        envelope = kit.assignment(DEVICE, "ghost", 1, counter=1, bundle=KitVersion(digest, len(bundle(2))), bake_s=0)
        await victim.device.assign(envelope)
        await victim.device.until_state("rolled_back", counter=1, model="ghost")
        assert victim.device.reports("ghost")[-1].reason_code == "release.not_approved"
        await victim.unharmed()


def _stranger() -> CryptoSigner:
    return CryptoSigner.generate_ed25519()
