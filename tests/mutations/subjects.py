"""What is damaged, and what the agent's own code says of it: a code, or that the meaning is still the signed one.

Each subject is one place where bytes from outside come in. `try_one` damages with the given random numbers and returns
an outcome: `refused <code>` or `harmless` (the damage did not change what is signed). Anything else raises.
"""

from __future__ import annotations

import io
import random
import shutil
from pathlib import Path
from typing import Protocol

import msgspec
from securesystemslib.signer import CryptoSigner

from agent.link.desired import DesiredStore
from agent.ota import assignment as rules
from agent.ota.intake import peek
from agent.ota.settings import OtaSettings
from agent.ota.slots import Slots
from agent.ota.trusted_time import Uptime
from agent.ota.update_client import UpdateClient
from agent.ota.worker import Worker, download_file
from agent.ota.worker_protocol import Failed, Unpack, Unpacked
from agent.paths import AgentPaths
from shared import dsse
from shared.errors import SkerryError
from shared.wire.down import ASSIGNMENT_PAYLOAD_TYPE, Assignment, DesiredState, encode
from tests.models import digits_bundle
from tests.mutations.damage import damaged
from tests.ota.repository import FixedClock, Repository

__all__ = ["HARMLESS", "Assignments", "Bundles", "Desired", "Metadata", "Subject"]

HARMLESS = "harmless"
DEVICE = "pi-1"


class Subject(Protocol):
    """One place where bytes come in."""

    def try_one(self, rng: random.Random) -> str:
        """Damage once; the outcome."""
        ...


def refused(error: SkerryError | Failed) -> str:
    """The outcome for a refusal; one without a reason of its own is a defect."""
    body = error.error if isinstance(error, Failed) else error.body()
    if "." not in body.code or body.code in ("worker.failed", "install.failed"):
        raise AssertionError(f"refused without a reason: {body}")
    return f"refused {body.code}"


def make_assignment(sha256: str, length: int, counter: int = 7) -> Assignment:
    """An assignment of digits 1 to this device."""
    return Assignment(
        device_id=DEVICE,
        model="digits",
        version=1,
        counter=counter,
        target="digits/1.bundle",
        bundle_sha256=sha256,
        bundle_bytes=length,
        issued_s=1_800_000_000.0,
        expires_s=1_800_600_000.0,
    )


class Bundles:
    """A download that is not what was signed, and an archive that is malformed although it was signed."""

    def __init__(self, folder: Path) -> None:
        built = digits_bundle(folder / "original")
        self._original = (folder / "original").read_bytes()
        self._signed = make_assignment(built.sha256, built.bytes)
        self._paths = AgentPaths(folder / "state")
        self._worker = Worker(self._paths, OtaSettings(), io.BytesIO())
        download_file(self._paths, self._signed).parent.mkdir(parents=True)

    def try_one(self, rng: random.Random) -> str:
        other = damaged(self._original, rng)
        outcome = self._unpack(other, self._signed)
        if outcome == HARMLESS:
            raise AssertionError("a bundle with another digest was unpacked")
        if rng.random() < 0.25 and other:
            import hashlib

            own = make_assignment(hashlib.sha256(other).hexdigest(), len(other))
            signed = self._unpack(other, own)
            return f"signed: {signed}" if signed != HARMLESS else "signed: well-formed"
        return outcome

    def _unpack(self, data: bytes, assignment: Assignment) -> str:
        file = download_file(self._paths, assignment)
        file.write_bytes(data)
        try:
            reply = self._worker.answer(Unpack(assignment=assignment))
        finally:
            file.unlink(missing_ok=True)
        slots = Slots(self._paths.model("digits"))
        if isinstance(reply, Unpacked):
            slots.verify(reply.slot)
            slots.remove(reply.slot)
            return HARMLESS
        if not isinstance(reply, Failed) or slots.records():
            raise AssertionError(f"the worker answered {reply}")
        return refused(reply)


class Metadata:
    """TUF metadata, from the network and from the disk."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "tuf"
        self._repository = Repository()
        self._repository.releases["digits/1.bundle"] = b"the released bundle"
        self._first_root = self._repository.files["1.root.json"]
        self._repository.publish_root(self._repository.keys["root"])
        self._repository.publish()
        self._honest = dict(self._repository.files)
        self._names = [name for name in self._current_names() if name in self._honest]

    def _current_names(self) -> list[str]:
        versions = self._repository.versions
        numbered = [f"{versions[role]}.{role}.json" for role in ("root", "snapshot", "targets", "model-digits")]
        return ["timestamp.json", *numbered]

    def _client(self) -> UpdateClient:
        clock = FixedClock(self._repository.now_s)
        up = Uptime(100.0, "start")
        return UpdateClient(self._folder, self._repository, clock, bootstrap=self._first_root, uptime=lambda: up)

    def _ask(self) -> str:
        try:
            found = self._client().target("digits/1.bundle")
        except SkerryError as error:
            return refused(error)
        if found is None or found.length != len(b"the released bundle"):
            raise AssertionError(f"damaged metadata changed the release: {found}")
        return HARMLESS

    def try_one(self, rng: random.Random) -> str:
        shutil.rmtree(self._folder, ignore_errors=True)
        self._folder.mkdir(parents=True)
        if rng.random() < 0.2:
            return self._damaged_on_disk(rng)
        name = rng.choice(self._names)
        self._repository.files = {**self._honest, name: damaged(self._honest[name], rng)}
        outcome = self._ask()
        self._repository.files = dict(self._honest)
        if rng.random() < 0.1 and self._ask() != HARMLESS:
            raise AssertionError("damage that has passed keeps a device from updating")
        return outcome

    def _damaged_on_disk(self, rng: random.Random) -> str:
        self._repository.files = dict(self._honest)
        self._ask()
        file = rng.choice(sorted(path for path in self._folder.iterdir() if path.is_file()))
        file.write_bytes(damaged(file.read_bytes(), rng))
        outcome = self._ask()
        return f"on disk: {outcome}"


class Envelopes:
    """Keys and a genuine envelope, and what the worker's rules say of another."""

    def __init__(self) -> None:
        signer = CryptoSigner.generate_ed25519()
        self._keys = {signer.public_key.keyid: signer.public_key}
        self.genuine = make_assignment("ab" * 32, 1000)
        self.envelope = dsse.sign(msgspec.json.encode(self.genuine), ASSIGNMENT_PAYLOAD_TYPE, signer)

    def judge(self, envelope: bytes) -> str:
        """Peek as the daemon does, then check as the worker does."""
        try:
            peek(envelope)
            found = rules.open_assignment(envelope, self._keys, DEVICE)
        except SkerryError as error:
            return refused(error)
        if found != self.genuine:
            raise AssertionError(f"a damaged envelope says something new: {found}")
        return HARMLESS


class Assignments:
    """Signed envelopes, and their payload signed by nobody."""

    def __init__(self, folder: Path) -> None:
        del folder
        self._envelopes = Envelopes()

    def try_one(self, rng: random.Random) -> str:
        if rng.random() < 0.7:
            return self._envelopes.judge(damaged(self._envelopes.envelope, rng))
        import base64

        outer = msgspec.json.decode(self._envelopes.envelope)
        outer["payload"] = base64.b64encode(damaged(base64.b64decode(outer["payload"]), rng)).decode()
        outcome = self._envelopes.judge(msgspec.json.encode(outer))
        if outcome == HARMLESS:
            raise AssertionError("a payload that was not signed was believed")
        return f"payload: {outcome}"


class Desired:
    """Desired-state documents as they come over MQTT or HTTPS, and the file in which the last one is kept."""

    def __init__(self, folder: Path) -> None:
        self._envelopes = Envelopes()
        self._file = folder / "desired.msgpack"
        assignments = [self._envelopes.envelope] * 3
        self._document = encode(DesiredState(device_id=DEVICE, revision=8, assignments=assignments))

    def try_one(self, rng: random.Random) -> str:
        self._file.unlink(missing_ok=True)
        data = damaged(self._document, rng)
        store = DesiredStore(self._file, DEVICE)
        if rng.random() < 0.3:
            self._file.write_bytes(data)
            found = store.load()
            return f"on disk: {'ignored' if found is None else self._judge(found)}"
        try:
            found = store.accept(data)
        except SkerryError as error:
            return refused(error)
        if found is None:
            raise AssertionError("a new document said nothing new")
        return self._judge(found)

    def _judge(self, document: DesiredState) -> str:
        outcomes = {self._envelopes.judge(envelope) for envelope in document.assignments}
        return min(outcomes - {HARMLESS}, default=HARMLESS)
