"""Worlds for the scenarios: a hub with a real repository or a real enrolment, a state folder before the operation, and
the facts that the agent's lives are given.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from agent.identity.enrol import Wish, enrol
from agent.link.desired import DesiredStore
from agent.ota import sealed
from agent.ota.floor import Floor
from agent.paths import AgentPaths
from hub.trust import metadata
from shared.join import encode_join
from shared.runtime.model import LoadedModel
from shared.wire.down import CONDITIONAL_SCHEMA, DesiredState, encode
from tests.agent_identity.tiny_hub import Answer, TinyHub
from tests.drift.kit import columns_reference
from tests.faults.drift_work import TABLE
from tests.faults.facts import Expected, Facts, save_facts
from tests.faults.life import living
from tests.models import load_digits, unpacked_digits
from tests.ota.conftest import bundle
from tests.ota.deltas import offer_delta
from tests.ota.hub_sim import DEVICE, Fault, HubSim
from tests.trust_kit import TrustKit

__all__ = ["World", "again", "open_world"]

_IMAGES = 4
_HALF = 20_000
_PART = 6_000


@dataclass(frozen=True)
class World:
    """A scenario, ready: `prepared` is the state folder before the operation."""

    scenario: str
    facts: Facts
    facts_file: Path
    prepared: Path
    hub: HubSim | None = None


@contextmanager
def open_world(scenario: str, directory: Path) -> Iterator[World]:
    """A world in the new folder `directory`, with its hub running."""
    directory.mkdir(parents=True)
    with ExitStack() as stack:
        yield _MAKERS[scenario](scenario, directory, stack)


def _world(scenario: str, directory: Path, facts: Facts, **more: object) -> World:
    save_facts(directory / "facts.json", facts)
    return World(scenario, facts, directory / "facts.json", directory / "prepared", **more)  # type: ignore[arg-type]


def _hub(directory: Path, stack: ExitStack) -> HubSim:
    kit = TrustKit(directory / "kit")
    stack.callback(kit.close)
    kit.create_model("digits")
    for version in (1, 2):
        kit.approve("digits", version, bundle(version))
    return stack.enter_context(HubSim(kit, directory / "hub").serve())


def _expected(directory: Path) -> Iterator[Expected]:
    for version in (1, 2):
        folder = directory / f"version-{version}"
        model = LoadedModel.load(folder, unpacked_digits(folder, version), 1)
        try:
            outputs = model.predict(_images())
        finally:
            model.close()
        yield Expected(version=version, outputs=outputs.tolist())


def _images() -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    return load_digits().test_x[:_IMAGES]


def _document(hub: HubSim, version: int, counter: int, **more: Any) -> bytes:
    envelope = hub.kit.assignment(DEVICE, "digits", version, counter=counter, bake_s=0, **more)
    return encode(DesiredState(device_id=DEVICE, revision=counter, assignments=[envelope]))


def _facts(hub: HubSim, directory: Path, version: int, *, served: bool) -> Facts:
    return Facts(
        device_id=DEVICE,
        desired=_document(hub, version, version),
        counter=version,
        version=version,
        served=served,
        inputs=_images().tolist(),
        expected=list(_expected(directory)),
    )


async def _install(facts: Facts, root: Path) -> None:
    async with living(facts, root, warm=True) as life:
        await life.offer()
        await life.rest()


def _installing(scenario: str, directory: Path, stack: ExitStack) -> World:
    """Version 2 over a committed version 1; `resumed-…` loses its connection in the middle of the download."""
    hub = _hub(directory, stack)
    hub.enrol(AgentPaths(directory / "prepared"))
    first = _facts(hub, directory, 1, served=False)
    asyncio.run(_install(first, directory / "prepared"))
    if scenario == "resumed-install":
        hub.faults = [Fault(drop_after=_HALF)]
    if scenario in ("delta-install", "resumed-delta"):
        offered = offer_delta(hub, bundle(1), bundle(2))
        hub.faults = [Fault(path=offered.get, drop_after=_PART)] if scenario == "resumed-delta" else []
    if scenario == "bad-delta":
        offer_delta(hub, bundle(1), bundle(2), delta=bundle(1)[:_HALF])
    facts = _with_documents(hub, first, 2)
    if scenario == "rollback":
        asyncio.run(_install(facts, directory / "prepared"))
    return _world(scenario, directory, facts, hub=hub)


def _held(scenario: str, directory: Path, stack: ExitStack) -> World:
    """Version 2 is held over a committed version 1, then live; or it is a shadow, and then version 1 stays."""
    world = _installing("install", directory, stack)
    if world.hub is None:
        raise LookupError("this world has no hub")
    mode, last = ("shadow", 1) if scenario == "shadow-install" else ("hold", 2)
    facts = msgspec.structs.replace(
        world.facts,
        documents=[_document(world.hub, 2, 2, schema_version=CONDITIONAL_SCHEMA, mode=mode)],
        desired=_document(world.hub, last, 3),
        counter=3,
        version=last,
    )
    return _world(scenario, directory, facts, hub=world.hub)


def _with_documents(hub: HubSim, first: Facts, version: int) -> Facts:
    return Facts(
        device_id=DEVICE,
        desired=_document(hub, version, version),
        counter=version,
        version=version,
        inputs=first.inputs,
        expected=first.expected,
    )


def again(world: World, counter: int = 3) -> Path:
    """The facts of a world whose hub assigns the same version once more, under a higher counter."""
    if world.hub is None:
        raise LookupError("this world has no hub")
    document = _document(world.hub, world.facts.version, counter)
    path = world.facts_file.with_name(f"again-{counter}.json")
    save_facts(path, msgspec.structs.replace(world.facts, desired=document, counter=counter))
    return path


def _first(scenario: str, directory: Path, stack: ExitStack) -> World:
    hub = _hub(directory, stack)
    hub.enrol(AgentPaths(directory / "prepared"))
    return _world(scenario, directory, _facts(hub, directory, 1, served=False), hub=hub)


def _identity(scenario: str, directory: Path, stack: ExitStack) -> World:
    """A hub that enrols. The real one lets a token work again for the same key; the scenario sees to that key."""

    def enrol_again(name: str, headers: dict[str, str], body: bytes) -> Answer:
        hub.tokens.add("ske_good")
        return hub.enrol(name, headers, body)

    (directory / "tls").mkdir()
    hub = TinyHub(directory / "tls")
    stack.callback(hub.close)
    hub.routes["POST /v1/device/enrol"] = enrol_again
    (directory / "prepared").mkdir()
    if scenario == "renew":
        enrol(AgentPaths(directory / "prepared"), hub.join(), Wish(profile="x86-gateway", device_id=DEVICE))
    facts = Facts(device_id=DEVICE, join=encode_join(hub.join()))
    return _world(scenario, directory, facts)


def _metadata(scenario: str, directory: Path, stack: ExitStack) -> World:
    """The device knows version 1; meanwhile the online key was rotated (a new root) and version 2 released."""
    kit = TrustKit(directory / "kit")
    stack.callback(kit.close)
    kit.create_model("digits")
    kit.approve("digits", 1, bundle(1))
    hub = stack.enter_context(HubSim(kit, directory / "hub").serve())
    paths = AgentPaths(directory / "prepared")
    hub.enrol(paths)
    asyncio.run(_install(_facts_of_one(hub, directory), paths.root))
    key = kit.repository.prepare_online_key("online", "admin")
    kit.propose("root", metadata.revise_root(kit.root, online=key, expires_s=kit.year_s))
    kit.approve("digits", 2, bundle(2))
    floor = sealed.load(paths.tuf / "rollback.floor", Floor, limit=1 << 20)
    return _world(scenario, directory, Facts(device_id=DEVICE, counter=floor.timestamp), hub=hub)


def _facts_of_one(hub: HubSim, directory: Path) -> Facts:
    expected = [found for found in _expected(directory) if found.version == 1]
    return Facts(
        device_id=DEVICE,
        desired=_document(hub, 1, 1),
        counter=1,
        version=1,
        served=False,
        inputs=_images().tolist(),
        expected=expected,
    )


def _outbox(scenario: str, directory: Path, stack: ExitStack) -> World:
    (directory / "prepared").mkdir()
    return _world(scenario, directory, Facts(device_id=DEVICE))


def _desired(scenario: str, directory: Path, stack: ExitStack) -> World:
    (directory / "prepared").mkdir()
    documents = [encode(DesiredState(device_id=DEVICE, revision=number, assignments=[])) for number in (1, 2, 3, 4)]
    DesiredStore(directory / "prepared" / "desired.msgpack", DEVICE).accept(documents[0])
    return _world(scenario, directory, Facts(device_id=DEVICE, documents=documents))


def _drift(scenario: str, directory: Path, stack: ExitStack) -> World:
    """A folder with the reference of a table, as a bundle would have it."""
    (directory / "prepared" / "bundle").mkdir(parents=True)
    _reference, _manifest, written = columns_reference(TABLE)
    (directory / "prepared" / "bundle" / "reference.json").write_bytes(written)
    return _world(scenario, directory, Facts(device_id=DEVICE))


def _samples(scenario: str, directory: Path, stack: ExitStack) -> World:
    (directory / "prepared").mkdir()
    return _world(scenario, directory, Facts(device_id=DEVICE))


_MAKERS: Mapping[str, Callable[[str, Path, ExitStack], World]] = {
    "install": _installing,
    "resumed-install": _installing,
    "delta-install": _installing,
    "resumed-delta": _installing,
    "bad-delta": _installing,
    "rollback": _installing,
    "held-install": _held,
    "shadow-install": _held,
    "first-install": _first,
    "enrol": _identity,
    "renew": _identity,
    "metadata": _metadata,
    "outbox": _outbox,
    "desired": _desired,
    "drift": _drift,
    "samples": _samples,
}
