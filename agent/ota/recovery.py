"""The start of the agent: what the journal says is taken up again, and something valid serves as soon as possible.

Rules: a restart is an event and is journalled before the version is loaded, so that one that kills the agent is
counted even then. A disk that cannot be written does not keep the agent from serving. The active slot is read in full
before it is loaded; if it is not what was installed, another one is found.
"""

from __future__ import annotations

import logging

import msgspec

from agent.ota import journal as journals
from agent.ota.installation import Installation
from agent.ota.journal import Journal
from agent.ota.machine import Event, State, accepts, is_exhausted
from agent.ota.restore import candidates, restore, serve, suspects
from agent.ota.threads import in_thread
from agent.ota.trusted_time import system_uptime
from shared import durable
from shared.errors import NotFound, SkerryError, StorageFailure

__all__ = ["mark_stable", "recover"]

_LOG = logging.getLogger("agent.ota")


async def recover(install: Installation) -> None:
    """Take up where the journal stands and serve the active version; what is left to do is the driver's."""
    await in_thread(_sweep, install)
    await in_thread(install.load)
    target = _restarted(install)
    if target != install.journal:
        await _note(install, target)
        if install.state is not State.COMMITTED:
            install.report()
    if install.state is State.ROLLING_BACK:
        await _serve_way_back(install)
    else:
        await _serve_active(install)


async def _serve_way_back(install: Installation) -> None:
    """Serve at once what the way back leads to; the driver then takes that way to its end, failures included."""
    for slot in candidates(install, *suspects(install.journal)):
        try:
            await serve(install, slot)
            return
        except SkerryError as error:
            _LOG.error("%s: slot %s cannot serve: %s", install.model, slot, error)


async def mark_stable(install: Installation) -> None:
    """The agent ends in an orderly way: neither this end nor the restarts before it are a crash loop."""
    if install.journal.restarts or install.state is State.PROBATION:
        await _note(install, msgspec.structs.replace(install.journal, restarts=0, orderly=True))


def _restarted(install: Installation) -> Journal:
    """The journal after the restart, and after giving up if this was one too many: both in one write."""
    journal = install.journal
    if install.state in (State.IDLE, State.ROLLED_BACK):
        return journal
    if install.state is State.COMMITTED:
        journal = msgspec.structs.replace(journal, restarts=journal.restarts + 1)
    else:
        journal = journal.begun_again(system_uptime().boot)
    if not is_exhausted(journal.at, journal.steps, journal.restarts):
        return journal
    previous = install.previous()
    if previous is None and journal.at in (State.COMMITTED, State.HELD):
        return journal
    reason = f"The agent restarted {journal.restarts} times in a row on this version."
    if journal.at is State.HELD:  # what is held does not run in the agent, so what serves is at fault
        reason = f"The agent restarted {journal.restarts} times in a row on the version that serves."
        journal = msgspec.structs.replace(journal, slot=install.slots.active() or "", fallback=previous or "")
    return journal.after(Event.EXHAUSTED, "install.crash_loop", reason)


async def _serve_active(install: Installation) -> None:
    active = install.slots.active()
    try:
        if active is not None:
            await serve(install, active)
            return
        if not candidates(install):
            return
        raise NotFound("slot.no_pointer", "The pointer to the active version is missing or damaged.")
    except SkerryError as error:
        install.tell(error.code, f"The active version cannot serve: {error.message}")
        if accepts(install.state, Event.DAMAGED):
            code = error.code if error.code.startswith("slot.") else "slot.load_failed"
            damaged = install.journal.after(Event.DAMAGED, code, error.message)
            await _note(install, msgspec.structs.replace(damaged, slot=active or damaged.slot))
            return
    await _repair(install, active)


async def _repair(install: Installation, damaged: str | None) -> None:
    """Serve another version while the installation in hand goes on."""
    try:
        found = await restore(install, last=damaged or "")
    except (SkerryError, OSError) as error:
        _LOG.error("%s: no version could be restored: %s", install.model, error)
        return
    await _note(install, msgspec.structs.replace(install.journal, fallback=found or ""))


async def _note(install: Installation, target: Journal) -> None:
    """Write the journal; when that fails, go on with it in memory, because serving comes first."""
    try:
        await in_thread(journals.save, install.paths.journal, target)
    except StorageFailure as error:
        _LOG.error("%s: the journal cannot be written: %s", install.model, error)
        install.journal = target
        return
    install.journal = target
    install.context.observe(target)


def _sweep(install: Installation) -> None:
    try:
        durable.sweep(install.paths.root)
    except OSError as error:
        _LOG.warning("%s: left-over files could not be removed: %s", install.model, error)
