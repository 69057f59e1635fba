"""Making sure that a good version serves: at the start, and when an installation is given up.

Rules: candidates are tried from the best to the last resort, and one counts only if every file is what was installed
and it loads. The version in memory is exchanged before the pointer, so that a full or failing disk does not keep a
bad version serving. Nothing is removed here.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from agent.ota.installation import Installation
from agent.ota.journal import Journal
from agent.ota.ports import Host
from agent.ota.threads import in_thread, within
from shared.errors import InternalError, SkerryError, Unavailable

__all__ = ["candidates", "restore", "serve", "suspects"]

_LOG = logging.getLogger("agent.ota")


def suspects(journal: Journal) -> tuple[str, str]:
    """What a way back avoids, and what it tries `last`: a version that could not be read may be readable now."""
    return ("", journal.slot) if journal.reason_code.startswith("slot.") else (journal.slot, "")


def candidates(install: Installation, avoid: str = "", last: str = "") -> list[str]:
    """Slots that may serve instead of `avoid`, best first: the fallback, the active one if proven, others, `last`.

    A version that the device was sent away from comes late: it worked once, which is better than nothing.
    """
    records = sorted(install.slots.records(), key=lambda record: record.left)
    proven = [record.slot for record in records if record.proven]
    active = install.slots.active()
    wished = [install.journal.fallback, active if active in proven else None, *proven]
    found = [slot for slot in dict.fromkeys(wished) if slot and slot not in (avoid, last)]
    return [*found, last] if last in proven else found


async def serve(install: Installation, slot: str) -> None:
    """Have the host serve `slot`, if it does not already; `slot.damaged`, `slot.missing`, and what loading raises."""
    await in_thread(install.slots.verify, slot)
    host, directory = install.context.host, install.slots.directory(slot)
    if host.serving(install.model) != directory:
        host.swap(install.model, await load(install, directory))


async def load(install: Installation, directory: Path) -> Any:
    """The version in a folder, loaded by the host; what loading raises, `slot.load_failed`, `slot.load_timeout`.

    A version that hangs the runtime keeps its thread; the installation goes on without it.
    """
    host, timeout_s = install.context.host, install.context.settings.load_timeout_s
    try:
        return await within(timeout_s, lambda: _load(host, install.model, directory), lambda late: late.close())
    except TimeoutError as error:
        raise Unavailable("slot.load_timeout", f"{directory.name} did not load within {timeout_s:g} s.") from error


def _load(host: Host, model: str, directory: Path) -> Any:
    try:
        return host.load(model, directory)
    except SkerryError:
        raise
    except Exception as error:
        raise InternalError("slot.load_failed", f"{directory.name} cannot be loaded: {error}"[:300]) from error


async def restore(install: Installation, avoid: str = "", last: str = "", *, quiet: bool = False) -> str | None:
    """Serve the best candidate and point at it; None when there is none that works. Error `storage.write`.

    `quiet`: the hub was told of the candidates that do not work.
    """
    for slot in candidates(install, avoid, last):
        try:
            await serve(install, slot)
        except SkerryError as error:
            _LOG.error("%s: slot %s cannot serve: %s", install.model, slot, error)
            if not quiet:
                install.tell(error.code, f"Slot {slot} cannot serve: {error.message}")
            continue
        await in_thread(install.slots.activate, slot)
        return slot
    return None
