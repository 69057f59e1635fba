"""A device under attack: version 1 of `digits` is committed and serves over the local API, and stays exactly so.

    async with victim.serving():            # real installer, real worker and probe children, real prediction socket
        attacker.…                          # misbehaves
        await victim.assign(envelope)
        await victim.refused("release.unsigned")   # the installation ends so, and nothing else has changed

`unharmed` is what every attack ends with: the metadata that is kept, the slots, the pointer, the journal's place, and
the predictions that the socket gives.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from agent.inference.local_api.server import LocalServer
from agent.local_client import LocalAgent
from agent.ota import sealed
from agent.ota.journal import Journal
from shared.wire.up import Event
from tests.models import load_digits
from tests.ota.device import Device

__all__ = ["MODEL", "Kept", "Victim"]

MODEL = "digits"
_SHOWN = 40


@dataclass(frozen=True)
class Kept:
    """What a device has on its disk: versions of roles, slots, the pointer."""

    roles: dict[str, int]
    slots: tuple[str, ...]
    active: str


@dataclass
class Victim:
    """One device with version 1."""

    device: Device
    socket: Path
    approve_first: Callable[[], bytes]
    before: Kept = field(init=False)
    answers: list[int] = field(init=False)

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        """Install version 1 under counter 1, then live on with the real children and the prediction socket."""
        device = self.device
        envelope = self.approve_first()
        device.in_process = True
        async with device.run():
            await device.assign(envelope)
            await device.until_state("committed", counter=1)
        device.in_process = False
        device.messages.clear()
        async with device.run(), LocalServer(device.host, self.socket):
            self.before = self.kept()
            self.answers = await asyncio.to_thread(self.predict)
            right = sum(a == int(b) for a, b in zip(self.answers, load_digits().test_y, strict=False))
            assert right >= 0.9 * _SHOWN
            yield

    def predict(self) -> list[int]:
        """The classes that the local API gives for held-out digits, which only version 1 may answer."""
        images = load_digits().test_x[:_SHOWN]
        tensor = {"name": "image", "datatype": "FP32", "shape": list(images.shape), "data": images.ravel().tolist()}
        with LocalAgent(self.socket) as agent:
            answer = agent.post(f"/v2/models/{MODEL}/infer", {"inputs": [tensor]})
        assert answer["model_version"] == "1"
        values = answer["outputs"][0]["data"]
        width = len(values) // _SHOWN
        rows = (values[start : start + width] for start in range(0, len(values), width))
        return [max(range(width), key=row.__getitem__) for row in rows]

    def kept(self) -> Kept:
        """What is on the disk now."""
        folder, model = self.device.paths.tuf, self.device.paths.model(MODEL)
        roles = {}
        for path in folder.glob("*.json"):
            with contextlib.suppress(ValueError):
                roles[path.stem] = int(json.loads(path.read_bytes())["signed"]["version"])
        return Kept(roles, tuple(sorted(path.name for path in model.slots.iterdir())), self.device.active())

    def journal(self) -> Journal:
        """The model's journal."""
        return sealed.load(self.device.paths.model(MODEL).journal, Journal, limit=1 << 16)

    async def refused(self, *codes: str, counter: int = 2) -> str:
        """Wait until an installation ended without success for one of these reasons; the reason."""
        await self.device.until_state("rolled_back", counter=counter)
        last = self.device.reports()[-1]
        assert last.reason_code in codes, f"{last.reason_code}: {last.reason}"
        assert (last.state, last.active_version, last.assignment_counter) == ("rolled_back", 1, counter)
        journal = self.journal()
        assert (journal.state, journal.reason_code, journal.floor) == ("rolled_back", last.reason_code, counter)
        await self.unharmed()
        return last.reason_code

    async def ignored(self, code: str) -> None:
        """Wait until an event with this code was told; no installation may have begun."""
        await self.device.until(lambda: code in self.device.events())
        assert not self.device.reports()
        journal = self.journal()
        assert (journal.state, journal.floor) == ("committed", 1)
        await self.unharmed()

    async def ignored_after(self, code: str, *, counter: int) -> None:
        """As `ignored`, after an installation under that counter has failed already."""
        await self.device.until(lambda: code in self.device.events())
        assert self.journal().floor == counter
        await self.unharmed()

    async def unharmed(self) -> None:
        """Version 1 is what is on the disk, what is pointed to and what answers, as right as before."""
        now = self.kept()
        assert now.slots == self.before.slots
        assert now.active == self.before.active
        assert self.device.serves() == 1
        assert await asyncio.to_thread(self.predict) == self.answers

    def same_metadata(self) -> None:
        """Nothing of the metadata that was known before has changed."""
        assert self.kept().roles == self.before.roles

    async def goes_on(self, envelope: bytes, *, version: int = 2, counter: int = 2) -> None:
        """After the attack an honest assignment is installed."""
        await self.device.assign(envelope)
        await self.device.until_state("committed", counter=counter)
        assert self.device.serves() == version

    def events(self) -> list[Event]:
        """The events told so far."""
        return [message for message in self.device.messages if isinstance(message, Event)]

    def tuned(self, **settings: float) -> None:
        """Change the agent's settings before it starts."""
        self.device.settings = msgspec.structs.replace(self.device.settings, **settings)
