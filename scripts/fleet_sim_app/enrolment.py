"""Enrolment in bulk through the hub's real API: one token, one key, one certificate request for each device.

Rules: keys are ECDSA P-256 as on a device and their files are readable by this user only; the hub's CA is the one that
the administrator named. So many requests at once, over kept connections.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx
import msgspec

from agent.identity.keys import make_csr, new_key
from agent.identity.store import Credentials, Identity
from scripts.fleet_sim_app.operator import Operator
from shared.errors import SkerryError, Unavailable
from shared.wire.http import EnrolReply, EnrolRequest

__all__ = ["Enrolled", "Wanted", "enrol_all"]

_AT_ONCE = 16
_TOKENS_AT_ONCE = 500
_TIMEOUT_S = 120.0


@dataclass(frozen=True, slots=True)
class Wanted:
    """A device to be."""

    device_id: str
    profile: str
    hardware_id: str


@dataclass(frozen=True, slots=True)
class Enrolled:
    """A device that the hub knows."""

    identity: Identity
    credentials: Credentials


async def enrol_all(
    operator: Operator, wanted: Sequence[Wanted], folder: Path, progress: Callable[[int], None]
) -> list[Enrolled]:
    """Enrol them all, in the given order; error `sim.enrolment` with what the hub said."""
    await asyncio.to_thread(folder.mkdir, mode=0o700, parents=True, exist_ok=True)
    tokens = deque(await _tokens(operator, len(wanted)))
    waiting = deque(enumerate(wanted))
    done: dict[int, Enrolled] = {}
    limits = httpx.Limits(max_connections=_AT_ONCE, max_keepalive_connections=_AT_ONCE)
    context = ssl.create_default_context(cafile=str(operator.ca_file))
    async with httpx.AsyncClient(
        base_url=operator.url, verify=context, timeout=_TIMEOUT_S, limits=limits, trust_env=False
    ) as client:

        async def work() -> None:
            while waiting:
                number, device = waiting.popleft()
                done[number] = await _enrol(client, operator, device, tokens.popleft(), folder)
                progress(len(done))

        try:
            async with asyncio.TaskGroup() as tasks:
                for _ in range(_AT_ONCE):
                    tasks.create_task(work())
        except* SkerryError as errors:
            raise _first(errors) from errors
    return [done[number] for number in range(len(wanted))]


def _first(errors: BaseExceptionGroup[SkerryError]) -> SkerryError:
    found: BaseException = errors
    while isinstance(found, BaseExceptionGroup):
        found = found.exceptions[0]
    return found if isinstance(found, SkerryError) else Unavailable("sim.enrolment", str(found))


async def _tokens(operator: Operator, count: int) -> list[str]:
    made: list[str] = []
    while len(made) < count:
        wish = {"count": min(_TOKENS_AT_ONCE, count - len(made)), "tags": {"fleet": "simulated"}}
        answer = await operator.post("/v1/enrolment-tokens", wish)
        made += [item["token"] for item in answer["items"]]
    return made


async def _enrol(client: httpx.AsyncClient, operator: Operator, device: Wanted, token: str, folder: Path) -> Enrolled:
    key = new_key()
    request = EnrolRequest(
        token=token,
        csr_pem=make_csr(key, device.device_id),
        profile=device.profile,
        device_id=device.device_id,
        hardware_id=device.hardware_id,
    )
    try:
        answer = await client.post(
            "/v1/device/enrol", content=msgspec.json.encode(request), headers={"content-type": "application/json"}
        )
    except httpx.HTTPError as error:
        raise Unavailable("sim.enrolment", f"The hub does not answer an enrolment: {error!r}."[:300]) from error
    if answer.status_code != 200:
        raise Unavailable("sim.enrolment", f"The hub did not let {device.device_id} in: {answer.text[:300]}")
    reply = msgspec.json.decode(answer.content, type=EnrolReply)
    return _keep(operator, device, reply, key, folder)


def _keep(operator: Operator, device: Wanted, reply: EnrolReply, key: bytes, folder: Path) -> Enrolled:
    key_file, certificate_file = folder / f"{reply.device_id}.key", folder / f"{reply.device_id}.crt"
    key_file.touch(mode=0o600)
    key_file.write_bytes(key)
    certificate_file.write_text(reply.certificate_pem)
    identity = Identity(
        device_id=reply.device_id,
        hub_url=operator.url,
        mqtt_host=reply.mqtt_host,
        mqtt_port=reply.mqtt_port,
        profile=device.profile,
        hardware_id=device.hardware_id,
    )
    credentials = Credentials(key=key_file, certificate=certificate_file, hub_ca=operator.ca_file)
    return Enrolled(identity, credentials)
