"""Assignments from a folder that a person brought: each is checked as one from the hub is, and then handed over.

Rules: one that is refused changes nothing and is told to the hub too, later, by the outbox; the others go on. One that
is known already (the folder is used again) is no failure.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal, TypeAlias

import msgspec

from agent.ota.driver import Accepted, Driver
from agent.ota.intake import claimed_keys, peek
from agent.ota.ports import Context, Worker
from agent.ota.worker_protocol import Check, Checked, Found, Look
from shared import limits
from shared.errors import ErrorBody, InvalidInput, SkerryError
from shared.wire.up import Event

__all__ = ["FolderOffer", "offer_folder"]

Drivers: TypeAlias = Callable[[], Mapping[str, Driver]]
_MAX_PATH_CHARS = 4096


class FolderOffer(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one assignment in the folder. `error`: why it was refused."""

    outcome: Literal["accepted", "known", "refused"]
    model: str = ""
    version: int = 0
    counter: int = 0
    error: ErrorBody | None = None


async def offer_folder(
    context: Context, drivers: Drivers, driver: Callable[[str], Driver], folder: str
) -> list[FolderOffer]:
    """Check all assignments of this device in `folder` and hand over those that hold.

    Errors: `install.no_folder`, `install.no_assignment`, `install.unreadable`, `install.path`.
    """
    if not folder.startswith("/") or len(folder) > _MAX_PATH_CHARS or "\0" in folder:
        raise InvalidInput("install.path", "The folder is to be named by its whole path.")
    worker = context.open_worker()
    try:
        found = await worker.ask(Look(folder=folder), Found, context.settings.check_timeout_s)
        return [await _offer(context, drivers, driver, worker, folder, envelope) for envelope in found.envelopes]
    finally:
        await worker.close()


async def _offer(
    context: Context,
    drivers: Drivers,
    driver: Callable[[str], Driver],
    worker: Worker,
    folder: str,
    envelope: bytes,
) -> FolderOffer:
    try:
        hint = peek(envelope)
        known = drivers().get(hint.model)
        if known is not None and not known.is_new(hint, claimed_keys(envelope)) and known.knows(hint):
            return FolderOffer(outcome="known", model=hint.model, version=hint.version, counter=hint.counter)
        floors = {model: one.counters for model, one in drivers().items()}
        request = Check(envelope=envelope, floors=floors, folder=folder)
        checked = await worker.ask(request, Checked, context.settings.check_timeout_s)
    except SkerryError as error:
        return _refused(context, error.body(), envelope)
    if checked.refusal is not None:
        return _refused(context, checked.refusal, envelope)
    found = checked.assignment
    driver(found.model).assign(Accepted(found, envelope, folder=folder, keyids=checked.keyids))
    return FolderOffer(outcome="accepted", model=found.model, version=found.version, counter=found.counter)


def _refused(context: Context, error: ErrorBody, envelope: bytes) -> FolderOffer:
    message = f"From a folder: {error.message}"[: limits.MAX_REASON_CHARS]
    context.queue(Event(code=error.code[:64], severity="error", message=message))
    try:
        hint = peek(envelope)
    except InvalidInput:
        return FolderOffer(outcome="refused", error=error)
    return FolderOffer(outcome="refused", model=hint.model, version=hint.version, counter=hint.counter, error=error)
