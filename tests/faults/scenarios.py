"""What is cut: operations of the agent, each with its promises about the folder that a cut leaves.

A scenario is three steps over a state folder: `act` does the operation, `check` looks at a folder that was cut (with
the marks that the operation had made by then) and `recover` starts the agent's own code on it and takes it to an end
without a person. `recover` is also what a second cut interrupts. A broken promise is `Broken`.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from agent.hub_http import fetch_ca
from agent.identity.enrol import Wish, enrol
from agent.identity.keys import make_csr
from agent.identity.renew import renew
from agent.identity.store import IdentityStore
from agent.link.desired import DesiredStore
from agent.ota import journal, sealed
from agent.ota.floor import Floor
from agent.ota.hub_source import HubSource, open_client
from agent.ota.update_client import UpdateClient
from agent.paths import AgentPaths
from shared.clock import SystemClock
from shared.errors import SkerryError
from shared.join import decode_join
from shared.wire.down import decode_desired
from tests.faults.drift_work import DriftScenario
from tests.faults.facts import Facts
from tests.faults.life import Broken, check_image, living
from tests.faults.marks import mark
from tests.faults.outbox_work import OutboxScenario
from tests.faults.samples_work import SamplesScenario
from tests.ota.device import QUICK

__all__ = ["SCENARIOS", "Scenario"]

_TARGET = "digits/2.bundle"


class Scenario(Protocol):
    """One operation and its promises."""

    async def act(self, facts: Facts, root: Path, warm: bool) -> None:
        """Do it."""
        ...

    def check(self, facts: Facts, root: Path, marks: Sequence[str]) -> None:
        """What holds in a folder that was cut, before anything runs."""
        ...

    async def recover(self, facts: Facts, root: Path, marks: Sequence[str]) -> None:
        """Start, come to an end, and check that end."""
        ...


class InstallScenario:
    """An installation, to its commitment. `ends`: where one that was cut may come to rest."""

    def __init__(self, ends: Sequence[str] = ("committed",)) -> None:
        self._ends = ends

    async def act(self, facts: Facts, root: Path, warm: bool) -> None:
        async with living(facts, root, warm=warm, watch=warm) as life:
            await life.offer()
            await life.rest()

    def check(self, facts: Facts, root: Path, marks: Sequence[str]) -> None:
        check_image(facts, root)

    async def recover(self, facts: Facts, root: Path, marks: Sequence[str]) -> None:
        async with living(facts, root, warm=True) as life:
            await life.offer()
            status = await life.rest()
            if status.state not in self._ends:
                raise Broken(f"it ended {status.state} for {status.reason_code}: {status.reason}")
            if status.state == "committed" and (status.active_version, life.predicts()) != (facts.version,) * 2:
                raise Broken(f"it committed, but version {status.active_version} is active")
            last = [report for report in await life.reports() if report.assignment_counter == facts.counter][-1:]
            if not last or last[0].state != status.state:
                raise Broken(f"the model is {status.state}, but the hub is told {[report.state for report in last]}")
        _tidy(facts, root)


def _tidy(facts: Facts, root: Path) -> None:
    """Nothing is left over once it rests: two versions at the most, no half of one, no download, no temporaries."""
    paths = AgentPaths(root).model(facts.model)
    slots = sorted(path.name for path in paths.slots.iterdir())
    downloads = list(paths.download.iterdir()) if paths.download.is_dir() else []
    odd = [name for name in slots if not name.startswith("v")] + [path.name for path in paths.root.glob(".tmp-*")]
    if len(slots) > 4 or downloads or odd:
        raise Broken(f"left over: slots {slots}, downloads {downloads}, others {odd}")


class RollbackScenario(InstallScenario):
    """A person returns to the version before."""

    def __init__(self) -> None:
        super().__init__(("committed", "rolled_back"))

    async def act(self, facts: Facts, root: Path, warm: bool) -> None:
        async with living(facts, root, warm=warm, watch=warm) as life:
            await life.offer()
            await life.rest()
            mark(root, "begin")
            await life.installer.rollback(facts.model)
            mark(root, "rolled back")

    async def recover(self, facts: Facts, root: Path, marks: Sequence[str]) -> None:
        await super().recover(facts, root, marks)
        active = check_image(facts, root)
        if "rolled back" in marks and not active.startswith("v1-"):
            raise Broken(f"the person was told of the rollback, but {active} is active")


class HeldScenario(InstallScenario):
    """What is ready but must not be active, and then the last word about it: live after all, or back to what serves."""

    async def act(self, facts: Facts, root: Path, warm: bool) -> None:
        async with living(facts, root, warm=warm, watch=warm) as life:
            await life.offer(facts.documents[0])
            await life.until(lambda: True if life.is_held() else None, "what is held")
            await life.offer()
            await life.rest()

    def check(self, facts: Facts, root: Path, marks: Sequence[str]) -> None:
        active = check_image(facts, root)
        assignment = journal.load(AgentPaths(root).model(facts.model).journal, facts.model).assignment
        last_word = assignment is not None and assignment.counter == facts.counter
        if not active.startswith("v1-") and not (last_word and facts.version == 2):
            raise Broken(f"{active} became active, although it must not")


class EnrolScenario:
    """An enrolment that is repeated with the same join string until it is complete."""

    async def act(self, facts: Facts, root: Path, warm: bool) -> None:
        self._enrol(facts, root, said=True)
        mark(root, "enrolled")

    def check(self, facts: Facts, root: Path, marks: Sequence[str]) -> None:
        if "enrolled" in marks and not IdentityStore(root / "identity").exists():
            raise Broken("the person was told of the enrolment, but it is gone")
        if "asked" in marks and not IdentityStore(root / "identity").exists():
            self._same_key(root)

    async def recover(self, facts: Facts, root: Path, marks: Sequence[str]) -> None:
        if not IdentityStore(root / "identity").exists():
            self._enrol(facts, root)
        _usable(root)
        if not (root / "tuf" / "root.json").read_bytes():
            raise Broken("the device is enrolled without a root of trust")

    def _same_key(self, root: Path) -> None:
        """The token is used up for every key but the one that the hub was asked about."""
        try:
            make_csr(IdentityStore(root / "identity").pending_key.read_bytes(), "again")
        except (OSError, SkerryError) as error:
            raise Broken(f"the hub may know the key, but it is gone: {error}") from error

    def _enrol(self, facts: Facts, root: Path, *, said: bool = False) -> None:
        def ca(url: str) -> bytes:
            if said:
                mark(root, "asked")
            return fetch_ca(url)

        wish = Wish(profile="x86-gateway", device_id=facts.device_id)
        enrol(AgentPaths(root), decode_join(facts.join), wish, ca_source=ca)


class RenewScenario:
    """A renewal of the certificate; the device can reach its hub at every instant."""

    async def act(self, facts: Facts, root: Path, warm: bool) -> None:
        renew(AgentPaths(root))
        mark(root, "renewed")

    def check(self, facts: Facts, root: Path, marks: Sequence[str]) -> None:
        _usable(root)

    async def recover(self, facts: Facts, root: Path, marks: Sequence[str]) -> None:
        before = _usable(root)
        renew(AgentPaths(root))
        if _usable(root) == before:
            raise Broken("the renewal changed nothing")
        pairs = list((root / "identity").glob("pair-*"))
        if len(pairs) > 2:
            raise Broken(f"{len(pairs)} pairs of keys were left")


def _usable(root: Path) -> str:
    """The certificate in use, which must belong to its key; also by the names that other parts read."""
    store = IdentityStore(root / "identity")
    try:
        store.load()
        found = store.credentials()
        for pair in ((found.certificate, found.key), (store.root / "device.crt", store.root / "device.key")):
            ssl.create_default_context(cafile=str(found.hub_ca)).load_cert_chain(*pair)
        return store.validity().sha256
    except (SkerryError, OSError) as error:
        raise Broken(f"the identity cannot be used: {error}") from error


class MetadataScenario:
    """An update of the release metadata over a change of the root."""

    async def act(self, facts: Facts, root: Path, warm: bool) -> None:
        self._refresh(root)

    def check(self, facts: Facts, root: Path, marks: Sequence[str]) -> None:
        """The floor is never lower than before the update; the metadata files may be gone, it may not."""
        try:
            floor = sealed.load(root / "tuf" / "rollback.floor", Floor, limit=1 << 20)
        except SkerryError as error:
            raise Broken(f"the floor is lost: {error}") from error
        if floor.timestamp < facts.counter:
            raise Broken(f"the floor fell from {facts.counter} to {floor.timestamp}")

    async def recover(self, facts: Facts, root: Path, marks: Sequence[str]) -> None:
        self._refresh(root)

    def _refresh(self, root: Path) -> None:
        paths = AgentPaths(root)
        store = IdentityStore(paths.identity)
        with open_client(store.load().hub_url, store.credentials(), QUICK) as client:
            source = HubSource(client, SystemClock(), deadline_s=10.0)
            found = UpdateClient(paths.tuf, source, SystemClock()).target(_TARGET)
        if found is None:
            raise Broken("the newest release is not seen")


class DesiredScenario:
    """Two newer documents in a row."""

    async def act(self, facts: Facts, root: Path, warm: bool) -> None:
        store = DesiredStore(root / "desired.msgpack", facts.device_id)
        store.load()
        for data in facts.documents[1:-1]:
            store.accept(data)
            mark(root, str(decode_desired(data).revision))

    def check(self, facts: Facts, root: Path, marks: Sequence[str]) -> None:
        kept = DesiredStore(root / "desired.msgpack", facts.device_id).load()
        least = max([decode_desired(facts.documents[0]).revision, *map(int, marks)])
        if kept is None or kept.revision < least:
            raise Broken(f"the document of revision {least} is gone; {kept}")

    async def recover(self, facts: Facts, root: Path, marks: Sequence[str]) -> None:
        store = DesiredStore(root / "desired.msgpack", facts.device_id)
        store.load()
        store.accept(facts.documents[-1])
        if DesiredStore(root / "desired.msgpack", facts.device_id).load() != decode_desired(facts.documents[-1]):
            raise Broken("the newest document was not kept")


SCENARIOS: Mapping[str, Scenario] = {
    "install": InstallScenario(),
    "resumed-install": InstallScenario(),
    "delta-install": InstallScenario(),
    "resumed-delta": InstallScenario(),
    "bad-delta": InstallScenario(),
    "first-install": InstallScenario(),
    "rollback": RollbackScenario(),
    "held-install": HeldScenario(),
    "shadow-install": HeldScenario(),
    "enrol": EnrolScenario(),
    "renew": RenewScenario(),
    "metadata": MetadataScenario(),
    "outbox": OutboxScenario(),
    "desired": DesiredScenario(),
    "drift": DriftScenario(),
    "samples": SamplesScenario(),
}
"""By the names that a failure prints."""
